//! How much a sandbox's files use, measured from the host side on a thread of its own.
//!
//! The tree is hostile: it is walked by descriptors, no symlink is followed, depth and entries are bounded. A file with
//! several links is counted for each, sparse files for what they use (`st_blocks`, stat(2)).

use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::shard::mailbox::{Reply, oneshot};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;

/// Looks that may wait; more are left out until the next round.
const LOOKS_MAX: usize = 4096;
/// Entries of one tree; what is above counts as over any limit.
const ENTRIES_MAX: usize = 1_000_000;
/// Directories below each other; what is deeper counts as over any limit.
const DEPTH_MAX: usize = 512;
/// `st_blocks` counts these, whatever the file system's own block is.
const BLOCK_BYTES: u64 = 512;

type Look = (SandboxId, Reply<Result<u64, Error>>);

/// Measures sandboxes' trees. A clone is the same thread.
#[derive(Clone)]
pub struct Usage {
    looks: flume::Sender<Look>,
}

impl Usage {
    /// Starts the thread. `sandboxes` holds a directory for each sandbox; where it cannot be opened, each look fails.
    pub fn start(sandboxes: &Path) -> std::io::Result<Usage> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::open(sandboxes, flags, Mode::empty())?;
        let (looks, to_look) = flume::bounded::<Look>(LOOKS_MAX);
        thread::Builder::new().name("disk".to_owned()).spawn(move || {
            while let Ok((id, reply)) = to_look.recv() {
                reply.send(used_bytes(&root, id).map_err(|errno| failed().source(errno)));
            }
        })?;
        Ok(Usage { looks })
    }

    /// Bytes that a sandbox's files use on disk. Milliseconds for an ordinary tree.
    pub async fn of(&self, id: SandboxId) -> Result<u64, Error> {
        let (reply, answer) = oneshot();
        if self.looks.try_send((id, reply)).is_err() {
            return Err(Error::new(Reason::Overloaded, "too many sandboxes are being measured"));
        }
        answer.wait().await?
    }
}

fn failed() -> Error {
    Error::new(Reason::RuntimeError, "the sandbox's disk use could not be measured")
}

/// Bytes that a sandbox's files use on disk; the largest number where they are more than can be walked.
pub(crate) fn used_bytes(root: &OwnedFd, id: SandboxId) -> rustix::io::Result<u64> {
    let open = |dir: BorrowedFd<'_>, name: &std::ffi::CStr| {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::RDONLY;
        openat(dir, name, flags, Mode::empty())
    };
    let top = openat(root, id.as_str(), OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())?;
    let mut open_dirs = vec![Dir::new(top)?];
    let (mut used, mut entries) = (0_u64, 0_usize);
    while let Some(dir) = open_dirs.last_mut() {
        let Some(entry) = dir.read() else {
            open_dirs.pop();
            continue;
        };
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        entries += 1;
        // What vanishes meanwhile uses nothing.
        let Ok(stat) = statat(dir.fd()?, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
        used = used.saturating_add(u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK_BYTES));
        let below = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => match open(dir.fd()?, name) {
                // This says nothing of the tree: better no answer than one that leaves out what lies below.
                Err(lack @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => return Err(lack),
                other => other.ok(),
            },
            _ => None,
        };
        if entries > ENTRIES_MAX || (below.is_some() && open_dirs.len() >= DEPTH_MAX) {
            return Ok(u64::MAX);
        }
        if let Some(below) = below {
            open_dirs.push(Dir::new(below)?);
        }
    }
    Ok(used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::block_on;

    #[test]
    fn counts_what_lies_there_and_follows_nothing() {
        let root = std::env::temp_dir().join(format!("workspace-disk-{}", std::process::id()));
        let id = SandboxId::from_random([7; 20]);
        let tree = root.join(id.as_str());
        std::fs::create_dir_all(tree.join("workspace/a/b")).unwrap();
        std::fs::create_dir_all(root.join("outside")).unwrap();
        std::fs::write(root.join("outside/big"), vec![1_u8; 4 << 20]).unwrap();
        std::os::unix::fs::symlink(root.join("outside"), tree.join("workspace/link")).unwrap();
        std::fs::write(tree.join("workspace/a/b/file"), vec![1_u8; 1 << 20]).unwrap();
        let usage = Usage::start(&root).unwrap();
        let used = block_on(usage.of(id)).unwrap();
        assert!(((1 << 20)..(2 << 20)).contains(&used), "{used}");
        assert!(block_on(usage.of(SandboxId::from_random([8; 20]))).is_err());
        let mut deep = tree.join("workspace");
        for _ in 0..DEPTH_MAX {
            deep.push("d");
            std::fs::create_dir(&deep).unwrap();
        }
        assert_eq!(block_on(usage.of(id)).unwrap(), u64::MAX);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
