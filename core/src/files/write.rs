//! How a file is written, whole or not at all: into the scratch room, synced, renamed to its place, its directory
//! synced, and only then answered.
//!
//! ```text
//!  begin ─► piece, piece, … ─► finish: owner, mode, fsync ─► conditions, rename ─► fsync of the directory
//!    └─ refused before a byte was read      └─ dropped anywhere before: nothing of it is left
//! ```
//! A file that is replaced keeps its owner and mode. Two writers with conditions never both win: conditions are
//! looked at and the rename is made under one lock.

use super::elsewhere::{InsideUpload, Worker};
use super::info::{self, Conditions, Seen, Tags};
use super::path::SandboxPath;
use super::piece::{Pages, Piece};
use super::pool::Lasts;
use super::read::regular;
use super::resolve::{self, Last, Node, Parents, entry};
use super::roots::{Replace, Roots, Scrap};
use super::{Tree, failure, sys};
use crate::error::{Error, Reason};
use crate::shard::mailbox::Answer;
use bytes::Bytes;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};

/// Mode of a new file.
const MODE: u32 = 0o644;
/// No file gets more: setuid, setgid and sticky bits are not for those who come from outside.
const MODE_MASK: u32 = 0o777;
/// A file of this size that was replaced takes a while to free, for which nobody waits.
const SLOW_BYTES_MIN: u64 = 1 << 20;
/// Pieces of one file that threads have: the next is there when one is written.
const PENDING_MAX: usize = 2;
const COPY_BYTES: usize = 256 << 10;
/// The disk writes this much while more is received, so that the sync at the end has little left to wait for.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// How to write.
#[derive(Debug, Clone, Default)]
pub struct WriteOptions {
    /// Permissions; without: those of the file that is replaced, else 0644.
    pub mode: Option<u32>,
    /// Behind what is there, instead of in its place.
    pub append: bool,
    /// What must hold.
    pub conditions: Conditions,
    /// How many bytes will come, where that is known.
    pub length: Option<u64>,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// In bytes.
    pub size: u64,
    /// Its tag now.
    pub tag: String,
}

/// A file that is being written. Dropping it leaves nothing behind.
pub struct Upload(Way);

enum Way {
    Host(HostUpload),
    Inside(InsideUpload),
}

struct HostUpload {
    work: Option<Arc<Work>>,
    tree: Tree,
    at: u64,
    /// Pieces that are being written, one at a time.
    pending: VecDeque<Answer<Result<(), Error>>>,
}

struct Work {
    tree: Tree,
    path: SandboxPath,
    options: WriteOptions,
    file: OwnedFd,
    /// So many of its first bytes are on their way to the disk.
    under_way: std::sync::Mutex<u64>,
    scrap: std::sync::Mutex<Option<Scrap>>,
}

impl Tree {
    /// Begins to write a file; what forbids it is said before the first byte.
    pub async fn begin(&self, path: SandboxPath, options: WriteOptions) -> Result<Upload, Error> {
        let tree = self.clone();
        let work = self.pool().run(Lasts::Short, move || Work::begin(tree, path, options)).await?;
        Ok(Upload(Way::Host(HostUpload {
            work: Some(Arc::new(work)),
            tree: self.clone(),
            at: 0,
            pending: VecDeque::new(),
        })))
    }

    /// Writes a whole file.
    pub async fn write(&self, path: SandboxPath, options: WriteOptions, bytes: Bytes) -> Result<Written, Error> {
        let (tree, mut options) = (self.clone(), options);
        options.length = Some(bytes.len() as u64);
        self.pool()
            .run(Lasts::Synced, move || {
                let work = Work::begin(tree, path, options)?;
                work.write(0, Piece::Memory(bytes))?;
                work.finish()
            })
            .await
    }
}

impl Upload {
    /// One inside; what forbids it is said before the first byte.
    pub(super) async fn inside(worker: Worker, path: SandboxPath, options: WriteOptions) -> Result<Upload, Error> {
        Ok(Upload(Way::Inside(InsideUpload::begin(worker, path, options).await?)))
    }

    /// Whether pages are as good as bytes in memory, or better.
    pub fn takes_pages(&self) -> bool {
        matches!(self.0, Way::Host(_))
    }

    /// Takes the next bytes. Returns when the piece before them is written: two pieces are on their way at most.
    pub async fn piece(&mut self, piece: Piece) -> Result<(), Error> {
        match &mut self.0 {
            Way::Host(upload) => upload.piece(piece).await,
            Way::Inside(upload) => upload.piece(piece.into_memory()?).await,
        }
    }

