//! The threads that read calls, carry them out and answer them.
//!
//! Leader and followers: who finds a connection ready reads one record, lets the others watch the connection again,
//! and answers what it read itself. One call after another costs no change of threads; a slow one (fsync) holds up its
//! own thread alone.

use super::Shared;
use super::connection::{Connection, Read};
use super::dispatch::Outcome;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Memory for records and replies that a resting thread keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// After this much rest a thread gives large memory back.
const REST: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// A thread's life: it ends when the server stops.
pub(super) fn run(shared: &Shared) {
    let (mut record, mut reply) = (Vec::new(), Vec::new());
    while !shared.stopping.load(Ordering::Acquire) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1);
        let large = record.capacity().max(reply.capacity()) > KEPT_BYTES_MAX;
        match epoll::wait(&shared.epoll, rustix::buffer::spare_capacity(&mut events), large.then_some(&REST)) {
            Ok(0) => (record, reply) = (Vec::new(), Vec::new()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "epoll");
                return;
            }
        }
        let Some(number) = events.first().map(|event| event.data.u64()) else { continue };
        let Some(connection) = shared.connection(number) else { continue };
        let turn = AssertUnwindSafe(|| turn(shared, &connection, &mut record, &mut reply));
        match catch_unwind(turn) {
            Ok(Turn::GoOn) => {}
            Ok(Turn::End) => shared.remove(number),
            Err(_) => {
                tracing::error!("an NFS call ended by a panic");
                connection.cut();
                shared.remove(number);
            }
        }
    }
}

enum Turn {
    GoOn,
    End,
}

fn turn(shared: &Shared, connection: &Arc<Connection>, record: &mut Vec<u8>, reply: &mut Vec<u8>) -> Turn {
    match connection.flush() {
        Ok(true) => {}
        Ok(false) => {
            connection.watch_again(&shared.epoll);
            return Turn::GoOn;
        }
        Err(_) => return Turn::End,
    }
    match connection.read(record) {
        Read::Record => connection.watch_again(&shared.epoll),
        Read::Later => {
            connection.watch_again(&shared.epoll);
            return Turn::GoOn;
        }
        Read::End => return Turn::End,
    }
    match shared.dispatch.call(connection.peer, record, reply) {
        Outcome::Reply => match connection.reply(&shared.epoll, reply) {
            Ok(()) => Turn::GoOn,
            Err(_) => Turn::End,
        },
        Outcome::Silence => Turn::GoOn,
        Outcome::End => {
            connection.cut();
            Turn::End
        }
    }
}
