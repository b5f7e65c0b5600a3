//! How is a file or a tree copied? Made whole under a hidden name beside its place, then put there in one step.
//!
//! Links are copied as links; files keep their holes and permissions. What others change meanwhile is copied as it is met,
//! and a file that grows up to the length that it had. FIFOs, sockets and devices are left out of a copy; a move that would
//! lose one is refused.

use super::link::Link;
use super::place::{self, Entry, Last, kind, reopen};
use super::tree::{hidden_beside, remove_entry};
use super::write::Nameless;
use super::{Fault, destination};
use rustix::fs::{
    Dir, FileType, Mode, OFlags, RenameFlags, SeekFrom, Stat, Timespec, Timestamps, copy_file_range, openat,
    renameat_with, seek,
};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use workspace_proto::agent::FileWay;

/// Directories below each other.
const DEPTH_MAX: usize = 512;
const ENTRIES_MAX: usize = 1_000_000;
const MODE_MASK: u32 = 0o777;
/// Between two looks at whether somebody waits.
const STEP_BYTES: u64 = 8 << 20;
const BUFFER_BYTES: usize = 256 << 10;
/// Levels above a place that are looked at.
const ABOVE_MAX: usize = 4096;

/// What a copy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum As {
    Copied,
    /// The source goes afterwards: nothing may be missing, and times are kept.
    Moved,
}

/// Copies what a path leads to.
pub(super) fn copy(way: &FileWay, link: &mut Link) -> Result<(), Fault> {
    let (source, stat) = place::look(&way.source, Last::Follow)?;
    if !matches!(kind(&stat), FileType::RegularFile | FileType::Directory) {
        return Err(Errno::INVAL.into());
    }
    let to = Entry::find(&way.destination, Last::Keep).map_err(destination)?;
    place(&source, &to, way.replace, As::Copied, link)?;
    to.sync().map_err(destination)
}

/// Copies a node to its place.
pub(super) fn place(source: &OwnedFd, to: &Entry, replace: bool, how: As, link: &mut Link) -> Result<(), Fault> {
    let stat = rustix::fs::fstat(source)?;
    if let Some(there) = to.stat().map_err(destination)? {
        let (is_dir, was_dir) = (kind(&stat) == FileType::Directory, kind(&there) == FileType::Directory);
        let is_same = (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino);
        match (is_dir, was_dir) {
            _ if !replace => return Err(destination(Errno::EXIST)),
            _ if is_same => return Err(destination(Errno::INVAL)),
            (false, true) => return Err(destination(Errno::ISDIR)),
            (true, false) => return Err(destination(Errno::NOTDIR)),
            _ => {}
        }
    }
    if kind(&stat) == FileType::Directory && is_within(&to.directory, &stat).map_err(destination)? {
        return Err(destination(Errno::INVAL));
    }
    let hidden = hidden_beside(to).map_err(destination)?;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    let made = Copier { how, entries: 0, link }.whole(source, &stat, &hidden).and_then(|()| {
        renameat_with(&hidden.directory, &hidden.name[..], &to.directory, &to.name[..], flags).map_err(destination)
    });
    if made.is_err() {
        // Whether somebody waits for it or not.
        let _ = remove_entry(&hidden, &mut Link::default());
    }
    made
}

/// Whether a directory is another one or lies below it.
fn is_within(directory: &OwnedFd, other: &Stat) -> Result<bool, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = openat(directory, ".", flags, Mode::empty())?;
    for _ in 0..ABOVE_MAX {
        let stat = rustix::fs::fstat(&at)?;
        if (stat.st_dev, stat.st_ino) == (other.st_dev, other.st_ino) {
            return Ok(true);
        }
        let above = openat(&at, "..", flags, Mode::empty())?;
        let parent = rustix::fs::fstat(&above)?;
        if (parent.st_dev, parent.st_ino) == (stat.st_dev, stat.st_ino) {
            return Ok(false);
        }
        at = above;
    }
    Ok(false)
}

/// A directory that is being copied.
struct Level {
    from: OwnedFd,
    entries: Dir,
    to: OwnedFd,
    stat: Stat,
}

struct Copier<'a> {
    how: As,
    entries: usize,
    link: &'a mut Link,
}

