//! How connections come to a core, and how all of them end.
//!
//! The listener is watched, and accepted from by a direct call: a dropped wait loses no connection. Out of descriptors,
//! the connections that idle longest end and the loop sleeps instead of spinning.

use super::peers::Peer;
use super::{App, connection};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use monoio::net::{TcpStream, UnixStream};
use monoio::time::{Instant, sleep};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketFlags, accept_with, send, sockopt};
use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// Accepted before other tasks of the core get their turn.
const BURST_MAX: usize = 64;
const OUT_OF_RESOURCES_PAUSE: Duration = Duration::from_millis(50);
const DRAIN_LOOK: Duration = Duration::from_millis(10);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: application/json\r\n\
content-length: 101\r\n\r\n{\"code\":1008,\"reason\":\"overloaded\",\"message\":\"too many connections\",\"retryable\":true,\"request_id\":\"\"}";

/// Dropping it tells all listeners with its [`Stop`] to end.
#[derive(Debug)]
pub struct Stopper {
    _alive: flume::Sender<Infallible>,
}

/// Tells a listener when to end. One for each core.
#[derive(Debug, Clone)]
pub struct Stop {
    ended: flume::Receiver<Infallible>,
}

impl Stop {
    /// Both ends.
    pub fn pair() -> (Stopper, Stop) {
        let (alive, ended) = flume::bounded(1);
        (Stopper { _alive: alive }, Stop { ended })
    }

    /// Returns when the listeners are to end.
    pub(crate) async fn requested(&self) {
        // Nothing is ever sent: it returns when the stopper is dropped.
        let _ = self.ended.recv_async().await;
    }
}

/// How a listener ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections whose request was still under way at the drain's deadline, and was cut.
    pub cut: usize,
}

/// Serves one core until `stop`, then lets requests end for at most 10 s. Needs monoio's timer.
pub async fn serve(listener: std::net::TcpListener, app: Rc<App>, stop: Stop) -> io::Result<Drained> {
    listener.set_nonblocking(true)?;
    // monoio cannot watch a listener, but any descriptor that it takes for a stream; nothing is read from it.
    let watched = UnixStream::from_std(OwnedFd::from(listener.try_clone()?).into())?;
    let mut requested = pin!(stop.requested());
    loop {
        match select(requested.as_mut(), pin!(watched.readable(false))).await {
            Either::Left(_) => break,
            Either::Right((ready, _)) => {
                if ready.is_err() || !accept_burst(&listener, &app) {
                    app.peers.shed();
                    sleep(OUT_OF_RESOURCES_PAUSE).await;
                }
            }
        }
    }
    drop(watched);
    drop(listener);
    Ok(drain(&app).await)
}

/// Accepts what waits; false where the machine has no room for another.
fn accept_burst(listener: &std::net::TcpListener, app: &Rc<App>) -> bool {
    for _ in 0..BURST_MAX {
        match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) if app.peers.count() >= app.settings.connections_max => {
                let _ = send(&socket, FULL, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
            }
            Ok(socket) => start(socket, app),
            Err(Errno::AGAIN) => return true,
            // The peer went before it was accepted: Linux hands its network errors to accept.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH,
            ) => {}
            Err(error) => {
                complain(error);
                return false;
            }
        }
    }
    true
}

/// At most one line a second: an attacker who holds all descriptors must not fill the log as well.
fn complain(error: Errno) {
    thread_local!(static LAST: Cell<Option<std::time::Instant>> = const { Cell::new(None) });
    let now = std::time::Instant::now();
    if LAST.get().is_none_or(|last| now - last >= Duration::from_secs(1)) {
        LAST.set(Some(now));
        tracing::warn!(%error, "connections cannot be accepted; those that idle longest are ended");
    }
}

fn start(socket: OwnedFd, app: &Rc<App>) {
    // Answers are written whole, so waiting to merge them only costs time.
    let _ = sockopt::set_tcp_nodelay(&socket, true);
    let Ok(stream) = TcpStream::from_std(socket.into()) else { return };
    let peer = Rc::new(Peer { stream, idle_since: Cell::new(None) });
    let slot = app.peers.add(peer.clone());
    let app = app.clone();
    monoio::spawn(async move {
        // A panic is a bug of one request; it must not take the core with it.
        if AssertUnwindSafe(connection::serve(&app, peer)).catch_unwind().await.is_err() {
            tracing::error!("a connection ended by a panic");
        }
        app.peers.remove(slot);
    });
}

async fn drain(app: &App) -> Drained {
    app.peers.stop();
    let deadline = Instant::now() + app.settings.deadlines.drain;
    while app.peers.count() > 0 && Instant::now() < deadline {
        sleep(DRAIN_LOOK).await;
    }
    let cut = app.peers.count();
    app.peers.cut();
    Drained { cut }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_full_answer_is_framed_right() {
        let text = std::str::from_utf8(super::FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(serde_json::from_str::<serde_json::Value>(body).unwrap()["code"], 1008);
    }
}
