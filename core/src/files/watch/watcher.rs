//! One watch: its view, the directories that it has yet to list, and the one who listens.
//!
//! ```text
//!  event ─► view ─► asks: watch this, list that ─► beneath the root, by descriptor ─► view ─► …
//!              └──► told ─► queue
//! ```
//! A directory is watched first and listed then, a buffer at a time, each taken in before the next event is: so what is
//! made in between is found by the listing, told by an event, or both, and the view makes one of it.

mod guard;

use super::Change;
use super::instance::{Event, Instance, Named, User};
use super::nodes::Key;
use super::queue::Sender;
use super::view::{Ask, View};
use super::{DIRECTORIES_ALL_MAX, DIRECTORIES_MAX, NAMES_ALL_MAX, NAMES_MAX, Start, limit};
use crate::error::Error;
use crate::files::{failure, resolve};
use crate::shard::mailbox::Reply;
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, openat2};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

/// Of one piece of a listing: some 500 names.
const LISTED_BYTES: usize = 16 << 10;
/// Of the directories that were not found, as many are looked for again behind each batch of events.
const MISSING_MAX: usize = 256;

const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS);

/// What a directory is to a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// One of its tree.
    Node(Key),
    /// One above its root.
    Above,
    /// The one that holds its root.
    Parent,
    /// That of the whole sandbox.
    Top,
}

/// What all watches hold together.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) directories: usize,
    pub(super) names: usize,
}

struct Listing {
    key: Key,
    directory: OwnedFd,
}

/// One watch.
pub(super) struct Watcher {
    id: u64,
    /// Opened without touching it.
    root: OwnedFd,
    base: Vec<u8>,
    /// The root's name in its parent.
    name: Vec<u8>,
    view: View,
    /// Still to be listed.
    queued: VecDeque<Key>,
    listing: Option<Listing>,
    /// Not found where the view has them: it has yet to hear that they were moved.
    missing: Vec<Key>,
    sender: Sender,
    /// Who waits for it to stand.
    begun: Option<Reply<Result<(), Error>>>,
    counted: (usize, usize),
}

impl Watcher {
    /// Watches the root and what is above it; the rest is listed by [`Watcher::work`].
    pub(super) fn begin(id: u64, start: Start, instance: &mut Instance<Role>, totals: &mut Totals) -> Option<Watcher> {
        let Start { top, root, base, recursive, sender, reply } = start;
        let view = View::new(base.clone(), recursive);
        let (queued, listing, missing, counted) = (VecDeque::new(), None, Vec::new(), (0, 0));
        let mut watcher =
            Watcher { id, root, base, name: Vec::new(), view, queued, listing, missing, sender, begun: None, counted };
        let begun = watcher.guard(&top, instance).and_then(|()| watcher.enter_root(instance, totals));
        match begun {
            Ok(()) => {
                watcher.begun = Some(reply);
                Some(watcher)
            }
            Err(error) => {
                watcher.count(totals, true);
                instance.leave_all(id);
                reply.send(Err(error));
                None
            }
        }
    }

