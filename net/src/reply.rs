//! What an operation answers: JSON in one piece or in many, a document, events that go on, or a conversation.
//!
//! Must not know: how an answer is framed, which status it has.

use crate::content::Content;
use crate::failure::Refusal;
use crate::websocket::Conversation;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use std::marker::PhantomData;
use workspace_core::{Error, Reason};

/// An answer in bytes.
pub enum Reply {
    /// JSON, the whole body.
    Whole(Bytes),
    /// JSON that is never in memory as a whole.
    Pieces(Box<dyn Pieces>),
    /// Something else than JSON.
    Document(Document),
    /// Server-sent events, until they end or the client has gone.
    Events(Box<dyn Events>),
    /// A WebSocket, until either side ends it.
    Socket(Box<dyn Conversation>),
    /// Bytes that are never in memory as a whole.
    Content(Content),
    /// A failure whose status says more than its reason.
    Refused(Refusal),
    /// Nothing: 204.
    NoContent,
}

/// A body that is not JSON.
#[derive(Debug, Clone)]
pub struct Document {
    /// Instead of the operation's.
    pub status: Option<u16>,
    /// Content-Type.
    pub media_type: &'static str,
    /// More header fields, each a line with its CRLF.
    pub headers: &'static str,
    /// The whole body.
    pub bytes: Bytes,
}

/// A body that goes on while there are events. Dropping it ends what makes them.
pub trait Events {
    /// Waits for events and appends what is there of them, of bounded length; false where there will be no more.
    /// Dropping the future loses nothing.
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool>;

    /// True where a reader that is cut off may come back for what it has not got: little must be on its way to it.
    fn can_resume(&self) -> bool {
        false
    }
}

/// A body whose length is known and whose bytes are made when they are sent.
pub trait Pieces {
    /// Of what is still to be written.
    fn bytes(&self) -> u64;
    /// Appends the next piece, of bounded length; false where all had been written.
    fn write_next(&mut self, out: &mut Vec<u8>) -> bool;
}

/// What an operation answers.
pub trait Output {
    /// The media type of success, for documents.
    const MEDIA_TYPE: &'static str = "application/json";
    /// The bytes that a caller gets.
    fn reply(self) -> Result<Reply, Error>;
    /// The shape, for documents; `None` where it is a document itself.
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema>;
}

/// An answer that is JSON already, of a known shape.
#[derive(Debug)]
pub struct Shown<T> {
    body: Bytes,
    shape: PhantomData<T>,
}

impl<T: Serialize> Shown<T> {
    /// Writes a value as JSON.
    pub fn write(value: &T) -> Result<Bytes, Error> {
        let mut body = Vec::with_capacity(1024);
        serde_json::to_writer(&mut body, value)
            .map_err(|e| Error::new(Reason::Internal, "the answer could not be written").source(e))?;
        Ok(Bytes::from(body))
    }

    /// Takes what [`Shown::write`] made.
    pub fn new(body: Bytes) -> Shown<T> {
        Shown { body, shape: PhantomData }
    }
}

impl<T: JsonSchema> Output for Shown<T> {
    fn reply(self) -> Result<Reply, Error> {
        Ok(Reply::Whole(self.body))
    }
    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

/// An answer as JSON.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize + JsonSchema> Output for Json<T> {
    fn reply(self) -> Result<Reply, Error> {
        Shown::write(&self.0).map(Reply::Whole)
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<T>())
    }
}

/// An answer that was made before.
#[derive(Debug)]
pub struct Ready(pub Bytes);

/// An answer as server-sent events, or nothing where they have all been read.
pub struct Follow(pub Option<Box<dyn Events>>);

impl Output for Follow {
    const MEDIA_TYPE: &'static str = EVENT_STREAM;

    fn reply(self) -> Result<Reply, Error> {
        Ok(self.0.map_or(Reply::NoContent, Reply::Events))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// An answer as a WebSocket; its operation says so by `SOCKET`.
pub struct Socket(pub Box<dyn Conversation>);

impl Output for Socket {
    fn reply(self) -> Result<Reply, Error> {
        Ok(Reply::Socket(self.0))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

/// The media type of server-sent events.
pub const EVENT_STREAM: &str = "text/event-stream";

impl Output for Ready {
    fn reply(self) -> Result<Reply, Error> {
        Ok(Reply::Whole(self.0))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}
