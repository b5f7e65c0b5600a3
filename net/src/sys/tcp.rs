//! What does the kernel know of a connection's peer? getsockopt(2) with TCP_INFO, tcp(7).
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

/// Where `tcpi_snd_wnd` stands in struct tcp_info; since Linux 5.4.
const SND_WND_AT: usize = 228;
const INFO_BYTES: usize = SND_WND_AT + 4;

/// How many bytes the peer would take now: what its socket has room for. `None` where the kernel does not say.
pub(crate) fn peer_window_bytes(socket: BorrowedFd<'_>) -> Option<u32> {
    let mut info = [0u8; INFO_BYTES];
    let mut length = INFO_BYTES as libc::socklen_t;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel writes at most `length` bytes to `info`,
    // which has so many, and the count that it wrote to `length`. Both live until the call has returned.
    let got = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast::<libc::c_void>(),
            &mut length,
        )
    };
    let whole = got == 0 && length as usize == INFO_BYTES;
    let bytes = info.last_chunk::<4>().filter(|_| whole)?;
    Some(u32::from_ne_bytes(*bytes))
}
