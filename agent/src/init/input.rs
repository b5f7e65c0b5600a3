//! How does a command get its stdin? What it began with, then what callers send later, as fast as it reads.
//!
//! ```text
//! Input call ─► its turn, at most INPUT_WAIT ─► taken: answered ─► written as the pipe takes it ─► the next one's turn
//!                     └── not read meanwhile: RESOURCE_EXHAUSTED, nothing was taken
//! ```
//! So at most one message per command lies here, and some wait for their turn.

use super::Agent;
use super::grpc::{self, Code, Status, Unanswered};
use super::tracked::Tracked;
use crate::sys::watched::{Watched, watch};
use bytes::{Buf, Bytes};
use h2::server::SendResponse;
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::Mutex;
use tokio::time::timeout;
use workspace_proto::INPUT_WAIT_S;
use workspace_proto::agent::{InputReply, InputRequest};

const INPUT_BYTES_MAX: usize = 1 << 20;
const INPUT_WAIT: Duration = Duration::from_secs(INPUT_WAIT_S);
/// Calls that wait for their turn, for one command.
const WAITING_MAX: usize = 16;

/// What callers may still send to a started command.
#[derive(Debug, Default)]
pub(crate) struct Input {
    turn: Mutex<()>,
    waiting: Cell<usize>,
    taken: RefCell<Bytes>,
    /// What was taken is not written yet.
    is_busy: Cell<bool>,
    /// The end comes behind what was taken.
    is_ending: Cell<bool>,
    is_closed: Cell<bool>,
}

/// Our end of a command's stdin, in the task that drives it.
pub(crate) struct Stdin {
    pipe: Watched,
    rest: Bytes,
    /// Written since somebody last asked.
    written_bytes: u64,
}

impl Input {
    /// The command begins with something to read, or not.
    pub(crate) fn new(first: &Bytes) -> Input {
        Input { is_busy: Cell::new(!first.is_empty()), ..Input::default() }
    }

    fn is_over(&self) -> bool {
        self.is_closed.get() || self.is_ending.get()
    }
}

impl Stdin {
    /// `None`: there is nothing to say, ever.
    pub(crate) fn new(pipe: Option<OwnedFd>, first: Bytes) -> Option<Stdin> {
        let pipe = watch(pipe?, Interest::WRITABLE).ok()?;
        Some(Stdin { pipe, rest: first, written_bytes: 0 })
    }

    /// How much has left the heap, once all there was has been written.
    pub(crate) fn take_freed(&mut self) -> u64 {
        if self.rest.is_empty() { std::mem::take(&mut self.written_bytes) } else { 0 }
    }

    /// How much leaves the heap with it.
    fn held(&self) -> u64 {
        self.written_bytes + self.rest.len() as u64
    }

    /// Writes what there is, as the command reads. Ready: its stdin is to be closed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, command: &Tracked) -> Poll<()> {
        loop {
            if self.rest.is_empty() {
                let Some(input) = &command.input else { return Poll::Ready(()) };
                self.rest = input.taken.take();
                if self.rest.is_empty() {
                    if input.is_busy.take() {
                        command.bell.ring();
                    }
                    return if input.is_ending.get() { Poll::Ready(()) } else { Poll::Pending };
                }
            }
            let Poll::Ready(Ok(mut guard)) = self.pipe.poll_write_ready(cx) else { return Poll::Pending };
            match guard.try_io(|pipe| Ok(rustix::io::write(pipe, &self.rest)?)) {
                Ok(Ok(written)) => {
                    self.rest.advance(written);
                    self.written_bytes += written as u64;
                }
                // Its reader has gone: what is left is not wanted.
                Ok(Err(_)) => return Poll::Ready(()),
                Err(_would_block) => {}
            }
        }
    }
}

impl Tracked {
    /// Its stdin, if it is still open, takes nothing more. Says how much leaves the heap with what was not read.
    pub(crate) fn close_input(&self, stdin: Option<Stdin>) -> u64 {
        let mut freed = stdin.map_or(0, |stdin| stdin.held());
        if let Some(input) = &self.input {
            input.is_closed.set(true);
            freed += input.taken.take().len() as u64;
            self.bell.ring();
        }
        freed
    }
}

/// Takes what a caller sends, as soon as what was taken before is written.
pub(crate) async fn input(
    agent: &Agent,
    request: InputRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<InputReply, Unanswered> {
    let bytes = request.data.len() as u64;
    let taken = take(agent, request, respond).await;
    if taken.is_err() {
        agent.carried(bytes);
        agent.give_heap_back();
    }
    taken
}

async fn take(
    agent: &Agent,
    request: InputRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<InputReply, Unanswered> {
    let closed = Status(Code::FailedPrecondition, "its stdin is closed");
    let full = Status(Code::ResourceExhausted, "what was sent before is not read yet");
    if request.data.len() > INPUT_BYTES_MAX {
        return Err(Status(Code::InvalidArgument, "data: at most 1 MiB").into());
    }
    let command = super::calls::find(agent, request.pid)?;
    let (Some(input), Some(kept)) = (&command.input, &command.kept) else { return Err(closed.into()) };
    if input.waiting.get() >= WAITING_MAX {
        return Err(full.into());
    }
    input.waiting.set(input.waiting.get() + 1);
    let listener = command.bell.listener();
    let turn = async {
        let turn = input.turn.lock().await;
        poll_fn(|cx| {
            if !input.is_busy.get() || input.is_over() {
                return Poll::Ready(());
            }
            listener.listen(cx);
            Poll::Pending
        })
        .await;
        turn
    };
    let turn = grpc::while_wanted(respond, timeout(INPUT_WAIT, turn)).await;
    input.waiting.set(input.waiting.get() - 1);
    let _turn = turn?.map_err(|_| full)?;
    if input.is_over() {
        return Err(closed.into());
    }
    input.is_busy.set(!request.data.is_empty());
    input.is_ending.set(request.eof);
    input.taken.replace(request.data);
    kept.wake_pump();
    Ok(InputReply {})
}
