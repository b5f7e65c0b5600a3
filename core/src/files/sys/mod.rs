#![allow(unsafe_code)]
//! The one call on files that names no crate: sync_file_range(2).

use std::os::fd::{AsFd, AsRawFd};

/// Asks the kernel to begin writing a part of a file to its disk, and does not wait for that. What goes wrong is told by
/// the next fsync(2) of the same descriptor; where a file system can't, nothing happens.
pub(super) fn begin_writeback(file: impl AsFd, at: u64, bytes: u64) {
    let (Ok(at), Ok(bytes)) = (i64::try_from(at), i64::try_from(bytes)) else { return };
    // SAFETY: numbers and a descriptor that is borrowed through the call; no memory.
    let _ = unsafe { libc::sync_file_range(file.as_fd().as_raw_fd(), at, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}
