//! Where do programs of the same owner come in? A Unix socket in the data directory, which nobody else may open.
//!
//! The supervisor makes it before anything runs, so that a server that is started again keeps it: mode 0600, its maker's,
//! in a directory of mode 0700. The kernel refuses others at connect(2); the id of who comes is compared too, where the
//! server's user namespace can tell it (in root's modes all ids of the machine but the sandboxes' files look alike).
//! Source: unix(7), user_namespaces(7).

use super::conversation;
use super::packet::{self, FromRelay};
use super::socket::Socket;
use crate::http::Stop;
use crate::mcp::{Engine, Set};
use crate::supervisor::DataDir;
use crate::sys::peer;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use monoio::net::UnixStream;
use monoio::time::{sleep, timeout};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen as listen_at, socket_with,
};
use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The socket's name in the data directory.
pub const SOCKET: &str = "mcp.sock";
const BACKLOG_MAX: i32 = 128;
/// Clients of one server at once.
const CLIENTS_MAX: usize = 1024;
const HELLO_WAIT: Duration = Duration::from_secs(5);
/// How long a server that was started for its clients waits for the first one.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// After a refusal by the machine.
const PAUSE: Duration = Duration::from_millis(50);
/// How long all conversations may take to end: more than each may.
const END: Duration = Duration::from_secs(11);

/// Makes the socket anew; whoever holds the data directory may.
pub fn bind_in(data_dir: &DataDir) -> Result<OwnedFd, String> {
    let failed = |error: Errno| format!("{}/{SOCKET}: {error}", data_dir.path.display());
    data_dir.withdraw(SOCKET)?;
    // Through the descriptor: a path in an address has 107 bytes at most.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", data_dir.fd.as_raw_fd())).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    // Nobody may open it, not even for the moment until its mode could be changed.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = bind(&socket, &address);
    rustix::process::umask(before);
    bound.and_then(|()| listen_at(&socket, BACKLOG_MAX)).map_err(failed)?;
    Ok(socket)
}

/// How long a server lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasts {
    /// Until a signal.
    UntilStopped,
    /// Until its last client over stdio has gone: one of them started it.
    WhileUsed,
}

/// Who uses the server over stdio, on all cores. What ends it and what lets somebody in is decided under one lock.
#[derive(Debug)]
pub struct Clients {
    count: Mutex<Count>,
    lasts: Lasts,
    unused: (flume::Sender<()>, flume::Receiver<()>),
}

#[derive(Debug, Default)]
struct Count {
    clients: usize,
    closed: bool,
}

impl Clients {
    /// Nobody yet.
    pub fn new(lasts: Lasts) -> Arc<Clients> {
        Arc::new(Clients { count: Mutex::default(), lasts, unused: flume::bounded(1) })
    }

    fn count(&self) -> std::sync::MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where nobody is let in any more.
    fn enter(&self) -> bool {
        let mut count = self.count();
        let is_open = !count.closed && count.clients < CLIENTS_MAX;
        count.clients += usize::from(is_open);
        is_open
    }

    /// True where the server ends now.
    fn leave(&self) -> bool {
        let mut count = self.count();
        count.clients -= 1;
        self.close_if_unused(&mut count)
    }

    fn close_if_unused(&self, count: &mut Count) -> bool {
        if self.lasts == Lasts::WhileUsed && count.clients == 0 {
            count.closed = true;
            let _ = self.unused.0.try_send(());
        }
        count.closed
    }

    /// Returns when the server is to end because nobody uses it.
    pub async fn unused(&self) {
        if let Either::Left(_) = select(pin!(sleep(FIRST_WAIT)), self.unused.1.recv_async()).await {
            self.close_if_unused(&mut self.count());
            let _ = self.unused.1.recv_async().await;
        }
    }

    /// True where the server ended because nobody used it.
    pub fn have_gone(&self) -> bool {
        self.count().closed
    }
}

/// What each conversation needs.
#[derive(Clone)]
struct Parts {
    engine: Rc<Engine>,
    clients: Arc<Clients>,
    stop: Stop,
    /// Dropped by each conversation at its end.
    talks: flume::Sender<Infallible>,
}

/// Serves one core until `stop`, and until its conversations have ended. `owner` is whom clients must look like.
pub async fn serve(
    listener: OwnedFd,
    owner: u32,
    engine: Rc<Engine>,
    clients: Arc<Clients>,
    stop: Stop,
) -> std::io::Result<()> {
    // Only readiness is asked of it.
    let watched = UnixStream::from_std(listener.try_clone()?.into())?;
    let (talks, ended) = flume::bounded::<Infallible>(1);
    let parts = Parts { engine, clients, stop: stop.clone(), talks };
    loop {
        if let Either::Left(_) = select(pin!(stop.requested()), pin!(watched.readable(false))).await {
            break;
        }
        match accept_with(&listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) if peer::credentials(&socket).is_ok_and(|peer| peer.uid == owner) => start(socket, &parts),
            Ok(_) => tracing::warn!("somebody else than the owner came to {SOCKET}, and was sent away"),
            // Another core was quicker.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => {
                tracing::warn!(%error, "clients over stdio cannot be accepted");
                sleep(PAUSE).await;
            }
        }
    }
    drop((watched, listener, parts));
    let _ = timeout(END, ended.recv_async()).await;
    Ok(())
}

fn start(socket: OwnedFd, parts: &Parts) {
    let Parts { engine, clients, stop, talks } = parts.clone();
    let Ok(socket) = Socket::new(socket) else { return };
    monoio::spawn(async move {
        let _talks = talks;
        let socket = Rc::new(socket);
        // Who is not let in is told nothing: a client that waits for a server that ends starts the next one.
        if !clients.enter() {
            return;
        }
        if let Ok(Some(set)) = timeout(HELLO_WAIT, hello(&socket, &engine)).await {
            let served = conversation::serve(socket.clone(), engine, set, stop);
            // A panic is a bug of one client's; it must not take the core with it.
            if AssertUnwindSafe(served).catch_unwind().await.is_err() {
                tracing::error!("a client over stdio ended by a panic");
            }
        }
        let ends = clients.leave();
        // It may have gone long ago.
        let _ = timeout(HELLO_WAIT, socket.send(&packet::last(ends))).await;
    });
}

/// The set of tools that a client wants; `None`: it has gone or was refused.
async fn hello(socket: &Socket, engine: &Rc<Engine>) -> Option<Set> {
    let packet = socket.receive().await?;
    let Some(FromRelay::Hello(tools)) = packet::from_relay(&packet) else { return None };
    let refused = match tools.map(|tools| engine.set(&tools)) {
        Ok(Some(set)) => return socket.send(&packet::welcome()).await.ok().map(|()| set),
        Ok(None) => "this server has no such set of tools",
        Err(why) => why,
    };
    let _ = socket.send(&packet::refusal(refused)).await;
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_closes_a_server_that_lasts_while_it_is_used() {
        let clients = Clients::new(Lasts::WhileUsed);
        assert!(clients.enter() && clients.enter() && !clients.leave());
        assert!(clients.enter() && !clients.leave() && clients.leave());
        assert!(clients.have_gone() && !clients.enter(), "nobody is let in any more");
    }

    #[test]
    fn a_server_that_was_started_for_all_is_closed_by_nobody_and_takes_so_many() {
        let clients = Clients::new(Lasts::UntilStopped);
        assert!((0..CLIENTS_MAX).all(|_| clients.enter()) && !clients.enter());
        assert!((0..CLIENTS_MAX).all(|_| !clients.leave()) && clients.enter() && !clients.have_gone());
    }
}
