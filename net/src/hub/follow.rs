//! One command's output as it comes: started, output, ended, in that order; anything else is the agent's nonsense.
//!
//! Nothing is held here: a message is read when it is asked for, and the stream's window holds the agent back.

use super::call::{Messages, lost, nonsense, open_stream};
use super::process::ending_from_wire;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::client::SendRequest;
use workspace_core::Error;
use workspace_core::agent::Follower;
use workspace_core::process::{Event, Stream};
use workspace_proto::agent::{AttachEvent, AttachRequest, RunEvent, RunRequest, attach_event, run_event};
use workspace_proto::{Message, OUTPUT_CHUNK_BYTES_MAX, method};

/// Runs a command. Dropping the follower resets the stream, which kills the command's tree.
pub(super) async fn run(requests: SendRequest<Bytes>, request: RunRequest) -> Result<Box<dyn Follower>, Error> {
    let messages = open(requests, method::RUN, &request).await?;
    Ok(Box::new(Reader::<RunEvent> { messages, place: Place::Begin, cursor: 0 }))
}

/// Reads a started command's output from a cursor on.
pub(super) async fn attach(requests: SendRequest<Bytes>, pid: u32, cursor: u64) -> Result<Box<dyn Follower>, Error> {
    let messages = open(requests, method::ATTACH, &AttachRequest { pid, cursor }).await?;
    Ok(Box::new(Reader::<AttachEvent> { messages, place: Place::Begin, cursor }))
}

async fn open<M: Message, R: Message + Default>(
    requests: SendRequest<Bytes>,
    path: &'static str,
    request: &M,
) -> Result<Messages<R>, Error> {
    let response = open_stream(requests, path, request).await?.await.map_err(lost)?;
    Messages::new(path, response)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Begin,
    Output,
    End,
}

struct Reader<R> {
    messages: Messages<R>,
    place: Place,
    cursor: u64,
}

/// A message of a stream as an event that moves a cursor.
trait Told: Message + Default {
    fn told(self, cursor: u64) -> Result<Event, Error>;
}

impl Told for RunEvent {
    fn told(self, cursor: u64) -> Result<Event, Error> {
        Ok(match self.event {
            Some(run_event::Event::Started(started)) => Event::Started { pid: started.pid },
            Some(run_event::Event::Stdout(bytes)) => output(Stream::Stdout, bytes, cursor)?,
            Some(run_event::Event::Stderr(bytes)) => output(Stream::Stderr, bytes, cursor)?,
            Some(run_event::Event::Exited(exited)) => Event::Ended(ending_from_wire(&exited)?),
            None => return Err(nonsense("an event that says nothing")),
        })
    }
}

impl Told for AttachEvent {
    fn told(self, cursor: u64) -> Result<Event, Error> {
        let event = match self.event {
            Some(attach_event::Event::Process(process)) => Event::Started { pid: process.pid },
            Some(attach_event::Event::Stdout(bytes)) => output(Stream::Stdout, bytes, cursor)?,
            Some(attach_event::Event::Stderr(bytes)) => output(Stream::Stderr, bytes, cursor)?,
            Some(attach_event::Event::DroppedBytes(bytes)) => {
                let cursor = cursor.checked_add(bytes).ok_or_else(|| nonsense("a cursor beyond all numbers"))?;
                Event::Dropped { bytes, cursor }
            }
            Some(attach_event::Event::Exited(exited)) => Event::Ended(ending_from_wire(&exited)?),
            None => return Err(nonsense("an event that says nothing")),
        };
        let now = match &event {
            Event::Output { cursor, .. } | Event::Dropped { cursor, .. } => *cursor,
            _ => cursor,
        };
        if now == self.cursor { Ok(event) } else { Err(nonsense("a cursor that does not fit its output")) }
    }
}

fn output(stream: Stream, bytes: Bytes, cursor: u64) -> Result<Event, Error> {
    if bytes.is_empty() || bytes.len() > OUTPUT_CHUNK_BYTES_MAX {
        return Err(nonsense("a piece of output of no or too many bytes"));
    }
    let cursor = cursor.checked_add(bytes.len() as u64).ok_or_else(|| nonsense("a cursor beyond all numbers"))?;
    Ok(Event::Output { stream, bytes, cursor })
}

impl<R: Told> Reader<R> {
    async fn read(&mut self) -> Result<Option<Event>, Error> {
        let Some(message) = self.messages.next().await? else {
            let whole = self.place == Place::End;
            return if whole { Ok(None) } else { Err(nonsense("a stream without an exit")) };
        };
        let event = message.told(self.cursor)?;
        self.place = match (self.place, &event) {
            (Place::Begin, Event::Started { .. }) => Place::Output,
            (Place::Output, Event::Output { cursor, .. } | Event::Dropped { cursor, .. }) => {
                self.cursor = *cursor;
                Place::Output
            }
            (Place::Output, Event::Ended(_)) => Place::End,
            _ => return Err(nonsense("an event out of order")),
        };
        Ok(Some(event))
    }
}

impl<R: Told> Follower for Reader<R> {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Event>, Error>> {
        self.read().boxed_local()
    }
}
