//! One client of stdio, as the server sees it: lines in, each a message of MCP; lines out, in the order of their making.
//!
//! ```text
//!  packets ─► lines ─► message ─► a task each ─► engine ─┐
//!     (reading waits while 256 are under way)            ▼
//!  packets ◄── writer ◄──────── 16 messages that wait ◄── answers, progress, what a session is told
//! ```
//! A client that does not read its answers fills the queue, then its tasks wait, then nobody reads its requests. What
//! ends a request drops its task, and with it the command: `notifications/cancelled`, and the end of the client.
//! At the end of input answers that are under way are given time to come; who has gone is waited for by nothing.

use super::packet::{self, FromRelay, PACKET_BYTES_MAX};
use super::socket::Socket;
use super::underway::{NoPlace, Place, Underway};
use crate::http::Stop;
use crate::mcp::{self, Answer, Context, Engine, MESSAGE_BYTES_MAX, Messages, Own, Set};
use crate::wire::lines::{Line, Lines};
use futures_util::FutureExt;
use futures_util::future::{Either, pending, select};
use monoio::time::{sleep, timeout};
use rmcp::model::RequestId;
use serde::Deserialize;
use serde_json::Value;
use std::cell::RefCell;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Messages that wait for the client to read them.
const WAITING_MAX: usize = 16;
/// How long a request waits for a place where none has come free.
const PLACE_WAIT: Duration = Duration::from_secs(2);
/// How long answers may take that are under way at the end of input, or of the server.
const DRAIN: Duration = Duration::from_secs(8);
/// How long what is answered may take to be read, where the server ends. A client that only ends its input reads on for as
/// long as it likes.
const FLUSH: Duration = Duration::from_secs(1);
/// What stands for a caller's key: no request over HTTP has it.
const CALLER: u64 = u64::from_be_bytes(*b"by stdio");

/// Why no more is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// The client waits for its answers.
    Input,
    /// The server ends.
    Server,
    /// The client has gone.
    Client,
}

/// What becomes of a message.
enum Kind {
    /// It is answered beside others.
    Request(Option<RequestId>),
    /// It ends a request.
    Cancel(RequestId),
    /// It is done before the next one is read; true where nothing may be answered to it.
    InOrder { silent: bool },
}

struct Conversation {
    engine: Rc<Engine>,
    set: Set,
    own: Option<Own>,
    session: RefCell<Option<String>>,
    underway: Rc<Underway>,
    out: flume::Sender<Vec<u8>>,
    /// Its sender is dropped at the end of input.
    ending: (RefCell<Option<flume::Sender<Infallible>>>, flume::Receiver<Infallible>),
}

/// Serves a client that has said hello, until it has gone or `stop`. What it had for itself is removed.
pub(super) async fn serve(socket: Rc<Socket>, engine: Rc<Engine>, set: Set, stop: Stop) {
    // In the set that makes sandboxes a client names the one it means.
    let own = (engine.set("full") != Some(set)).then(Own::default);
    let (out, outbox) = flume::bounded(WAITING_MAX);
    let (writes, written) = flume::bounded::<()>(1);
    let writer = socket.clone();
    monoio::spawn(async move {
        let _writes = writes;
        if write(&writer, outbox).await.is_err() {
            // The client has gone, which the reader sees too.
        }
    });
    let session = RefCell::default();
    let (goes_on, ending) = flume::bounded(1);
    let ending = (RefCell::new(Some(goes_on)), ending);
    let talk = Rc::new(Conversation { engine, set, own, session, underway: Underway::new(), out, ending });
    let broken = || written.recv_async();
    let stopped = match select(pin!(talk.read(&socket)), select(pin!(stop.requested()), broken())).await {
        Either::Left((stopped, _)) => stopped,
        Either::Right((Either::Left(_), _)) => Stopped::Server,
        Either::Right((Either::Right(_), _)) => Stopped::Client,
    };
    if stopped == Stopped::Client {
        talk.underway.cancel_all();
    } else {
        talk.ending.0.take();
        let mut left = pin!(gone(&socket));
        let left = select(left.as_mut(), broken());
        select(pin!(talk.underway.answered()), select(left, pin!(sleep(DRAIN)))).await;
        talk.underway.cancel_working();
    }
    if let Some(session) = talk.session.take() {
        talk.engine.end(&session, CALLER, set).await;
    }
    if let Some(own) = &talk.own {
        talk.engine.end_own(own).await;
    }
    drop(talk);
    let enough = async {
        if stopped == Stopped::Input {
            stop.requested().await;
        }
        sleep(FLUSH).await;
    };
    if stopped != Stopped::Client {
        select(broken(), select(pin!(gone(&socket)), pin!(enough))).await;
    }
}

