//! Signals as descriptors, and the mask that a new program starts with: signalfd(2), sigprocmask(2).
#![allow(unsafe_code)]

use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

/// Blocks SIGCHLD and gives a non-blocking descriptor that is readable while one is pending.
pub(crate) fn child_signals() -> Result<OwnedFd, Errno> {
    // SAFETY: an all-zero sigset_t is valid memory for sigemptyset, which then sets it; all pointers outlive the calls.
    let number = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if number < 0 {
        return Err(Errno::MFILE);
    }
    // SAFETY: signalfd gave a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Unblocks every signal and gives SIGPIPE its default back: a new program inherits both.
pub(crate) fn start_afresh() {
    // SAFETY: as above; SIG_DFL is a valid disposition for SIGPIPE.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
