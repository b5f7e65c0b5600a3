//! Opens the database, and guards its memory map: many read at once, the map changes only when nobody does.
//!
//! ```text
//!   shard 0 … N, store-reader ──► read():  shared, microseconds      ┐
//!   store-writer              ──► write(): shared, one transaction   ├─ gate
//!   store-writer              ──► grow(), reopen(): alone            ┘
//! ```
//! The gate is the one lock that shards share: LMDB forbids to move the map under a transaction. It is held shared,
//! and waits only where the map grows (never, below 64 GiB) or a failed disk made LMDB give the environment up.

use super::check;
use super::sys::Lmdb;
use crate::error::{Error, Reason};
use rustix::fs::{FallocateFlags, Mode, OFlags};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

/// What the databases look like. Another number stops the start.
const SCHEMA: u32 = 1;

/// The map that is asked for first. Address space only: the file grows as it is filled.
const MAP_BYTES: usize = 64 << 30;
/// The smallest that is tried where address space is short.
const MAP_BYTES_MIN: usize = 64 << 20;
/// Beyond this the map does not grow.
const MAP_BYTES_MAX: usize = 16 << 40;
/// The lock file with its table of readers. Its blocks are allocated before it is mapped: LMDB writes to the map, and
/// on a full disk a hole in it would be SIGBUS.
const LOCK_FILE_BYTES: u64 = 64 << 10;

/// An open database that can be mended while others use it.
pub(super) struct Gate {
    path: PathBuf,
    /// `None` after an environment was given up and could not be opened again.
    open: RwLock<Option<Lmdb>>,
    /// Counts commits, also those whose end is not known.
    commits: AtomicU64,
}

impl Gate {
    /// As long as this stays the same, reads give the same.
    pub(super) fn version(&self) -> u64 {
        self.commits.load(Ordering::Acquire)
    }

    /// To be called after each commit, before anybody is told of it.
    pub(super) fn committed(&self) {
        self.commits.fetch_add(1, Ordering::Release);
    }

    /// Opens or makes the database, with a map of `MAP_BYTES` or what the machine gives.
    pub(super) fn open(path: &Path) -> Result<Gate, Error> {
        let mut map_bytes = MAP_BYTES;
        loop {
            match Gate::open_with_map(path, map_bytes) {
                Err(Failure::NoMemory) if map_bytes > MAP_BYTES_MIN => map_bytes /= 4,
                Err(failure) => return Err(failure.at_open(path)),
                Ok(gate) => return Ok(gate),
            }
        }
    }

    pub(super) fn open_with_map(path: &Path, map_bytes: usize) -> Result<Gate, Failure> {
        let lmdb = open_checked(path, map_bytes)?;
        let stale = lmdb.clear_stale_readers()?;
        if stale > 0 {
            tracing::info!(stale, "cleared readers that a crash left in the database");
        }
        schema(&lmdb)?;
        Ok(Gate { path: path.to_path_buf(), open: RwLock::new(Some(lmdb)), commits: AtomicU64::new(0) })
    }

    /// Uses the database, shared with others. The closure must be short and not wait for anything.
    pub(super) fn with<T>(&self, use_it: impl FnOnce(&Lmdb) -> Result<T, Failure>) -> Result<T, Failure> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        use_it(open.as_ref().ok_or_else(|| Failure::Failed("the database could not be opened again".into()))?)
    }

    /// Doubles the map. Waits until no transaction is open.
    pub(super) fn grow(&self) -> Result<(), Failure> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let Some(lmdb) = open.as_mut() else { return Err(Failure::Failed("the database is not open".into())) };
        let before = lmdb.map_bytes();
        let after = before.saturating_mul(2);
        if after > MAP_BYTES_MAX {
            return Err(Failure::MapFull);
        }
        tracing::warn!(before, after, "the database's map is full and grows");
        if let Err(error) = lmdb.resize(after) {
            *open = None;
            *open = Some(open_checked(&self.path, before)?);
            return Err(error.into());
        }
        Ok(())
    }

    /// Closes the environment and opens it again: LMDB refuses everything after it could not write its first pages.
    pub(super) fn reopen(&self) -> Result<(), Failure> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        let map_bytes = open.take().map_or(MAP_BYTES, |lmdb| lmdb.map_bytes());
        tracing::warn!("the database failed and is opened again");
        *open = Some(open_checked(&self.path, map_bytes)?);
        Ok(())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The line that the start stops with.
    pub(super) fn at_open(&self, failure: Failure) -> Error {
        failure.at_open(&self.path)
    }

    /// What an EIO really was. LMDB says EIO of a write that the kernel did in part, which is what the last write
    /// before a full disk or quota is; asking for room in a file without a name tells the two apart.
    pub(super) fn explain_io_error(&self, bytes: u64) -> Failure {
        const SLACK_BYTES: u64 = 256 << 10;
        let room = || {
            let directory = self.path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
            let file = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR)?;
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes + SLACK_BYTES)
        };
        match room().map_err(Failure::from) {
            Err(Failure::NoSpace) => Failure::NoSpace,
            _ => Failure::IoError,
        }
    }

    /// The key for file handles, made where there is none.
    pub(super) fn handle_key(&self) -> Result<[u8; 32], Failure> {
        const KEY: &[u8] = b"handle_key";
        self.with(|lmdb| {
            let mut txn = lmdb.write()?;
            if let Some(known) = lmdb.meta().get(&txn, KEY)? {
                return <[u8; 32]>::try_from(known).map_err(|_| Failure::Damaged("the handles' key is cut".into()));
            }
            let mut key = [0; 32];
            rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty())?;
            lmdb.meta().put(&mut txn, KEY, &key)?;
            txn.commit()?;
            Ok(key)
        })
    }

    /// Used and reserved bytes of the map.
    pub(super) fn fill(&self) -> Result<(usize, usize), Failure> {
        self.with(|lmdb| Ok((lmdb.used_bytes(), lmdb.map_bytes())))
    }
}