    /// Ends it, for a reason where there is one, and gives all back.
    pub(super) fn end(mut self, instance: &mut Instance<Role>, totals: &mut Totals, why: Option<Error>) {
        self.count(totals, true);
        instance.leave_all(self.id);
        match (self.begun, why) {
            (Some(reply), Some(error)) => reply.send(Err(error)),
            (None, Some(error)) => self.sender.end(error),
            (_, None) => {}
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.sender.is_abandoned()
    }

    pub(super) fn has_work(&self) -> bool {
        self.listing.is_some() || !self.queued.is_empty() || self.begun.is_some()
    }

    /// Takes an event of one of its directories. An error ends it.
    pub(super) fn take(
        &mut self,
        event: &Event,
        instance: &mut Instance<Role>,
        totals: &mut Totals,
    ) -> Result<(), Error> {
        let key = |named: &Named| {
            instance.users(named.wd).iter().find_map(|user| match user.role {
                Role::Node(key) if user.watch == self.id => Some(key),
                _ => None,
            })
        };
        match event {
            Event::Created(named, is_dir) => {
                key(named).into_iter().for_each(|key| self.view.created(key, &named.name, *is_dir));
            }
            Event::Removed(named, is_dir) => {
                // Its own end would be told when its last descriptor is closed, which is ours.
                if *named.name == self.name[..] && self.is(Role::Parent, named.wd, instance) {
                    return Err(self.lost());
                }
                key(named).into_iter().for_each(|key| self.view.removed(key, &named.name, *is_dir));
            }
            Event::Modified(named, is_dir) => {
                key(named).into_iter().for_each(|key| self.view.modified(key, &named.name, *is_dir));
            }
            Event::Moved { from, to, is_dir } => {
                let place = |named: &Option<Named>| {
                    named.as_ref().and_then(|named| key(named).map(|key| (key, named.name.clone())))
                };
                match (place(from), place(to)) {
                    (Some(from), Some(to)) => self.view.moved((from.0, &from.1), (to.0, &to.1), *is_dir),
                    (Some((key, name)), None) => self.view.removed(key, &name, *is_dir),
                    (None, Some((key, name))) => self.view.arrived(key, &name, *is_dir),
                    (None, None) => {}
                }
            }
            Event::Gone(wd) => return self.gone(*wd, instance),
            Event::Ended(_) => {}
            Event::Lost => {
                self.view.told.push(Change::Overflow);
                self.view.asks.extend(self.view.nodes.keys().into_iter().map(Ask::List));
            }
        }
        self.settle(instance, totals)
    }

    /// All events that there are have been taken: looks at what is in doubt, and again for what was not found.
    pub(super) fn calm(&mut self, instance: &mut Instance<Role>, totals: &mut Totals) -> Result<(), Error> {
        self.view.calm();
        let mut missing = std::mem::take(&mut self.missing);
        missing.retain(|key| self.view.nodes.node(*key).is_some());
        missing.sort_unstable();
        missing.dedup();
        self.missing = missing.split_off(missing.len().min(MISSING_MAX));
        self.view.asks.extend(missing.into_iter().map(Ask::Enter));
        self.settle(instance, totals)
    }

    pub(super) fn has_doubts(&self) -> bool {
        self.view.has_doubts() || !self.missing.is_empty()
    }

    /// Lists a piece of what is still to be listed.
    pub(super) fn work(&mut self, instance: &mut Instance<Role>, totals: &mut Totals) -> Result<(), Error> {
        if self.listing.is_none()
            && let Some(key) = self.queued.pop_front()
        {
            match self.enter(key, instance, totals)? {
                Some(directory) => {
                    self.view.begin(key);
                    self.listing = Some(Listing { key, directory });
                }
                None => self.view.unqueue(key),
            }
        }
        if let Some(listing) = self.listing.take() {
            if self.list(&listing, instance, totals)? {
                self.view.end(listing.key);
            } else {
                self.listing = Some(listing);
            }
        }
        self.settle(instance, totals)?;
        if self.listing.is_none()
            && self.queued.is_empty()
            && let Some(reply) = self.begun.take()
        {
            reply.send(Ok(()));
        }
        Ok(())
    }

    /// Takes a buffer of names in; true behind the last one.
    fn list(&mut self, listing: &Listing, instance: &mut Instance<Role>, totals: &mut Totals) -> Result<bool, Error> {
        let mut buffer = [MaybeUninit::<u8>::uninit(); LISTED_BYTES];
        let mut names = RawDir::new(&listing.directory, &mut buffer);
        loop {
            let (name, kind) = match names.next() {
                // A directory that was removed meanwhile has no names.
                None | Some(Err(Errno::NOENT)) => return Ok(true),
                Some(Err(errno)) => return Err(failure::anywhere(errno)),
                Some(Ok(entry)) => (entry.file_name().to_bytes().to_vec(), entry.file_type()),
            };
            if name != b"." && name != b".." {
                let is_dir = match kind {
                    FileType::Unknown => resolve::look(&listing.directory, &name).is_ok_and(|node| node.is_dir()),
                    kind => kind == FileType::Directory,
                };
                self.view.meet(listing.key, &name, is_dir);
                self.settle(instance, totals)?;
            }
            if names.is_buffer_empty() {
                return Ok(false);
            }
        }
    }

    /// Tells what is to be told and does what is to be done, until neither is left.
    fn settle(&mut self, instance: &mut Instance<Role>, totals: &mut Totals) -> Result<(), Error> {
        while !self.view.told.is_empty() || !self.view.asks.is_empty() {
            for change in std::mem::take(&mut self.view.told) {
                // Until it stands, nobody knows what was there before.
                if self.begun.is_none() {
                    self.sender.tell(change);
                }
            }
            for ask in std::mem::take(&mut self.view.asks) {
                match ask {
                    Ask::Enter(key) => {
                        if self.enter(key, instance, totals)?.is_some() {
                            self.queue(key);
                        }
                    }
                    Ask::List(key) => self.queue(key),
                    Ask::Look(key, name) => match self.open(key, OFlags::PATH) {
                        Ok(at) => {
                            let found = resolve::look(&at, &name).ok();
                            self.view.looked(key, &name, found.map(|node| node.is_dir()));
                        }
                        // Once it is found, all of it is listed.
                        Err(_) => self.missing.push(key),
                    },
                    Ask::Leave(wd, key) => instance.leave(wd, self.user(Role::Node(key))),
                }
            }
            self.check(totals)?;
        }
        Ok(())
    }

    fn queue(&mut self, key: Key) {
        if self.view.queue(key) {
            self.queued.push_back(key);
        }
    }

    fn enter_root(&mut self, instance: &mut Instance<Role>, totals: &mut Totals) -> Result<(), Error> {
        let root = self.view.root();
        match self.enter(root, instance, totals)? {
            Some(_) => self.queue(root),
            None => return Err(failure::anywhere(Errno::NOENT)),
        }
        self.check(totals)
    }

    /// Watches a directory of the view, and gives it, opened; `None` where it is not there, or not one any more: that
    /// is told by an event of its parent's.
    fn enter(&mut self, key: Key, instance: &mut Instance<Role>, totals: &Totals) -> Result<Option<OwnedFd>, Error> {
        if self.view.wd(key).is_none() && totals.directories >= DIRECTORIES_ALL_MAX {
            return Err(limit::all_directories());
        }
        let directory = match self.open(key, OFlags::RDONLY) {
            Ok(directory) => directory,
            Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(failure::anywhere(errno)),
            Err(_) => {
                self.missing.push(key);
                return Ok(None);
            }
        };
        let user = self.user(Role::Node(key));
        let (wd, users) = match instance.watch_names(&directory, user) {
            Ok(watched) => watched,
            Err(Errno::NOSPC) => return Err(limit::machine()),
            Err(errno @ Errno::NOMEM) => return Err(failure::anywhere(errno)),
            Err(_) => return Ok(None),
        };
        // The same directory at another place of the view: that place was another one's before an event was taken.
        let others: Vec<Key> = users
            .iter()
            .filter_map(|user| match user.role {
                Role::Node(other) if user.watch == self.id && other != key => Some(other),
                _ => None,
            })
            .collect();
        for other in others {
            instance.leave(wd, self.user(Role::Node(other)));
            self.view.set_wd(other, None);
            self.queue(other);
        }
        if let Some(before) = self.view.wd(key).filter(|before| *before != wd) {
            instance.leave(before, user);
            self.view.told.push(Change::Overflow);
            self.queue(key);
        }
        self.view.set_wd(key, Some(wd));
        Ok(Some(directory))
    }

    fn open(&self, key: Key, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = self.view.below(key).ok_or(Errno::NOENT)?;
        let flags = flags | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat2(&self.root, path, flags, Mode::empty(), BENEATH)
    }

    fn user(&self, role: Role) -> User<Role> {
        User { watch: self.id, role }
    }

    fn check(&mut self, totals: &mut Totals) -> Result<(), Error> {
        self.count(totals, false);
        match self.counted {
            (directories, _) if directories > DIRECTORIES_MAX => Err(limit::directories()),
            (_, names) if names > NAMES_MAX => Err(limit::names()),
            _ if totals.names > NAMES_ALL_MAX => Err(limit::all_names()),
            _ => Ok(()),
        }
    }

    /// Counts what it holds among what all hold.
    fn count(&mut self, totals: &mut Totals, is_over: bool) {
        let now = if is_over { (0, 0) } else { (self.view.nodes.directories(), self.view.nodes.names()) };
        totals.directories = totals.directories + now.0 - self.counted.0;
        totals.names = totals.names + now.1 - self.counted.1;
        self.counted = now;
    }
}
