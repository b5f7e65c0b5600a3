//! Bytes that are neither JSON nor ever in memory as a whole: what a request brings, what an answer gives, and what a
//! head says about both.
//!
//! ```text
//!  connection ── Incoming ──► operation ── Content ──► connection
//!     a piece is read when the one before it was taken      a piece is made when the one before it was sent
//! ```
//! Must not know: sockets, how bodies are framed.

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::ops::Range;
use workspace_core::files::{Conditions, Piece};
use workspace_core::{Error, Reason};

/// What an operation carries beside JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Nothing.
    Json,
    /// Its answer may be bytes, of which a head can ask for a part.
    Answers,
    /// Its input stands in the query, and its body may be bytes of any length; or all stands in a JSON body.
    Takes,
}

/// What a head says about bytes.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Bytes are wanted instead of JSON.
    pub bytes: bool,
    /// Only the head of the answer is wanted.
    pub head_only: bool,
    /// The field Range.
    pub range: Option<String>,
    /// The field If-Range: the range is wanted only of the file with this tag.
    pub if_range: Option<String>,
    /// If-Match, If-None-Match, If-Modified-Since and If-Unmodified-Since.
    pub conditions: Conditions,
}

/// A body that is read while it comes.
#[derive(Debug)]
pub enum Incoming {
    /// All of it.
    Whole(Bytes),
    /// A piece at a time.
    Stream(Stream),
}

/// The operation's end of a body that comes in pieces.
#[derive(Debug)]
pub struct Stream {
    /// How long it is, where that was said.
    pub length: Option<u64>,
    pieces: flume::Receiver<Result<Piece, Cut>>,
    wanted: flume::Sender<Wanted>,
}

/// The connection's end of it. Dropping it is the body's end.
#[derive(Debug)]
pub struct Source {
    pieces: flume::Sender<Result<Piece, Cut>>,
    wanted: flume::Receiver<Wanted>,
}

/// How an operation takes what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Bytes in memory.
    Memory,
    /// Also pages.
    Pages,
}

/// The body has ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut;

/// Both ends of a body that comes in pieces, of which one at a time waits.
pub fn stream(length: Option<u64>) -> (Source, Stream) {
    let (sender, pieces) = flume::bounded(1);
    let (wanted, asked) = flume::bounded(1);
    (Source { pieces: sender, wanted: asked }, Stream { length, pieces, wanted })
}

impl Stream {
    /// The next piece, always wanted the same; `None` behind the last one. An error is final: the client has gone or
    /// sent nonsense, and what came of it must be undone.
    pub async fn next(&mut self, wanted: Wanted) -> Result<Option<Piece>, Error> {
        // Full: it was asked for already.
        let _ = self.wanted.try_send(wanted);
        match self.pieces.recv_async().await {
            Ok(Ok(piece)) => Ok(Some(piece)),
            Ok(Err(Cut)) => Err(Error::new(Reason::InvalidRequest, "the body did not come to its end")),
            Err(flume::RecvError::Disconnected) => Ok(None),
        }
    }
}

impl Source {
    /// Returns once the body is asked for; `None` where it never will be.
    pub async fn wanted(&self) -> Option<Wanted> {
        self.wanted.recv_async().await.ok()
    }

    /// Hands a piece on when the one before it was taken; false where nobody reads any more.
    pub async fn send(&self, piece: Result<Piece, Cut>) -> bool {
        self.pieces.send_async(piece).await.is_ok()
    }
}

/// An answer in bytes.
pub struct Content {
    /// Which of its bytes.
    pub part: Part,
    /// How long the whole is, where it can be cut into parts.
    pub size: Option<u64>,
    /// Changes when the bytes do, without quotes.
    pub tag: Option<String>,
    /// Wall time in µs.
    pub modified_us: Option<u64>,
    /// Of the whole.
    pub media_type: &'static str,
    /// What to call it on a disk.
    pub name: Vec<u8>,
    /// Makes the bytes of the part.
    pub pieces: Box<dyn Chunks>,
}

/// Which bytes of a content an answer has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All: 200.
    Whole,
    /// Some: 206.
    Of(Range<u64>),
    /// None, because the client has them: 304.
    Known,
}

impl Content {
    /// The status that says which part it is.
    pub const fn status(&self) -> u16 {
        match self.part {
            Part::Whole => 200,
            Part::Of(_) => 206,
            Part::Known => 304,
        }
    }

    /// How many bytes follow the head; `None` where that is not known before they do.
    pub const fn length(&self) -> Option<u64> {
        match &self.part {
            Part::Whole => self.size,
            Part::Of(range) => Some(range.end - range.start),
            Part::Known => Some(0),
        }
    }
}

/// Makes bytes when they are sent. Dropping it ends what makes them.
pub trait Chunks {
    /// The next ones, of bounded length; `None` behind the last. An error cuts the answer: its head is sent already.
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Result<Bytes, Error>>>;
}

impl Chunks for workspace_core::files::Pieces {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Result<Bytes, Error>>> {
        Box::pin(workspace_core::files::Pieces::next(self))
    }
}