/// Returns when the client has gone. What it sends meanwhile is no request any more.
async fn gone(socket: &Socket) {
    while let Some(packet) = socket.receive().await {
        if packet == packet::ABORT {
            return;
        }
    }
}

/// Sends what is to be said, many messages in a packet, until there is nobody who could say more.
async fn write(socket: &Socket, outbox: flume::Receiver<Vec<u8>>) -> std::io::Result<()> {
    let mut lines = Vec::new();
    while let Ok(message) = outbox.recv_async().await {
        let mut next = Some(message);
        while let Some(message) = next {
            debug_assert!(!message.contains(&b'\n'), "JSON as it is written here has no line break");
            lines.extend_from_slice(&message);
            lines.push(b'\n');
            next = if lines.len() < PACKET_BYTES_MAX { outbox.try_recv().ok() } else { None };
        }
        for piece in lines.chunks(PACKET_BYTES_MAX - 1) {
            socket.send(&packet::letter(packet::DATA, piece)).await?;
        }
        lines = if lines.capacity() > 8 * PACKET_BYTES_MAX { Vec::new() } else { lines };
        lines.clear();
    }
    Ok(())
}

impl Conversation {
    async fn read(self: &Rc<Conversation>, socket: &Socket) -> Stopped {
        let mut lines = Lines::new(MESSAGE_BYTES_MAX);
        loop {
            let Some(packet) = socket.receive().await else { return Stopped::Client };
            match packet::from_relay(&packet) {
                Some(FromRelay::Data(bytes)) => {
                    let mut rest = bytes;
                    while let Some(line) = lines.feed(&mut rest) {
                        self.take(line).await;
                    }
                }
                Some(FromRelay::End) => {
                    if let Some(line) = lines.end() {
                        self.take(line).await;
                    }
                    return Stopped::Input;
                }
                Some(FromRelay::Abort) => return Stopped::Client,
                Some(FromRelay::Hello(_)) | None => {
                    tracing::warn!("a packet over stdio that is none");
                    return Stopped::Client;
                }
            }
        }
    }

    async fn take(self: &Rc<Conversation>, line: Line) {
        let line = match line {
            Line::Whole(line) => line,
            Line::TooLong => {
                let refused =
                    mcp::too_long(&format!("a message may have {MESSAGE_BYTES_MAX} bytes; this one is skipped"));
                return self.say(refused).await;
            }
        };
        let message = match mcp::parse(&line) {
            Ok(message) => message,
            Err(refused) => return self.say(refused).await,
        };
        match kind(&message) {
            Kind::Cancel(id) => self.underway.cancel(&id),
            Kind::InOrder { silent } => self.answer(message, None, silent).await,
            Kind::Request(id) => match self.place(id.clone(), line.len()).await {
                Ok(place) => self.start(message, id, place),
                Err(NoPlace::Twice) => {
                    self.say(mcp::refused(id.as_ref(), "a request of this id is under way; give each its own")).await;
                }
                Err(NoPlace::Full) => {
                    let text = "too many requests are under way; wait for an answer, or cancel one";
                    self.say(mcp::refused(id.as_ref(), text)).await;
                }
            },
        }
    }

    /// A place as soon as there is one, while places come free: those of a burst do in a moment, those of commands that go
    /// on for hours do not, and behind this message may stand the one that cancels them.
    async fn place(&self, id: Option<RequestId>, bytes: usize) -> Result<Place, NoPlace> {
        loop {
            match self.underway.enter(id.clone(), bytes) {
                Err(NoPlace::Full) => {}
                other => return other,
            }
            let left = PLACE_WAIT.saturating_sub(self.underway.moved().elapsed());
            if left.is_zero() || timeout(left, self.underway.one_ended()).await.is_err() {
                return Err(NoPlace::Full);
            }
        }
    }

