//! MCP over HTTP ("Streamable HTTP"): one message a POST, answered by JSON or by events; GET is the stream of what a
//! session's client is told without asking, and DELETE ends the session.
//!
//! A version without sessions has neither: 405.

use super::answer::Answer;
use super::body::{self, Stop};
use super::connection::Request;
use super::socket::Wire;
use super::{App, fields};
use crate::failure::{Refusal, Tells};
use crate::mcp::{self, Context, Engine, MESSAGE_BYTES_MAX, Mark, Messages, Set};
use crate::operation::{Carries, Document, Events, Reply};
use crate::wire::framing::Framing;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use http::header::ACCEPT;
use http::request::Parts;
use http::{HeaderMap, Method};
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

pub(super) const ALLOW: &str = "GET, POST, DELETE, OPTIONS";
/// Where no session is named.
const ALLOW_WITHOUT_SESSION: &str = "POST, OPTIONS";
const SESSION: &str = "mcp-session-id";
const LAST_EVENT: &str = "last-event-id";
const VERSION: &str = "mcp-protocol-version";
/// Of a session id.
const SESSION_BYTES_MAX: usize = 64;

/// Where MCP lies, and what answers there.
pub(super) struct Endpoint {
    pub(super) path: String,
    pub(super) engine: Rc<Engine>,
}

impl Endpoint {
    /// What a path names.
    pub(super) fn set(&self, path: &str) -> Option<Set> {
        self.engine.set(path.strip_prefix(self.path.as_str())?.strip_prefix('/')?)
    }
}

/// What a head accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Accepts {
    json: bool,
    events: bool,
}

impl Accepts {
    fn read(headers: &HeaderMap) -> Accepts {
        let mut accepts = Accepts { json: false, events: false };
        let mut any = false;
        for value in headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()) {
            for one in value.split(',').filter_map(|one| one.split(';').next()) {
                any = true;
                let one = one.trim();
                let all = one == "*/*";
                accepts.json |= all || one.eq_ignore_ascii_case("application/json") || one == "application/*";
                accepts.events |= all || one.eq_ignore_ascii_case("text/event-stream") || one == "text/*";
            }
        }
        if any { accepts } else { Accepts { json: true, events: true } }
    }
}

/// What is decided by the head alone.
pub(super) fn admit(head: &Parts) -> Result<(), Refusal> {
    let accepts = Accepts::read(&head.headers);
    match head.method {
        Method::POST if !accepts.json && !accepts.events => {
            let message =
                "nothing that can be answered is accepted: send `Accept: application/json, text/event-stream`";
            Err(Refusal::request(406, message))
        }
        Method::POST => fields::media_type(head, Carries::Json),
        Method::GET if session(&head.headers).is_some() && !accepts.events => {
            Err(Refusal::request(406, "what a session is told is a stream: send `Accept: text/event-stream`"))
        }
        Method::GET | Method::DELETE if session(&head.headers).is_some() => Ok(()),
        _ => {
            let message = "MCP takes a message by POST; GET and DELETE are for the session that Mcp-Session-Id names";
            let allow = if session(&head.headers).is_some() { ALLOW } else { ALLOW_WITHOUT_SESSION };
            Err(Refusal { tells: Some(Tells::Allow(allow.to_owned())), ..Refusal::request(405, message) })
        }
    }
}

/// The one session that a head names, unless its version has none.
fn session(headers: &HeaderMap) -> Option<&str> {
    if headers.get(VERSION).is_some_and(|version| version.as_bytes() >= &b"2026-07-28"[..]) {
        return None;
    }
    let mut ids = headers.get_all(SESSION).iter();
    let id = ids.next()?.to_str().ok().filter(|id| !id.is_empty() && id.len() <= SESSION_BYTES_MAX)?;
    ids.next().is_none().then_some(id)
}

