//! What is kept of a started command's output, between the task that reads its pipes and those that attach?
//!
//! One ring and one pace. The task that reads waits here for room, and is woken when a reader was sent something, comes
//! or leaves.

use super::output::Stream;
use super::pace::{Pace, Room};
use super::ring::{BLOCK_BYTES_MIN, Ring, RingsTotal};
use super::source::{Available, Gone, Sink};
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use workspace_proto::OUTPUT_CHUNK_BYTES_MAX;

/// The output of one command, as long as somebody has use for it.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) ring: RefCell<Ring>,
    pub(crate) pace: RefCell<Pace>,
    /// The task that reads the pipes.
    pump: RefCell<Option<Waker>>,
    /// It waits for room.
    is_held: Cell<bool>,
}

impl Kept {
    /// Nothing yet.
    pub(crate) fn new(bytes_max: usize, hold: Duration, total: &Rc<RingsTotal>) -> Kept {
        Kept {
            ring: RefCell::new(Ring::new(bytes_max, total)),
            pace: RefCell::new(Pace::new(hold)),
            pump: RefCell::new(None),
            is_held: Cell::new(false),
        }
    }

    /// From which cursor to which it is kept.
    pub(crate) fn range(&self) -> (u64, u64) {
        let ring = self.ring.borrow();
        (ring.kept_from(), ring.end())
    }

    /// The pace has changed: wakes the pump if it waits for that.
    pub(crate) fn pace_changed(&self) {
        if self.is_held.take() {
            self.wake_pump();
        }
    }

    /// There is something else for the pump to do.
    pub(crate) fn wake_pump(&self) {
        if let Some(pump) = &*self.pump.borrow() {
            pump.wake_by_ref();
        }
    }

    /// This task is the pump.
    pub(crate) fn set_pump(&self, cx: &Context<'_>) {
        let mut pump = self.pump.borrow_mut();
        if !pump.as_ref().is_some_and(|pump| pump.will_wake(cx.waker())) {
            *pump = Some(cx.waker().clone());
        }
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.ring.borrow_mut().close();
        self.pump.take();
    }
}

/// The pump's way into the ring.
pub(crate) struct IntoRing<'a> {
    pub(crate) kept: &'a Kept,
    /// Until when it is held back at most.
    pub(crate) hold: &'a mut Option<Pin<Box<Sleep>>>,
    /// Something has come.
    pub(crate) has_news: bool,
}

impl Sink for IntoRing<'_> {
    fn poll_buffer(&mut self, cx: &mut Context<'_>, available: Available) -> Poll<Result<Vec<u8>, Gone>> {
        let most = available.bytes.min(OUTPUT_CHUNK_BYTES_MAX);
        if available.owed {
            return Poll::Ready(Ok(Vec::with_capacity(most)));
        }
        loop {
            let room = self.kept.pace.borrow_mut().room(&self.kept.ring.borrow(), Instant::now().into_std());
            self.kept.is_held.set(matches!(room, Room::Wait(_)));
            match room {
                Room::Bytes(room) => return Poll::Ready(Ok(Vec::with_capacity(most.min(room)))),
                Room::Wait(None) => return Poll::Pending,
                Room::Wait(Some(until)) => {
                    let until = Instant::from_std(until);
                    let hold = self.hold.get_or_insert_with(|| Box::pin(sleep_until(until)));
                    if hold.deadline() != until {
                        hold.as_mut().reset(until);
                    }
                    ready!(hold.as_mut().poll(cx));
                }
            }
        }
    }

    fn put(&mut self, stream: Stream, mut buffer: Vec<u8>, length: usize) -> Result<(), Gone> {
        if length == 0 {
            return Ok(());
        }
        let mut ring = self.kept.ring.borrow_mut();
        if length < BLOCK_BYTES_MIN {
            ring.append_copy(stream, &buffer);
        } else {
            buffer.shrink_to_fit();
            ring.append(stream, Bytes::from(buffer));
        }
        self.has_news = true;
        Ok(())
    }
}
