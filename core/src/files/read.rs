//! How a file's bytes are read: a piece at a time, the next one while this one is being sent, never mapped.
//!
//! A small file comes with the call that opens it. A file that becomes shorter while it is read is an error, never
//! bytes that were not there.

use super::elsewhere::Worker;
use super::info::Seen;
use super::path::SandboxPath;
use super::pool::{Lasts, Pool};
use super::resolve::{Last, Node, existing};
use super::{Tree, cached, failure, info};
use crate::error::{Error, Reason};
use crate::shard::mailbox::Answer;
use bytes::Bytes;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Of one piece.
pub const PIECE_BYTES_MAX: usize = 256 << 10;
/// A file up to this length is read by the call that opens it.
const WHOLE_BYTES_MAX: u64 = 64 << 10;

/// A regular file, open.
pub struct Content {
    /// In bytes, when it was opened.
    pub size: u64,
    /// Changes when its bytes do.
    pub tag: String,
    /// Wall time in µs.
    pub modified_us: u64,
    /// The last part of its path.
    pub name: Vec<u8>,
    pub(super) source: Source,
    /// All of it, where it is small.
    pub(super) whole: Option<Bytes>,
}

/// Where its bytes come from.
#[derive(Clone)]
pub(super) enum Source {
    Host(Arc<OwnedFd>, Pool),
    /// Open there; one reading at a time.
    Inside(Worker, SandboxPath),
}

impl Tree {
    /// Opens a file for reading. 3007 for a directory, 3004 for what is neither.
    pub async fn open(&self, path: SandboxPath) -> Result<Content, Error> {
        if let Some(content) = cached::open(self, &path) {
            return Ok(content);
        }
        let (tree, pool) = (self.clone(), self.pool().clone());
        let opened = self.pool().run(Lasts::Short, move || {
            let node = existing(&tree.roots()?, &path, Last::Follow)?;
            regular(&node, &path)?;
            let file = node.reopen(OFlags::RDONLY).map_err(|errno| failure::of(errno, &path))?;
            let stat = rustix::fs::fstat(&file).map_err(|errno| failure::of(errno, &path))?;
            let size = info::size(&stat);
            let whole = match size {
                0..=WHOLE_BYTES_MAX => {
                    Some(read_at(&file, 0, size as usize).map_err(|errno| failure::of(errno, &path))?)
                }
                _ => None,
            };
            Ok(Content {
                size: whole.as_ref().map_or(size, |bytes| bytes.len() as u64),
                tag: info::tag(&stat),
                modified_us: info::modified_us(&stat),
                name: path.components().next_back().unwrap_or_default().to_vec(),
                source: Source::Host(Arc::new(file), pool),
                whole,
            })
        });
        opened.await
    }
}

impl Content {
    /// As conditions look at it.
    pub fn seen(&self) -> Seen {
        Seen { tag: self.tag.clone(), modified_us: self.modified_us }
    }

    /// Reads a part of it, which must lie within its size.
    pub fn read(&self, range: Range<u64>) -> Pieces {
        Pieces {
            source: self.source.clone(),
            asked: false,
            whole: self.whole.clone(),
            next: range.start,
            end: range.end.min(self.size),
            ahead: None,
        }
    }

    /// All of it, where it is not longer than `bytes_max`.
    pub async fn collect(&self, bytes_max: u64) -> Result<Option<Bytes>, Error> {
        if self.size > bytes_max {
            return Ok(None);
        }
        if let Some(whole) = &self.whole {
            return Ok(Some(whole.clone()));
        }
        let (mut pieces, mut all) = (self.read(0..self.size), Vec::with_capacity(self.size as usize));
        while let Some(piece) = pieces.next().await {
            all.extend_from_slice(&piece?);
        }
        Ok(Some(all.into()))
    }
}

/// A part of a file on its way out.
pub struct Pieces {
    source: Source,
    /// The worker inside was asked for all of it.
    asked: bool,
    whole: Option<Bytes>,
    next: u64,
    end: u64,
    /// The piece behind `next`, being read.
    ahead: Option<Answer<Result<Bytes, Error>>>,
}

impl Pieces {
    /// Of what is still to come.
    pub fn bytes(&self) -> u64 {
        self.end.saturating_sub(self.next)
    }

    /// The next piece, 1 to [`PIECE_BYTES_MAX`] bytes; `None` behind the last. An error is final.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        if self.next >= self.end {
            return None;
        }
        if let Some(whole) = &self.whole {
            let piece = whole.slice(self.next as usize..self.end as usize);
            self.next = self.end;
            return Some(Ok(piece));
        }
        let piece = self.piece().await;
        if piece.is_err() {
            self.end = self.next;
        }
        Some(piece)
    }

    async fn piece(&mut self) -> Result<Bytes, Error> {
        match self.source.clone() {
            Source::Host(file, pool) => self.piece_here(&file, &pool).await,
            Source::Inside(worker, path) => self.piece_inside(&worker, &path).await,
        }
    }

    async fn piece_inside(&mut self, worker: &Worker, path: &SandboxPath) -> Result<Bytes, Error> {
        let mut left = self.end - self.next;
        if !std::mem::replace(&mut self.asked, true) {
            worker.begin_read(self.next, left).await?;
        }
        let piece = worker.piece(&mut left, path).await?.ok_or_else(shorter)?;
        self.next += piece.len() as u64;
        Ok(piece)
    }

    async fn piece_here(&mut self, file: &Arc<OwnedFd>, pool: &Pool) -> Result<Bytes, Error> {
        let answer = match self.ahead.take() {
            Some(answer) => answer,
            None => self.begin(file, pool, self.next).await?,
        };
        let piece = answer.wait().await??;
        self.next += piece.len() as u64;
        if self.next < self.end {
            self.ahead = Some(self.begin(file, pool, self.next).await?);
        }
        Ok(piece)
    }

    async fn begin(&self, file: &Arc<OwnedFd>, pool: &Pool, at: u64) -> Result<Answer<Result<Bytes, Error>>, Error> {
        let (file, bytes) = (file.clone(), (self.end - at).min(PIECE_BYTES_MAX as u64) as usize);
        pool.go_on(Lasts::Short, move || match read_at(&file, at, bytes) {
            Ok(piece) if piece.is_empty() => Err(shorter()),
            Ok(piece) => Ok(piece),
            Err(errno) => Err(failure::anywhere(errno)),
        })
        .await
    }
}

fn shorter() -> Error {
    Error::new(Reason::Internal, "the file became shorter while it was read")
}

/// Reads until `bytes` are there or the file ends.
fn read_at(file: &OwnedFd, at: u64, bytes: usize) -> rustix::io::Result<Bytes> {
    let mut piece = Vec::with_capacity(bytes);
    while piece.len() < bytes {
        let offset = at + piece.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), offset) {
            Ok(0) => break,
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    piece.truncate(bytes);
    Ok(piece.into())
}

/// Only regular files have bytes to read or write.
pub(super) fn regular(node: &Node, path: &SandboxPath) -> Result<(), Error> {
    match node.kind() {
        FileType::RegularFile => Ok(()),
        FileType::Directory => Err(failure::of(Errno::ISDIR, path)),
        _ => Err(failure::special(path)),
    }
}
