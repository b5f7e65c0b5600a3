//! How an archive becomes a tree, all of it or nothing.
//!
//! ```text
//!  received into the scratch room ─► read, entry by entry, into a tree there ─► compared with what is in place ─► moved
//! ```
//! Every name is walked from the top of the new tree, beneath it and through no link. Refused with the whole archive
//! are absolute names, `..`, names through a link or a file, hard links to what is not in it, devices, FIFOs, sparse
//! files, and what does not fit what is in place.

use super::tar::{BLOCK, EXTENSION_BYTES_MAX, Entry, Head, Kind, Malformed, Next};
use crate::error::{Error, Reason};
use crate::files::path::SandboxPath;
use crate::files::pool::Lasts;
use crate::files::resolve::{self, Last, Node, Parents, give, look, make_directory, open_directory, resolve};
use crate::files::roots::{Owners, Scrap};
use crate::files::write::sync_directory;
use crate::files::{Tree, failure};
use crate::shard::mailbox::Answer;
use bytes::Bytes;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

const ENTRIES_MAX: u64 = 1_000_000;
const DEPTH_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 4095;
const COPY_BYTES: usize = 256 << 10;
const PARENT_MODE: u32 = 0o755;

/// What came of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Unpacked {
    /// Files, directories and links in it.
    pub entries: u64,
    /// Of all files, in bytes.
    pub bytes: u64,
}

/// An archive that is being received. Dropping it leaves nothing behind.
pub struct Received {
    spool: Option<Arc<Spool>>,
    tree: Tree,
    at: u64,
    pending: Option<Answer<Result<(), Error>>>,
}

struct Spool {
    file: OwnedFd,
    _scrap: Scrap,
}

impl Tree {
    /// Begins to receive an archive.
    pub async fn receive(&self) -> Result<Received, Error> {
        let tree = self.clone();
        let open = move || {
            let scrap = Scrap::new(tree.roots()?.scratch()?);
            let file = scrap.file().map_err(failure::anywhere)?;
            Ok(Spool { file, _scrap: scrap })
        };
        let spool = self.pool().run(Lasts::Short, open).await?;
        Ok(Received { spool: Some(Arc::new(spool)), tree: self.clone(), at: 0, pending: None })
    }
}

impl Received {
    /// Takes the next bytes. Returns when the piece before them is written.
    pub async fn piece(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.settle().await?;
        let Some(spool) = self.spool.clone() else { return Ok(()) };
        let (tree, at) = (self.tree.clone(), self.at);
        self.at += bytes.len() as u64;
        let write = move || {
            tree.space(bytes.len() as u64)?;
            write_at(&spool.file, &bytes, at).map_err(failure::anywhere)
        };
        self.pending = Some(self.tree.pool().go_on(write).await?);
        Ok(())
    }

    /// Unpacks it into a directory, which is made where it is missing. What is there is kept, files are replaced.
    pub async fn unpack(mut self, path: SandboxPath) -> Result<Unpacked, Error> {
        self.settle().await?;
        let Some(spool) = self.spool.take() else { return Ok(Unpacked::default()) };
        let (tree, size) = (self.tree.clone(), self.at);
        self.tree.pool().run(Lasts::Long, move || unpack(&tree, &spool.file, size, &path)).await
    }

    async fn settle(&mut self) -> Result<(), Error> {
        match self.pending.take() {
            Some(answer) => answer.wait().await?,
            None => Ok(()),
        }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(spool) = self.spool.take() {
            self.tree.pool().discard(spool);
        }
    }
}

