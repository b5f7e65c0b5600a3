//! Room for getting out of a full disk: blocks behind the database's end that new records may not use.
//!
//! LMDB copies the pages that it changes, so even a removal needs room. Without a reserve a full disk could not be
//! emptied by deleting sandboxes. What is no new record goes on while the reserve lasts; new ones are refused as soon
//! as it cannot be filled up again. fallocate(2) with KEEP_SIZE: the file's length stays LMDB's.

use rustix::fs::{FallocateFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;

/// What lies ready beyond the used pages. A removal changes a path of pages in four trees and the free list, some
/// 30 pages; they come free again two commits later.
const RESERVE_BYTES: u64 = 1 << 20;

/// The reserve of one database file.
pub(super) struct Reserve {
    file: Option<OwnedFd>,
    /// Blocks are allocated up to here.
    until: u64,
}

impl Reserve {
    /// Of the file at a path. Without the file, or on a file system that cannot, there is no reserve.
    pub(super) fn of(path: &Path) -> Reserve {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        Reserve { file: rustix::fs::open(path, flags, Mode::empty()).ok(), until: 0 }
    }

    /// Fills it up beyond the used bytes. False where the disk has no room for it.
    pub(super) fn fill_up(&mut self, used_bytes: u64) -> bool {
        let Some(file) = self.file.as_ref().filter(|_| self.until < used_bytes + RESERVE_BYTES) else { return true };
        // Twice, so that this is not asked at every commit.
        let wanted = [2 * RESERVE_BYTES, RESERVE_BYTES];
        for bytes in wanted {
            match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, used_bytes, bytes) {
                Ok(()) => {
                    self.until = used_bytes + bytes;
                    return true;
                }
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {}
                Err(_) => {
                    self.file = None;
                    return true;
                }
            }
        }
        false
    }
}
