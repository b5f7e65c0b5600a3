//! Which ids a sandbox has: on the host, in its two user namespaces, and on disk.
//!
//! ```text
//!            inner (commands)   outer (agent is 0)   host              on disk, idmapped
//!  ROOT      i                  i + 1                R + 1 + i         BASE + i
//!  RANGED    i                  i + 1                1 + i             the same
//!  SINGLE    1000               0                    0                 the same
//! ```
//! R = block * 65,536. "Host" is the launcher's own user namespace. Inner id 65535 does not exist, so that nobody
//! inside can take BASE + 65535, the owner of the data directory.

use super::small_file;
use crate::sys::clone::{HolderStack, hold_user_namespace};
use rustix::fs::{Mode as FileMode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Ids in one block.
pub(crate) const BLOCK_IDS: u32 = 65_536;

/// The user that commands run as, inside.
pub(crate) const USER: u32 = 1000;

/// Which ids this launcher can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Real root: a block of its own for each sandbox.
    Root,
    /// Root of a user namespace with ids 0..=65536, shared by all sandboxes.
    Ranged,
    /// Root of a user namespace with one id.
    Single,
}

impl Mode {
    /// The outer namespace's map, for users and groups alike.
    pub(crate) fn outer_map(self, block: u32) -> String {
        match self {
            Mode::Root => format!("0 {} {BLOCK_IDS}", u64::from(block) * u64::from(BLOCK_IDS)),
            Mode::Ranged => "0 65536 1\n1 1 65535".to_owned(),
            Mode::Single => "0 0 1".to_owned(),
        }
    }

    /// The inner namespace's map, in ids of the outer one.
    pub(crate) fn inner_map(self) -> &'static [u8] {
        match self {
            Mode::Root | Mode::Ranged => b"0 1 65535",
            Mode::Single => b"1000 0 1",
        }
    }

    /// The agent's id (outer 0), in ids of the launcher.
    pub(crate) fn agent_id(self, block: u32) -> u32 {
        match self {
            Mode::Root => block * BLOCK_IDS,
            Mode::Ranged => BLOCK_IDS,
            Mode::Single => 0,
        }
    }

    /// Who owns the user's files on disk, in ids of the launcher. `base_id` where files are idmapped.
    pub(crate) fn files_id(self, block: u32, base_id: Option<u32>) -> u32 {
        match (self, base_id) {
            (Mode::Root, Some(base)) => base + USER,
            (Mode::Root, None) => block * BLOCK_IDS + 1 + USER,
            (Mode::Ranged, _) => 1 + USER,
            (Mode::Single, _) => 0,
        }
    }
}

/// Writes both maps of a process that waits in a new user namespace.
pub(crate) fn write_maps(proc: BorrowedFd<'_>, pid: Pid, map: &str) -> Result<(), Errno> {
    let pid = pid.as_raw_nonzero();
    small_file::write(proc, &format!("{pid}/gid_map"), map)?;
    small_file::write(proc, &format!("{pid}/uid_map"), map)
}

/// Makes the namespace that shows files of BASE + i as R + 1 + i; it lives as long as a descriptor or a mount uses it.
pub(crate) fn file_map(
    proc: BorrowedFd<'_>,
    stack: &mut HolderStack,
    base_id: u32,
    block: u32,
) -> Result<OwnedFd, Errno> {
    let holder = hold_user_namespace(stack)?;
    let map = format!("{base_id} {} {}", u64::from(block) * u64::from(BLOCK_IDS) + 1, BLOCK_IDS - 1);
    let namespace = write_maps(proc, holder, &map).and_then(|()| {
        let name = format!("{}/ns/user", holder.as_raw_nonzero());
        openat(proc, name, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty())
    });
    // The holder shares our memory: it must be gone before its stack is used again.
    kill_process(holder, Signal::KILL)?;
    waitpid(Some(holder), WaitOptions::empty())?;
    namespace
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_maps_the_user_to_the_owner_of_its_files() {
        // Inner 1000 -> outer -> launcher's id must be who owns the workspace where nothing is idmapped.
        assert_eq!(Mode::Root.outer_map(17), "0 1114112 65536");
        assert_eq!(Mode::Root.files_id(17, None), 1_114_112 + 1001);
        assert_eq!(Mode::Root.files_id(17, Some(1 << 30)), (1 << 30) + 1000);
        assert_eq!(Mode::Ranged.files_id(0, None), 1001);
        assert_eq!((Mode::Single.files_id(0, None), Mode::Single.agent_id(0)), (0, 0));
        assert_eq!(Mode::Root.outer_map(65_534), "0 4294836224 65536");
    }
}
