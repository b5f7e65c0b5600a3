//! Network namespaces of sandboxes: only `lo`, up; small TCP buffers; owned by the launcher's user namespace.
//!
//! So root inside a sandbox has no CAP_NET_ADMIN over it. One costs 390 us, so a few are made ahead when idle.
//! tcp_rmem and tcp_wmem are bounded because v1 memory cgroups do not count what sockets buffer.

use super::small_file;
use crate::sys::clone::unshare;
use crate::sys::loopback;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Namespaces made ahead.
const POOL_MAX: usize = 16;

/// Smallest, first and largest size of a TCP buffer, in bytes.
const TCP_BUFFER_BYTES: &str = "4096 16384 32768";

/// The launcher's own network namespace and those made ahead for sandboxes.
pub(crate) struct Networks {
    own: OwnedFd,
    ahead: Vec<OwnedFd>,
    ahead_max: usize,
}

impl Networks {
    /// Puts the launcher into an empty network of its own, which it may come back to without rights over the host's.
    pub(crate) fn new(proc: BorrowedFd<'_>) -> Result<Self, Errno> {
        unshare(UnshareFlags::NEWNET)?;
        Ok(Networks { own: current(proc)?, ahead: Vec::with_capacity(POOL_MAX), ahead_max: POOL_MAX })
    }

    /// One namespace, made ahead or now.
    pub(crate) fn take(&mut self, proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        match self.ahead.pop() {
            Some(network) => Ok(network),
            None => self.make(proc),
        }
    }

    /// Makes one ahead. After a failure no more is tried: a create then makes its own and tells its caller why not.
    pub(crate) fn make_ahead(&mut self, proc: BorrowedFd<'_>) -> Result<(), Errno> {
        match self.make(proc) {
            Ok(network) => {
                self.ahead.push(network);
                Ok(())
            }
            Err(errno) => {
                self.ahead_max = 0;
                Err(errno)
            }
        }
    }

    /// True while another may be made ahead.
    pub(crate) fn wants_more(&self) -> bool {
        self.ahead.len() < self.ahead_max
    }

    /// Goes into a sandbox's network for the time of a clone.
    pub(crate) fn enter(&self, network: BorrowedFd<'_>) -> Result<(), Errno> {
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network))
    }

    /// Comes back from [`Networks::enter`].
    pub(crate) fn leave(&self) -> Result<(), Errno> {
        move_into_link_name_space(self.own.as_fd(), Some(LinkNameSpaceType::Network))
    }

    fn make(&self, proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        unshare(UnshareFlags::NEWNET)?;
        let made = prepare(proc);
        self.leave()?;
        made
    }
}

fn prepare(proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    loopback::bring_up()?;
    for name in ["tcp_rmem", "tcp_wmem"] {
        // The kernel judges the write by the namespace's owner; where it hides the file there is nothing to bound.
        match small_file::write(proc, &format!("sys/net/ipv4/{name}"), TCP_BUFFER_BYTES) {
            Ok(()) | Err(Errno::NOENT | Errno::ACCESS | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(errno),
        }
    }
    current(proc)
}

fn current(proc: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(proc, "self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
}
