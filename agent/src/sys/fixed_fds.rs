//! File descriptors by number: those that a parent left us, and those that a child must have.
//!
//! dup3(2), close_range(2) (Linux 5.9).
#![allow(unsafe_code)]

use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that the parent left at a fixed number, and keeps it from the programs we start.
pub(crate) fn take(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: F_SETFD on a number that is not open only fails.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: it is open (checked above) and by contract with the parent nobody else in this program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes `number` another name of `from`. What was open there is closed without its owner's knowledge: only for a
/// process that is about to execute.
pub(crate) fn place(from: RawFd, number: RawFd, at_exec: AtExec) -> Result<(), Errno> {
    let flags = if at_exec == AtExec::Close { libc::O_CLOEXEC } else { 0 };
    // SAFETY: numbers only; a bad one is EBADF or, when both are equal, EINVAL.
    if unsafe { libc::dup3(from, number, flags) } < 0 { Err(Errno::BADF) } else { Ok(()) }
}

/// Whether a descriptor stays open in the next program.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtExec {
    Keep,
    Close,
}

/// Moves a descriptor to a number of at least `least`, so that fixed numbers below can be filled in any order.
pub(crate) fn lift(from: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: numbers only.
    let number = unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, least) };
    if number < 0 { Err(Errno::MFILE) } else { Ok(number) }
}

/// Closes one descriptor by number, without its owner's knowledge: only for a process that is about to execute.
pub(crate) fn close(number: RawFd) {
    // SAFETY: by contract the owning value is never used again in this process.
    unsafe { libc::close(number) };
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: by contract no owning value above `first` is used again (start of the program, or just before exec).
    let result = unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0) };
    if result < 0 { Err(Errno::NOSYS) } else { Ok(()) }
}