    fn start(self: &Rc<Conversation>, message: Value, id: Option<RequestId>, place: Place) {
        let talk = self.clone();
        monoio::spawn(async move {
            let answering = AssertUnwindSafe(talk.answer(message, Some(&place), false)).catch_unwind();
            if let Either::Left((Err(_), _)) = select(pin!(answering), pin!(place.cancelled())).await {
                talk.say(mcp::refused(id.as_ref(), "the server failed at this; its log says how")).await;
            }
        });
    }

    async fn answer(self: &Rc<Conversation>, message: Value, place: Option<&Place>, silent: bool) {
        let started = Instant::now();
        let session = self.session.borrow().clone();
        let context = Context {
            set: self.set,
            caller: CALLER,
            session: session.as_deref(),
            head: None,
            auto_sandbox: false,
            own: self.own.as_ref(),
            streams: true,
        };
        let taken = self.engine.take_message(message, context).await;
        match taken.answer {
            Answer::Nothing => {}
            Answer::Message { .. } if silent => {}
            Answer::Message { bytes, session, .. } => {
                place.into_iter().for_each(Place::is_answered);
                session.into_iter().for_each(|session| self.begin(session));
                self.say(bytes).await;
            }
            Answer::Stream(messages) => {
                if messages.only_listens() {
                    place.into_iter().for_each(Place::only_listens);
                }
                self.tell(messages, place).await;
            }
        }
        tracing::info!(
            operation = taken.entry.map_or("-", |entry| entry.name),
            sandbox = taken.sandbox.as_ref().map_or("-", |id| id.as_str()),
            us = started.elapsed().as_micros() as u64,
            "request over stdio"
        );
    }

    /// Says what comes, to its end; what only listens is ended with the input, by what it says last.
    async fn tell(&self, mut messages: Box<dyn Messages>, place: Option<&Place>) {
        let only_listens = messages.only_listens();
        loop {
            let ending = async {
                if !only_listens {
                    pending::<()>().await;
                }
                // Nothing is ever sent.
                let _ = self.ending.1.recv_async().await;
            };
            match select(messages.next(), pin!(ending)).await {
                Either::Left((Some(message), _)) => self.say(message).await,
                Either::Left((None, _)) => return,
                Either::Right(_) => break,
            }
        }
        place.into_iter().for_each(Place::is_answered);
        if let Some(last) = messages.stop() {
            self.say(last).await;
        }
    }

    /// A handshake. What the session is told comes between the answers; while that is listened to, it does not idle.
    fn begin(self: &Rc<Conversation>, session: String) {
        if let Some(earlier) = self.session.replace(Some(session.clone())) {
            self.engine.forget(&earlier, CALLER, self.set);
        }
        let Some(mut told) = self.engine.follow(&session, CALLER, self.set, None) else { return };
        let out = self.out.clone();
        monoio::spawn(async move {
            while let Some(message) = told.next().await {
                if !message.is_empty() && out.send_async(message).await.is_err() {
                    return;
                }
            }
        });
    }

    async fn say(&self, message: Vec<u8>) {
        // Where there is nothing but a mark to come back by: nobody comes back over stdio.
        if !message.is_empty() {
            // The writer has ended: the client has gone.
            let _ = self.out.send_async(message).await;
        }
    }
}

fn kind(message: &Value) -> Kind {
    if message.is_array() {
        return Kind::Request(None);
    }
    let read = |id: &Value| RequestId::deserialize(id).ok();
    match (message["method"].as_str(), message.get("id")) {
        // Later messages may be sent before its answer is read, and must find the session.
        (Some("initialize"), Some(_)) => Kind::InOrder { silent: false },
        (Some("notifications/cancelled"), None) => match read(&message["params"]["requestId"]) {
            Some(id) => Kind::Cancel(id),
            None => Kind::InOrder { silent: true },
        },
        (Some(_), None) => Kind::InOrder { silent: true },
        (Some(_), Some(id)) => read(id).map_or(Kind::InOrder { silent: false }, |id| Kind::Request(Some(id))),
        (None, _) => Kind::InOrder { silent: false },
    }
}
