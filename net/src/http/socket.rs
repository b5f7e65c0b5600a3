//! How bytes come and go: wait for readiness by the ring, then one direct system call.
//!
//! No buffer is lent to the kernel across a wait, so any wait may be dropped and nothing is lost; an idle connection
//! holds no buffer at all. Reads land in the core's scratch page and are copied: a head is some hundred bytes.
//! One timer a connection, moved only when it would fire too late.

use super::Deadlines;
use super::peers::Peer;
use crate::sys::socket::set_receive_low_water;
use bytes::{Buf, Bytes, BytesMut};
use monoio::time::{Instant, Sleep, sleep, sleep_until};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use workspace_core::files::Pages;

const SCRATCH_BYTES: usize = 64 << 10;
/// Of requests that are read while an earlier one is under way.
const AHEAD_BYTES_MAX: usize = 64 << 10;
/// An output buffer above this is given back after use.
const OUT_BYTES_KEPT: usize = 64 << 10;
const LINGER_BYTES_MAX: usize = 1 << 20;
const LOW_WATER_BYTES: usize = 512 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Why no more bytes come or go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gone {
    /// End of stream, or reset.
    Left,
    /// The deadline passed.
    Late,
}

/// A connection's bytes.
pub(crate) struct Wire<'a> {
    pub(super) peer: Rc<Peer>,
    /// Arrived, not yet used.
    pub(crate) input: BytesMut,
    /// Answered, not yet sent.
    pub(crate) out: Vec<u8>,
    timer: Pin<Box<Sleep>>,
    deadlines: &'a Deadlines,
    /// What is read and dropped behind the last answer.
    pub(super) linger_bytes_max: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(peer: Rc<Peer>, deadlines: &'a Deadlines) -> Wire<'a> {
        let timer = Box::pin(sleep_until(Instant::now() + deadlines.idle));
        Wire { peer, input: BytesMut::new(), out: Vec::new(), timer, deadlines, linger_bytes_max: LINGER_BYTES_MAX }
    }

    /// Waits for bytes and appends them to the input.
    pub(crate) async fn fill(&mut self, deadline: Instant) -> Result<(), Gone> {
        loop {
            until(&mut self.timer, deadline, self.peer.stream.readable(false))
                .await
                .ok_or(Gone::Late)?
                .map_err(|_| Gone::Left)?;
            match receive(&self.peer, &mut self.input) {
                Ok(0) => return Err(Gone::Left),
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN | Errno::INTR) => {}
                // A reset after idling is how many clients say goodbye.
                Err(_) => return Err(Gone::Left),
            }
        }
    }

    /// Waits for bytes, then takes what is there as pages, up to `bytes_max`, past the input.
    pub(super) async fn receive_pages(
        &mut self,
        pages: &mut Pages,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<(), Gone> {
        let mut late = false;
        while pages.bytes() < bytes_max {
            let left = bytes_max - pages.bytes();
            match pages.fill(crate::sys::borrow::borrow(&self.peer.stream), left) {
                Ok(0) => return Err(Gone::Left),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if pages.bytes() > 0 => break,
                Err(Errno::AGAIN) if late => return Err(Gone::Late),
                Err(Errno::AGAIN) => late = !self.many(bytes_max, deadline).await?,
                Err(_) => return Err(Gone::Left),
            }
        }
        Ok(())
    }

    /// The same into memory.
    pub(super) async fn receive(&mut self, bytes_max: usize, deadline: Instant) -> Result<Vec<u8>, Gone> {
        let (mut piece, mut late) = (Vec::with_capacity(bytes_max), false);
        while piece.len() < bytes_max {
            let room = rustix::buffer::spare_capacity(&mut piece);
            match recv(crate::sys::borrow::borrow(&self.peer.stream), room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Gone::Left),
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !piece.is_empty() => break,
                Err(Errno::AGAIN) if late => return Err(Gone::Late),
                Err(Errno::AGAIN) => late = !self.many(bytes_max, deadline).await?,
                Err(_) => return Err(Gone::Left),
            }
        }
        // An allocator may give more room than was asked for.
        if let Some(next @ [_, ..]) = piece.get(bytes_max..) {
            self.input.extend_from_slice(next);
            piece.truncate(bytes_max);
        }
        Ok(piece)
    }

    /// Waits until many of so many bytes are here; false at the deadline, when some may be.
    async fn many(&mut self, bytes: usize, deadline: Instant) -> Result<bool, Gone> {
        let stream = crate::sys::borrow::borrow(&self.peer.stream);
        // A client that fills the socket faster than it is emptied would else wake us for every packet.
        let _ = set_receive_low_water(stream, bytes.min(LOW_WATER_BYTES));
        let ready = until(&mut self.timer, deadline, self.peer.stream.readable(false)).await;
        let _ = set_receive_low_water(stream, 1);
        ready.map_or(Ok(false), |ready| ready.map(|()| true).map_err(|_| Gone::Left))
    }

    /// Appends what has arrived, without a wait; false where nothing has.
    pub(crate) fn fill_at_once(&mut self) -> Result<bool, Gone> {
        match receive(&self.peer, &mut self.input) {
            Ok(0) => Err(Gone::Left),
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::INTR) => Ok(false),
            Err(_) => Err(Gone::Left),
        }
    }

    /// Appends what is there already; false where that is nothing.
    pub(crate) fn fill_now(&mut self) -> bool {
        matches!(receive(&self.peer, &mut self.input), Ok(1..))
    }

    /// Sends all that was answered.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let sent = self.send(&out).await;
        if out.capacity() <= OUT_BYTES_KEPT {
            self.out = out;
            self.out.clear();
        }
        sent
    }

    /// Sends all that was answered, then a large body without copying it.
    pub(super) async fn flush_with(&mut self, body: &Bytes) -> Result<(), Gone> {
        self.flush().await?;
        self.send(body).await
    }

    async fn send(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            match send(crate::sys::borrow::borrow(&self.peer.stream), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            {
                Ok(sent) => bytes.advance(sent),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let deadline = Instant::now() + self.deadlines.write;
                    let writable = self.peer.stream.writable(false);
                    until(&mut self.timer, deadline, writable).await.ok_or(Gone::Late)?.map_err(|_| Gone::Left)?;
                }
                Err(_) => return Err(Gone::Left),
            }
        }
        Ok(())
    }

    /// Gives back what an idle connection does not need.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        self.out = Vec::new();
    }

    /// Returns when the client has gone. Requests that it sends meanwhile are kept in the input.
    pub(crate) async fn left(&mut self) {
        loop {
            if self.input.len() >= AHEAD_BYTES_MAX {
                // Readiness to read would be there all the time, so the hang-up is asked for.
                sleep(Duration::from_secs(1)).await;
                if hung_up(&self.peer) {
                    return;
                }
                continue;
            }
            if self.peer.stream.readable(false).await.is_err() {
                return;
            }
            match receive(&self.peer, &mut self.input) {
                Ok(0) => return,
                Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Ends the connection so that the last answer arrives: a close with unread bytes would be a reset, which makes
    /// the peer forget what it has not read.
    pub(super) async fn linger(mut self) {
        if self.flush().await.is_err() {
            return;
        }
        let _ = shutdown(crate::sys::borrow::borrow(&self.peer.stream), Shutdown::Write);
        let deadline = Instant::now() + self.deadlines.linger;
        let mut dropped = 0;
        while dropped < self.linger_bytes_max && self.fill(deadline).await.is_ok() {
            dropped += self.input.len();
            self.input.clear();
        }
    }
}

/// The output of `future`, or `None` after `deadline`.
async fn until<F: Future>(timer: &mut Pin<Box<Sleep>>, deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(None);
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    })
    .await
}

fn receive(peer: &Peer, input: &mut BytesMut) -> Result<usize, Errno> {
    SCRATCH.with_borrow_mut(|scratch| {
        let (received, _) = recv(crate::sys::borrow::borrow(&peer.stream), &mut scratch[..], RecvFlags::DONTWAIT)?;
        input.extend_from_slice(&scratch[..received]);
        Ok(received)
    })
}

fn hung_up(peer: &Peer) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(crate::sys::borrow::borrow(&peer.stream), PollFlags::RDHUP)];
    let asked = poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }));
    asked.is_err() || fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}