impl Copier<'_> {
    fn whole(&mut self, source: &OwnedFd, stat: &Stat, to: &Entry) -> Result<(), Fault> {
        let mut levels: Vec<Level> = self.node(source, stat, to)?.into_iter().collect();
        while let Some(level) = levels.last_mut() {
            self.link.step()?;
            let Some(next) = level.entries.read() else {
                if let Some(done) = levels.pop() {
                    self.dress(&done.to, &done.stat)?;
                    rustix::fs::fsync(&done.to)?;
                }
                continue;
            };
            let name = next?.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            self.entries += 1;
            if self.entries > ENTRIES_MAX || levels.len() >= DEPTH_MAX {
                return Err(Errno::TOOBIG.into());
            }
            let Some(level) = levels.last() else { break };
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let node = match openat(&level.from, &name[..], flags, Mode::empty()) {
                Ok(node) => node,
                Err(Errno::NOENT) if self.how == As::Copied => continue,
                Err(errno) => return Err(errno.into()),
            };
            let stat = rustix::fs::fstat(&node)?;
            let directory = rustix::io::fcntl_dupfd_cloexec(&level.to, 3).map_err(destination)?;
            let below = self.node(&node, &stat, &Entry { directory, name })?;
            levels.extend(below);
        }
        Ok(())
    }

    /// Copies one node; a directory is begun and handed back.
    fn node(&mut self, source: &OwnedFd, stat: &Stat, to: &Entry) -> Result<Option<Level>, Fault> {
        match kind(stat) {
            FileType::RegularFile => {
                let from = reopen(source, stat, OFlags::RDONLY)?;
                let directory = rustix::io::fcntl_dupfd_cloexec(&to.directory, 3).map_err(destination)?;
                let made = Nameless::make(directory).map_err(destination)?;
                self.bytes(&from, &made.fd)?;
                self.dress(&made.fd, stat)?;
                rustix::fs::fsync(&made.fd).map_err(destination)?;
                made.place(to, true, true).map_err(destination)?;
            }
            FileType::Directory => {
                let from = reopen(source, stat, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let entries = Dir::read_from(&from)?;
                rustix::fs::mkdirat(&to.directory, &to.name[..], Mode::RWXU).map_err(destination)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(&to.directory, &to.name[..], flags, Mode::empty()).map_err(destination)?;
                return Ok(Some(Level { from, entries, to: made, stat: *stat }));
            }
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(source, "", Vec::new())?;
                rustix::fs::symlinkat(&target, &to.directory, &to.name[..]).map_err(destination)?;
            }
            _ if self.how == As::Moved => return Err(Errno::INVAL.into()),
            _ => {}
        }
        Ok(None)
    }

    fn dress(&self, made: &OwnedFd, stat: &Stat) -> Result<(), Fault> {
        rustix::fs::fchmod(made, Mode::from_raw_mode(stat.st_mode & MODE_MASK)).map_err(destination)?;
        if self.how == As::Moved {
            let time = |seconds, rest| Timespec { tv_sec: seconds, tv_nsec: rest as _ };
            let times = Timestamps {
                last_access: time(stat.st_atime, stat.st_atime_nsec),
                last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
            };
            rustix::fs::futimens(made, &times).map_err(destination)?;
        }
        Ok(())
    }

    /// Copies a file's bytes, not its holes, up to the length that it has now.
    fn bytes(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<(), Fault> {
        let size = u64::try_from(rustix::fs::fstat(from)?.st_size).unwrap_or(0);
        let mut at = 0;
        while at < size {
            let start = match seek(from, SeekFrom::Data(at)) {
                Ok(start) => start.min(size),
                Err(Errno::NXIO) => break,
                Err(Errno::INVAL) => at,
                Err(errno) => return Err(errno.into()),
            };
            let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).min(size);
            let mut next = start;
            while next < end {
                let copied = step(from, to, next, (end - next).min(STEP_BYTES))?;
                if copied == 0 {
                    break;
                }
                next += copied;
                self.link.look()?;
            }
            at = end.max(start + 1);
        }
        rustix::fs::ftruncate(to, size).map_err(destination)
    }
}

/// Copies up to `bytes` at one place of both files; 0 where the source ends.
fn step(from: &OwnedFd, to: &OwnedFd, at: u64, bytes: u64) -> Result<u64, Fault> {
    let (mut source, mut target) = (at, at);
    match copy_file_range(from, Some(&mut source), to, Some(&mut target), bytes as usize) {
        Ok(copied) if copied > 0 => return Ok(copied as u64),
        // Not on this file system, or not between these two; /proc says that there is nothing.
        Ok(_) | Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {}
        Err(errno) => return Err(destination(errno)),
    }
    let mut buffer = vec![0; BUFFER_BYTES.min(bytes as usize)];
    let read = rustix::io::pread(from, &mut buffer[..], at)?;
    let mut written = 0;
    while written < read {
        written += rustix::io::pwrite(to, &buffer[written..read], at + written as u64).map_err(destination)?;
    }
    Ok(read as u64)
}
