//! How a file or a tree is copied: made whole in the scratch room, then put in its place in one step.
//!
//! Links are copied as links; files keep their holes and permissions and become the user's; FIFOs, sockets and
//! devices are left out. What others change meanwhile is copied as it is met, what vanishes is left out, and a file
//! that grows is copied up to the length that it had.

use super::info;
use super::path::SandboxPath;
use super::pool::Lasts;
use super::read::regular;
use super::resolve::{self, Last, Node, Parents, entry, existing, give, look};
use super::roots::{Owners, Replace, Scrap};
use super::write::sync_directory;
use super::{Tree, failure};
use crate::error::{Error, Reason};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, mkdirat, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Directories below each other.
const DEPTH_MAX: usize = 512;
const ENTRIES_MAX: usize = 1_000_000;
/// Between two looks at the limit of the disk.
const STEP_BYTES: u64 = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;
const MODE_MASK: u32 = 0o777;
/// Levels above a place that are looked at.
const ABOVE_MAX: usize = 4096;

impl Tree {
    /// Copies a file or a whole tree.
    pub async fn copy(&self, source: SandboxPath, destination: SandboxPath, replace: Replace) -> Result<(), Error> {
        let tree = self.clone();
        self.pool().run(Lasts::Long, move || copy(&tree, &source, &destination, replace)).await
    }
}

fn copy(tree: &Tree, source: &SandboxPath, destination: &SandboxPath, replace: Replace) -> Result<(), Error> {
    let roots = tree.roots()?;
    let (from, to) = (|errno| failure::of(errno, source), |errno| failure::of(errno, destination));
    let node = existing(&roots, source, Last::Follow)?;
    let (directory, name, there) = entry(&roots, destination, Last::Keep, Parents::Need)?;
    if let Some(there) = &there {
        if replace == Replace::No {
            return Err(to(Errno::EXIST));
        }
        match (node.is_dir(), there.is_dir()) {
            (false, true) => return Err(to(Errno::ISDIR)),
            (true, false) => return Err(to(Errno::NOTDIR)),
            _ => {}
        }
        if (there.stat.st_dev, there.stat.st_ino) == (node.stat.st_dev, node.stat.st_ino) {
            return Err(Error::new(Reason::InvalidPath, format!("{}: is the source itself", destination.brief())));
        }
    }
    let scrap = Scrap::new(roots.scratch()?);
    if node.is_dir() {
        if is_within(&directory, &node).map_err(to)? {
            let message = format!("{}: lies in the directory that is to be copied", destination.brief());
            return Err(Error::new(Reason::InvalidPath, message));
        }
        let made = scrap.directory().map_err(to)?;
        let opened = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(from)?;
        Copier { tree, owners: roots.owners, entries: 0, path: source }.tree(opened, made, node.stat.st_mode)?;
    } else {
        regular(&node, source)?;
        let file = scrap.file().map_err(to)?;
        Copier { tree, owners: roots.owners, entries: 0, path: source }.file(&node, &file)?;
        rustix::fs::fsync(&file).map_err(to)?;
    }
    let placed = scrap.place(&directory, &name, replace);
    placed.map_err(to)?;
    sync_directory(&directory).map_err(to)
}

/// Whether a directory is another one or lies below it. What is moved meanwhile may deceive it; the copy ends all the
/// same, because it is made elsewhere.
fn is_within(directory: &OwnedFd, other: &Node) -> rustix::io::Result<bool> {
    let mut at = resolve::open_directory(directory, b".")?;
    for _ in 0..ABOVE_MAX {
        let stat = rustix::fs::fstat(&at)?;
        if (stat.st_dev, stat.st_ino) == (other.stat.st_dev, other.stat.st_ino) {
            return Ok(true);
        }
        // Only numbers of what is above are looked at.
        let above = openat(&at, "..", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let parent = rustix::fs::fstat(&above)?;
        if (parent.st_dev, parent.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(false);
        }
        at = above;
    }
    Ok(false)
}

struct Copier<'a> {
    tree: &'a Tree,
    owners: Owners,
    entries: usize,
    /// For messages.
    path: &'a SandboxPath,
}

/// A directory that is being copied.
struct Level {
    from: OwnedFd,
    entries: Dir,
    to: OwnedFd,
    mode: u32,
}

