//! What changes in a directory, and in all below it, told while it happens, whoever does it: a process inside, a call
//! over HTTP, a client of NFS.
//!
//! ```text
//!  Tree::watch ─► keeper (its own thread) ─► watcher ─► view ─► queue ─► Watch::next
//!                    ▲ events: instance (inotify)  └─ lists what it enters, beneath its root
//! ```
//! The kernel tells of inodes, so all doors are seen. What is told is what the view did not know: nothing twice.
//! Paths never lead outside: the view begins at the root's descriptor, and what is moved out of it is left at once.
//! Not seen: writes through a mapping before the file is closed, and through another hard link outside of the tree.
//! Must not know: how a change is written for a client.

mod instance;
mod keeper;
mod limit;
mod nodes;
mod queue;
mod view;
mod watcher;

pub(super) use keeper::Keeper;

use super::path::SandboxPath;
use super::pool::Lasts;
use super::resolve::{Last, existing};
use super::{Recursive, Tree, failure};
use crate::error::{Error, Reason};
use crate::shard::mailbox::{Reply, oneshot};
use queue::{Receiver, Sender, queue};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// Of all sandboxes.
const WATCHES_MAX: usize = 1024;
/// Of one watch. Each costs the kernel about 1 KiB and an inode that stays in memory.
const DIRECTORIES_MAX: usize = 65_536;
const DIRECTORIES_ALL_MAX: usize = 262_144;
/// Of one watch; each costs some 20 bytes.
const NAMES_MAX: usize = 524_288;
const NAMES_ALL_MAX: usize = 2_097_152;

/// What has happened. Paths are absolute inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // A path, where from and where to; a directory or anything else.
pub enum Change {
    /// Something is there that was not. What lies in a directory that came with it is told after it.
    Created { path: Vec<u8>, is_dir: bool },
    /// Its bytes, mode, owner or times are others, or another file has taken its place.
    Modified { path: Vec<u8>, is_dir: bool },
    /// It is there no more, and nothing of what was in it.
    Removed { path: Vec<u8>, is_dir: bool },
    /// It is somewhere else, with all that is in it, in place of what may have been there.
    Moved { from: Vec<u8>, to: Vec<u8>, is_dir: bool },
    /// Changes were lost: list again. Those behind this one are told as always.
    Overflow,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Change::Created { path, .. } | Change::Modified { path, .. } | Change::Removed { path, .. } => path.len(),
            Change::Moved { from, to, .. } => from.len() + to.len(),
            Change::Overflow => 0,
        }
    }
}

/// A watch that stands. Dropping it gives all back.
pub struct Watch {
    changes: Option<Receiver>,
    keeper: Keeper,
}

/// What the keeper needs for a watch.
struct Start {
    /// The sandbox's directory.
    top: OwnedFd,
    root: OwnedFd,
    /// The root's path inside.
    base: Vec<u8>,
    recursive: bool,
    sender: Sender,
    reply: Reply<Result<(), Error>>,
}

impl Tree {
    /// Watches a directory. When this answers, the watch stands: whatever changes from then on is told. 1006 names the
    /// limit that is in the way.
    pub async fn watch(&self, path: SandboxPath, recursive: Recursive) -> Result<Watch, Error> {
        let tree = self.clone();
        let (top, root, base) = self
            .pool()
            .run(Lasts::Short, move || {
                let roots = tree.roots()?;
                let node = existing(&roots, &path, Last::Follow)?;
                if !node.is_dir() {
                    return Err(failure::of(Errno::NOTDIR, &path));
                }
                let base = path.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat();
                Ok((roots.into_top(), node.fd, base))
            })
            .await?;
        let (sender, changes) = queue();
        let (reply, answer) = oneshot();
        let keeper = self.files().keeper.clone();
        // Dropped before it stands, it ends all the same.
        let watch = Watch { changes: Some(changes), keeper: keeper.clone() };
        let start = Start { top, root, base, recursive: recursive == Recursive::Yes, sender, reply };
        keeper.begin(|parts| self.id().shard_of(parts), start)?;
        answer.wait().await??;
        Ok(watch)
    }
}

impl Watch {
    /// Waits for the next change; an error is the last one, and says why. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<Change, Error> {
        match &mut self.changes {
            Some(changes) => changes.next().await,
            None => Err(stopped()),
        }
    }

    /// The next change, where there is one now.
    pub fn ready(&mut self) -> Option<Change> {
        self.changes.as_mut().and_then(Receiver::ready)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.changes = None;
        self.keeper.wake();
    }
}

fn stopped() -> Error {
    Error::new(Reason::Overloaded, "The server is stopping, or its watching has failed; watch again.")
}

#[cfg(test)]
mod tests;
