#![allow(unsafe_code)]
//! Leaving the namespaces of the parent. unshare(2), Linux 2.6.16; user namespaces since 3.8.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

/// Moves this process into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    assert!(!flags.contains(UnshareFlags::FILES), "descriptors stay shared");
    // SAFETY: without CLONE_FILES no descriptor changes its meaning for another thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}