impl Copier<'_> {
    fn tree(&mut self, from: OwnedFd, to: OwnedFd, mode: u32) -> Result<(), Error> {
        let fails = |errno| failure::of(errno, self.path);
        let entries = Dir::read_from(&from).map_err(fails)?;
        let mut levels = vec![Level { from, entries, to, mode }];
        while let Some(level) = levels.last_mut() {
            let Some(next) = level.entries.read() else {
                give(&level.to, self.owners, level.mode & MODE_MASK).map_err(fails)?;
                if levels.len() == 1 {
                    // Once for all of it: one by one would cost a wait of the disk for each file.
                    rustix::fs::syncfs(&levels[0].to).map_err(fails)?;
                }
                levels.pop();
                continue;
            };
            let name = next.map_err(fails)?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX || levels.len() >= DEPTH_MAX {
                return Err(Error::new(
                    Reason::InvalidPath,
                    format!("{}: has more than {ENTRIES_MAX} entries or {DEPTH_MAX} levels", self.path.brief()),
                ));
            }
            if let Some(below) = self.entry(&levels, &name)? {
                levels.push(below);
            }
        }
        Ok(())
    }

    /// Copies one entry; a directory is begun and handed back.
    fn entry(&self, levels: &[Level], name: &[u8]) -> Result<Option<Level>, Error> {
        let fails = |errno| failure::of(errno, self.path);
        let Some(level) = levels.last() else { return Ok(None) };
        let node = match look(&level.from, name) {
            Ok(node) => node,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(fails(errno)),
        };
        match node.kind() {
            FileType::RegularFile => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&level.to, name, flags, Mode::from_raw_mode(0o600)).map_err(fails)?;
                self.file(&node, &file)?;
            }
            FileType::Directory => {
                self.tree.space(1)?;
                mkdirat(&level.to, name, Mode::from_raw_mode(0o700)).map_err(fails)?;
                let to = resolve::open_directory(&level.to, name).map_err(fails)?;
                let from = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
                let entries = Dir::read_from(&from).map_err(fails)?;
                return Ok(Some(Level { from, entries, to, mode: node.stat.st_mode }));
            }
            FileType::Symlink => {
                self.tree.space(1)?;
                let target = rustix::fs::readlinkat(&node.fd, "", Vec::new()).map_err(fails)?;
                rustix::fs::symlinkat(&target, &level.to, name).map_err(fails)?;
                let (user, group) = self.owners.user();
                rustix::fs::chownat(&level.to, name, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(fails)?;
            }
            _ => {}
        }
        Ok(None)
    }

    fn file(&self, node: &Node, to: &OwnedFd) -> Result<(), Error> {
        let fails = |errno| failure::of(errno, self.path);
        let from = node.reopen(OFlags::RDONLY).map_err(fails)?;
        let size = info::size(&rustix::fs::fstat(&from).map_err(fails)?);
        let mut at = 0;
        while at < size {
            // NXIO: a hole up to the end. A file system that knows no holes says that all is data.
            let start = match rustix::fs::seek(&from, SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(errno) => return Err(fails(errno)),
            };
            let end = rustix::fs::seek(&from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            self.data(&from, to, start, end)?;
            at = end.max(start + 1);
        }
        rustix::fs::ftruncate(to, size).map_err(fails)?;
        give(to, self.owners, node.stat.st_mode & MODE_MASK).map_err(fails)
    }

    /// Copies bytes that are no hole.
    fn data(&self, from: &OwnedFd, to: &OwnedFd, mut at: u64, end: u64) -> Result<(), Error> {
        while at < end {
            let step = (end - at).min(STEP_BYTES);
            self.tree.space(step)?;
            let copied =
                copy_step(from.as_fd(), to.as_fd(), at, step).map_err(|errno| failure::of(errno, self.path))?;
            if copied == 0 {
                break;
            }
            at += copied;
        }
        Ok(())
    }
}

/// Copies up to `bytes` at one place of both files; 0 where the source ends.
fn copy_step(
    from: std::os::fd::BorrowedFd<'_>,
    to: std::os::fd::BorrowedFd<'_>,
    at: u64,
    bytes: u64,
) -> rustix::io::Result<u64> {
    let (mut source, mut target) = (at, at);
    match rustix::fs::copy_file_range(from, Some(&mut source), to, Some(&mut target), bytes as usize) {
        Ok(copied) => Ok(copied as u64),
        // Not on this file system, or not between these two.
        Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let mut buffer = vec![0; BUFFER_BYTES.min(bytes as usize)];
            let read = rustix::io::pread(from, &mut buffer[..], at)?;
            let mut written = 0;
            while written < read {
                written += rustix::io::pwrite(to, &buffer[written..read], at + written as u64)?;
            }
            Ok(read as u64)
        }
        Err(Errno::INTR) => copy_step(from, to, at, bytes),
        Err(errno) => Err(errno),
    }
}
