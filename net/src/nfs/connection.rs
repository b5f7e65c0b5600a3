//! One client's connection: the next record of it, and replies to it, both without waiting.
//!
//! ```text
//!  epoll (one shot) ─► a worker reads one record ─► watched again ─► the worker answers
//!                                                      └─► another worker reads the next one meanwhile
//! ```
//! A client that does not take its replies is not read from until it has.

use crate::wire::rpc_record::Assembler;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::collections::VecDeque;
use std::net::{IpAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Bytes that are read at once where a record begins; also the most that is held beyond a record.
pub(super) const AHEAD_BYTES_MAX: usize = 16 << 10;
/// A record must be whole, and replies taken, within this time.
const STUCK_MAX: Duration = Duration::from_secs(60);
/// A client that asks nothing is dropped; kernels connect again by themselves.
const IDLE_MAX: Duration = Duration::from_secs(20 * 60);

/// A connection.
pub(super) struct Connection {
    /// Its name at the epoll.
    pub(super) number: u64,
    pub(super) peer: IpAddr,
    stream: TcpStream,
    input: Mutex<Input>,
    output: Mutex<Output>,
    /// Bytes of a next record lie in `input` already.
    has_more: AtomicBool,
    /// Milliseconds after `born` at which something last arrived or left.
    moved_ms: AtomicU64,
    /// Something has begun that must go on: half a record, or replies that are not taken.
    waits: AtomicBool,
    born: Instant,
}

#[derive(Default)]
struct Input {
    assembler: Assembler,
    ahead: Vec<u8>,
}

#[derive(Default)]
struct Output {
    /// Replies, and how much of the first is sent.
    replies: VecDeque<Vec<u8>>,
    sent: usize,
}

/// What reading gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// A record.
    Record,
    /// Not yet.
    Later,
    /// The connection has ended, or must.
    End,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Connection {
    pub(super) fn new(number: u64, peer: IpAddr, stream: TcpStream) -> Connection {
        Connection {
            number,
            peer,
            stream,
            input: Mutex::default(),
            output: Mutex::default(),
            has_more: AtomicBool::new(false),
            moved_ms: AtomicU64::new(0),
            waits: AtomicBool::new(false),
            born: Instant::now(),
        }
    }

    /// Begins to watch it.
    pub(super) fn watch(&self, epoll: &OwnedFd) -> rustix::io::Result<()> {
        epoll::add(epoll, &self.stream, EventData::new_u64(self.number), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// Watches for what it waits for: room for replies if some are left, else bytes.
    pub(super) fn watch_again(&self, epoll: &OwnedFd) {
        self.watch_for(epoll, &lock(&self.output));
    }

    fn watch_for(&self, epoll: &OwnedFd, output: &Output) {
        let interest = if !output.replies.is_empty() {
            EventFlags::OUT
        } else if self.has_more.load(Ordering::Acquire) {
            // What it waits for is here: being writable, it is ready at once.
            EventFlags::IN | EventFlags::OUT
        } else {
            EventFlags::IN
        };
        // It fails where the connection has been dropped by another thread.
        let _ = epoll::modify(epoll, &self.stream, EventData::new_u64(self.number), interest | EventFlags::ONESHOT);
    }

    /// Reads up to the end of one record, which is put into `record`; its memory is used meanwhile.
    pub(super) fn read(&self, record: &mut Vec<u8>) -> Read {
        let mut input = lock(&self.input);
        let Input { assembler, ahead } = &mut *input;
        assembler.lend(record);
        let mut taken = 0;
        let read = loop {
            match assembler.feed(&ahead[taken..]) {
                Ok(bytes) => taken += bytes,
                Err(_) => break Read::End,
            }
            if assembler.take(record) {
                break Read::Record;
            }
            // All that was read ahead is in the record now.
            let received = if assembler.missing() > AHEAD_BYTES_MAX {
                let room = assembler.room();
                let offered = room.len();
                let received = recv(&self.stream, room, RecvFlags::DONTWAIT).map(|(_, bytes)| bytes);
                assembler.filled(offered, received.unwrap_or(0));
                received
            } else {
                taken = 0;
                ahead.resize(AHEAD_BYTES_MAX, 0);
                let received = recv(&self.stream, &mut ahead[..], RecvFlags::DONTWAIT).map(|(_, bytes)| bytes);
                ahead.truncate(received.unwrap_or(0));
                received
            };
            match received {
                Ok(0) => break Read::End,
                Ok(_) => self.moved(),
                Err(Errno::AGAIN) => break Read::Later,
                Err(Errno::INTR) => {}
                Err(_) => break Read::End,
            }
        };
        ahead.drain(..taken);
        if ahead.is_empty() {
            *ahead = Vec::new();
        }
        self.has_more.store(!ahead.is_empty(), Ordering::Release);
        self.waits.store(assembler.is_partial(), Ordering::Relaxed);
        read
    }

    /// Sends a reply, or as much of it as there is room for; the rest goes when there is. The memory comes back where
    /// all was sent.
    pub(super) fn reply(&self, epoll: &OwnedFd, reply: &mut Vec<u8>) -> rustix::io::Result<()> {
        let mut output = lock(&self.output);
        let sent = if output.replies.is_empty() { self.send(reply)? } else { 0 };
        if sent < reply.len() {
            if output.replies.is_empty() {
                output.sent = sent;
            }
            output.replies.push_back(std::mem::take(reply));
            self.waits.store(true, Ordering::Relaxed);
            self.watch_for(epoll, &output);
        }
        Ok(())
    }

    /// Sends what is left of replies; true when nothing is.
    pub(super) fn flush(&self) -> rustix::io::Result<bool> {
        let mut output = lock(&self.output);
        while let Some(first) = output.replies.front() {
            let (length, already) = (first.len(), output.sent);
            output.sent += self.send(&first[already..])?;
            if output.sent < length {
                return Ok(false);
            }
            output.sent = 0;
            output.replies.pop_front();
        }
        Ok(true)
    }

    fn send(&self, bytes: &[u8]) -> rustix::io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.stream, &bytes[sent..], SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(more) => sent += more,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        self.moved();
        Ok(sent)
    }

    fn moved(&self) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved_ms.store(now, Ordering::Relaxed);
    }

    /// Whether nothing has moved for longer than a client may rest.
    pub(super) fn is_overdue(&self) -> bool {
        let quiet = self.born.elapsed().saturating_sub(Duration::from_millis(self.moved_ms.load(Ordering::Relaxed)));
        quiet > if self.waits.load(Ordering::Relaxed) { STUCK_MAX } else { IDLE_MAX }
    }

    /// Ends it, whoever works on it.
    pub(super) fn cut(&self) {
        // The peer may be gone already, which is as good.
        let _ = shutdown(&self.stream, Shutdown::Both);
    }
}
