//! How does one viewer see and use a terminal? Over one stream both ways: `attach`, then its input and sizes in order;
//! `pty`, what is kept, what comes, `exited`.
//!
//! ```text
//!             input ─► taken by the master? ─no─► not read on: it waits in its window, nobody else does
//! ring ─► window? ─no─► not read on: behind the ring in the end, and ended with OUT_OF_RANGE
//! ```
//! Nothing is taken from the ring that can't be sent at once, so a viewer costs what lies in its windows.

use super::super::pace::ReaderId;
use super::super::ring::Next;
use super::typing::{Silence, Typing};
use super::{Terminal, checked_size};
use crate::init::Agent;
use crate::init::grpc::{self, Code, Status, Unanswered, poll_window};
use crate::init::output::{HEADER_BYTES, PIECE_BYTES_MAX, Stream, room, seal};
use crate::init::source::Gone;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep, timeout};
use workspace_proto::agent::{PtyEvent, pty_attach_request::Message, pty_event::Event};
use workspace_proto::grpc_frame;

/// Until `attach` has come.
const ATTACH_WAIT: Duration = Duration::from_secs(30);
/// After a piece below [`SMALL_BYTES`] the next small one waits so long: byte by byte would be a message each.
const PAUSE: Duration = Duration::from_millis(1);
const SMALL_BYTES: usize = 4096;
const FIRST: Status = Status(Code::InvalidArgument, "`attach` comes first");
const TOO_MANY: Status = Status(Code::ResourceExhausted, "256 viewers are attached in this sandbox");

/// How viewing ended.
enum End {
    /// All was sent, or the viewer has said its last.
    Done,
    /// The stream is gone.
    Gone,
    Failed(Status),
}

struct Viewer {
    out: SendStream<Bytes>,
    typing: Typing,
    terminal: Rc<Terminal>,
    id: ReaderId,
    cursor: u64,
    /// To be sent before anything of the ring.
    queued: Bytes,
    /// It has ended its half, and leaves when its input is taken.
    leaving: bool,
    exit_queued: bool,
    pause: Option<Pin<Box<Sleep>>>,
}

/// Serves a viewer until one of both ends.
pub(crate) async fn attach(
    agent: &Agent,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    let mut typing = Typing::new(body);
    let id = match timeout(ATTACH_WAIT, poll_fn(|cx| typing.poll(cx))).await.map_err(|_| Unanswered::Gone)? {
        Ok(Message::Attach(viewer)) => viewer.id,
        Ok(_) | Err(Silence::Over) => return Err(FIRST.into()),
        Err(Silence::Gone) => return Err(Unanswered::Gone),
        Err(Silence::Refused(status)) => return Err(status.into()),
    };
    let terminal = agent.ptys.borrow().find(id)?;
    let _counted = agent.ptys.borrow().count_viewer().ok_or(TOO_MANY)?;
    let out = grpc::begin(respond).map_err(|_| Unanswered::Gone)?;
    let (id, cursor) = terminal.screen.borrow_mut().join();
    terminal.wanted_no_more.notify_one();
    let queued = encode(Event::Pty(terminal.describe()));
    let (leaving, exit_queued, pause) = (false, false, None);
    let mut viewer = Viewer { out, typing, terminal, id, cursor, queued, leaving, exit_queued, pause };
    match poll_fn(|cx| viewer.poll(cx)).await {
        End::Done => grpc::finish(&mut viewer.out),
        End::Failed(status) => grpc::fail(&mut viewer.out, status),
        End::Gone => {}
    }
    Ok(())
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.terminal.screen.borrow_mut().leave(self.id);
    }
}

impl Viewer {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.out.poll_reset(cx).is_ready() {
            return Poll::Ready(End::Gone);
        }
        self.terminal.screen.borrow_mut().wait(self.id, cx.waker());
        if let Poll::Ready(end) = self.poll_input(cx) {
            return Poll::Ready(end);
        }
        loop {
            match ready!(self.poll_output(cx)) {
                Ok(()) => {}
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Ready: it leaves.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            if !self.terminal.screen.borrow().is_taken(self.id) {
                return Poll::Pending;
            }
            if self.leaving {
                return Poll::Ready(End::Done);
            }
            match ready!(self.typing.poll(cx)) {
                Ok(Message::Input(bytes)) => self.terminal.screen.borrow_mut().type_in(self.id, bytes),
                Ok(Message::Size(size)) => match checked_size(size.cols, size.rows) {
                    Ok(size) => self.terminal.resize(size),
                    Err(status) => return Poll::Ready(End::Failed(status)),
                },
                Ok(Message::Attach(_)) => {
                    return Poll::Ready(End::Failed(Status(Code::InvalidArgument, "`attach` comes once")));
                }
                Err(Silence::Over) => self.leaving = true,
                Err(Silence::Gone) => return Poll::Ready(End::Gone),
                Err(Silence::Refused(status)) => return Poll::Ready(End::Failed(status)),
            }
        }
    }

    /// Sends one piece. Pending: nothing to send, or no window.
    fn poll_output(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        while !self.queued.is_empty() {
            let window = ready!(poll_window(&mut self.out, cx, self.queued.len(), 1)).map_err(gone)?;
            let piece = self.queued.split_to(window.min(self.queued.len()));
            self.out.send_data(piece, false).map_err(|_| End::Gone)?;
        }
        if self.exit_queued {
            return Poll::Ready(Err(End::Done));
        }
        let screen = self.terminal.screen.borrow();
        let length = screen.end() - self.cursor;
        if length == 0 {
            let Some(exited) = screen.exited() else { return Poll::Pending };
            self.queued = encode(Event::Exited(exited));
            self.exit_queued = true;
            return Poll::Ready(Ok(()));
        }
        let wanted = usize::try_from(length).unwrap_or(PIECE_BYTES_MAX).min(PIECE_BYTES_MAX);
        if let Some(pause) = &mut self.pause
            && wanted < SMALL_BYTES
            && screen.exited().is_none()
        {
            ready!(pause.as_mut().poll(cx));
        }
        self.pause = None;
        let window = ready!(poll_window(&mut self.out, cx, wanted + HEADER_BYTES, HEADER_BYTES + 1)).map_err(gone)?;
        let wanted = wanted.min(window - HEADER_BYTES);
        let mut buffer = room(wanted);
        let full = HEADER_BYTES + wanted;
        while buffer.len() < full {
            match screen.next(self.cursor) {
                Next::Piece(piece) => {
                    let bytes = &piece.bytes[..piece.bytes.len().min(full - buffer.len())];
                    buffer.extend_from_slice(bytes);
                    self.cursor += bytes.len() as u64;
                }
                Next::Dropped(_) => {
                    let behind = Status(Code::OutOfRange, "this viewer was too slow: attach again");
                    return Poll::Ready(Err(End::Failed(behind)));
                }
                Next::Nothing => break,
            }
        }
        drop(screen);
        if buffer.len() - HEADER_BYTES < SMALL_BYTES {
            self.pause = Some(Box::pin(sleep(PAUSE)));
        }
        // `PtyEvent.output` has the number of `RunEvent.stdout`.
        self.out.send_data(seal(Stream::Stdout, buffer), false).map_err(|_| End::Gone)?;
        self.terminal.screen.borrow_mut().sent(self.id, self.cursor);
        Poll::Ready(Ok(()))
    }
}

fn gone(_: Gone) -> End {
    End::Gone
}

fn encode(event: Event) -> Bytes {
    grpc_frame::encode(&PtyEvent { event: Some(event) })
}
