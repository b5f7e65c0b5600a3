//! One inotify instance: which directories it watches for whom, and what it has told, in order and in pairs.
//!
//! A rename is two events with one cookie, put into the queue by one system call while it holds both directories: no
//! other change of their names comes between them. So the second half is taken where the first one stands. One that
//! has not come within [`HALF_WAIT`] never will: the other place is not watched.
//! Source: inotify(7); Linux `fsnotify_move`.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// The two halves are queued within some microseconds; a machine that is busy may stop between them.
const HALF_WAIT: Duration = Duration::from_millis(5);
/// Events that were read and wait for their turn; the kernel keeps as many more (fs.inotify.max_queued_events).
const WAITING_MAX: usize = 32_768;
/// Read at once: some 2000 events with short names.
const READ_BYTES: usize = 64 << 10;

/// Where an event of a directory goes: a watch, and what the directory is to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User<R> {
    pub(super) watch: u64,
    pub(super) role: R,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) wd: i32,
    pub(super) name: Box<[u8]>,
}

/// What the kernel tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    Created(Named, bool),
    Removed(Named, bool),
    Modified(Named, bool),
    /// Both halves, or one.
    Moved {
        from: Option<Named>,
        to: Option<Named>,
        is_dir: bool,
    },
    /// The directory itself has gone, or to another place.
    Gone(i32),
    /// It is watched no more.
    Ended(i32),
    /// The kernel's queue was full: something is missing here.
    Lost,
}

struct Raw {
    wd: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Box<[u8]>,
    read_at: Instant,
}

/// The next event, or why there is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Event(Event),
    Nothing,
    /// The other half of a rename may still come, until then.
    Wait(Instant),
}

/// An instance and its users, who are told apart by `R`.
pub(super) struct Instance<R> {
    inotify: OwnedFd,
    users: HashMap<i32, Vec<User<R>>>,
    waiting: VecDeque<Raw>,
    /// Second halves that wait, by their cookie.
    halves: HashMap<u32, Named>,
}

impl<R: Copy + PartialEq> Instance<R> {
    pub(super) fn new() -> rustix::io::Result<Instance<R>> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Instance { inotify, users: HashMap::new(), waiting: VecDeque::new(), halves: HashMap::new() })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Watches the names of a directory that was opened beneath its root: the same inode, whatever its path leads to
    /// by now. Those who have it already are given too.
    pub(super) fn watch_names(&mut self, directory: &OwnedFd, user: User<R>) -> rustix::io::Result<(i32, &[User<R>])> {
        let flags = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK;
        self.watch(directory, flags, user)
    }

    /// Watches whether a directory stays where it is.
    pub(super) fn watch_place(&mut self, directory: &OwnedFd, user: User<R>) -> rustix::io::Result<i32> {
        self.watch(directory, WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF, user).map(|(wd, _)| wd)
    }

    /// That, and what is removed from it.
    pub(super) fn watch_removals(&mut self, directory: &OwnedFd, user: User<R>) -> rustix::io::Result<i32> {
        let flags = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::DELETE;
        self.watch(directory, flags, user).map(|(wd, _)| wd)
    }

    fn watch(
        &mut self,
        directory: &OwnedFd,
        flags: WatchFlags,
        user: User<R>,
    ) -> rustix::io::Result<(i32, &[User<R>])> {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        let wd = inotify::add_watch(&self.inotify, path, flags | WatchFlags::ONLYDIR | WatchFlags::MASK_ADD)?;
        let users = self.users.entry(wd).or_default();
        if !users.contains(&user) {
            users.push(user);
        }
        Ok((wd, users))
    }

    /// Takes one away; the last one ends the watch.
    pub(super) fn leave(&mut self, wd: i32, user: User<R>) {
        let Some(users) = self.users.get_mut(&wd) else { return };
        users.retain(|one| *one != user);
        if users.is_empty() {
            self.users.remove(&wd);
            // Gone already where the directory is.
            let _ = inotify::remove_watch(&self.inotify, wd);
        }
    }

    /// Takes all of one watch away.
    pub(super) fn leave_all(&mut self, watch: u64) {
        let inotify = &self.inotify;
        self.users.retain(|wd, users| {
            users.retain(|user| user.watch != watch);
            if users.is_empty() {
                let _ = inotify::remove_watch(inotify, *wd);
            }
            !users.is_empty()
        });
    }

    /// Who has this directory.
    pub(super) fn users(&self, wd: i32) -> &[User<R>] {
        self.users.get(&wd).map_or(&[], Vec::as_slice)
    }

    /// Takes what the kernel has, up to a bound.
    pub(super) fn read(&mut self) {
        if self.waiting.len() >= WAITING_MAX {
            return;
        }
        let mut buffer = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let read_at = Instant::now();
        let mut is_first = true;
        while is_first || !reader.is_buffer_empty() {
            is_first = false;
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let name: Box<[u8]> = event.file_name().map_or_else(Box::default, |name| name.to_bytes().into());
            let raw = Raw { wd: event.wd(), flags: event.events(), cookie: event.cookie(), name, read_at };
            if raw.flags.contains(ReadFlags::MOVED_TO) {
                self.halves.insert(raw.cookie, Named { wd: raw.wd, name: raw.name.clone() });
            }
            self.waiting.push_back(raw);
        }
    }

    /// The next event in its turn.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        loop {
            let Some(raw) = self.waiting.front() else { return Next::Nothing };
            if raw.flags.contains(ReadFlags::MOVED_FROM)
                && !self.halves.contains_key(&raw.cookie)
                && now < raw.read_at + HALF_WAIT
            {
                return Next::Wait(raw.read_at + HALF_WAIT);
            }
            let Some(raw) = self.waiting.pop_front() else { return Next::Nothing };
            if let Some(event) = self.event(raw) {
                return Next::Event(event);
            }
        }
    }

    fn event(&mut self, raw: Raw) -> Option<Event> {
        let has = |flags: ReadFlags| raw.flags.intersects(flags);
        let is_dir = has(ReadFlags::ISDIR);
        if has(ReadFlags::QUEUE_OVERFLOW) {
            return Some(Event::Lost);
        }
        if has(ReadFlags::IGNORED) {
            return Some(Event::Ended(raw.wd));
        }
        if has(ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT) {
            return Some(Event::Gone(raw.wd));
        }
        // Of the directory itself: its parent tells the same.
        if raw.name.is_empty() {
            return None;
        }
        let named = Named { wd: raw.wd, name: raw.name };
        if raw.flags.contains(ReadFlags::MOVED_FROM) {
            return Some(Event::Moved { from: Some(named), to: self.halves.remove(&raw.cookie), is_dir });
        }
        if raw.flags.contains(ReadFlags::MOVED_TO) {
            // Otherwise its first half has taken it.
            return self.halves.remove(&raw.cookie).map(|to| Event::Moved { from: None, to: Some(to), is_dir });
        }
        if raw.flags.contains(ReadFlags::CREATE) {
            return Some(Event::Created(named, is_dir));
        }
        if raw.flags.contains(ReadFlags::DELETE) {
            return Some(Event::Removed(named, is_dir));
        }
        Some(Event::Modified(named, is_dir))
    }

    /// The kernel has ended this watch.
    pub(super) fn ended(&mut self, wd: i32) {
        self.users.remove(&wd);
    }
}
