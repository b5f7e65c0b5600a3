//! The threads that read calls, carry them out and answer them.
//!
//! Leader and followers: who finds a connection ready reads a record, answers it, and reads on until nothing more is
//! there. Meanwhile nobody watches the connection: a client that is quick, or that was given this thread's core, finds
//! the same thread again, and no other has to be woken, which on a virtual machine can cost more than the call. Where
//! more calls are here already, or one may wait or takes more than a moment, others watch it meanwhile.

use super::Shared;
use super::connection::{AHEAD_BYTES_MAX, Connection, Read};
use super::dispatch::{Outcome, Turn};
use super::pages::Pages;
use crate::wire::rpc_record::Record;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::time::Timespec;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Memory for records and replies that a resting thread keeps.
const KEPT_BYTES_MAX: usize = 64 << 10;
/// After this much rest a thread gives large memory and its pipe back.
const REST: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Calls of one connection that a thread answers before it looks for others.
const CALLS_A_TURN_MAX: usize = 64;

/// What a thread has at hand.
struct Memory {
    record: Record,
    reply: Vec<u8>,
    ahead: Box<[u8]>,
    pages: Pages,
}

/// A thread's life: it ends when the server stops.
pub(super) fn run(shared: &Shared) {
    let ahead = vec![0; AHEAD_BYTES_MAX].into_boxed_slice();
    let mut memory = Memory { record: Record::default(), reply: Vec::new(), ahead, pages: Pages::default() };
    while !shared.stopping.load(Ordering::Acquire) {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(1);
        let large = memory.record.capacity().max(memory.reply.capacity()) > KEPT_BYTES_MAX || memory.pages.has_pipe();
        match epoll::wait(&shared.epoll, rustix::buffer::spare_capacity(&mut events), large.then_some(&REST)) {
            Ok(0) => {
                (memory.record, memory.reply) = (Record::default(), Vec::new());
                memory.pages.spoil();
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::error!(%error, "epoll");
                return;
            }
        }
        let Some(number) = events.first().map(|event| event.data.u64()) else { continue };
        let Some(connection) = shared.connection(number) else { continue };
        let turn = AssertUnwindSafe(|| turn(shared, &connection, &mut memory));
        match catch_unwind(turn) {
            Ok(Ended::GoOn) => {}
            Ok(Ended::End) => shared.remove(number),
            Err(_) => {
                tracing::error!("an NFS call ended by a panic");
                connection.cut();
                shared.remove(number);
            }
        }
    }
}

enum Ended {
    GoOn,
    End,
}

fn turn(shared: &Shared, connection: &Arc<Connection>, memory: &mut Memory) -> Ended {
    for _ in 0..CALLS_A_TURN_MAX {
        match connection.flush() {
            Ok(true) => {}
            Ok(false) => break,
            Err(_) => return Ended::End,
        }
        match connection.read(&mut memory.record, &mut memory.ahead) {
            Read::Record => {}
            Read::Later => break,
            Read::End => return Ended::End,
        }
        match answer(shared, connection, memory) {
            Answered::ReadOn => {}
            Answered::OthersDo => return Ended::GoOn,
            Answered::End => return Ended::End,
        }
    }
    connection.watch_again(&shared.epoll);
    Ended::GoOn
}

enum Answered {
    ReadOn,
    /// The connection is watched already.
    OthersDo,
    End,
}

fn answer(shared: &Shared, connection: &Connection, memory: &mut Memory) -> Answered {
    connection.hold();
    shared.guard.watch();
    let let_others = || {
        if connection.let_go() {
            connection.watch_again(&shared.epoll);
        }
    };
    if connection.has_more() {
        let_others();
    }
    let Memory { record, reply, pages, .. } = memory;
    let outcome = shared.dispatch.call(connection.peer, record.bytes(), reply, &mut Turn { waits: &let_others, pages });
    let all_was_sent = match outcome {
        Outcome::Reply => connection.reply(&shared.epoll, reply, pages),
        Outcome::Silence => Ok(true),
        Outcome::End => {
            connection.cut();
            return Answered::End;
        }
    };
    // What was not sent waits for room, and is watched.
    match (connection.let_go(), all_was_sent) {
        (true, Ok(true)) => Answered::ReadOn,
        (_, Ok(_)) => Answered::OthersDo,
        (_, Err(_)) => Answered::End,
    }
}