/// Answers a message, tells what a session is told, or ends it.
pub(super) async fn answer(
    app: &App,
    (endpoint, set): (&Endpoint, Set),
    wire: &mut Wire<'_>,
    head: &Parts,
    framing: &Framing<'_>,
    request: &mut Request<'_>,
    caller: &[u8],
) -> Result<Answer, Stop> {
    let caller = digest(caller);
    let keep_alive = std::mem::replace(&mut request.frame.keep_alive, false);
    if head.method != Method::POST {
        request.frame.keep_alive = keep_alive && body::drain(app, wire, framing).await;
        let id = session(&head.headers).unwrap_or_default();
        let answer = match head.method {
            Method::GET => {
                let last = head.headers.get(LAST_EVENT).and_then(|last| last.to_str().ok());
                endpoint.engine.follow(id, caller, set, last).map(|messages| events(app, messages, None))
            }
            _ => endpoint.engine.end(id, caller, set).await.then(|| Answer::empty(None)),
        };
        return answer.ok_or_else(|| Refusal::request(404, "no such session: begin with `initialize`").into());
    }
    let bytes = match body::receive(app, wire, framing, MESSAGE_BYTES_MAX).await {
        Ok(bytes) => bytes,
        Err(Stop::Refused(refusal)) if refusal.status == 413 => {
            return Ok(plain(413, mcp::too_long(&refusal.error.message).into(), None));
        }
        Err(stop) => return Err(stop),
    };
    request.frame.keep_alive = keep_alive;
    let accepts = Accepts::read(&head.headers);
    let context = Context {
        set,
        caller,
        session: session(&head.headers),
        head: Some(&head.headers),
        auto_sandbox: head.headers.get("x-workspace-auto-sandbox").is_some_and(|value| value.as_bytes() == b"true"),
        own: None,
        streams: accepts.events,
    };
    let taken = {
        let taking = pin!(AssertUnwindSafe(endpoint.engine.take(&bytes, context)).catch_unwind());
        // Whoever goes away ends what was asked: a command with all its descendants.
        match select(taking, pin!(gone(wire))).await {
            Either::Left((taken, _)) => taken,
            Either::Right(_) => return Err(Stop::Gone),
        }
    };
    let failed = |_| Refusal::request(500, "the server failed at this; its log says how");
    let taken = taken.map_err(failed)?;
    request.named(taken.entry, taken.sandbox);
    Ok(match taken.answer {
        mcp::Answer::Nothing => plain(202, Bytes::new(), None),
        mcp::Answer::Message { status, bytes, session } if accepts.json || status != 200 => {
            plain(status, bytes.into(), session)
        }
        mcp::Answer::Message { bytes, session, .. } => events(app, Box::new(Once(Some(bytes))), session),
        mcp::Answer::Stream(messages) => events(app, messages, None),
    })
}

/// Sends what was answered before, and returns when the client has gone.
async fn gone(wire: &mut Wire<'_>) {
    if wire.flush().await.is_ok() {
        wire.left().await;
    }
}

/// Tells callers apart without keeping their keys. FNV-1a.
fn digest(caller: &[u8]) -> u64 {
    caller.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
}

fn plain(status: u16, bytes: Bytes, session: Option<String>) -> Answer {
    let document = Document { status: Some(status), media_type: "application/json", headers: "", bytes };
    Answer { status, body: Reply::Document(document), tells: session.map(Tells::Session), code: 0 }
}

fn events(app: &App, messages: Box<dyn Messages>, session: Option<String>) -> Answer {
    let stop = messages.only_listens().then(|| app.peers.stop_told());
    let body = Reply::Events(Box::new(Framed { messages, stop }));
    Answer { status: 200, body, tells: session.map(Tells::Session), code: 0 }
}

/// Messages as server-sent events, one each.
struct Framed {
    messages: Box<dyn Messages>,
    /// Disconnected when the server stops, which ends what only listens: the end of the server does not wait for it.
    stop: Option<flume::Receiver<Infallible>>,
}

impl Framed {
    async fn next(&mut self) -> Option<Vec<u8>> {
        let Some(stop) = &self.stop else { return self.messages.next().await };
        if let Either::Left((message, _)) = select(self.messages.next(), stop.recv_async()).await {
            return message;
        }
        self.messages.stop()
    }
}

impl Events for Framed {
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool> {
        async {
            let Some(message) = self.next().await else { return false };
            if let Some(Mark { id, retry }) = self.messages.mark() {
                let retry = retry.map(|retry| format!("retry: {}\n", retry.as_millis())).unwrap_or_default();
                out.extend_from_slice(format!("id: {id}\n{retry}").as_bytes());
            }
            // What is nothing but a mark is no message.
            let name: &[u8] = if message.is_empty() { b"" } else { b"event: message\n" };
            out.extend_from_slice(name);
            out.extend_from_slice(b"data: ");
            out.extend_from_slice(&message);
            out.extend_from_slice(b"\n\n");
            true
        }
        .boxed_local()
    }
}

/// One message.
struct Once(Option<Vec<u8>>);

impl Messages for Once {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        let message = self.0.take();
        async { message }.boxed_local()
    }
}
