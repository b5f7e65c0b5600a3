//! What happens while a command runs? Its pipes are carried to the caller, as fast as the caller takes them; its
//! deadline, its end and the caller's going away are watched.
//!
//! ```text
//! pipe readable ─► window? ─no─► left in the pipe: the command waits, nothing else does
//!                    │ yes
//!                    ▼
//!                  read ─► RunEvent ─► h2      beyond the budget: read and dropped, no window needed
//! ended ─► what lies in the pipes at that moment is carried; what comes later only for DRAIN_WAIT ─► exited
//! ```
//! No byte is read that can't be sent at once, so nothing is held for a caller that stops.

use super::grpc;
use super::output::{self, Budget, HEADER_BYTES, Stream};
use super::reap::Ended;
use super::run::Pipes;
use crate::sys::watched::{Watched, watch};
use bytes::{Buf, Bytes};
use h2::SendStream;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// How long a pipe that a daemonised child keeps open is read after the command's end.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
const DROP_BYTES: usize = 16 << 10;

/// After a piece below [`SMALL_BYTES`] the next small one of that stream waits so long: a program that prints byte by
/// byte becomes a thousand messages a second instead of a million, each of which costs the caller memory.
const PAUSE: Duration = Duration::from_millis(1);
const SMALL_BYTES: usize = 4096;

/// How a command ended, for its last event.
pub(crate) struct Ending {
    pub(crate) ended: Ended,
    pub(crate) timed_out: bool,
    pub(crate) truncated: bool,
}

/// What a running command's surroundings do for it.
pub(crate) trait Surroundings {
    /// Ends the command, which is not reaped yet, with all its descendants.
    fn kill(&self);
    /// The command's process is gone.
    fn reaped(&self);
    /// Makes the last event.
    fn exited(&self, ending: Ending) -> Bytes;
}

/// How driving ended.
pub(crate) enum Outcome {
    /// All was sent.
    Done,
    /// The caller has gone. The command's end, where it has not come yet.
    Gone(Option<oneshot::Receiver<Ended>>),
}

impl Outcome {
    /// The caller had gone before anything was sent.
    pub(crate) fn gone(ended: oneshot::Receiver<Ended>) -> Outcome {
        Outcome::Gone(Some(ended))
    }
}

struct Source {
    stream: Stream,
    pipe: Option<Watched>,
    /// Bytes that lay in the pipe when the command ended and are not read yet.
    owed: usize,
    pause: Option<Pin<Box<Sleep>>>,
}

/// A running command and who watches it.
pub(crate) struct Drive {
    out: SendStream<Bytes>,
    queue: VecDeque<Bytes>,
    sources: [Source; 2],
    /// Which source goes first, so that neither starves the other.
    first: usize,
    stdin: Option<(Watched, Bytes)>,
    budget: Budget,
    carried_bytes: u64,
    deadline: Option<Pin<Box<Sleep>>>,
    timed_out: bool,
    waiting: Option<oneshot::Receiver<Ended>>,
    ended: Option<Ended>,
    drained: Option<Pin<Box<Sleep>>>,
    exit_queued: bool,
}

struct Gone;

impl Drive {
    /// Must be called in the runtime: the pipes are registered.
    pub(crate) fn new(
        out: SendStream<Bytes>,
        pipes: Pipes,
        stdin: Bytes,
        budget: Budget,
        deadline: Option<Instant>,
        ended: oneshot::Receiver<Ended>,
    ) -> Drive {
        // Registration fails only for want of kernel memory; the command then sees its pipe closed.
        let source = |stream, fd| Source { stream, pipe: watch(fd, Interest::READABLE).ok(), owed: 0, pause: None };
        Drive {
            out,
            queue: VecDeque::new(),
            sources: [source(Stream::Stdout, pipes.stdout), source(Stream::Stderr, pipes.stderr)],
            first: 0,
            stdin: pipes.stdin.and_then(|fd| watch(fd, Interest::WRITABLE).ok()).map(|fd| (fd, stdin)),
            budget,
            carried_bytes: 0,
            deadline: deadline.map(|at| Box::pin(sleep_until(at))),
            timed_out: false,
            waiting: Some(ended),
            ended: None,
            drained: None,
            exit_queued: false,
        }
    }

    /// To be sent before anything that is read from now on.
    pub(crate) fn queue(&mut self, message: Bytes) {
        self.queue.push_back(message);
    }

    /// Drives to the end. Also returns how many bytes of output were carried.
    pub(crate) async fn run(mut self, surroundings: &impl Surroundings) -> (Outcome, u64) {
        let result = poll_fn(|cx| self.poll(cx, surroundings)).await;
        let outcome = match result {
            Ok(()) => {
                grpc::finish(&mut self.out);
                Outcome::Done
            }
            Err(Gone) => Outcome::Gone(self.waiting.take()),
        };
        (outcome, self.carried_bytes)
    }

