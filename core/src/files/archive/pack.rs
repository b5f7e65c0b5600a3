//! How a tree becomes an archive: piece by piece, while it is sent, as it is met.
//!
//! Links stay links; FIFOs, sockets and devices are left out, and so is what vanishes. A file that becomes shorter
//! than its head said cuts the archive: never bytes that were not there.

use super::tar::{self, Entry, Kind};
use crate::error::{Error, Reason};
use crate::files::elsewhere::InsidePacked;
use crate::files::path::SandboxPath;
use crate::files::pool::{Lasts, Pool};
use crate::files::resolve::{Last, existing, look};
use crate::files::{PIECE_BYTES_MAX, Tree, failure, info};
use crate::shard::mailbox::Answer;
use bytes::Bytes;
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

const DEPTH_MAX: usize = 512;
const ENTRIES_MAX: usize = 1_000_000;
/// Room for a head and its extensions behind a piece that is nearly full.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// An archive on its way out.
pub struct Packed {
    way: Way,
    ended: bool,
}

enum Way {
    Host(HostPacked),
    Inside(InsidePacked),
}

struct HostPacked {
    packer: Arc<Mutex<Packer>>,
    pool: Pool,
    ahead: Option<Answer<Result<Bytes, Error>>>,
}

impl Tree {
    /// Packs a directory. 3005 for what is none.
    pub async fn pack(&self, path: SandboxPath) -> Result<Packed, Error> {
        let tree = self.clone();
        let open = move || {
            let fails = |errno| failure::of(errno, &path);
            let node = existing(&tree.roots()?, &path, Last::Follow)?;
            if !node.is_dir() {
                return Err(fails(Errno::NOTDIR));
            }
            let fd = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
            let entries = Dir::read_from(&fd).map_err(fails)?;
            Ok(Packer { levels: vec![Level { fd, entries, path: Vec::new() }], file: None, entries: 0, ended: false })
        };
        let packer = self.pool().run(Lasts::Short, open).await?;
        let host = HostPacked { packer: Arc::new(Mutex::new(packer)), pool: self.pool().clone(), ahead: None };
        Ok(Packed { way: Way::Host(host), ended: false })
    }
}

impl Packed {
    /// One from inside.
    pub(in crate::files) fn inside(packed: InsidePacked) -> Packed {
        Packed { way: Way::Inside(packed), ended: false }
    }

    /// The next piece; `None` behind the last. An error is final.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.ended {
            return None;
        }
        let piece = match &mut self.way {
            Way::Host(packed) => packed.piece().await,
            Way::Inside(packed) => packed.piece().await,
        };
        self.ended = !matches!(&piece, Ok(piece) if !piece.is_empty());
        match piece {
            Ok(piece) if piece.is_empty() => None,
            piece => Some(piece),
        }
    }
}

impl HostPacked {
    async fn piece(&mut self) -> Result<Bytes, Error> {
        let answer = match self.ahead.take() {
            Some(answer) => answer,
            None => self.begin().await?,
        };
        let piece = answer.wait().await??;
        self.ahead = Some(self.begin().await?);
        Ok(piece)
    }

    async fn begin(&self) -> Result<Answer<Result<Bytes, Error>>, Error> {
        let packer = self.packer.clone();
        self.pool.go_on(Lasts::Short, move || packer.lock().unwrap_or_else(PoisonError::into_inner).piece()).await
    }
}

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    entries: Dir,
    path: Vec<u8>,
}

struct Packer {
    levels: Vec<Level>,
    /// A file that is being packed: from where on, and its whole length.
    file: Option<(OwnedFd, u64, u64)>,
    entries: usize,
    ended: bool,
}

impl Packer {
    /// Packs until a piece is full or all is packed; empty behind the end.
    fn piece(&mut self) -> Result<Bytes, Error> {
        let mut out = Vec::with_capacity(PIECE_BYTES_MAX);
        while out.len() + HEAD_BYTES_MAX <= PIECE_BYTES_MAX && !self.ended {
            if self.file.is_some() {
                self.body(&mut out)?;
            } else if !self.entry(&mut out)? {
                out.resize(out.len() + 2 * tar::BLOCK, 0);
                self.ended = true;
            }
        }
        Ok(out.into())
    }

    fn body(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        let Some((file, at, size)) = &mut self.file else { return Ok(()) };
        let room = (PIECE_BYTES_MAX - tar::BLOCK - out.len()).min(usize::try_from(*size - *at).unwrap_or(usize::MAX));
        let start = out.len();
        out.resize(start + room, 0);
        let read = match rustix::io::pread(&*file, &mut out[start..], *at) {
            Ok(0) if room > 0 => {
                return Err(Error::new(Reason::Internal, "a file became shorter while it was packed"));
            }
            Ok(read) => read,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(failure::anywhere(errno)),
        };
        out.truncate(start + read);
        *at += read as u64;
        if at == size {
            tar::pad(out, *size);
            self.file = None;
        }
        Ok(())
    }

    /// Packs the head of the next entry; false behind the last.
    fn entry(&mut self, out: &mut Vec<u8>) -> Result<bool, Error> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some(Ok(next)) = level.entries.read() else {
            self.levels.pop();
            return Ok(true);
        };
        let name = next.file_name().to_bytes();
        if name == b"." || name == b".." {
            return Ok(true);
        }
        self.entries += 1;
        if self.entries > ENTRIES_MAX || self.levels.len() >= DEPTH_MAX {
            return Err(Error::new(Reason::InvalidPath, "the tree has too many entries or levels for an archive"));
        }
        let Some(level) = self.levels.last() else { return Ok(false) };
        let Ok(node) = look(&level.fd, name) else { return Ok(true) };
        let path = if level.path.is_empty() { name.to_vec() } else { [&level.path[..], b"/", name].concat() };
        let (kind, mode) = (node.kind(), node.stat.st_mode & 0o777);
        let modified_s = info::modified_us(&node.stat) / 1_000_000;
        let mut entry = Entry { path, kind: Kind::File, size: 0, mode, target: Vec::new() };
        match kind {
            FileType::RegularFile => {
                let Ok(file) = node.reopen(OFlags::RDONLY) else { return Ok(true) };
                entry.size = info::size(&rustix::fs::fstat(&file).map_err(failure::anywhere)?);
                tar::write_head(out, &entry, modified_s);
                self.file = (entry.size > 0).then_some((file, 0, entry.size));
            }
            FileType::Symlink => {
                let Ok(target) = rustix::fs::readlinkat(&node.fd, "", Vec::new()) else { return Ok(true) };
                entry.kind = Kind::Symlink;
                entry.target = target.into_bytes();
                tar::write_head(out, &entry, modified_s);
            }
            FileType::Directory => {
                let Ok(fd) = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY) else { return Ok(true) };
                let entries = Dir::read_from(&fd).map_err(failure::anywhere)?;
                entry.kind = Kind::Directory;
                let path = entry.path.clone();
                entry.path.push(b'/');
                tar::write_head(out, &entry, modified_s);
                self.levels.push(Level { fd, entries, path });
            }
            _ => {}
        }
        Ok(true)
    }
}
