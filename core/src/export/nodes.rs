//! What is held open for handles: bounded, without locks over system calls, and not for long.
//!
//! ```text
//!  (id, inode, generation) ─► [ one of 16 parts: young, old ] ─► Node: O_PATH, and for a file that is read O_RDONLY
//! ```
//! What is used moves to the young half; when that is full or a while has gone by, the old half is let go and the young
//! one becomes the old. So nothing is kept longer than two turns without use. What was unlinked by others is let go at
//! the next sweep, so that its space comes back. Files are never kept open for writing: a program that was just written
//! must be able to run.

use super::handle::Target;
use super::seen::{Seen, see};
use super::types::Kind;
use crate::id::SandboxId;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::path::DecInt;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

const PARTS: usize = 16;
/// Nodes in all, where the process may have that many descriptors.
const NODES_MAX: usize = 4096;
/// A node may have two descriptors, and others need half of them.
const DESCRIPTORS_EACH: u64 = 4;

/// Something that a handle names, held open.
pub(super) struct Node {
    pub(super) fd: OwnedFd,
    pub(super) target: Target,
    pub(super) kind: Kind,
    read: OnceLock<OwnedFd>,
}

impl Node {
    pub(super) fn new(fd: OwnedFd, target: Target, stat: &Seen) -> Node {
        Node { fd, target, kind: stat.kind(), read: OnceLock::new() }
    }

    /// Opens a regular file or directory again, as whoever this thread is. Nothing else is ever opened: a FIFO would
    /// wait, a device would act.
    pub(super) fn reopen(&self, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        match self.kind {
            Kind::File | Kind::Directory => {}
            _ => return Err(Errno::INVAL),
        }
        rustix::fs::openat(
            links()?,
            self.link(),
            flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK,
            Mode::empty(),
        )
    }

    /// The file for reading; opened the first time, by the server's own power: who may read is asked each time.
    pub(super) fn for_reading(&self) -> rustix::io::Result<&OwnedFd> {
        if let Some(fd) = self.read.get() {
            return Ok(fd);
        }
        let fd = self.reopen(OFlags::RDONLY)?;
        Ok(self.read.get_or_init(|| fd))
    }

    pub(super) fn is_open(&self) -> bool {
        self.read.get().is_some()
    }

    /// A name in [`links`] that leads to this very inode, whatever its own names are.
    pub(super) fn link(&self) -> DecInt {
        DecInt::from_fd(&self.fd)
    }
}

/// `/proc/self/fd`: it is opened once, for it is asked at each call.
pub(super) fn links() -> rustix::io::Result<&'static OwnedFd> {
    static LINKS: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(links) = LINKS.get() {
        return Ok(links);
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let links = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    Ok(LINKS.get_or_init(|| links))
}

#[derive(Default)]
struct Part {
    young: HashMap<Target, Arc<Node>>,
    old: HashMap<Target, Arc<Node>>,
}

/// All nodes that are held.
pub(super) struct Nodes {
    parts: [Mutex<Part>; PARTS],
    half_max: usize,
}

impl Nodes {
    pub(super) fn new() -> Nodes {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
        let nodes = usize::try_from(descriptors / DESCRIPTORS_EACH).unwrap_or(usize::MAX).clamp(64, NODES_MAX);
        Nodes { parts: std::array::from_fn(|_| Mutex::default()), half_max: nodes / PARTS / 2 }
    }

    fn part(&self, target: &Target) -> MutexGuard<'_, Part> {
        self.part_of(target.inode)
    }

    fn part_of(&self, inode: u64) -> MutexGuard<'_, Part> {
        self.parts[inode as usize % PARTS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, target: &Target) -> Option<Arc<Node>> {
        let mut part = self.part(target);
        if let Some(node) = part.young.get(target) {
            return Some(node.clone());
        }
        let node = part.old.remove(target)?;
        let gone = self.put_young(&mut part, node.clone());
        drop(part);
        drop(gone);
        Some(node)
    }

    pub(super) fn put(&self, node: Arc<Node>) {
        let mut part = self.part(&node.target);
        let gone = self.put_young(&mut part, node);
        drop(part);
        drop(gone);
    }

    /// Answers what is to be dropped outside of the lock: closing may take its time.
    fn put_young(&self, part: &mut Part, node: Arc<Node>) -> HashMap<Target, Arc<Node>> {
        part.young.insert(node.target, node);
        if part.young.len() <= self.half_max {
            return HashMap::new();
        }
        let young = std::mem::take(&mut part.young);
        std::mem::replace(&mut part.old, young)
    }

    pub(super) fn forget(&self, target: &Target) {
        let mut part = self.part(target);
        let gone = (part.young.remove(target), part.old.remove(target));
        drop(part);
        drop(gone);
    }

    /// Lets go every generation of an inode.
    pub(super) fn forget_inode(&self, id: SandboxId, inode: u64) {
        let mut part = self.part_of(inode);
        let Part { young, old } = &mut *part;
        // A part holds a few hundred at most.
        let is = |target: &Target| target.id == id && target.inode == inode;
        let found = young.keys().chain(old.keys()).copied().find(is);
        let gone = found.map(|target| (young.remove(&target), old.remove(&target)));
        drop(part);
        drop(gone);
    }

    /// Lets go all of an export's.
    pub(super) fn forget_all(&self, id: SandboxId) {
        for part in &self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            let is = |target: &Target, _: &mut Arc<Node>| target.id == id;
            let Part { young, old } = &mut *part;
            let gone: Vec<_> = young.extract_if(is).chain(old.extract_if(is)).collect();
            drop(part);
            drop(gone);
        }
    }

    /// Lets go what has no name any more, and one half of what was not used since the last turn.
    pub(super) fn sweep(&self, turn: bool) {
        for part in &self.parts {
            let lock = || part.lock().unwrap_or_else(PoisonError::into_inner);
            let all: Vec<Arc<Node>> = {
                let part = lock();
                part.young.values().chain(part.old.values()).cloned().collect()
            };
            for node in all {
                if see(&node.fd).is_ok_and(|stat| stat.links == 0) {
                    self.forget(&node.target);
                }
            }
            if turn {
                let mut part = lock();
                let young = std::mem::take(&mut part.young);
                let gone = std::mem::replace(&mut part.old, young);
                drop(part);
                drop(gone);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn clear(&self) {
        self.sweep(true);
        self.sweep(true);
    }
}
