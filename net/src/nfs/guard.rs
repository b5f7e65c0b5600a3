//! Does a call take so long that others of its connection should not wait for it?
//!
//! A worker holds its connection while it answers a short call, because it reads the next one sooner than a thread that
//! must be woken would. A call that was thought short may wait for a disk all the same: after [`MOMENT`] its connection
//! is watched again, and other workers go on with it. At rest this thread sleeps.

use super::Shared;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// A call that takes longer does not hold up others.
const MOMENT: Duration = Duration::from_millis(10);
/// Looks without any call before it sleeps until there is one.
const QUIET_LOOKS_MAX: u32 = 50;

#[derive(Default)]
pub(super) struct Guard {
    awake: AtomicBool,
    /// There was a call since the last look.
    used: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Guard {
    /// A connection is held from now on.
    pub(super) fn watch(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        // Read behind the mark of the connection, as the guard reads that mark behind its own.
        if !self.awake.load(Ordering::SeqCst) && !self.awake.swap(true, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes it: for a call, or because the server stops.
    pub(super) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// The thread's life: it ends when the server stops.
pub(super) fn run(shared: &Shared) {
    let guard = &shared.guard;
    guard.thread.get_or_init(thread::current);
    let mut quiet = 0;
    while !shared.stopping.load(Ordering::Acquire) {
        if quiet < QUIET_LOOKS_MAX {
            thread::sleep(MOMENT);
            quiet = if guard.used.swap(false, Ordering::Relaxed) { 0 } else { quiet + 1 };
            shared.let_others_on();
            continue;
        }
        guard.awake.store(false, Ordering::SeqCst);
        if !shared.is_any_held() {
            thread::park();
        }
        guard.awake.store(true, Ordering::SeqCst);
        quiet = 0;
    }
}

impl Shared {
    fn let_others_on(&self) {
        for connection in self.connections().values() {
            if let Some((held, since_ms)) = connection.held_for()
                && held >= MOMENT
                && connection.take_from(since_ms)
            {
                connection.watch_again(&self.epoll);
            }
        }
    }

    fn is_any_held(&self) -> bool {
        self.connections().values().any(|connection| connection.held_for().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{fuzz, start};
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;
    use workspace_core::config::Config;

    /// Whatever one worker does with a call, the next call of the connection is answered.
    #[test]
    fn a_call_that_takes_long_does_not_hold_up_the_next() {
        let (exports, _, top) = fuzz::tree("guard");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let allow = Config::from_env([("RUST_LOG".into(), "warn".into())]).unwrap().nfs_allow;
        let server = start(listener, allow, exports, 1).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let null = fuzz::record(100_003, 0, &[]);
        let call = [&(0x8000_0000 | null.len() as u32).to_be_bytes(), &null[..]].concat();
        let ask = |client: &mut TcpStream| {
            client.write_all(&call).unwrap();
            let mut reply = [0; 28];
            client.read_exact(&mut reply).unwrap();
            assert_eq!(reply[4..8], null[..4]);
        };
        ask(&mut client);
        // As a worker that reads a call, and does not come back: also long after the guard went to sleep.
        for rest in [Duration::ZERO, super::MOMENT * (super::QUIET_LOOKS_MAX + 20)] {
            std::thread::sleep(rest);
            let connection = server.shared.connections().values().next().unwrap().clone();
            connection.take_up(&server.shared.epoll);
            connection.hold();
            server.shared.guard.watch();
            ask(&mut client);
        }
        server.stop();
        std::fs::remove_dir_all(top).unwrap();
    }
}