    /// Puts it in its place. Dropping the future does not stop that.
    pub async fn finish(self) -> Result<Written, Error> {
        match self.0 {
            Way::Host(upload) => upload.finish().await,
            Way::Inside(upload) => upload.finish().await,
        }
    }
}

impl HostUpload {
    async fn piece(&mut self, piece: Piece) -> Result<(), Error> {
        self.settled(PENDING_MAX - 1).await?;
        let Some(work) = self.work.clone() else { return Ok(()) };
        let at = self.at;
        self.at += piece.bytes() as u64;
        self.pending.push_back(self.tree.pool().go_on(Lasts::Short, move || work.write(at, piece)).await?);
        Ok(())
    }

    async fn finish(mut self) -> Result<Written, Error> {
        self.settled(0).await?;
        let Some(work) = self.work.take() else {
            return Err(Error::new(Reason::Internal, "written twice"));
        };
        self.tree.pool().go_on(Lasts::Synced, move || work.finish()).await?.wait().await?
    }

    /// Waits until at most so many are being written. Where one failed, nothing of the file is left before that is said:
    /// who is told that the disk is full may write something smaller.
    async fn settled(&mut self, pending_max: usize) -> Result<(), Error> {
        let settled = self.settle(pending_max).await;
        if settled.is_err() {
            while let Some(other) = self.pending.pop_front() {
                let _ = other.wait().await;
            }
            if let Some(work) = self.work.take() {
                self.tree.pool().dropped(work).await;
            }
        }
        settled
    }

    /// Waits until at most so many are being written.
    async fn settle(&mut self, pending_max: usize) -> Result<(), Error> {
        while self.pending.len() > pending_max {
            let Some(first) = self.pending.pop_front() else { break };
            first.wait().await??;
        }
        Ok(())
    }
}

impl Drop for HostUpload {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.tree.pool().discard(work);
        }
    }
}

impl Work {
    fn begin(tree: Tree, path: SandboxPath, options: WriteOptions) -> Result<Work, Error> {
        let roots = tree.roots()?;
        if path.wants_directory() {
            return Err(failure::of(Errno::ISDIR, &path));
        }
        // Parents are made at the end: a client that leaves in the middle leaves none behind.
        let node = match entry(&roots, &path, Last::Follow, Parents::Need) {
            Ok((_, _, node)) => node,
            Err(error) if error.reason == Reason::FileNotFound => None,
            Err(error) => return Err(error),
        };
        allowed(node.as_ref(), &path, &options)?;
        tree.space(options.length.unwrap_or(0))?;
        let scrap = Scrap::new(roots.scratch()?);
        let file = scrap.file().map_err(|errno| failure::of(errno, &path))?;
        let scrap = std::sync::Mutex::new(Some(scrap));
        Ok(Work { tree, path, options, file, under_way: std::sync::Mutex::new(0), scrap })
    }

    fn write(&self, at: u64, piece: Piece) -> Result<(), Error> {
        let end = at + piece.bytes() as u64;
        // What was announced is counted already.
        let counted = self.options.length.unwrap_or(0).max(at);
        if end > counted {
            self.tree.space(end - counted)?;
        }
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match piece {
            Piece::Memory(bytes) => write_at(&self.file, &bytes, at),
            Piece::Pages(pages) => write_pages(&self.file, at, pages),
        };
        written.map_err(|errno| failure::of(errno, &self.path))?;
        if end >= *under_way + WRITEBACK_BYTES {
            sys::begin_writeback(&self.file, *under_way, end - *under_way);
            *under_way = end;
        }
        Ok(())
    }

    fn finish(&self) -> Result<Written, Error> {
        let fails = |errno| failure::of(errno, &self.path);
        let roots = self.tree.roots()?;
        let place = || entry(&roots, &self.path, Last::Follow, Parents::Make);
        let (_, _, node) = place()?;
        if let (Some(node), true) = (&node, self.options.append) {
            return self.append(node);
        }
        let dressed = self.dress(node.as_ref(), &roots)?;
        drop(node);
        rustix::fs::fsync(&self.file).map_err(fails)?;
        let alone = self.tree.commits().lock().unwrap_or_else(PoisonError::into_inner);
        let (directory, name, node) = place()?;
        allowed(node.as_ref(), &self.path, &self.options)?;
        if self.dress(node.as_ref(), &roots)? != dressed {
            rustix::fs::fsync(&self.file).map_err(fails)?;
        }
        let scrap = self.scrap.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(scrap) = scrap else { return Err(Error::new(Reason::Internal, "written twice")) };
        let only_new = self.options.conditions.if_none_match == Some(Tags::Any);
        let replace = if only_new { Replace::No } else { Replace::Yes };
        scrap.place(&directory, &name, replace).map_err(|errno| match errno {
            Errno::EXIST if only_new => Error::new(Reason::PreconditionFailed, "there is a file already"),
            errno => fails(errno),
        })?;
        drop(alone);
        if node.as_ref().is_some_and(|node| info::size(&node.stat) >= SLOW_BYTES_MIN) {
            self.tree.pool().discard(node);
        }
        sync_directory(&directory).map_err(fails)?;
        self.written(&self.file)
    }

