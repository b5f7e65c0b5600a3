//! What stands in an archive that was received? Its entries, one after the other, each with where its bytes lie.
//!
//! What two readers could understand in two ways, or would put anywhere but below the directory, refuses the archive.

use super::tar::{BLOCK, EXTENSION_BYTES_MAX, Entry, Head, Kind, Malformed, Next};
use crate::error::{Error, Reason};
use crate::files::failure;
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use workspace_proto::FILE_PARTS_MAX;

const DEPTH_MAX: usize = 256;
const PATH_BYTES_MAX: usize = 4095;

/// An archive that is being read.
pub(in crate::files) struct Entries {
    spool: Arc<OwnedFd>,
    size: u64,
    at: u64,
    next: Next,
    is_end: bool,
    read: u64,
}

impl Entries {
    /// From the first one on; `size` is the archive's, in bytes.
    pub(in crate::files) fn new(spool: Arc<OwnedFd>, size: u64) -> Entries {
        Entries { spool, size, at: 0, next: Next::default(), is_end: false, read: 0 }
    }

    /// The next entry, and where its bytes begin; `None` behind the last.
    pub(in crate::files) fn next(&mut self) -> Result<Option<(Entry, u64)>, Error> {
        while self.at + BLOCK as u64 <= self.size {
            let mut block = [0u8; BLOCK];
            read_at(&self.spool, &mut block, self.at).map_err(failure::anywhere)?;
            self.at += BLOCK as u64;
            let begin = self.at;
            let head = self.next.head(&block).map_err(|why| refused(why, self.read + 1))?;
            match head {
                Head::Zero if self.is_end => return Ok(None),
                Head::Zero => self.is_end = true,
                Head::Extension(kind, bytes) => {
                    let mut body = vec![0; bytes.min(EXTENSION_BYTES_MAX) as usize];
                    self.pass(bytes).ok_or_else(|| refused("it ends in the middle of a head", self.read + 1))?;
                    read_at(&self.spool, &mut body, begin).map_err(failure::anywhere)?;
                    self.next.extend(kind, &body).map_err(|why| refused(why, self.read + 1))?;
                }
                Head::Entry(entry) => {
                    self.pass(entry.size).ok_or_else(|| refused("it ends in the middle of a file", self.read + 1))?;
                    if self.read >= FILE_PARTS_MAX {
                        return Err(refused("it has more than a million entries", self.read + 1));
                    }
                    self.read += 1;
                    return Ok(Some((entry, begin)));
                }
            }
        }
        Ok(None)
    }

    /// Goes behind a body, where it is there as a whole.
    fn pass(&mut self, bytes: u64) -> Option<()> {
        self.is_end = false;
        if self.at + bytes > self.size {
            return None;
        }
        self.at += bytes.next_multiple_of(BLOCK as u64);
        Some(())
    }

    /// The archive is refused, for what was read last.
    pub(in crate::files) fn refused(&self, why: Malformed) -> Error {
        refused(why, self.read)
    }
}

/// An archive is refused, for one of its entries.
pub(in crate::files) fn refused(why: Malformed, entry: u64) -> Error {
    let message = format!("the archive is refused: {why} (entry {entry}); nothing of it was kept");
    Error::new(Reason::InvalidRequest, message)
}

/// What is said where entries do not fit each other.
pub(in crate::files) const TWO_THINGS: Malformed =
    "a name that leads through a link or a file, or stands for two things";
/// A hard link leads nowhere else than to what was unpacked.
pub(in crate::files) const FOREIGN: Malformed = "a hard link to what is not a file of the archive before it";

/// Where an entry is put, and what its link names, as names below the directory.
pub(in crate::files) struct Place<'a> {
    pub(in crate::files) names: Vec<&'a [u8]>,
    /// Of a hard link.
    pub(in crate::files) first: Vec<&'a [u8]>,
}

impl<'a> Place<'a> {
    /// `None`: it is the directory itself, `./`.
    pub(in crate::files) fn of(entry: &'a Entry) -> Result<Option<Place<'a>>, Malformed> {
        let (names, mut first) = (names(&entry.path)?, Vec::new());
        match entry.kind {
            Kind::Directory if names.is_empty() => return Ok(None),
            _ if names.is_empty() => return Err("a name that is empty"),
            Kind::Symlink if !(1..=PATH_BYTES_MAX).contains(&entry.target.len()) => {
                return Err("a link without a target");
            }
            Kind::HardLink => first = self::names(&entry.target).ok().filter(|n| !n.is_empty()).ok_or(FOREIGN)?,
            _ => {}
        }
        Ok(Some(Place { names, first }))
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

/// Reads all of it.
pub(in crate::files) fn read_at(file: impl AsFd, mut bytes: &mut [u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pread(&file, &mut *bytes, at) {
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
