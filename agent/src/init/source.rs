//! How is a command's output taken from its two pipes? In turn, as much as whoever wants it has room for, and at the
//! command's end what lies there.
//!
//! ```text
//!            readable, room?            a small piece
//! watched ───────────────────► read ─────────────────► resting ── REST over, or much has come ──► read
//!    ▲                           │ end of file            │ nothing there
//!    │                           ▼                        │
//!    │                         closed                     │
//!    └────────────────────────────────────────────────────┘
//! ended ─► what lies in the pipes at that moment is owed; what comes later is read for DRAIN_WAIT only
//! ```
//! A pipe that rests is out of the event loop: a program that prints byte by byte wakes the agent a thousand times a
//! second, not a million. And no byte is read without room for it, so a full reader stops the program by its pipe.
//! Must not know: who wants the output.

use super::output::Stream;
use crate::sys::watched::{Watched, watch};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::Interest;
use tokio::time::{Instant, Sleep, sleep_until};

/// How long a pipe that a daemonised child keeps open is read after the command's end.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
/// After a piece below [`SMALL_BYTES`] the next small one waits so long.
const REST: Duration = Duration::from_millis(1);
const SMALL_BYTES: usize = 4096;

/// Who wants the output is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// What may be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Available {
    /// At least 1; less may come.
    pub(crate) bytes: usize,
    /// It lay there when the command ended.
    pub(crate) owed: bool,
}

/// Who wants the output.
pub(crate) trait Sink {
    /// Memory to read into: what a buffer has spare. Pending: no room, and the task is woken when there is.
    fn poll_buffer(&mut self, cx: &mut Context<'_>, available: Available) -> Poll<Result<Vec<u8>, Gone>>;

    /// Takes the buffer back, with `length` bytes more in it; 0: there was nothing.
    fn put(&mut self, stream: Stream, buffer: Vec<u8>, length: usize) -> Result<(), Gone>;
}

/// Both pipes of a command.
pub(crate) struct Sources {
    pair: [Source; 2],
    /// Which goes first, so that neither starves the other.
    first: usize,
    drained: Option<Pin<Box<Sleep>>>,
}

struct Source {
    stream: Stream,
    pipe: Pipe,
    /// Bytes that lay in the pipe when the command ended and are not read yet.
    owed: usize,
}

enum Pipe {
    Watched(Watched),
    Resting(OwnedFd, Pin<Box<Sleep>>),
    Closed,
}

impl Sources {
    /// Must be called in the runtime: the pipes are registered.
    pub(crate) fn new(stdout: OwnedFd, stderr: OwnedFd) -> Sources {
        let source = |stream, fd| Source { stream, pipe: Pipe::watch(fd), owed: 0 };
        Sources { pair: [source(Stream::Stdout, stdout), source(Stream::Stderr, stderr)], first: 0, drained: None }
    }

    /// Carries a piece of each. False: nothing to read, or no room.
    pub(crate) fn poll_each(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink) -> Result<bool, Gone> {
        let ended = self.drained.is_some();
        let first = self.first;
        self.first = 1 - first;
        let mut progress = false;
        for source in [first, 1 - first] {
            let source = &mut self.pair[source];
            let Poll::Ready(available) = source.poll_available(cx, ended) else { continue };
            let Poll::Ready(buffer) = sink.poll_buffer(cx, available) else { continue };
            let mut buffer = buffer?;
            let length = source.read(&mut buffer);
            sink.put(source.stream, buffer, length)?;
            progress = true;
        }
        Ok(progress)
    }

    /// The command has ended. Returns how many bytes are owed.
    pub(crate) fn ended(&mut self, at: Instant) -> usize {
        self.drained = Some(Box::pin(sleep_until(at + DRAIN_WAIT)));
        for source in &mut self.pair {
            source.owed = source.pipe.length();
        }
        self.pair.iter().map(|source| source.owed).sum()
    }

    /// The command has ended and all was read that counts.
    pub(crate) fn is_drained(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(drained) = &mut self.drained else { return false };
        if self.pair.iter().all(|source| source.pipe.is_closed()) {
            return true;
        }
        let over = drained.is_elapsed() || drained.as_mut().poll(cx).is_ready();
        over && self.pair.iter().all(|source| source.pipe.is_closed() || source.owed == 0)
    }
}

impl Source {
    fn poll_available(&mut self, cx: &mut Context<'_>, ended: bool) -> Poll<Available> {
        let length = match &mut self.pipe {
            Pipe::Closed => return Poll::Pending,
            Pipe::Watched(pipe) => {
                // An error shows itself again in the read.
                let _ = ready!(pipe.poll_read_ready(cx));
                self.pipe.length()
            }
            Pipe::Resting(pipe, rest) => {
                let length = length(pipe);
                if !ended && length < SMALL_BYTES {
                    ready!(rest.as_mut().poll(cx));
                }
                length
            }
        };
        let owed = self.owed > 0;
        Poll::Ready(Available { bytes: if owed { length.min(self.owed) } else { length }.max(1), owed })
    }

    /// Reads into what `buffer` has spare. 0: nothing there, or the end.
    fn read(&mut self, buffer: &mut Vec<u8>) -> usize {
        let result = match &self.pipe {
            Pipe::Closed => return 0,
            Pipe::Watched(pipe) => pipe
                .try_io(Interest::READABLE, |pipe| Ok(rustix::io::read(pipe, rustix::buffer::spare_capacity(buffer))?)),
            Pipe::Resting(pipe, _) => {
                rustix::io::read(pipe, rustix::buffer::spare_capacity(buffer)).map_err(std::io::Error::from)
            }
        };
        match result {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.pipe.change(|pipe| match pipe {
                    Pipe::Resting(pipe, _) => Pipe::watch(pipe),
                    other => other,
                });
                0
            }
            Ok(0) | Err(_) => {
                self.pipe = Pipe::Closed;
                0
            }
            Ok(length) => {
                self.owed = self.owed.saturating_sub(length);
                if length < SMALL_BYTES {
                    self.pipe.change(Pipe::rest);
                }
                length
            }
        }
    }
}

impl Pipe {
    /// Registration fails only for want of kernel memory; the command then sees its pipe closed.
    fn watch(pipe: OwnedFd) -> Pipe {
        watch(pipe, Interest::READABLE).map_or(Pipe::Closed, Pipe::Watched)
    }

    fn rest(self) -> Pipe {
        let until = Instant::now() + REST;
        match self {
            Pipe::Watched(pipe) => Pipe::Resting(pipe.into_inner(), Box::pin(sleep_until(until))),
            Pipe::Resting(pipe, mut rest) => {
                rest.as_mut().reset(until);
                Pipe::Resting(pipe, rest)
            }
            Pipe::Closed => Pipe::Closed,
        }
    }

    fn change(&mut self, into: impl FnOnce(Pipe) -> Pipe) {
        *self = into(std::mem::replace(self, Pipe::Closed));
    }

    fn is_closed(&self) -> bool {
        matches!(self, Pipe::Closed)
    }

    fn length(&self) -> usize {
        match self {
            Pipe::Watched(pipe) => length(pipe.get_ref()),
            Pipe::Resting(pipe, _) => length(pipe),
            Pipe::Closed => 0,
        }
    }
}

/// How many bytes lie in the pipe.
fn length(pipe: &OwnedFd) -> usize {
    rustix::io::ioctl_fionread(pipe).map_or(0, |length| usize::try_from(length).unwrap_or(0))
}
