//! The one thing that the network side does by raw descriptor: to lend a stream's descriptor to direct system calls.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Lends the descriptor of `stream` for as long as the stream is borrowed.
pub(crate) fn borrow<S: AsRawFd>(stream: &S) -> BorrowedFd<'_> {
    // SAFETY: the stream owns the descriptor and closes it only when dropped; the result borrows the stream, so it
    // cannot be used after that. A raw descriptor of a live stream is never -1.
    unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }
}
