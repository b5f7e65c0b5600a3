//! How an archive is unpacked inside: read here, by the same reader as on the host, before a worker is told any of it; made by
//! the worker, under a hidden name, and moved to its place when all of it has come.

use super::node::Seen;
use super::{Worker, forged, refused};
use crate::error::{Error, Reason};
use crate::files::archive::tar::{Entry, Kind};
use crate::files::archive::{self, Entries, FOREIGN, Place, TWO_THINGS, Unpacked, read_at};
use crate::files::info;
use crate::files::path::SandboxPath;
use crate::files::pool::Lasts;
use crate::files::{Tree, failure};
use bytes::Bytes;
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use workspace_proto::FILE_PIECE_BYTES_MAX;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileFailed, FileLook, FilePart, FileUnite};

/// Read at once: of bytes, and of parts.
const BATCH_BYTES: usize = 256 << 10;
const BATCH_PARTS: usize = 256;

impl Worker {
    /// Begins; what forbids it is said before the first byte.
    pub(in crate::files) async fn begin_unpack(&self, path: &SandboxPath) -> Result<(), Error> {
        let look = FileLook { path: path.as_bytes().to_vec().into(), follow: true };
        match self.seen(Request::Unpack(look), path).await?.as_ref().map(Seen::kind) {
            None | Some(info::Kind::Directory) => Ok(()),
            Some(_) => Err(failure::of(Errno::NOTDIR, path)),
        }
    }

    /// Unpacks what was received, after [`Worker::begin_unpack`].
    pub(in crate::files) async fn unpack(
        self,
        tree: &Tree,
        spool: Arc<OwnedFd>,
        size: u64,
        path: &SandboxPath,
    ) -> Result<Unpacked, Error> {
        let entries = Entries::new(spool.clone(), size);
        let done = tree.pool().run(Lasts::Long, move || read_all(entries)).await?;
        let mut parts = Parts { entries: Entries::new(spool.clone(), size), spool, body: None };
        loop {
            let batch;
            (parts, batch) = tree.pool().run(Lasts::Short, move || parts.batch()).await?;
            if batch.is_empty() {
                break;
            }
            for request in batch {
                self.tell(request).await?;
            }
        }
        match self.ask(Request::Unite(FileUnite {})).await? {
            Reply::Done(_) => Ok(done),
            Reply::Failed(failed) => Err(unfit(failed, path)),
            _ => Err(forged("an answer to another question")),
        }
    }
}

/// Why the worker could not do it.
fn unfit(failed: FileFailed, path: &SandboxPath) -> Error {
    let errno = Errno::from_raw_os_error(i32::try_from(failed.errno).unwrap_or(5));
    match errno {
        Errno::EXIST if failed.destination => {
            let message = format!("{}: has a directory where the archive has a file, or the other way", path.brief());
            Error::new(Reason::FileAlreadyExists, message)
        }
        Errno::LOOP | Errno::NOTDIR | Errno::XDEV | Errno::EXIST | Errno::ISDIR | Errno::NAMETOOLONG
            if failed.part > 0 =>
        {
            archive::refused(TWO_THINGS, failed.part)
        }
        Errno::MLINK if failed.part > 0 => archive::refused(FOREIGN, failed.part),
        _ => refused(Reply::Failed(FileFailed { destination: false, ..failed }), path, path),
    }
}

/// Reads an archive to its end: what is wrong with it as such is found before anybody is told of it.
fn read_all(mut entries: Entries) -> Result<Unpacked, Error> {
    let mut done = Unpacked::default();
    while let Some((entry, _)) = entries.next()? {
        if Place::of(&entry).map_err(|why| entries.refused(why))?.is_some() {
            done.entries += 1;
            done.bytes += entry.size;
        }
    }
    Ok(done)
}

/// An archive on its way in.
struct Parts {
    entries: Entries,
    spool: Arc<OwnedFd>,
    /// Of the last part: where its bytes go on, and how many are left.
    body: Option<(u64, u64)>,
}

impl Parts {
    /// The next parts and their bytes; none behind the last.
    fn batch(mut self) -> Result<(Parts, Vec<Request>), Error> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_PARTS && bytes < BATCH_BYTES {
            if let Some((at, left)) = self.body.take() {
                let piece = left.min(FILE_PIECE_BYTES_MAX as u64);
                let mut read = vec![0; piece as usize];
                read_at(&self.spool, &mut read, at).map_err(failure::anywhere)?;
                self.body = (left > piece).then_some((at + piece, left - piece));
                bytes += read.len();
                batch.push(Request::Data(Bytes::from(read)));
                continue;
            }
            let Some((entry, at)) = self.entries.next()? else { break };
            if let Some(part) = part(&entry).map_err(|why| self.entries.refused(why))? {
                self.body = (entry.size > 0).then_some((at, entry.size));
                batch.push(Request::Part(part));
            }
        }
        Ok((self, batch))
    }
}

/// What the worker is told of an entry.
fn part(entry: &Entry) -> Result<Option<FilePart>, archive::tar::Malformed> {
    let Some(place) = Place::of(entry)? else { return Ok(None) };
    let (kind, target) = match entry.kind {
        Kind::File => (0o100_000, Vec::new()),
        Kind::Directory => (0o040_000, Vec::new()),
        Kind::Symlink => (0o120_000, entry.target.clone()),
        Kind::HardLink => (0o100_000, place.first.join(&b'/')),
    };
    Ok(Some(FilePart {
        path: place.names.join(&b'/').into(),
        mode: kind | entry.mode,
        size: entry.size,
        target: target.into(),
        hard: entry.kind == Kind::HardLink,
        modified_s: 0,
    }))
}
