//! The server's side of started commands: Start, Get, Wait, Input, Signal, and Attach with its events checked.

use crate::client::{Client, Running};
use bytes::Bytes;
use workspace_proto::agent::attach_event::Event;
use workspace_proto::agent::{
    AttachEvent, AttachRequest, Exited, InputReply, InputRequest, Process, ProcessRequest, RunRequest, SignalReply,
    SignalRequest, StartRequest,
};
use workspace_proto::{OUTPUT_CHUNK_BYTES_MAX, grpc_frame, method};

/// Which stream a byte came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    Out,
    Err,
}

/// One that reads a started command's output; each event's cursor is checked.
pub(crate) struct Follower {
    running: Running,
    pub(crate) process: Process,
    pub(crate) cursor: u64,
    pub(crate) dropped: u64,
    /// What came, each piece with the cursor of its first byte.
    pub(crate) seen: Vec<(u64, From, Bytes)>,
    /// What was missed: from, to.
    pub(crate) gaps: Vec<(u64, u64)>,
    pub(crate) exited: Option<Exited>,
}

impl Client {
    pub(crate) async fn launch(&mut self, request: &StartRequest) -> Process {
        self.call(method::START, request).await.expect("a command that starts")
    }

    pub(crate) async fn get(&mut self, pid: u32) -> Result<Process, u16> {
        self.call(method::GET, &ProcessRequest { pid }).await
    }

    pub(crate) async fn wait(&mut self, pid: u32) -> Result<Process, u16> {
        self.call(method::WAIT, &ProcessRequest { pid }).await
    }

    pub(crate) async fn input(&mut self, pid: u32, data: &[u8], eof: bool) -> Result<(), u16> {
        let request = InputRequest { pid, data: Bytes::copy_from_slice(data), eof };
        self.call::<_, InputReply>(method::INPUT, &request).await.map(drop)
    }

    pub(crate) async fn signal(&mut self, pid: u32, signal: u32) -> Result<(), u16> {
        self.call::<_, SignalReply>(method::SIGNAL, &SignalRequest { pid, signal }).await.map(drop)
    }

    /// Follows from `cursor`; the first event has come.
    pub(crate) async fn follow(&mut self, pid: u32, cursor: u64) -> Result<Follower, u16> {
        let body = grpc_frame::encode(&AttachRequest { pid, cursor });
        let mut running = self.begin(method::ATTACH, body).await?;
        let first: AttachEvent = running.message().await.expect("a first event");
        assert_eq!(first.cursor, cursor);
        let Some(Event::Process(process)) = first.event else { panic!("the process comes first: {first:?}") };
        assert_eq!(process.pid, pid);
        Ok(Follower { running, process, cursor, dropped: 0, seen: Vec::new(), gaps: Vec::new(), exited: None })
    }

    /// All that is kept from `cursor` on, up to the end.
    pub(crate) async fn follow_to_end(&mut self, pid: u32, cursor: u64) -> Follower {
        let mut follower = self.follow(pid, cursor).await.expect("a follower");
        while follower.step().await {}
        follower
    }
}

impl Follower {
    /// One event; false: it was the last.
    pub(crate) async fn step(&mut self) -> bool {
        let message: AttachEvent = self.running.message().await.expect("exited comes last");
        let (from, bytes) = match message.event.expect("an event that says what it is") {
            Event::Stdout(bytes) => (From::Out, bytes),
            Event::Stderr(bytes) => (From::Err, bytes),
            Event::DroppedBytes(bytes) => {
                self.gaps.push((self.cursor, self.cursor + bytes));
                self.cursor += bytes;
                self.dropped += bytes;
                assert_eq!(message.cursor, self.cursor);
                return true;
            }
            Event::Exited(exited) => {
                assert_eq!(message.cursor, self.cursor);
                self.exited = Some(exited);
                assert!(self.running.message::<AttachEvent>().await.is_none(), "nothing after exited");
                return false;
            }
            Event::Process(_) => panic!("the process comes once"),
        };
        assert!((1..=OUTPUT_CHUNK_BYTES_MAX).contains(&bytes.len()));
        // Its own memory: a slice would keep the whole frame.
        self.seen.push((self.cursor, from, Bytes::copy_from_slice(&bytes)));
        self.cursor += bytes.len() as u64;
        assert_eq!(message.cursor, self.cursor);
        true
    }

    /// Steps until so much has come, or the end.
    pub(crate) async fn step_to(&mut self, cursor: u64) {
        while self.cursor < cursor && self.step().await {}
    }

    /// Steps until `text` has come on stdout.
    pub(crate) async fn step_until(&mut self, text: &str) {
        while !self.text().contains(text) {
            assert!(self.step().await, "{text} has not come: {} {} {:?}", self.text(), self.errors(), self.exited);
        }
    }

    /// All that came, each byte with its stream.
    pub(crate) fn bytes(&self) -> Vec<(From, u8)> {
        self.seen.iter().flat_map(|(_, from, bytes)| bytes.iter().map(|byte| (*from, *byte))).collect()
    }

    pub(crate) fn of(&self, wanted: From) -> Vec<u8> {
        self.seen
            .iter()
            .filter(|(_, from, _)| *from == wanted)
            .flat_map(|(_, _, bytes)| bytes.iter().copied())
            .collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.of(From::Out)).into_owned()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.of(From::Err)).into_owned()
    }

    /// The reader goes away.
    pub(crate) fn cancel(self) {
        self.running.cancel();
    }
}

/// A request to start what `run` says.
pub(crate) fn started(run: RunRequest) -> StartRequest {
    StartRequest { run: Some(run), ..StartRequest::default() }
}
