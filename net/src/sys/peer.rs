#![allow(unsafe_code)]
//! Who is at the other end of a Unix socket? SO_PEERCRED of unix(7), as this process's namespaces show it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// A process and its user, at the time of connect(2) or listen(2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    /// 0: in a pid namespace that is not seen from here.
    pub(crate) pid: i32,
    pub(crate) uid: u32,
}

/// The peer of a connected socket.
pub(crate) fn credentials(socket: impl AsFd) -> io::Result<Peer> {
    let mut found = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the structure and its length live until the call has returned; the kernel writes at most that length.
    let answer = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut bytes,
        )
    };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(Peer { pid: found.pid, uid: found.uid }) }
}
