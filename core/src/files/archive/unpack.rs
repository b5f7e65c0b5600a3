//! How an archive becomes a tree, all of it or nothing.
//!
//! ```text
//!  received into the scratch room ─► read, entry by entry, into a tree there ─┬► nothing in place: moved whole
//!                                                                              └► compared with what is, then moved
//! ```
//! Every name is walked from the top of the new tree, beneath it and through no link. Refused with the whole archive
//! are absolute names, `..`, names through a link or a file, hard links to what is not in it, devices, FIFOs, sparse
//! files, and what does not fit what is in place.

use super::entries::{Entries, FOREIGN, Place, TWO_THINGS, read_at};
use super::received::Unpacked;
use super::tar::{Entry, Kind};
use crate::error::{Error, Reason};
use crate::files::path::SandboxPath;
use crate::files::resolve::{self, Last, Node, Parents, give, look, open_directory, resolve};
use crate::files::roots::{Owners, Replace, Scrap};
use crate::files::write::{sync_directory, write_at};
use crate::files::{Tree, failure};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

const DEPTH_MAX: usize = 256;
const COPY_BYTES: usize = 256 << 10;
const PARENT_MODE: u32 = 0o755;

/// Unpacks what was received into a directory, which is made where it is missing.
pub(super) fn unpack(tree: &Tree, spool: &Arc<OwnedFd>, size: u64, path: &SandboxPath) -> Result<Unpacked, Error> {
    let fails = |errno| failure::of(errno, path);
    let roots = tree.roots()?;
    let scrap = Scrap::new(roots.scratch()?);
    let top = scrap.directory().map_err(fails)?;
    let mut maker = Maker { tree, owners: roots.owners, top: &top, last: None, done: Unpacked::default() };
    maker.archive(spool, size)?;
    give(&top, roots.owners, resolve::MODE_OF_PARENTS).map_err(fails)?;
    // What was received is of no use any more, and the disk need not have it.
    let _ = rustix::fs::ftruncate(spool, 0);
    rustix::fs::syncfs(&top).map_err(fails)?;
    let found = resolve(&roots, path, Last::Follow, Parents::Make)?;
    let node = match (found.node, found.entry) {
        (Some(node), _) => node,
        (None, Some((above, name))) => {
            scrap.place(&above, &name, Replace::No).map_err(fails)?;
            sync_directory(&above).map_err(fails)?;
            return Ok(maker.done);
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
    /// The directory of the last entry: most entries lie where the one before them does.
    last: Option<(Vec<u8>, Rc<OwnedFd>)>,
    done: Unpacked,
}

impl Maker<'_> {
    fn archive(&mut self, spool: &Arc<OwnedFd>, size: u64) -> Result<(), Error> {
        let mut entries = Entries::new(spool.clone(), size);
        while let Some((entry, at)) = entries.next()? {
            self.entry(&entry, at, &entries, spool)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &Entry, at: u64, entries: &Entries, spool: &OwnedFd) -> Result<(), Error> {
        let refused = |why| entries.refused(why);
        let Some(place) = Place::of(entry).map_err(refused)? else { return Ok(()) };
        let Some((name, above)) = place.names.split_last() else { return Ok(()) };
        let fails = |errno: Errno| match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::ISDIR | Errno::NAMETOOLONG => {
                refused(TWO_THINGS)
            }
            errno => failure::anywhere(errno),
        };
        self.tree.space(entry.size.max(1))?;
        let directory = self.directory(above).map_err(fails)?;
        match entry.kind {
            Kind::Directory => self.make_directory(&directory, name, entry.mode).map_err(fails)?,
            Kind::File => {
                let file = make_file(&directory, name).map_err(fails)?;
                copy(spool, at, &file, entry.size).map_err(failure::anywhere)?;
                give(&file, self.owners, entry.mode).map_err(fails)?;
                self.done.bytes += entry.size;
            }
            Kind::Symlink => {
                free(&directory, name).map_err(fails)?;
                rustix::fs::symlinkat(&entry.target[..], &directory, *name).map_err(fails)?;
                let (user, group) = self.owners.user();
                rustix::fs::chownat(&directory, *name, user, group, AtFlags::SYMLINK_NOFOLLOW).map_err(fails)?;
            }
            Kind::HardLink => self.link(&place.first, &directory, name).ok_or_else(|| refused(FOREIGN))?,
        }
        self.done.entries += 1;
        Ok(())
    }

    /// `None`: there is no such file in the archive.
    fn link(&self, first: &[&[u8]], directory: &OwnedFd, name: &[u8]) -> Option<()> {
        let (old, above) = first.split_last()?;
        let path = if above.is_empty() { b".".to_vec() } else { above.join(&b'/') };
        let source = open_directory(self.top, &path).ok()?;
        if look(&source, old).ok()?.kind() != FileType::RegularFile {
            return None;
        }
        free(directory, name).ok()?;
        rustix::fs::linkat(&source, *old, directory, name, AtFlags::empty()).ok()
    }

    /// The directory of these names, made where it is missing. Once made it stays.
    fn directory(&mut self, names: &[&[u8]]) -> rustix::io::Result<Rc<OwnedFd>> {
        let whole = if names.is_empty() { b".".to_vec() } else { names.join(&b'/') };
        if let Some((_, directory)) = self.last.as_ref().filter(|(name, _)| *name == whole) {
            return Ok(directory.clone());
        }
        let directory = Rc::new(match open_directory(self.top, &whole) {
            Err(Errno::NOENT) => self.missing(names)?,
            opened => opened?,
        });
        self.last = Some((whole, directory.clone()));
        Ok(directory)
    }

    fn missing(&self, names: &[&[u8]]) -> rustix::io::Result<OwnedFd> {
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

fn make_file(directory: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let make = || openat(directory, name, flags, Mode::from_raw_mode(0o600));
    match make() {
        Err(Errno::EXIST) => {
            free(directory, name)?;
            make()
        }
        made => made,
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