    /// Gives it the owner and mode of what it replaces, or those of a new file; tells which.
    fn dress(&self, node: Option<&Node>, roots: &Roots) -> Result<(u32, u32, u32), Error> {
        let fails = |errno| failure::of(errno, &self.path);
        let (user, group) = roots.owners.user();
        let (mut owner, mut mode) = ((user, group), MODE);
        if let Some(node) = node {
            owner = (Some(Uid::from_raw(node.stat.st_uid)), Some(Gid::from_raw(node.stat.st_gid)));
            mode = node.stat.st_mode;
        }
        if rustix::fs::fchown(&self.file, owner.0, owner.1).is_err() {
            // The one that it replaces belongs to nobody of this sandbox.
            owner = (user, group);
            rustix::fs::fchown(&self.file, user, group).map_err(fails)?;
        }
        let mode = self.options.mode.unwrap_or(mode) & MODE_MASK;
        rustix::fs::fchmod(&self.file, Mode::from_raw_mode(mode)).map_err(fails)?;
        Ok((owner.0.map_or(0, Uid::as_raw), owner.1.map_or(0, Gid::as_raw), mode))
    }

    /// Copies what was received behind what is there; takes it back where there is no room.
    fn append(&self, node: &Node) -> Result<Written, Error> {
        let fails = |errno| failure::of(errno, &self.path);
        let _alone = self.tree.commits().lock().unwrap_or_else(PoisonError::into_inner);
        let file = node.reopen(OFlags::WRONLY | OFlags::APPEND).map_err(fails)?;
        let stat = rustix::fs::fstat(&file).map_err(fails)?;
        self.options.conditions.check(Some(&Seen::of(&stat)))?;
        let before = info::size(&stat);
        let mut copied = 0;
        if let Err(errno) = append_all(&self.file, &file, &mut copied) {
            let now = rustix::fs::fstat(&file).map_err(fails)?;
            // Only where nobody else has written meanwhile.
            if info::size(&now) == before + copied {
                rustix::fs::ftruncate(&file, before).map_err(fails)?;
            }
            return Err(fails(errno));
        }
        if let Some(mode) = self.options.mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & MODE_MASK)).map_err(fails)?;
        }
        rustix::fs::fsync(&file).map_err(fails)?;
        self.written(&file)
    }

    fn written(&self, file: &OwnedFd) -> Result<Written, Error> {
        let stat = rustix::fs::fstat(file).map_err(|errno| failure::of(errno, &self.path))?;
        Ok(Written { size: info::size(&stat), tag: info::tag(&stat) })
    }
}

/// Whether a file may be put where `node` is now.
fn allowed(node: Option<&Node>, path: &SandboxPath, options: &WriteOptions) -> Result<(), Error> {
    if let Some(node) = node {
        regular(node, path)?;
    }
    options.conditions.check(node.map(|node| Seen::of(&node.stat)).as_ref())
}

/// Writes all of it.
pub(super) fn write_at(file: impl AsFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
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

fn write_pages(file: &OwnedFd, mut at: u64, mut pages: Pages) -> rustix::io::Result<()> {
    while pages.bytes() > 0 {
        match pages.empty(file, &mut at) {
            Ok(_) | Err(Errno::INTR) => {}
            // A file system that can't.
            Err(Errno::INVAL) => return write_at(file, &pages.pour()?, at),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn append_all(from: &OwnedFd, to: &OwnedFd, copied: &mut u64) -> rustix::io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES];
    let mut at = 0;
    loop {
        let read = match rustix::io::pread(from, &mut buffer[..], at) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno),
        };
        at += read as u64;
        let mut piece = &buffer[..read];
        while !piece.is_empty() {
            match rustix::io::write(to, piece) {
                Ok(written) => {
                    piece = &piece[written..];
                    *copied += written as u64;
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// Makes a change of a directory's entries durable.
pub(super) fn sync_directory(directory: impl AsFd) -> rustix::io::Result<()> {
    rustix::fs::fsync(resolve::open_directory(directory, b".")?)
}
