//! How does the output of Run reach its caller? From the pipes into the h2 stream, as fast as its window allows.
//!
//! ```text
//! pipe readable ─► window? ─no─► left in the pipe: the command waits, nothing else does
//!                    │ yes
//!                    ▼
//!                  read ─► RunEvent ─► h2      beyond the budget: read and dropped, no window needed
//! ```
//! No byte is read that can't be sent at once, so nothing is held for a caller that stops.

use super::course::Course;
use super::grpc::{self, poll_queue, poll_window};
use super::output::{self, Budget, HEADER_BYTES, Stream};
use super::run::encode;
use super::source::{Available, Gone, Sink};
use bytes::Bytes;
use h2::SendStream;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use workspace_proto::agent::run_event::Event;

const DROP_BYTES: usize = 16 << 10;

/// How driving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// All was sent.
    Done,
    /// The caller has gone.
    Gone,
}

/// Who watches a running command.
pub(crate) struct Drive {
    queue: VecDeque<Bytes>,
    out: ToCaller,
    exit_queued: bool,
}

struct ToCaller {
    stream: SendStream<Bytes>,
    budget: Budget,
    carried_bytes: u64,
}

impl Drive {
    /// Sends to `stream`, of output as much as `budget` allows.
    pub(crate) fn new(stream: SendStream<Bytes>, budget: Budget) -> Drive {
        let out = ToCaller { stream, budget, carried_bytes: 0 };
        Drive { queue: VecDeque::new(), out, exit_queued: false }
    }

    /// To be sent before anything that is read from now on.
    pub(crate) fn queue(&mut self, message: Bytes) {
        self.queue.push_back(message);
    }

    /// Drives to the end.
    pub(crate) async fn run(mut self, course: &mut Course) -> Outcome {
        let result = poll_fn(|cx| self.poll(cx, course)).await;
        course.agent.carried(self.out.carried_bytes);
        match result {
            Ok(()) => {
                grpc::finish(&mut self.out.stream);
                Outcome::Done
            }
            Err(Gone) => Outcome::Gone,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, course: &mut Course) -> Poll<Result<(), Gone>> {
        if self.out.stream.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        if course.poll_events(cx).is_some() {
            course.command.set_end(course.exited(self.out.budget.truncated()));
            course.agent.table.borrow_mut().ended(&course.command);
        }
        ready!(poll_queue(&mut self.out.stream, &mut self.queue, cx))?;
        if !self.exit_queued {
            ready!(course.poll_output(cx, &mut self.out))?;
            self.queue.push_back(encode(Event::Exited(course.exited(self.out.budget.truncated()))));
            self.exit_queued = true;
        }
        poll_queue(&mut self.out.stream, &mut self.queue, cx)
    }
}

impl Sink for ToCaller {
    fn poll_buffer(&mut self, cx: &mut Context<'_>, available: Available) -> Poll<Result<Vec<u8>, Gone>> {
        if self.budget.is_spent() {
            return Poll::Ready(Ok(Vec::with_capacity(DROP_BYTES)));
        }
        let wanted = self.budget.piece(available.bytes);
        let window = ready!(poll_window(&mut self.stream, cx, wanted + HEADER_BYTES, HEADER_BYTES + 1))?;
        Poll::Ready(Ok(output::room(wanted.min(window - HEADER_BYTES))))
    }

    fn put(&mut self, stream: Stream, buffer: Vec<u8>, length: usize) -> Result<(), Gone> {
        if self.budget.is_spent() {
            self.budget.drop(length);
            return Ok(());
        }
        if length == 0 {
            // Nothing came of the reservation: other streams need it.
            self.stream.reserve_capacity(0);
            return Ok(());
        }
        self.budget.keep(length);
        self.carried_bytes += length as u64;
        self.stream.send_data(output::seal(stream, buffer), false).map_err(|_| Gone)
    }
}
