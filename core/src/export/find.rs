//! How a handle that is not held open is found again: by the place where it was seen last, else by a walk over its
//! export.
//!
//! ```text
//!  place known ─► its directory (held, or found the same way) ─► openat2 of the name ─► inode and generation match?
//!       └ else ─► walk: directories by descriptors, nothing followed, inode numbers as getdents64 tells them
//! ```
//! A walk costs a few calls for each directory and none for a file. One at a time for each export; where walks are long,
//! they take at most a quarter of the time, and callers are told to come again.

use super::handle::Target;
use super::nodes::Node;
use super::places::{PLACES_MAX, Place};
use super::seen::{Seen, see};
use super::types::Fault;
use super::{Export, Exports, sys};
use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, openat2};
use rustix::io::Errno;
use std::collections::{HashSet, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// Directories below each other that are climbed by remembered places.
const CLIMB_MAX: usize = 512;
/// Entries that a walk looks at.
const ENTRIES_MAX: usize = 4_000_000;
/// Directories that a walk has still to enter.
const WAITING_MAX: usize = PLACES_MAX;
/// A walk that is no longer than this may follow another at once.
const SHORT: Duration = Duration::from_millis(50);
const SHARE: u32 = 3;
const BUFFER_BYTES: usize = 32 << 10;

pub(super) const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV)
    .union(ResolveFlags::NO_SYMLINKS);

/// The last walk over an export.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) ended: Option<Instant>,
    pub(super) took: Duration,
}

/// Opens one name in a directory, without touching what it is.
pub(super) fn look(at: impl AsFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat2(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), BENEATH)
}

impl Exports {
    /// Finds what is not held open. Called as the server.
    pub(super) fn find(&self, export: &Export, target: &Target) -> Result<Arc<Node>, Fault> {
        let began = Instant::now();
        if let Some(node) = self.by_place(export, target.inode, CLIMB_MAX)
            && node.target == *target
        {
            return Ok(node);
        }
        let mut walked = export.walked.lock().unwrap_or_else(PoisonError::into_inner);
        let after = walked.ended.is_some_and(|ended| ended > began);
        if !after {
            let rests = walked.ended.is_some_and(|ended| ended.elapsed() < walked.took * SHARE);
            if rests && walked.took > SHORT {
                return Err(Fault::Os(Errno::AGAIN));
            }
            let start = Instant::now();
            self.walk(export, target.inode)?;
            *walked = Walked { ended: Some(Instant::now()), took: start.elapsed() };
        }
        drop(walked);
        match self.by_place(export, target.inode, CLIMB_MAX) {
            Some(node) if node.target == *target => Ok(node),
            _ => Err(Fault::Stale),
        }
    }

    /// Goes to where an inode was seen last; what stands there now may be another generation of it.
    fn by_place(&self, export: &Export, inode: u64, climb_max: usize) -> Option<Arc<Node>> {
        if inode == export.root.target.inode {
            return Some(export.root.clone());
        }
        // Up to a directory that is at hand, then down again by names.
        let mut names: Vec<(u64, Box<[u8]>)> = Vec::new();
        let (mut at, mut node) = (inode, export.root.clone());
        while at != export.root.target.inode {
            let Place { directory, name, known } = self.0.places.get(export.fsid, at)?;
            if let Some(held) = known
                .filter(|_| at != inode)
                .and_then(|(_, generation)| self.0.nodes.get(&Target { id: export.id, inode: at, generation }))
                && super::beneath(export, &held)
            {
                node = held;
                break;
            }
            names.push((at, name));
            at = directory;
            if names.len() > climb_max {
                return None;
            }
        }
        while let Some((inode, name)) = names.pop() {
            let below = look(&node.fd, &name).ok().and_then(|fd| self.node(export, fd).ok())?;
            if below.target.inode != inode {
                self.0.places.forget(export.fsid, inode);
                return None;
            }
            node = below;
        }
        self.0.nodes.put(node.clone());
        Some(node)
    }

