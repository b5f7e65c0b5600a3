//! The files of sandboxes, worked on from the host side: one module for every protocol.
//!
//! ```text
//!  text ─► name, path ─► resolve (roots) ─► read · write · list · change · copy · remove
//!                                             └─ space: the disk limit   └─ pool: where all of it runs
//! ```
//! Everything starts at the descriptor of a sandbox's directory; no path of the host is ever joined. Whoever calls has
//! the power of root inside the sandbox; what is made is the sandbox's user's. Must not know: HTTP, NFS.
//! A future that is dropped leaves what it asked for to be done to its end; an [`Upload`] that is dropped leaves nothing.

mod archive;
mod cached;
mod change;
mod copy;
mod elsewhere;
mod failure;
mod info;
mod list;
pub mod name;
mod path;
mod piece;
mod places;
mod pool;
mod read;
pub mod remove;
mod resolve;
mod roots;
mod search;
mod space;
mod sys;
mod watch;
mod write;

pub use archive::{Packed, Received, Unpacked};
pub use change::Recursive;
pub use elsewhere::Worker;
pub use info::{Conditions, FileInfo, Kind, Seen, Tags};
pub use list::{ListOptions, Listing};
pub use path::SandboxPath;
pub use piece::{BY_PAGES_BYTES_MIN, PIPE_BYTES, PIPES, Pages, Piece, Pipes};
pub use places::{Inside, Places};
pub use read::{Content, PIECE_BYTES_MAX, Pieces};
pub(crate) use roots::{NOBODY, Owners};
pub use roots::{Numbering, Replace};
pub use search::{Match, SearchOptions, SearchResult};
pub use watch::{Change, Watch};
pub use write::{Upload, WriteOptions, Written};

use crate::error::Error;
use crate::id::SandboxId;
use pool::Pool;
use roots::Roots;
use rustix::fs::{Mode, OFlags};
use space::Space;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex};
use watch::Keeper;

/// Changes that look first are made one at a time in each of these parts.
const COMMITS: usize = 64;

/// The files of all sandboxes. A clone is the same.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    /// Holds a directory for each sandbox.
    sandboxes: OwnedFd,
    numbering: Numbering,
    pool: Pool,
    space: Space,
    keeper: Keeper,
    commits: [Mutex<()>; COMMITS],
}

impl Files {
    /// Starts the threads, and removes what a server before has left unfinished.
    pub fn start(sandboxes: &Path, numbering: Numbering, cores: usize) -> std::io::Result<Files> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let sandboxes = rustix::fs::open(sandboxes, flags, Mode::empty())?;
        roots::sweep(&sandboxes)?;
        let commits = std::array::from_fn(|_| Mutex::new(()));
        let (pool, keeper) = (Pool::start(cores)?, Keeper::start()?);
        Ok(Files(Arc::new(Inner { sandboxes, numbering, pool, space: Space::default(), keeper, commits })))
    }

    /// Those of one sandbox, with its block of host ids and its limit.
    pub fn of(&self, id: SandboxId, block: u32, disk_bytes: u64) -> Tree {
        Tree { files: self.clone(), id, block, disk_bytes }
    }

    /// Whose ids the files of a sandbox with this block have.
    pub(crate) fn owners(&self, block: u32) -> Owners {
        Owners::new(self.0.numbering, block)
    }

    /// The directory that is `/workspace` inside.
    pub(crate) fn workspace_of(&self, id: SandboxId, owners: Owners) -> Result<OwnedFd, Error> {
        Roots::open(&self.0.sandboxes, id, owners)?.workspace().map_err(failure::anywhere)
    }

    /// Where NFS remembers what it was told of files.
    pub(crate) fn marks_of(&self, id: SandboxId, owners: Owners) -> Result<OwnedFd, Error> {
        Roots::open(&self.0.sandboxes, id, owners)?.marks()
    }

    /// Counts bytes that are about to be written, and says how many: whole blocks. 3008 where the limit ends.
    pub(crate) fn take_space(&self, id: SandboxId, bytes: u64, disk_bytes: u64) -> Result<u64, Error> {
        self.0.space.take(&self.0.sandboxes, id, bytes, disk_bytes)
    }

    /// The same where nothing need be measured for it, which takes the server's own power; else `None`.
    pub(crate) fn take_counted_space(&self, id: SandboxId, bytes: u64, disk_bytes: u64) -> Option<u64> {
        self.0.space.take_counted(id, bytes, disk_bytes)
    }

    /// Of what was taken, so much was used.
    pub(crate) fn settle_space(&self, id: SandboxId, taken_bytes: u64, used_bytes: u64) {
        self.0.space.settle(id, taken_bytes, used_bytes);
    }

    /// What a sandbox's files use. It may walk the tree.
    pub(crate) fn used_bytes(&self, id: SandboxId) -> Result<u64, Error> {
        self.0.space.used(&self.0.sandboxes, id)
    }
}

/// The files of one sandbox.
#[derive(Clone)]
pub struct Tree {
    files: Files,
    id: SandboxId,
    block: u32,
    disk_bytes: u64,
}

impl Tree {
    fn files(&self) -> &Inner {
        &self.files.0
    }

    fn id(&self) -> SandboxId {
        self.id
    }

    fn pool(&self) -> &Pool {
        &self.files.0.pool
    }

    fn roots(&self) -> Result<Roots, Error> {
        Roots::open(&self.files.0.sandboxes, self.id, Owners::new(self.files.0.numbering, self.block))
    }

    /// Counts bytes that are about to be written.
    fn space(&self, bytes: u64) -> Result<(), Error> {
        self.files.take_space(self.id, bytes, self.disk_bytes).map(drop)
    }

    /// Held while a change looks and acts.
    fn commits(&self) -> &Mutex<()> {
        &self.files.0.commits[self.id.shard_of(COMMITS)]
    }
}
