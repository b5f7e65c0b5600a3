//! How does an archive come? Whole, into the scratch room, before any of it is looked at; then it is unpacked on the host, or
//! by a worker inside.

use super::unpack::unpack;
use crate::error::{Error, Reason};
use crate::files::elsewhere::Worker;
use crate::files::path::SandboxPath;
use crate::files::pool::Lasts;
use crate::files::resolve::{Last, Parents, is_elsewhere, resolve};
use crate::files::roots::Scrap;
use crate::files::write::write_at;
use crate::files::{Tree, failure};
use crate::shard::mailbox::Answer;
use bytes::Bytes;
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::sync::Arc;

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
    path: SandboxPath,
    /// Who unpacks it, where that is elsewhere.
    inside: Option<Worker>,
    at: u64,
    pending: Option<Answer<Result<(), Error>>>,
}

struct Spool {
    file: Arc<OwnedFd>,
    _scrap: Scrap,
}

impl Tree {
    /// Begins to receive an archive for a directory, which is made at the end where it is missing. 3005 for what is none.
    pub async fn receive(&self, path: SandboxPath) -> Result<Received, Error> {
        let tree = self.clone();
        let look = {
            let path = path.clone();
            move || match resolve(&tree.roots()?, &path, Last::Follow, Parents::Need) {
                Ok(found) if found.node.as_ref().is_some_and(|node| !node.is_dir()) => {
                    Err(failure::of(Errno::NOTDIR, &path))
                }
                Err(error) if error.reason != Reason::FileNotFound => Err(error),
                _ => Ok(()),
            }
        };
        self.pool().run(Lasts::Short, look).await?;
        self.spool(path, None).await
    }

    /// As [`Tree::receive`], for a place inside.
    pub(in crate::files) async fn receive_inside(&self, path: SandboxPath, worker: Worker) -> Result<Received, Error> {
        worker.begin_unpack(&path).await?;
        self.spool(path, Some(worker)).await
    }

    async fn spool(&self, path: SandboxPath, inside: Option<Worker>) -> Result<Received, Error> {
        let tree = self.clone();
        let open = move || {
            let scrap = Scrap::new(tree.roots()?.scratch()?);
            let file = Arc::new(scrap.file().map_err(failure::anywhere)?);
            Ok(Spool { file, _scrap: scrap })
        };
        let spool = Some(Arc::new(self.pool().run(Lasts::Short, open).await?));
        Ok(Received { spool, tree: self.clone(), path, inside, at: 0, pending: None })
    }
}

impl Received {
    /// Takes the next bytes. Returns when the piece before them is written.
    pub async fn piece(&mut self, bytes: Bytes) -> Result<(), Error> {
        self.settled().await?;
        let Some(spool) = self.spool.clone() else { return Ok(()) };
        let (tree, at) = (self.tree.clone(), self.at);
        self.at += bytes.len() as u64;
        let write = move || {
            tree.space(bytes.len() as u64)?;
            write_at(&spool.file, &bytes, at).map_err(failure::anywhere)
        };
        self.pending = Some(self.tree.pool().go_on(Lasts::Short, write).await?);
        Ok(())
    }

    /// Unpacks it into its directory. What is there is kept, files are replaced.
    pub async fn unpack(mut self) -> Result<Unpacked, Error> {
        self.settled().await?;
        let Some(spool) = self.spool.take() else { return Ok(Unpacked::default()) };
        let (tree, path, size) = (self.tree.clone(), self.path.clone(), self.at);
        match self.inside.take() {
            Some(worker) => {
                let unpacked = worker.unpack(&tree, spool.file.clone(), size, &path).await;
                tree.pool().dropped(spool).await;
                unpacked
            }
            None => {
                let work = move || unpack(&tree, &spool.file, size, &path);
                self.tree.pool().run(Lasts::Long, work).await.map_err(moved)
            }
        }
    }

    /// Waits for the piece before. Where it failed, nothing that came is left before that is said.
    async fn settled(&mut self) -> Result<(), Error> {
        let Some(answer) = self.pending.take() else { return Ok(()) };
        let written = answer.wait().await.and_then(|written| written);
        if written.is_err()
            && let Some(spool) = self.spool.take()
        {
            self.tree.pool().dropped(spool).await;
        }
        written
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(spool) = self.spool.take() {
            self.tree.pool().discard(spool);
        }
    }
}

/// It lay in the two trees when the first byte came.
fn moved(error: Error) -> Error {
    match is_elsewhere(&error) {
        true => Error::new(Reason::InvalidPath, "the path leads elsewhere by now; nothing was unpacked, try again"),
        false => error,
    }
}
