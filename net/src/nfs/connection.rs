//! One client's connection: the next record of it, and replies to it, both without waiting.
//!
//! ```text
//!  epoll (one shot) ─► a worker reads one record, holds the connection, answers, reads on ─► watched again
//!                           └─► lets it go first where more is here, where the call may wait, or after a moment
//!                               (guard.rs): another worker reads the next one meanwhile
//! ```
//! A client that does not take its replies is not read from until it has.

use super::pages::Pages;
use crate::sys::socket::set_receive_low_water;
use crate::wire::rpc_record::{Assembler, Record};
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
/// Of a large record, a worker is woken for as much as this at once.
const LOW_WATER_BYTES_MAX: usize = 256 << 10;
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
    /// Milliseconds after `born`, and one more, at which a worker began to hold it; 0: none does, epoll watches it.
    held_ms: AtomicU64,
    born: Instant,
}

#[derive(Default)]
struct Input {
    assembler: Assembler,
    ahead: Vec<u8>,
    /// As the socket has it; 0: never set, which is 1.
    low_water_bytes: usize,
}

impl Input {
    /// Wakes nobody before so much is here.
    fn wait_for(&mut self, stream: &TcpStream, bytes: usize) {
        if self.low_water_bytes.max(1) != bytes && set_receive_low_water(stream, bytes).is_ok() {
            self.low_water_bytes = bytes;
        }
    }
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
            held_ms: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// Begins to watch it.
    pub(super) fn watch(&self, epoll: &OwnedFd) -> rustix::io::Result<()> {
        epoll::add(epoll, &self.stream, EventData::new_u64(self.number), EventFlags::IN | EventFlags::ONESHOT)
    }

