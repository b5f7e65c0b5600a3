//! How a body of any length comes to an operation: a piece at a time, in constant memory, while the operation runs.
//!
//! ```text
//!  socket ─► wire.input, a piece of memory, or a pipe ─► one waiting piece ─► the operation
//! ```
//! Nothing is read before the operation asks: what it refuses by its path or its conditions costs no upload. A client
//! that waits for `100 Continue` gets it then. A reader that is slow stops the socket, never a deadline.

use super::body::{self, CONTINUE, Stop};
use super::socket::{Gone, Wire};
use super::{App, BODIES_BYTES_MAX};
use crate::content::{Cut, Incoming, Source, Wanted, stream};
use crate::failure::Refusal;
use crate::operation::Reply;
use crate::wire::chunked;
use crate::wire::framing::{Body, Framing};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use monoio::time::Instant;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use workspace_core::files::{BY_PAGES_BYTES_MIN, PIPE_BYTES, PIPES, Piece, Pipes};
use workspace_core::{Error, Reason};

/// Of one piece, unless the socket has no more.
const PIECE_BYTES: usize = 256 << 10;
/// A body up to this length is received before the operation begins.
const WHOLE_BYTES_MAX: usize = 64 << 10;
/// What one upload may hold at once: input, the waiting piece, and two on their way to the disk.
const HELD_BYTES: usize = 4 * PIECE_BYTES;
/// The same of one that comes by pages.
const HELD_PAGES_BYTES: usize = PIPES * PIPE_BYTES;

/// Enough for a client that reads nothing before it has sent all of an upload that was refused.
const LINGER_BYTES_MAX: usize = 64 << 20;

/// How a body ended.
enum Ended {
    /// All of it has come.
    Whole,
    /// The operation wants no more of it.
    Unwanted,
    /// It is none, or too slow.
    Refused(Refusal),
    /// The client has gone.
    Gone,
}

/// Runs an operation on a body that comes meanwhile. The second value: the connection is still in step.
pub(super) async fn run<'f>(
    app: &App,
    wire: &mut Wire<'_>,
    framing: &Framing<'_>,
    invoke: impl FnOnce(Incoming) -> LocalBoxFuture<'f, Result<Reply, Error>>,
) -> Result<(Result<Reply, Error>, bool), Stop> {
    let length = match framing.body {
        Body::Length(length) => Some(length),
        Body::Chunked => None,
    };
    if length.is_some_and(|length| length <= WHOLE_BYTES_MAX as u64) {
        let whole = body::receive(app, wire, framing, WHOLE_BYTES_MAX).await?;
        let outcome = AssertUnwindSafe(invoke(Incoming::Whole(whole))).catch_unwind().await;
        return Ok((outcome.unwrap_or_else(|_| Err(panicked())), true));
    }
    wire.linger_bytes_max = LINGER_BYTES_MAX;
    let _held = Held::take(app, length)?;
    let (source, incoming) = stream(length);
    let call = pin!(AssertUnwindSafe(invoke(Incoming::Stream(incoming))).catch_unwind());
    let outcome;
    {
        let pump = pin!(pump(app, wire, framing, source));
        match select(call, pump).await {
            Either::Left((done, _)) => return Ok((done.unwrap_or_else(|_| Err(panicked())), false)),
            Either::Right((ended, call)) => {
                outcome = call.await.unwrap_or_else(|_| Err(panicked()));
                match ended {
                    Ended::Whole => {}
                    Ended::Unwanted => return Ok((outcome, false)),
                    Ended::Refused(refusal) => return Err(refusal.into()),
                    Ended::Gone => return Err(Stop::Gone),
                }
            }
        }
    }
    Ok((outcome, true))
}

/// Carries the body from the socket to the operation.
async fn pump(app: &App, wire: &mut Wire<'_>, framing: &Framing<'_>, source: Source) -> Ended {
    let Some(wanted) = source.wanted().await else { return Ended::Unwanted };
    if framing.expect_continue && wire.input.is_empty() {
        wire.out.extend_from_slice(CONTINUE);
    }
    if wire.flush().await.is_err() {
        return Ended::Gone;
    }
    let ended = match framing.body {
        Body::Length(length) => exactly(app, wire, &source, wanted, length).await,
        Body::Chunked => chunks(app, wire, &source).await,
    };
    if matches!(ended, Ended::Refused(_) | Ended::Gone) {
        source.send(Err(Cut)).await;
    }
    ended
}

