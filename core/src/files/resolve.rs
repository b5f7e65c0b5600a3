//! Where does a path lead, as a process inside would walk it, with no byte outside ever reached?
//!
//! ```text
//!  /            not a directory on the host: only the two trees below it can be walked here
//!  ├ workspace  sandboxes/<id>/workspace
//!  └ home/user  sandboxes/<id>/home
//! ```
//! A path without links and `..` is one openat2(2) from its tree's descriptor, beneath it, through no link, mount or
//! magic link. Any other is walked name by name by the same call: links are read and walked as text, `..` goes back
//! to the descriptor that was walked through. What leads elsewhere in the sandbox is said so and not walked. So a directory that is swapped in the middle leads nowhere else: the
//! kernel is never given two steps of which the first could be a link. Linux 5.6.

use super::failure;
use super::path::SandboxPath;
use super::roots::{Owners, Replace, Roots, Scrap};
use crate::error::{Error, Reason};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat, openat2};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// As the kernel's own bound, path_resolution(7).
const LINKS_MAX: u32 = 40;
/// Names on one way, those of links too.
const STEPS_MAX: usize = 8192;

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS);

/// What becomes of a link in the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    /// It is followed.
    Follow,
    /// It is what was asked for.
    Keep,
}

/// What becomes of a directory that is missing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parents {
    /// 3001.
    Need,
    /// It is made.
    Make,
}

/// Where a path leads.
pub(super) struct Found {
    /// The directory that holds it, and its name there; `None` for the root of a tree.
    pub(super) entry: Option<(OwnedFd, Vec<u8>)>,
    /// What stands there, opened without touching it.
    pub(super) node: Option<Node>,
}

/// Something that exists, opened with O_PATH.
pub(super) struct Node {
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
}

impl Node {
    pub(super) fn new(fd: OwnedFd) -> rustix::io::Result<Node> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Node { fd, stat })
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// Opens a regular file or a directory for work: the same inode, whatever its name leads to by now. Nothing else
    /// is ever opened: a FIFO would wait, a device would act.
    pub(super) fn reopen(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        use std::os::fd::AsRawFd;
        assert!(matches!(self.kind(), FileType::RegularFile | FileType::Directory), "not to be opened");
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())
    }
}

/// Opens one name beneath a directory, without touching what it is.
pub(super) fn look(at: impl AsFd, name: &[u8]) -> rustix::io::Result<Node> {
    Node::new(openat2(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)?)
}

/// Opens a directory beneath another one for listing.
pub(super) fn open_directory(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat2(at, name, flags, Mode::empty(), BENEATH)
}

/// Walks a path to what exists there; 3001 where nothing does.
pub(super) fn existing(roots: &Roots, path: &SandboxPath, last: Last) -> Result<Node, Error> {
    let found = resolve(roots, path, last, Parents::Need)?;
    found.node.ok_or_else(|| failure::of(Errno::NOENT, path))
}

/// Walks a path to an entry of a directory: the root of a tree is none.
pub(super) fn entry(
    roots: &Roots,
    path: &SandboxPath,
    last: Last,
    parents: Parents,
) -> Result<(OwnedFd, Vec<u8>, Option<Node>), Error> {
    let found = resolve(roots, path, last, parents)?;
    match found.entry {
        Some((directory, name)) => Ok((directory, name, found.node)),
        None => Err(Error::new(
            Reason::InvalidPath,
            format!("{}: this directory is where a tree of the sandbox begins; it stays as it is", path.brief()),
        )),
    }
}

/// Walks a path.
pub(super) fn resolve(roots: &Roots, path: &SandboxPath, last: Last, parents: Parents) -> Result<Found, Error> {
    let quick = quick(roots, path, last).map_err(|errno| failure::of(errno, path))?;
    let found = match quick {
        Some(found) => found,
        None => Walk::new(roots, path, last, parents).run()?,
    };
    match &found.node {
        Some(node) if path.wants_directory() && !node.is_dir() => Err(failure::of(Errno::NOTDIR, path)),
        _ => Ok(found),
    }
}

/// The way of most paths; `None` where there is a link on it, a `..`, or something missing.
fn quick(roots: &Roots, path: &SandboxPath, last: Last) -> rustix::io::Result<Option<Found>> {
    let names: Vec<&[u8]> = path.components().collect();
    let (root, rest) = match &names[..] {
        [b"workspace", rest @ ..] => (roots.workspace()?, rest),
        [b"home", b"user", rest @ ..] => (roots.home()?, rest),
        _ => return Ok(None),
    };
    if rest.contains(&&b".."[..]) {
        return Ok(None);
    }
    let Some((name, above)) = rest.split_last() else {
        return Ok(Some(Found { entry: None, node: Some(Node::new(root)?) }));
    };
    let directory = if above.is_empty() {
        root
    } else {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat2(&root, above.join(&b'/'), flags, Mode::empty(), BENEATH) {
            Err(Errno::LOOP | Errno::NOENT) => return Ok(None),
            opened => opened?,
        }
    };
    let node = match look(&directory, name) {
        Ok(node) => Some(node),
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(errno),
    };
    if last == Last::Follow && node.as_ref().is_some_and(|node| node.kind() == FileType::Symlink) {
        return Ok(None);
    }
    Ok(Some(Found { entry: Some((directory, name.to_vec())), node }))
}

/// Where a walk stands.
enum Level {
    /// `/`
    Top,
    /// `/home`
    Home,
    /// A directory on the host, and how it is called in the level below it; empty for the root of a tree.
    Real(OwnedFd, Vec<u8>),
}