    /// As when a worker has taken it up.
    #[cfg(test)]
    pub(super) fn take_up(&self, epoll: &OwnedFd) {
        epoll::modify(epoll, &self.stream, EventData::new_u64(self.number), EventFlags::ONESHOT).unwrap();
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

    /// Reads up to the end of one record, which is put into `record`; its memory is used meanwhile. `ahead` is room for
    /// [`AHEAD_BYTES_MAX`] bytes that are looked at and left.
    pub(super) fn read(&self, record: &mut Record, ahead: &mut [u8]) -> Read {
        let mut input = lock(&self.input);
        input.assembler.lend(record);
        let mut left = std::mem::take(&mut input.ahead);
        let mut taken = 0;
        let read = loop {
            match input.assembler.feed(&left[taken..]) {
                Ok(bytes) => taken += bytes,
                Err(_) => break Read::End,
            }
            if input.assembler.take(record) {
                input.wait_for(&self.stream, 1);
                break Read::Record;
            }
            // All that was read ahead is in the record now.
            left.clear();
            taken = 0;
            match self.receive(&mut input.assembler, ahead, &mut left) {
                Ok(0) => break Read::End,
                Ok(_) => self.moved(),
                Err(Errno::AGAIN) => {
                    let missing = input.assembler.missing();
                    let bytes = if missing > AHEAD_BYTES_MAX { missing.min(LOW_WATER_BYTES_MAX) } else { 1 };
                    input.wait_for(&self.stream, bytes);
                    break Read::Later;
                }
                Err(Errno::INTR) => {}
                Err(_) => break Read::End,
            }
        };
        left.drain(..taken);
        self.has_more.store(!left.is_empty(), Ordering::Release);
        if !left.is_empty() {
            input.ahead = left;
        }
        self.waits.store(input.assembler.is_partial(), Ordering::Relaxed);
        read
    }

    /// Receives once: much directly into the record, little by way of `ahead`; what is not the record's goes to `left`.
    fn receive(&self, assembler: &mut Assembler, ahead: &mut [u8], left: &mut Vec<u8>) -> Result<usize, Errno> {
        if assembler.missing() > AHEAD_BYTES_MAX {
            let (_, bytes) = recv(&self.stream, assembler.room(), RecvFlags::DONTWAIT)?;
            assembler.filled(bytes);
            return Ok(bytes);
        }
        let (_, bytes) = recv(&self.stream, &mut *ahead, RecvFlags::DONTWAIT)?;
        let fed = assembler.feed(&ahead[..bytes]).map_err(|_| Errno::BADMSG)?;
        left.extend_from_slice(&ahead[fed..bytes]);
        Ok(bytes)
    }

    /// More of what the client has sent is here already.
    pub(super) fn has_more(&self) -> bool {
        self.has_more.load(Ordering::Acquire)
    }

    /// The worker that has read a record goes on reading when it has answered; nobody watches meanwhile.
    pub(super) fn hold(&self) {
        self.held_ms.store(self.age_ms() + 1, Ordering::SeqCst);
    }

    /// Ends holding it; false where that was ended already.
    pub(super) fn let_go(&self) -> bool {
        self.held_ms.swap(0, Ordering::SeqCst) != 0
    }

    /// Since when it is held, if it is.
    pub(super) fn held_for(&self) -> Option<(Duration, u64)> {
        let held_ms = self.held_ms.load(Ordering::SeqCst);
        (held_ms != 0).then(|| (Duration::from_millis((self.age_ms() + 1).saturating_sub(held_ms)), held_ms))
    }

    /// Ends it for a worker that has held it since `held_ms`.
    pub(super) fn take_from(&self, held_ms: u64) -> bool {
        self.held_ms.compare_exchange(held_ms, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Sends a reply, or as much of it as there is room for; the rest goes when there is, and false is returned. The
    /// memory comes back where all was sent.
    pub(super) fn reply(&self, epoll: &OwnedFd, reply: &mut Vec<u8>, pages: &mut Pages) -> rustix::io::Result<bool> {
        let mut output = lock(&self.output);
        let mut sent = 0;
        if pages.bytes() > 0 {
            sent = self.reply_with(reply, pages, output.replies.is_empty())?;
        } else if output.replies.is_empty() {
            sent = self.send(reply, SendFlags::empty())?;
        }
        if sent < reply.len() {
            if output.replies.is_empty() {
                output.sent = sent;
            }
            output.replies.push_back(std::mem::take(reply));
            self.waits.store(true, Ordering::Relaxed);
            self.watch_for(epoll, &output);
            return Ok(false);
        }
        Ok(true)
    }

    /// The same for a reply with pages in between: says how much was sent of what `reply` is afterwards. What finds no
    /// room is put into memory there.
    fn reply_with(&self, reply: &mut Vec<u8>, pages: &mut Pages, may_send: bool) -> rustix::io::Result<usize> {
        let behind = reply.split_off(pages.at());
        let mut sent = if may_send { self.send(reply, SendFlags::MORE)? } else { 0 };
        if sent == reply.len() {
            loop {
                match pages.send(&self.stream, !behind.is_empty()) {
                    Ok(0) => break,
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(Errno::AGAIN) => break,
                    Err(errno) => return Err(errno),
                }
            }
            self.moved();
            // What is left begins here.
            reply.clear();
            sent = 0;
        }
        if pages.bytes() > 0 {
            pages.pour(reply)?;
            reply.extend_from_slice(&behind);
            return Ok(sent);
        }
        reply.extend_from_slice(&behind);
        Ok(sent + self.send(&reply[sent..], SendFlags::empty())?)
    }

    /// Sends what is left of replies; true when nothing is.
    pub(super) fn flush(&self) -> rustix::io::Result<bool> {
        let mut output = lock(&self.output);
        while let Some(first) = output.replies.front() {
            let (length, already) = (first.len(), output.sent);
            output.sent += self.send(&first[already..], SendFlags::empty())?;
            if output.sent < length {
                return Ok(false);
            }
            output.sent = 0;
            output.replies.pop_front();
        }
        Ok(true)
    }

    fn send(&self, bytes: &[u8], flags: SendFlags) -> rustix::io::Result<usize> {
        let mut sent = 0;
        while sent < bytes.len() {
            match send(&self.stream, &bytes[sent..], flags | SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
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
        self.moved_ms.store(self.age_ms(), Ordering::Relaxed);
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
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
