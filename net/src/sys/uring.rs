#![allow(unsafe_code)]
//! Does the kernel give this process an io_uring? io_uring_setup(2), Linux 5.1.

use rustix::io::Errno;
use std::os::fd::{FromRawFd, OwnedFd};

const ENTRIES: libc::c_uint = 2;
/// struct io_uring_params is 120 bytes; the kernel wants zeroes and writes back what it chose.
const PARAMS_WORDS: usize = 15;

/// Makes the smallest ring and drops it.
pub(crate) fn try_setup() -> Result<(), Errno> {
    let mut params = [0u64; PARAMS_WORDS];
    // SAFETY: the kernel reads and writes at most sizeof(struct io_uring_params) = 120 bytes of `params`, which
    // lives until the call has returned.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, ENTRIES, params.as_mut_ptr()) };
    if fd < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    // SAFETY: a non-negative answer is a new descriptor that nobody else owns.
    drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
    Ok(())
}