/// A walk, name by name.
struct Walk<'a> {
    roots: &'a Roots,
    path: &'a SandboxPath,
    last: Last,
    parents: Parents,
    /// Those that were walked through; never empty.
    levels: Vec<Level>,
    /// Still to be walked, the next one last.
    names: Vec<Vec<u8>>,
    links: u32,
}

impl<'a> Walk<'a> {
    fn new(roots: &'a Roots, path: &'a SandboxPath, last: Last, parents: Parents) -> Walk<'a> {
        let names = path.components().rev().map(<[u8]>::to_vec).collect();
        Walk { roots, path, last, parents, levels: vec![Level::Top], names, links: 0 }
    }

    fn run(mut self) -> Result<Found, Error> {
        let fails = |errno| failure::of(errno, self.path);
        for _ in 0..STEPS_MAX {
            let Some(name) = self.names.pop() else { return self.at_directory() };
            if name == b".." {
                // Above the top is the top.
                if self.levels.len() > 1 {
                    self.levels.pop();
                }
                continue;
            }
            let is_last = self.names.is_empty();
            let at = match self.levels.last() {
                Some(Level::Real(fd, _)) => fd,
                Some(Level::Home) if name == b"user" => {
                    self.levels.push(Level::Real(self.roots.home().map_err(fails)?, Vec::new()));
                    continue;
                }
                Some(Level::Top) if name == b"workspace" => {
                    self.levels.push(Level::Real(self.roots.workspace().map_err(fails)?, Vec::new()));
                    continue;
                }
                Some(Level::Top) if name == b"home" => {
                    self.levels.push(Level::Home);
                    continue;
                }
                _ => return Err(self.outside()),
            };
            let node = match look(at, &name) {
                Ok(node) => node,
                Err(Errno::NOENT) if is_last => return self.found(name, None),
                Err(Errno::NOENT) if self.parents == Parents::Make => {
                    make_directory(self.roots, at, &name, MODE_OF_PARENTS)
                        .or_else(|errno| if errno == Errno::EXIST { Ok(()) } else { Err(errno) })
                        .map_err(fails)?;
                    self.names.push(name);
                    continue;
                }
                Err(errno) => return Err(fails(errno)),
            };
            match node.kind() {
                FileType::Symlink if !is_last || self.last == Last::Follow => self.follow(&node)?,
                _ if is_last => return self.found(name, Some(node)),
                FileType::Directory => self.levels.push(Level::Real(node.fd, name)),
                _ => return Err(fails(Errno::NOTDIR)),
            }
        }
        Err(fails(Errno::LOOP))
    }

    /// The walk has ended in a directory that it went through: the root of a tree, or by `..`.
    fn at_directory(mut self) -> Result<Found, Error> {
        let fails = |errno| failure::of(errno, self.path);
        match self.levels.pop() {
            Some(Level::Real(fd, name)) => {
                let node = Some(Node::new(fd).map_err(fails)?);
                let entry = match self.levels.pop() {
                    Some(Level::Real(above, _)) => Some((above, name)),
                    _ => None,
                };
                Ok(Found { entry, node })
            }
            _ => Err(self.outside()),
        }
    }

    fn found(mut self, name: Vec<u8>, node: Option<Node>) -> Result<Found, Error> {
        match self.levels.pop() {
            Some(Level::Real(directory, _)) => Ok(Found { entry: Some((directory, name)), node }),
            _ => Err(self.outside()),
        }
    }

    fn follow(&mut self, link: &Node) -> Result<(), Error> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(failure::of(Errno::LOOP, self.path));
        }
        let target = rustix::fs::readlinkat(&link.fd, "", Vec::new()).map_err(|errno| failure::of(errno, self.path))?;
        let target = target.as_bytes();
        if target.starts_with(b"/") {
            self.levels.truncate(1);
        }
        let names = target.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".");
        self.names.extend(names.rev().map(<[u8]>::to_vec));
        match self.names.len() {
            0..=STEPS_MAX => Ok(()),
            _ => Err(failure::of(Errno::LOOP, self.path)),
        }
    }

    /// It leads to another part of the sandbox, by its names, a link or `..`: see [`is_elsewhere`].
    fn outside(&self) -> Error {
        let message = format!(
            "{}: only /workspace and /home/user can be reached by this route; use process/run for other places",
            self.path.brief()
        );
        Error::new(Reason::NotImplemented, message).details(self.path.brief())
    }
}

/// Whether a walk has ended because the path leads where only the sandbox's own mounts lead: nothing here says
/// `NotImplemented` for another reason. Whoever can asks a worker inside then.
pub(super) fn is_elsewhere(error: &Error) -> bool {
    error.reason == Reason::NotImplemented
}

/// Mode of directories that are made on the way.
pub(super) const MODE_OF_PARENTS: u32 = 0o755;

/// Makes a directory of the user's, whole with its owner and mode when it appears.
pub(super) fn make_directory(roots: &Roots, at: impl AsFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    let scratch = roots.scratch().map_err(|_| Errno::IO)?;
    let scrap = Scrap::new(scratch);
    let made = scrap.directory()?;
    give(&made, roots.owners, mode)?;
    scrap.place(&at, name, Replace::No)
}

/// Gives what was made to the sandbox's user. The mode comes last: a change of owner clears bits of it.
pub(super) fn give(made: &OwnedFd, owners: Owners, mode: u32) -> rustix::io::Result<()> {
    let (user, group) = owners.user();
    rustix::fs::fchown(made, user, group)?;
    rustix::fs::fchmod(made, Mode::from_raw_mode(mode))
}
