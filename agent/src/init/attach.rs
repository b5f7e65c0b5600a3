//! How does a reader follow a started command? From its cursor on, as fast as its own window allows, until the end.
//!
//! ```text
//! ring ─► small pieces: their messages side by side in one buffer ─► h2
//!     └─► a big piece: its head, then the ring's own memory, not copied ─► h2
//! ```
//! A reader keeps its cursor and nothing else: what it has no window for stays in the ring, or is dropped there, which it
//! is told.

use super::Agent;
use super::bell::Listener;
use super::calls::find;
use super::grpc::{self, Code, Status, Unanswered, poll_queue, poll_window};
use super::kept::Kept;
use super::output::{ATTACH_HEAD_BYTES_MAX, push_attach_head};
use super::pace::ReaderId;
use super::ring::{BLOCK_BYTES_MIN, Next};
use super::source::Gone;
use super::tracked::Tracked;
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use workspace_proto::agent::attach_event::Event;
use workspace_proto::agent::{AttachEvent, AttachRequest};
use workspace_proto::{OUTPUT_CHUNK_BYTES_MAX, grpc_frame};

/// Follows to the end, or until the reader goes.
pub(crate) async fn attach(
    agent: &Agent,
    request: AttachRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    let command = find(agent, request.pid)?;
    let not_kept = Status(Code::FailedPrecondition, "a command of Run: its output goes to its caller");
    let kept = command.kept.as_ref().ok_or(not_kept)?;
    if request.cursor > kept.range().1 {
        return Err(Status(Code::OutOfRange, "cursor: beyond what was ever printed").into());
    }
    let mut out = grpc::begin(respond).map_err(|_| Unanswered::Gone)?;
    let mut reader = Reader::new(&command, kept, request.cursor);
    reader.queue(Event::Process(command.message()));
    if poll_fn(|cx| reader.poll(cx, &mut out)).await.is_ok() {
        grpc::finish(&mut out);
    }
    Ok(())
}

struct Reader<'a> {
    command: &'a Tracked,
    kept: &'a Kept,
    id: ReaderId,
    listener: Listener<'a>,
    /// All before it was sent, or is in `queue`.
    cursor: u64,
    queue: VecDeque<Bytes>,
    is_ending: bool,
}

impl<'a> Reader<'a> {
    fn new(command: &'a Tracked, kept: &'a Kept, cursor: u64) -> Reader<'a> {
        let id = kept.pace.borrow_mut().join(cursor);
        kept.pace_changed();
        let listener = command.bell.listener();
        Reader { command, kept, id, listener, cursor, queue: VecDeque::new(), is_ending: false }
    }

    fn queue(&mut self, event: Event) {
        self.queue.push_back(grpc_frame::encode(&AttachEvent { cursor: self.cursor, event: Some(event) }));
    }

    fn poll(&mut self, cx: &mut Context<'_>, out: &mut SendStream<Bytes>) -> Poll<Result<(), Gone>> {
        if out.poll_reset(cx).is_ready() {
            return Poll::Ready(Err(Gone));
        }
        loop {
            ready!(poll_queue(out, &mut self.queue, cx))?;
            if self.is_ending {
                return Poll::Ready(Ok(()));
            }
            let next = match self.kept.ring.borrow().next(self.cursor) {
                Next::Dropped(bytes) => Some(bytes),
                Next::Piece(_) => Some(0),
                Next::Nothing => None,
            };
            match (next, self.command.end()) {
                (Some(0), _) => {
                    let wanted = self.kept.range().1 - self.cursor;
                    let wanted = usize::try_from(wanted).unwrap_or(usize::MAX).min(OUTPUT_CHUNK_BYTES_MAX);
                    let least = ATTACH_HEAD_BYTES_MAX + 1;
                    let window = ready!(poll_window(out, cx, wanted + ATTACH_HEAD_BYTES_MAX, least))?;
                    self.send(out, window)?;
                }
                (Some(dropped), _) => {
                    self.cursor += dropped;
                    self.queue(Event::DroppedBytes(dropped));
                }
                (None, Some(end)) => {
                    self.queue(Event::Exited(end.exited));
                    self.is_ending = true;
                }
                (None, None) => {
                    self.listener.listen(cx);
                    return Poll::Pending;
                }
            }
            self.kept.pace.borrow_mut().advance(self.id, self.cursor);
            self.kept.pace_changed();
        }
    }

    /// Sends what there is, as far as the window goes.
    fn send(&mut self, out: &mut SendStream<Bytes>, mut window: usize) -> Result<(), Gone> {
        let ring = self.kept.ring.borrow();
        let mut heads = Vec::new();
        while window > ATTACH_HEAD_BYTES_MAX
            && let Next::Piece(piece) = ring.next(self.cursor)
        {
            let length = piece.bytes.len().min(window - ATTACH_HEAD_BYTES_MAX);
            self.cursor += length as u64;
            let before = heads.len();
            push_attach_head(&mut heads, self.cursor, piece.stream, length);
            window -= heads.len() - before + length;
            if length < BLOCK_BYTES_MIN {
                heads.extend_from_slice(&piece.bytes[..length]);
                continue;
            }
            out.send_data(Bytes::from(std::mem::take(&mut heads)), false).map_err(|_| Gone)?;
            out.send_data(piece.share(length), false).map_err(|_| Gone)?;
        }
        if !heads.is_empty() {
            out.send_data(Bytes::from(heads), false).map_err(|_| Gone)?;
        }
        // What is left of the reservation is for other streams.
        out.reserve_capacity(0);
        Ok(())
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.kept.pace.borrow_mut().leave(self.id);
        self.kept.pace_changed();
    }
}
