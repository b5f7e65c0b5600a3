//! What is at a place: a file's bytes, a directory's entries, a node.

use super::link::Link;
use super::place::{self, Last, kind, node, reopen};
use super::{Fault, Reply};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use workspace_proto::agent::{FileEntries, FileEntry, FileNode};
use workspace_proto::{FILE_ENTRIES_MAX, FILE_PIECE_BYTES_MAX};

/// Of one answer about a directory; one entry is smaller than what is left of a message.
const ENTRIES_BYTES_MAX: usize = 2 << 20;
/// What an entry counts beside its texts.
const ENTRY_BYTES: usize = 64;

/// A regular file, open.
pub(super) struct Open(OwnedFd);

impl Open {
    /// Sends a part of it.
    pub(super) fn read(&mut self, mut offset: u64, mut length: u64, link: &mut Link) -> Result<(), Fault> {
        while length > 0 {
            let wanted = length.min(FILE_PIECE_BYTES_MAX as u64) as usize;
            let mut piece = Vec::with_capacity(wanted);
            let spare = rustix::buffer::spare_capacity(&mut piece);
            match rustix::io::pread(&self.0, spare, offset) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            piece.truncate(wanted);
            offset += piece.len() as u64;
            length -= piece.len() as u64;
            link.send(Reply::Data(piece.into()))?;
        }
        Ok(())
    }
}

/// What stands at a path.
pub(super) fn look(path: &[u8], follow: bool) -> Result<FileNode, Errno> {
    let (fd, stat) = place::look(path, last(follow))?;
    told(&stat, || readlinkat(&fd, "", Vec::new()))
}

/// As [`look`], and opens it for reading where it is a regular file.
pub(super) fn open(path: &[u8], follow: bool) -> Result<(FileNode, Option<Open>), Errno> {
    let (fd, stat) = place::look(path, last(follow))?;
    if kind(&stat) != FileType::RegularFile {
        return Ok((node(&stat), None));
    }
    let file = reopen(&fd, &stat, OFlags::RDONLY)?;
    Ok((node(&rustix::fs::fstat(&file)?), Some(Open(file))))
}

fn last(follow: bool) -> Last {
    if follow { Last::Follow } else { Last::Keep }
}

fn told(stat: &Stat, target: impl FnOnce() -> Result<std::ffi::CString, Errno>) -> Result<FileNode, Errno> {
    let mut seen = node(stat);
    if kind(stat) == FileType::Symlink {
        seen.target = target()?.into_bytes().into();
    }
    Ok(seen)
}

/// The first entries of a directory by their names, from one on.
pub(super) fn entries(path: &[u8], from: &[u8], limit: u32) -> Result<FileEntries, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    let limit = (limit as usize).clamp(1, FILE_ENTRIES_MAX);
    let (names, mut more) = names(&directory, from, limit)?;
    let (mut entries, mut bytes) = (Vec::with_capacity(names.len()), 0);
    for name in names {
        if bytes > ENTRIES_BYTES_MAX {
            more = true;
            break;
        }
        // What vanishes meanwhile is not there.
        let Ok(stat) = statat(&directory, &name[..], AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let Ok(seen) = told(&stat, || readlinkat(&directory, &name[..], Vec::new())) else { continue };
        bytes += ENTRY_BYTES + name.len() + seen.target.len();
        entries.push(FileEntry { name: name.into(), node: Some(seen) });
    }
    Ok(FileEntries { entries, more })
}

/// Holds no more names than are asked for, however many there are.
fn names(directory: impl AsFd, from: &[u8], limit: usize) -> Result<(BTreeSet<Vec<u8>>, bool), Errno> {
    let (mut names, mut more) = (BTreeSet::<Vec<u8>>::new(), false);
    let mut entries = Dir::read_from(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || name < from {
            continue;
        }
        if names.len() == limit {
            more = true;
            if names.last().is_some_and(|last| name >= &last[..]) {
                continue;
            }
            names.pop_last();
        }
        names.insert(name.to_vec());
    }
    Ok((names, more))
}