fn open_checked(path: &Path, map_bytes: usize) -> Result<Lmdb, Failure> {
    check::file(path)?;
    allocate_lock_file(path)?;
    Ok(Lmdb::open(path, map_bytes)?)
}

fn allocate_lock_file(path: &Path) -> Result<(), Failure> {
    let mut name = path.as_os_str().to_os_string();
    name.push("-lock");
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&name, flags, Mode::RUSR | Mode::WUSR)?;
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, LOCK_FILE_BYTES) {
        // File systems that cannot: LMDB makes the file as long as it needs, with holes.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => Ok(()),
        other => Ok(other?),
    }
}

/// Writes the schema's number into a new database; refuses another.
fn schema(lmdb: &Lmdb) -> Result<(), Failure> {
    const KEY: &[u8] = b"schema";
    let known = {
        let txn = lmdb.read()?;
        lmdb.meta().get(&txn, KEY)?.map(<[u8]>::to_vec)
    };
    match known.as_deref() {
        Some(bytes) if bytes == SCHEMA.to_be_bytes() => Ok(()),
        Some(bytes) => {
            let number =
                <[u8; 4]>::try_from(bytes).map_or("unknown".to_string(), |b| u32::from_be_bytes(b).to_string());
            Err(Failure::Unknown(format!("the database has schema {number}, this server knows {SCHEMA}")))
        }
        None => {
            let mut txn = lmdb.write()?;
            lmdb.meta().put(&mut txn, KEY, &SCHEMA.to_be_bytes())?;
            Ok(txn.commit()?)
        }
    }
}

/// How LMDB or its file failed, as far as it makes a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// The map has no room; the disk may have.
    MapFull,
    /// The disk, the quota or the file-size limit is reached.
    NoSpace,
    /// No address space for the map.
    NoMemory,
    /// EIO: the disk failed, or was nearly full; see [`Gate::explain_io_error`].
    IoError,
    /// LMDB gave the environment up: open it again.
    GivenUp(String),
    /// The file is not a whole database.
    Damaged(String),
    /// Made by another version of this program; says what and how.
    Unknown(String),
    /// Anything else, for the log.
    Failed(String),
    /// The caller's fault, or already an answer.
    Answer(Error),
}

impl From<rustix::io::Errno> for Failure {
    fn from(errno: rustix::io::Errno) -> Failure {
        use rustix::io::Errno;
        match errno {
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Failure::NoSpace,
            Errno::NOMEM => Failure::NoMemory,
            Errno::IO => Failure::IoError,
            errno => Failure::Failed(errno.to_string()),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.raw_os_error() {
            Some(code) => rustix::io::Errno::from_raw_os_error(code).into(),
            None => Failure::Failed(error.to_string()),
        }
    }
}

impl From<heed::Error> for Failure {
    fn from(error: heed::Error) -> Failure {
        use heed::MdbError;
        match error {
            heed::Error::Io(error) => error.into(),
            heed::Error::Mdb(MdbError::MapFull) => Failure::MapFull,
            heed::Error::Mdb(MdbError::Panic) => Failure::GivenUp(MdbError::Panic.to_string()),
            heed::Error::Mdb(
                e @ (MdbError::PageNotFound | MdbError::Corrupted | MdbError::Invalid | MdbError::VersionMismatch),
            ) => Failure::Damaged(e.to_string()),
            other => Failure::Failed(other.to_string()),
        }
    }
}

impl Failure {
    /// What the caller of one operation is told.
    pub(super) fn at_use(self) -> Error {
        let failed = Error::new(Reason::DatabaseError, "The server's database failed; nothing was changed. Try again.");
        match self {
            Failure::Answer(error) => error,
            Failure::NoSpace | Failure::MapFull => Error::new(
                Reason::NoSpace,
                "The server's disk is full; nothing was changed. Free space, then try again.",
            ),
            Failure::NoMemory => failed.source("no memory"),
            Failure::IoError => failed.source("EIO: the disk failed"),
            Failure::GivenUp(why) | Failure::Damaged(why) | Failure::Unknown(why) | Failure::Failed(why) => {
                failed.source(why)
            }
        }
    }

    /// The line that the start stops with.
    fn at_open(self, path: &Path) -> Error {
        let path = path.display();
        let line = match self {
            Failure::Answer(error) => return error,
            Failure::MapFull | Failure::NoSpace => format!("{path}: no space left to open the database"),
            Failure::NoMemory => format!("{path}: no address space to map the database (ulimit -v?)"),
            Failure::Unknown(what) => {
                format!("{path}: {what}; use the version that made it, or another WORKSPACE_DATA_DIR")
            }
            Failure::Damaged(why) => format!(
                "{path}: not a whole database ({why}); put back a copy, or move it away to start with none (sandboxes \
                 that still run are then ended)"
            ),
            Failure::IoError => format!("{path}: the disk failed while the database was opened (EIO)"),
            Failure::GivenUp(why) | Failure::Failed(why) => format!("{path}: the database cannot be opened: {why}"),
        };
        Error::new(Reason::DatabaseError, line)
    }
}
