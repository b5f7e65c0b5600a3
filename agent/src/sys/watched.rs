//! How does the event loop watch a descriptor that is no socket of its own: a pipe, a signalfd? By epoll(7), which
//! must forget the descriptor before it is closed.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor in the event loop; dropping it takes it out and then closes it.
pub(crate) type Watched = AsyncFd<OwnedFd>;

/// Puts `fd`, which must be non-blocking, into the event loop of this thread.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<Watched> {
    // SAFETY: an `OwnedFd` is one open descriptor with one number for all its life, and nobody else can close it.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(|error| error.into_parts().1)
}