fn unpack(tree: &Tree, spool: &OwnedFd, size: u64, path: &SandboxPath) -> Result<Unpacked, Error> {
    let fails = |errno| failure::of(errno, path);
    let roots = tree.roots()?;
    let scrap = Scrap::new(roots.scratch()?);
    let top = scrap.directory().map_err(fails)?;
    let mut maker = Maker { tree, owners: roots.owners, top: &top, done: Unpacked::default() };
    maker.archive(spool, size)?;
    rustix::fs::syncfs(&top).map_err(fails)?;
    let found = resolve(&roots, path, Last::Follow, Parents::Make)?;
    let node = match (found.node, found.entry) {
        (Some(node), _) => node,
        (None, Some((above, name))) => {
            make_directory(&roots, &above, &name, resolve::MODE_OF_PARENTS).map_err(fails)?;
            look(&above, &name).map_err(fails)?
        }
        (None, None) => return Err(fails(Errno::NOENT)),
    };
    if !node.is_dir() {
        return Err(fails(Errno::NOTDIR));
    }
    let place = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
    let done = maker.done;
    // First all is looked at, so that what does not fit changes nothing.
    for apply in [false, true] {
        merge(&top, &place, apply, 0).map_err(|errno| match errno {
            Errno::EXIST => {
                let message =
                    format!("{}: has a directory where the archive has a file, or the other way", path.brief());
                Error::new(Reason::FileAlreadyExists, message)
            }
            errno => fails(errno),
        })?;
    }
    sync_directory(&place).map_err(fails)?;
    Ok(done)
}

/// Moves what lies in one directory into another, or only looks whether it fits.
fn merge(from: &OwnedFd, to: &OwnedFd, apply: bool, depth: usize) -> rustix::io::Result<()> {
    let mut entries = Dir::read_from(from)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let new = look(from, name)?;
        let there = match look(to, name) {
            Ok(there) => Some(there),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno),
        };
        match there.as_ref().map(Node::is_dir) {
            Some(true) if new.is_dir() && depth < DEPTH_MAX => {
                merge(&open_directory(from, name)?, &open_directory(to, name)?, apply, depth + 1)?;
            }
            Some(is_dir) if is_dir || new.is_dir() => return Err(Errno::EXIST),
            _ if apply => renameat(from, name, to, name)?,
            _ => {}
        }
    }
    Ok(())
}

struct Maker<'a> {
    tree: &'a Tree,
    owners: Owners,
    top: &'a OwnedFd,
    done: Unpacked,
}