    fn poll(&mut self, cx: &mut Context<'_>, surroundings: &impl Surroundings) -> Poll<Result<(), Gone>> {
        if self.out.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        self.poll_end(cx, surroundings);
        if self.ended.is_none() && self.deadline.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready()) {
            self.deadline = None;
            self.timed_out = true;
            surroundings.kill();
        }
        self.poll_stdin(cx);
        loop {
            match self.poll_queue(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if self.exit_queued {
                return Poll::Ready(Ok(()));
            }
            let (a, b) = (self.first, 1 - self.first);
            let progress = [self.poll_source(cx, a), self.poll_source(cx, b)];
            self.first = b;
            if progress.iter().any(|p| matches!(p, Poll::Ready(Err(Gone)))) {
                return Poll::Ready(Err(Gone));
            }
            if let Some(ended) = self.ended
                && self.is_drained(cx)
            {
                let (timed_out, truncated) = (self.timed_out, self.budget.truncated());
                self.queue.push_back(surroundings.exited(Ending { ended, timed_out, truncated }));
                self.exit_queued = true;
                continue;
            }
            if progress.iter().all(|p| p.is_pending()) {
                return Poll::Pending;
            }
        }
    }

    fn poll_end(&mut self, cx: &mut Context<'_>, surroundings: &impl Surroundings) {
        let Some(waiting) = &mut self.waiting else { return };
        // An error can't be: the reaper keeps the sender until the process has ended.
        let Poll::Ready(Ok(ended)) = Pin::new(waiting).poll(cx) else { return };
        self.waiting = None;
        self.ended = Some(ended);
        self.stdin = None;
        self.drained = Some(Box::pin(sleep_until(ended.at + DRAIN_WAIT)));
        for source in &mut self.sources {
            let length = source.pipe.as_ref().and_then(|pipe| rustix::io::ioctl_fionread(pipe).ok()).unwrap_or(0);
            source.owed = usize::try_from(length).unwrap_or(0);
        }
        surroundings.reaped();
    }

    fn is_drained(&mut self, cx: &mut Context<'_>) -> bool {
        if self.sources.iter().all(|source| source.pipe.is_none()) {
            return true;
        }
        let over = self.drained.as_mut().is_none_or(|sleep| sleep.is_elapsed() || sleep.as_mut().poll(cx).is_ready());
        over && self.sources.iter().all(|source| source.pipe.is_none() || source.owed == 0)
    }

    fn poll_stdin(&mut self, cx: &mut Context<'_>) {
        while let Some((pipe, rest)) = &mut self.stdin {
            if rest.is_empty() {
                self.stdin = None;
                return;
            }
            let Poll::Ready(Ok(mut guard)) = pipe.poll_write_ready(cx) else { return };
            match guard.try_io(|pipe| Ok(rustix::io::write(pipe, rest)?)) {
                Ok(Ok(written)) => rest.advance(written),
                // Its reader has gone: what is left is not wanted.
                Ok(Err(_)) => self.stdin = None,
                Err(_would_block) => {}
            }
        }
    }

    /// Sends what is queued. Ready: all of it.
    fn poll_queue(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while let Some(front) = self.queue.front_mut() {
            let window = ready!(poll_window(&mut self.out, cx, front.len(), 1))?;
            let piece = front.split_to(window.min(front.len()));
            if front.is_empty() {
                self.queue.pop_front();
            }
            self.out.send_data(piece, false).map_err(|_| Gone)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Carries one piece. Pending: nothing to read, or no window.
    fn poll_source(&mut self, cx: &mut Context<'_>, index: usize) -> Poll<Result<(), Gone>> {
        let source = &mut self.sources[index];
        let Some(pipe) = &source.pipe else { return Poll::Pending };
        let Ok(mut guard) = ready!(pipe.poll_read_ready(cx)) else {
            source.pipe = None;
            return Poll::Ready(Ok(()));
        };
        let available =
            rustix::io::ioctl_fionread(pipe).map_or(1, |length| usize::try_from(length).unwrap_or(1)).max(1);
        let mut buffer;
        if let Some(pause) = &mut source.pause
            && self.ended.is_none()
            && available < SMALL_BYTES
        {
            ready!(pause.as_mut().poll(cx));
        }
        source.pause = None;
        let result = if self.budget.is_spent() {
            buffer = vec![0; DROP_BYTES];
            guard.try_io(|pipe| Ok(rustix::io::read(pipe, &mut buffer)?))
        } else {
            let wanted = self.budget.piece(available);
            let window = ready!(poll_window(&mut self.out, cx, wanted + HEADER_BYTES, HEADER_BYTES + 1))?;
            buffer = output::room(wanted.min(window - HEADER_BYTES));
            guard.try_io(|pipe| Ok(rustix::io::read(pipe, rustix::buffer::spare_capacity(&mut buffer))?))
        };
        match result {
            Ok(Ok(0)) | Ok(Err(_)) => source.pipe = None,
            Ok(Ok(length)) => {
                source.owed = source.owed.saturating_sub(length);
                if self.budget.is_spent() {
                    self.budget.drop(length);
                    return Poll::Ready(Ok(()));
                }
                self.budget.keep(length);
                self.carried_bytes += length as u64;
                if length < SMALL_BYTES {
                    source.pause = Some(Box::pin(sleep(PAUSE)));
                }
                return Poll::Ready(self.out.send_data(output::seal(source.stream, buffer), false).map_err(|_| Gone));
            }
            Err(_would_block) => {}
        }
        // Nothing came of the reservation: other streams need it.
        self.out.reserve_capacity(0);
        Poll::Ready(Ok(()))
    }
}

/// A window of at least `least` and at most what was reserved for `wanted` bytes.
fn poll_window(
    out: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
    least: usize,
) -> Poll<Result<usize, Gone>> {
    out.reserve_capacity(wanted);
    loop {
        let window = out.capacity();
        if window >= least {
            return Poll::Ready(Ok(window));
        }
        match ready!(out.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
        }
    }
}
