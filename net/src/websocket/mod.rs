//! A WebSocket, from the upgrade to the last close: RFC 6455 with clients that cannot be trusted.
//!
//! ```text
//!  head ─► upgrade ─► 101 ─► session ◄── bytes ──► codec (frames: what may arrive · tungstenite: what it means)
//!                               └◄── messages ──► the operation's conversation
//! ```
//! No extension is ever agreed on: a compressed message says nothing of the memory that it needs.
//! Must not know: terminals, sandboxes, what a conversation is about.

pub mod codec;
mod frames;
pub(crate) mod session;
pub(crate) mod upgrade;

use bytes::Bytes;
use std::borrow::Cow;
use std::task::{Context, Poll};
pub use tungstenite::Utf8Bytes;

/// Of one message of a client, where the conversation says nothing else.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A whole message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Checked to be UTF-8.
    Text(Utf8Bytes),
    /// Any bytes.
    Binary(Bytes),
}

/// Why a WebSocket ends, as the other side is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum CloseCode {
    /// What it was for is done.
    Normal = 1000,
    /// The server, or what is behind it, goes away.
    GoingAway = 1001,
    /// The peer broke the protocol.
    Protocol = 1002,
    /// A message of a kind that is not taken here.
    Unsupported = 1003,
    /// A message whose content is not what its kind promises.
    BadData = 1007,
    /// The peer may not do this.
    Policy = 1008,
    /// A message over the limit.
    TooLarge = 1009,
    /// Our fault, or that of what is behind us.
    Failed = 1011,
    /// Too much for now; connecting again may work.
    TryAgain = 1013,
}

/// A code, with a sentence for the people who look for the cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// For programs.
    pub code: CloseCode,
    /// For people; what is beyond 123 bytes is cut.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// A close with its reason.
    pub fn new(code: CloseCode, reason: impl Into<Cow<'static, str>>) -> Close {
        Close { code, reason: reason.into() }
    }
}

/// What an operation says and hears over a WebSocket. It is driven by one task and dropped when the client has gone.
pub trait Conversation {
    /// Of one message of the client; a larger one ends the connection.
    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    /// Ready where one more message would be taken. Until then the client is not read from.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Takes a message, once it was ready for it. An error ends the connection.
    fn take(&mut self, message: Message) -> Result<(), Close>;

    /// The next message for the client, or how the connection ends.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Close>>;
}