impl Maker<'_> {
    fn archive(&mut self, spool: &OwnedFd, size: u64) -> Result<(), Error> {
        let (mut at, mut next, mut is_end) = (0, Next::default(), false);
        while at + BLOCK as u64 <= size {
            let mut block = [0u8; BLOCK];
            read_at(spool, &mut block, at).map_err(failure::anywhere)?;
            at += BLOCK as u64;
            let body = match next.head(&block).map_err(|why| self.refused(why))? {
                Head::Zero if is_end => return Ok(()),
                Head::Zero => {
                    is_end = true;
                    continue;
                }
                Head::Extension(kind, bytes) => {
                    let mut body = vec![0; bytes.min(EXTENSION_BYTES_MAX) as usize];
                    if at + bytes > size {
                        return Err(self.refused("it ends in the middle of a head"));
                    }
                    read_at(spool, &mut body, at).map_err(failure::anywhere)?;
                    next.extend(kind, &body).map_err(|why| self.refused(why))?;
                    bytes
                }
                Head::Entry(entry) => {
                    if at + entry.size > size {
                        return Err(self.refused("it ends in the middle of a file"));
                    }
                    self.entry(&entry, spool, at)?;
                    entry.size
                }
            };
            is_end = false;
            at += body.next_multiple_of(BLOCK as u64);
        }
        Ok(())
    }

    fn refused(&self, why: Malformed) -> Error {
        let message =
            format!("the archive is refused: {why} (entry {}); nothing of it was kept", self.done.entries + 1);
        Error::new(Reason::InvalidRequest, message)
    }

    fn entry(&mut self, entry: &Entry, spool: &OwnedFd, at: u64) -> Result<(), Error> {
        if self.done.entries >= ENTRIES_MAX {
            return Err(self.refused("it has more than a million entries"));
        }
        let names = names(&entry.path).map_err(|why| self.refused(why))?;
        let Some((name, above)) = names.split_last() else {
            // `./`: the directory itself.
            return if entry.kind == Kind::Directory { Ok(()) } else { Err(self.refused("a name that is empty")) };
        };
        let fails = |errno: Errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::ISDIR | Errno::NAMETOOLONG => {
                self.refused("a name that leads through a link or a file, or stands for two things")
            }
            errno => failure::anywhere(errno),
        };
        self.tree.space(entry.size.max(1))?;
        let directory = self.directory(above).map_err(fails)?;
        match entry.kind {
            Kind::Directory => self.make_directory(&directory, name, entry.mode).map_err(fails)?,
            Kind::File => {
                free(&directory, name).map_err(fails)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&directory, *name, flags, Mode::from_raw_mode(0o600)).map_err(fails)?;
                copy(spool, at, &file, entry.size).map_err(failure::anywhere)?;
                give(&file, self.owners, entry.mode).map_err(fails)?;
                self.done.bytes += entry.size;
            }
            Kind::Symlink => {
                if entry.target.is_empty() || entry.target.len() > PATH_BYTES_MAX {
                    return Err(self.refused("a link without a target"));
                }
                free(&directory, name).map_err(fails)?;
                rustix::fs::symlinkat(&entry.target[..], &directory, *name).map_err(fails)?;
                let (user, group) = self.owners.user();
                rustix::fs::chownat(&directory, *name, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(fails)?;
            }
            Kind::HardLink => self.link(&entry.target, &directory, name)?,
        }
        self.done.entries += 1;
        Ok(())
    }

    fn link(&self, target: &[u8], directory: &OwnedFd, name: &[u8]) -> Result<(), Error> {
        let foreign = || self.refused("a hard link to what is not a file of the archive before it");
        let names = names(target).map_err(|why| self.refused(why))?;
        let Some((old, above)) = names.split_last() else { return Err(foreign()) };
        let path = if above.is_empty() { b".".to_vec() } else { above.join(&b'/') };
        let source = open_directory(self.top, &path).map_err(|_| foreign())?;
        let node = look(&source, old).map_err(|_| foreign())?;
        if node.kind() != FileType::RegularFile {
            return Err(foreign());
        }
        free(directory, name).map_err(failure::anywhere)?;
        rustix::fs::linkat(&source, *old, directory, name, AtFlags::empty()).map_err(|_| foreign())
    }

    /// The directory of these names, made where it is missing.
    fn directory(&self, names: &[&[u8]]) -> rustix::io::Result<OwnedFd> {
        let whole = if names.is_empty() { b".".to_vec() } else { names.join(&b'/') };
        match open_directory(self.top, &whole) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        let mut at = open_directory(self.top, b".")?;
        for name in names {
            at = match open_directory(&at, name) {
                Err(Errno::NOENT) => {
                    self.make_directory(&at, name, PARENT_MODE)?;
                    open_directory(&at, name)?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }

    fn make_directory(&self, at: &OwnedFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
        match mkdirat(at, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        give(&open_directory(at, name)?, self.owners, mode)
    }
}

/// A later entry takes the place of an earlier one, unless that is a directory.
fn free(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

/// The names of a path that stays beneath.
fn names(path: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    if path.len() > PATH_BYTES_MAX {
        return Err("a name that is longer than 4095 bytes");
    }
    if path.first() == Some(&b'/') {
        return Err("an absolute name");
    }
    let names: Vec<&[u8]> = path.split(|b| *b == b'/').filter(|name| !name.is_empty() && *name != b".").collect();
    if names.contains(&&b".."[..]) {
        return Err("a name with `..`");
    }
    if names.iter().any(|name| name.len() > 255) || names.len() > DEPTH_MAX {
        return Err("a name that is too long or too deep");
    }
    Ok(names)
}

fn copy(from: &OwnedFd, mut at: u64, to: &OwnedFd, size: u64) -> rustix::io::Result<()> {
    let (end, mut written, mut buffer) = (at + size, 0, vec![0; COPY_BYTES.min(size as usize)]);
    while at < end {
        let bytes = (end - at).min(COPY_BYTES as u64) as usize;
        read_at(from, &mut buffer[..bytes], at)?;
        write_at(to, &buffer[..bytes], written)?;
        at += bytes as u64;
        written += bytes as u64;
    }
    Ok(())
}

fn read_at(file: &OwnedFd, mut bytes: &mut [u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pread(file, &mut *bytes, at) {
            Ok(0) => return Err(Errno::IO),
            Ok(read) => {
                bytes = &mut bytes[read..];
                at += read as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn write_at(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(&file, bytes, at) {
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