async fn exactly(app: &App, wire: &mut Wire<'_>, source: &Source, wanted: Wanted, mut left: u64) -> Ended {
    let is_large = wanted == Wanted::Pages && left >= BY_PAGES_BYTES_MIN;
    let pipes = is_large.then(Pipes::open).flatten();
    while left > 0 {
        let piece = match &pipes {
            _ if !wire.input.is_empty() => {
                let there = left.min(wire.input.len() as u64);
                Ok(Piece::Memory(wire.input.split_to(there as usize).freeze()))
            }
            Some(pipes) => pages(app, wire, pipes, left).await,
            None => {
                let bytes_max = left.min(PIECE_BYTES as u64) as usize;
                wire.receive(bytes_max, deadline(app)).await.map(|bytes| Piece::Memory(bytes.into()))
            }
        };
        let piece = match piece {
            Ok(piece) => piece,
            Err(gone) => return ended(gone),
        };
        left -= piece.bytes() as u64;
        if !source.send(Ok(piece)).await {
            return Ended::Unwanted;
        }
    }
    Ended::Whole
}

async fn pages(app: &App, wire: &mut Wire<'_>, pipes: &Pipes, left: u64) -> Result<Piece, Gone> {
    let Some(mut pages) = pipes.next().await else {
        let bytes_max = left.min(PIECE_BYTES as u64) as usize;
        return wire.receive(bytes_max, deadline(app)).await.map(|bytes| Piece::Memory(bytes.into()));
    };
    wire.receive_pages(&mut pages, left.min(PIPE_BYTES as u64) as usize, deadline(app)).await?;
    Ok(Piece::Pages(pages))
}

fn deadline(app: &App) -> Instant {
    Instant::now() + app.settings.deadlines.body
}

async fn chunks(app: &App, wire: &mut Wire<'_>, source: &Source) -> Ended {
    let mut decoder = chunked::Decoder::default();
    loop {
        let mut data = Vec::with_capacity(wire.input.len());
        let done = match decoder.decode(&mut wire.input, &mut data) {
            Ok(done) => done,
            Err(malformed) => return Ended::Refused(Refusal::request(400, malformed.0)),
        };
        if !data.is_empty() && !source.send(Ok(Piece::Memory(data.into()))).await {
            return Ended::Unwanted;
        }
        if done {
            return Ended::Whole;
        }
        if let Err(ended) = more(app, wire).await {
            return ended;
        }
    }
}

/// Waits for bytes, then takes what is there of them, up to a piece.
async fn more(app: &App, wire: &mut Wire<'_>) -> Result<(), Ended> {
    if wire.input.len() >= PIECE_BYTES {
        return Ok(());
    }
    if !wire.fill_now() {
        wire.fill(deadline(app)).await.map_err(ended)?;
    }
    while wire.input.len() < PIECE_BYTES && wire.fill_now() {}
    Ok(())
}

fn ended(gone: Gone) -> Ended {
    match gone {
        Gone::Left => Ended::Gone,
        Gone::Late => Ended::Refused(Refusal::request(408, "the body did not arrive in time")),
    }
}

/// What an upload holds, counted among all bodies of the core.
struct Held<'a> {
    app: &'a App,
    bytes: usize,
}

impl<'a> Held<'a> {
    fn take(app: &'a App, length: Option<u64>) -> Result<Held<'a>, Stop> {
        let is_large = length.is_some_and(|length| length >= BY_PAGES_BYTES_MIN);
        let bytes = if is_large { HELD_PAGES_BYTES } else { HELD_BYTES };
        let all = app.bodies_bytes.get() + bytes;
        if all > BODIES_BYTES_MAX {
            let message = "the server is receiving too much at once; try again";
            return Err(Refusal::from(Error::new(Reason::Overloaded, message)).into());
        }
        app.bodies_bytes.set(all);
        Ok(Held { app, bytes })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.app.bodies_bytes.set(self.app.bodies_bytes.get() - self.bytes);
    }
}

fn panicked() -> Error {
    Error::new(Reason::Internal, "the server failed at this; its log says how")
}