    /// Remembers the places of all in an export; stops early where `wanted` was met and the places are as many as are
    /// kept. Breadth first: paths stay short, one descriptor is open at a time.
    fn walk(&self, export: &Export, wanted: u64) -> Result<(), Fault> {
        let root = export.root.target.inode;
        let mut waiting = VecDeque::from([(root, Vec::new())]);
        let (mut seen, mut entries, mut met) = (HashSet::from([root]), 0_usize, false);
        let mut buffer = vec![MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
        while let Some((inode, path)) = waiting.pop_front() {
            // What vanishes meanwhile, or is another thing by now, has nothing below it.
            let Some(open) = self.enter_directory(export, inode, &path) else { continue };
            let mut list = RawDir::new(open, &mut buffer);
            while let Some(entry) = list.next() {
                let Ok(entry) = entry else { break };
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                entries += 1;
                self.0.places.put(export.fsid, entry.ino(), inode, name, None);
                met |= entry.ino() == wanted;
                let may_be = matches!(entry.file_type(), FileType::Directory | FileType::Unknown);
                if may_be && waiting.len() < WAITING_MAX && seen.insert(entry.ino()) {
                    let below = if path.is_empty() { name.to_vec() } else { [&path[..], b"/", name].concat() };
                    waiting.push_back((entry.ino(), below));
                }
            }
            if entries > ENTRIES_MAX || (met && entries > PLACES_MAX / 2) {
                break;
            }
        }
        Ok(())
    }

    fn enter_directory(&self, export: &Export, inode: u64, path: &[u8]) -> Option<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        if path.is_empty() {
            return export.root.reopen(flags).ok();
        }
        match openat2(&export.root.fd, path, flags, Mode::empty(), BENEATH) {
            Err(Errno::NAMETOOLONG) => self.by_place(export, inode, CLIMB_MAX)?.reopen(flags).ok(),
            opened => opened.ok(),
        }
    }

    /// A node of what was opened.
    pub(super) fn node(&self, export: &Export, fd: OwnedFd) -> Result<Arc<Node>, Fault> {
        let stat = see(&fd)?;
        let target = Target { id: export.id, inode: stat.inode, generation: generation(&fd, c"", &stat)? };
        Ok(Arc::new(Node::new(fd, target, &stat)))
    }
}

/// What tells an inode from others that had its number. Where the file system has no handles (an overlay), the time of
/// its making.
pub(super) fn generation(at: impl AsFd, name: &std::ffi::CStr, stat: &Seen) -> Result<u64, Fault> {
    match sys::generation(&at, name) {
        Ok(generation) => Ok(generation),
        Err(Errno::OPNOTSUPP | Errno::OVERFLOW | Errno::NOSYS | Errno::PERM) => {
            let made = stat.made;
            Ok(sys::hash(made.seconds.to_le_bytes().into_iter().chain(made.nanoseconds.to_le_bytes())))
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Is a directory beneath another, by its `..`? For what lies deeper than paths go.
pub(super) fn climbs_to(node: &Node, root: &Node) -> bool {
    const STEPS_MAX: usize = 100_000;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let Ok(top) = rustix::fs::fstat(&root.fd) else { return false };
    let mut at = match rustix::fs::openat(&node.fd, ".", flags, Mode::empty()) {
        Ok(at) => at,
        // Only directories know what they lie in; a file so deep is found again by its place each time.
        Err(_) => return false,
    };
    for _ in 0..STEPS_MAX {
        let Ok(stat) = rustix::fs::fstat(&at) else { return false };
        if (stat.st_dev, stat.st_ino) == (top.st_dev, top.st_ino) {
            return true;
        }
        match rustix::fs::openat(&at, "..", flags, Mode::empty()) {
            Ok(above) if rustix::fs::fstat(&above).is_ok_and(|above| above.st_ino != stat.st_ino) => at = above,
            _ => return false,
        }
    }
    false
}
