//! What does a viewer say? Messages, one after another, each held back in the stream's window until it is asked for.
//!
//! Bytes that have come are released when no whole message lies among them: so the rest of a message that is larger than
//! the window can come, and what waits is at most one message and one window.

use crate::init::grpc::{Code, Status};
use h2::RecvStream;
use std::task::{Context, Poll, ready};
use workspace_proto::agent::{PtyAttachRequest, pty_attach_request::Message};
use workspace_proto::grpc_frame::Decoder;

/// Of one message.
const INPUT_BYTES_MAX: usize = 64 << 10;

/// A viewer's half of its stream.
pub(super) struct Typing {
    body: RecvStream,
    decoder: Decoder,
    /// Bytes that have come and are not released.
    held: usize,
}

/// Why nothing more is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The viewer has ended its half.
    Over,
    /// The stream is gone.
    Gone,
    /// What came is not allowed.
    Refused(Status),
}

impl Typing {
    pub(super) fn new(body: RecvStream) -> Typing {
        Typing { body, decoder: Decoder::default(), held: 0 }
    }

    /// The next message. Ask only when the one before is done with.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Silence>> {
        let refused = |what| Silence::Refused(Status(Code::InvalidArgument, what));
        loop {
            let message = self.decoder.next_message::<PtyAttachRequest>();
            if let Some(message) = message.map_err(|_| refused("not a message of this method"))? {
                return Poll::Ready(match message.message {
                    Some(Message::Input(bytes)) if bytes.is_empty() || bytes.len() > INPUT_BYTES_MAX => {
                        Err(refused("input: 1 byte to 64 KiB"))
                    }
                    Some(message) => Ok(message),
                    None => Err(refused("a message that says nothing")),
                });
            }
            let held = std::mem::take(&mut self.held);
            if held > 0 && self.body.flow_control().release_capacity(held).is_err() {
                return Poll::Ready(Err(Silence::Gone));
            }
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(piece)) => {
                    self.held += piece.len();
                    self.decoder.push(&piece);
                }
                Some(Err(_)) => return Poll::Ready(Err(Silence::Gone)),
                None => return Poll::Ready(Err(Silence::Over)),
            }
        }
    }
}
