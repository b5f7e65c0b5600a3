//! How clients come: who may, how many, and who has rested too long.

use super::Shared;
use super::connection::Connection;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with, sockopt};
use rustix::time::Timespec;
use std::io::PipeReader;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS_MAX: usize = 1024;
/// How often connections are looked at, where there are any.
const LOOK: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(50);
const COMPLAIN_EVERY: Duration = Duration::from_secs(1);

/// The thread's life: it ends when the other end of `stop` is dropped.
pub(super) fn run(shared: &Shared, listener: &TcpListener, stop: &PipeReader) {
    let mut complained: Option<Instant> = None;
    loop {
        let watched = shared.count() > 0;
        let mut fds = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        match poll(&mut fds, watched.then_some(&LOOK)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "the NFS listener");
                return;
            }
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        shared.remove_overdue();
        if let Err(error) = accept(shared, listener) {
            if complained.is_none_or(|last| last.elapsed() > COMPLAIN_EVERY) {
                complained = Some(Instant::now());
                tracing::warn!(%error, "NFS connections cannot be accepted");
            }
            std::thread::sleep(OUT_OF_RESOURCES_PAUSE);
        }
    }
}

/// Accepts what waits.
fn accept(shared: &Shared, listener: &TcpListener) -> Result<(), Errno> {
    static NUMBERS: AtomicU64 = AtomicU64::new(0);
    loop {
        let socket = match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => TcpStream::from(socket),
            Err(Errno::AGAIN) => return Ok(()),
            // The peer went before it was accepted: Linux hands its network errors to accept.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH,
            ) => continue,
            Err(error) => return Err(error),
        };
        let Ok(peer) = socket.peer_addr().map(|address| address.ip().to_canonical()) else { continue };
        // Closed without a word: NFSv3 has none for it before a call is heard, and none is heard from a stranger.
        if !shared.allow.iter().any(|range| range.contains(peer)) {
            tracing::debug!(%peer, "not in WORKSPACE_NFS_ALLOW");
            continue;
        }
        if shared.count() >= CONNECTIONS_MAX {
            continue;
        }
        // Replies are written whole, so waiting to merge them only costs time. A peer that is gone must be noticed.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        let _ = sockopt::set_socket_keepalive(&socket, true);
        shared.add(Connection::new(NUMBERS.fetch_add(1, Ordering::Relaxed), peer, socket))?;
    }
}
