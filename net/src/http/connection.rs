//! What happens on one connection: request after request, until one side has had enough.
//!
//! ```text
//!  next_head ─► admit ─► receive body ─► operation ─► answer ─┐
//!      ▲                                                      │ keep
//!      └──────────────────────────────────────────────────────┘ close: linger
//! ```
//! Answers collect in the output and are sent when nothing whole is left to answer, so pipelined requests share a write.

use super::answer::{Answer, COPIED_BYTES_MAX, Frame, write_head};
use super::body::{self, Stop};
use super::call::{self, Call};
use super::peers::Peer;
use super::route::Found;
use super::slot::Slot;
use super::socket::{Gone, Wire};
use super::{App, BODIES_BYTES_MAX, download, fields, mcp, origin, stream};
use crate::failure::{Refusal, Tells};
use crate::mcp::Set;
use crate::operation::{Access, Arguments, Document, EVENT_STREAM, Entry, Reply};
use crate::websocket::{session, upgrade};
use crate::wire::framing::{self, Framing};
use crate::wire::head::{Bad, Progress, Scan};
use bytes::Buf;
use http::request::Parts;
use http::{Method, Version};
use monoio::time::Instant;
use monoio_codec::{Decoded, Decoder};
use monoio_http::h1::codec::decoder::RequestHeadDecoder;
use std::rc::Rc;
use workspace_core::{Error, Reason, SandboxId};

/// Answers are sent when this much has collected, even where more could be answered first.
const OUT_BYTES_MAX: usize = 64 << 10;

/// In the log, of a request whose client did not wait for the answer.
const CLIENT_LEFT: u16 = 499;

/// Serves a connection to its end.
pub(super) async fn serve(app: &App, peer: Rc<Peer>) {
    let mut wire = Wire::new(peer, &app.settings.deadlines);
    loop {
        match exchange(app, &mut wire).await {
            Next::Keep => {}
            Next::Close => return wire.linger().await,
            Next::Gone => return,
        }
    }
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Keep,
    Close,
    Gone,
}

/// What a request has come to, for its answer and its line in the log.
pub(super) struct Request<'h> {
    entry: Option<&'static Entry>,
    pub(super) sandbox: Option<SandboxId>,
    pub(super) frame: Frame<'h>,
    started: Instant,
    pub(super) slot: Option<Slot>,
}

impl Request<'_> {
    /// What a message turned out to ask.
    pub(super) fn named(&mut self, entry: Option<&'static Entry>, sandbox: Option<SandboxId>) {
        self.entry = entry;
        self.sandbox = sandbox;
    }
}

async fn exchange(app: &App, wire: &mut Wire<'_>) -> Next {
    let head = match next_head(app, wire).await {
        Ok(head) => head,
        Err(None) => return Next::Gone,
        Err(Some(bad)) => return misframed(app, wire, bad, false),
    };
    let framing = match framing::read(&head) {
        Ok(framing) => framing,
        Err(bad) => return misframed(app, wire, bad, head.method == Method::HEAD),
    };
    let mut request = Request {
        entry: None,
        sandbox: None,
        frame: Frame {
            request_id: app.clock.request_id(),
            origin: None,
            preflight: false,
            keep_alive: framing.keep_alive,
            old: head.version == Version::HTTP_10,
            head_only: head.method == Method::HEAD,
            upgrade: None,
        },
        started: Instant::now(),
        slot: None,
    };
    let answer = match answer(app, wire, &head, &framing, &mut request).await {
        Ok(answer) => answer,
        Err(Stop::Refused(refusal)) => {
            if let Some(source) = &refusal.error.source {
                tracing::warn!(request_id = request.frame.request_id.as_str(), source, "a request failed");
            }
            Answer::refusal(refusal, &request.frame.request_id)
        }
        Err(Stop::Gone) => {
            log(&request, CLIENT_LEFT, 0);
            return Next::Gone;
        }
    };
    request.frame.keep_alive &= !app.peers.stopping();
    reply(app, wire, &mut request, answer).await
}

async fn reply(app: &App, wire: &mut Wire<'_>, request: &mut Request<'_>, answer: Answer) -> Next {
    let (status, code) = (answer.status, answer.code);
    let is_stream = matches!(answer.body, Reply::Events(_) | Reply::Socket(_));
    // Nothing follows events or a conversation: their end is the connection's. To HTTP/1.0 that is the end of every
    // body whose length is not known.
    let is_endless = matches!(&answer.body, Reply::Content(content) if content.length().is_none());
    request.frame.keep_alive &= !(is_stream || is_endless && request.frame.old);
    write_head(&mut wire.out, &app.clock, &answer, &request.frame);
    if !is_stream {
        log(request, status, code);
    }
    let sent = match answer.body {
        _ if request.frame.head_only => Ok(()),
        Reply::Events(events) => {
            let sent = stream::send(wire, events, !request.frame.old, app.settings.deadlines.heartbeat).await;
            log(request, if sent.is_ok() { status } else { CLIENT_LEFT }, code);
            sent
        }
        Reply::Socket(conversation) => {
            let sent = session::run(wire, conversation, socket_edge(app)).await;
            log(request, if sent.is_ok() { status } else { CLIENT_LEFT }, code);
            sent
        }
        Reply::Content(content) => download::send(wire, content, !request.frame.old).await,
        body => send_body(wire, body).await,
    };
    match sent {
        Err(_) => Next::Gone,
        Ok(()) if request.frame.keep_alive => Next::Keep,
        Ok(()) => Next::Close,
    }
}

fn socket_edge(app: &App) -> session::Edge<'_> {
    session::Edge {
        heartbeat: app.settings.deadlines.heartbeat,
        stop: app.peers.stop_told(),
        held_bytes: &app.bodies_bytes,
        held_bytes_max: BODIES_BYTES_MAX,
    }
}

async fn send_body(wire: &mut Wire<'_>, body: Reply) -> Result<(), Gone> {
    match body {
        Reply::NoContent | Reply::Events(_) | Reply::Socket(_) | Reply::Content(_) | Reply::Refused(_) => {}
        Reply::Whole(bytes) | Reply::Document(Document { bytes, .. }) => match bytes.len() {
            0..=COPIED_BYTES_MAX => wire.out.extend_from_slice(&bytes),
            _ => wire.flush_with(&bytes).await?,
        },
        Reply::Pieces(mut pieces) => {
            while pieces.write_next(&mut wire.out) {
                if wire.out.len() > OUT_BYTES_MAX {
                    wire.flush().await?;
                }
            }
        }
    }
    if wire.out.len() > OUT_BYTES_MAX { wire.flush().await } else { Ok(()) }
}

/// The next head, decoded; `None` where the peer has gone or idled too long.
async fn next_head(app: &App, wire: &mut Wire<'_>) -> Result<Parts, Option<Bad>> {
    let deadlines = &app.settings.deadlines;
    let mut scan = Scan::default();
    let mut first_byte: Option<Instant> = None;
    loop {
        if let Progress::Complete { start, end } = scan.feed(&wire.input)? {
            wire.input.advance(start);
            return decode(wire, end - start);
        }
        wire.flush().await.map_err(|_| None)?;
        let now = Instant::now();
        let idle = wire.input.is_empty();
        let deadline = if idle { now + deadlines.idle } else { *first_byte.get_or_insert(now) + deadlines.head };
        if idle {
            if app.peers.stopping() {
                return Err(None);
            }
            wire.rest();
            wire.peer.idle_since.set(Some(now.into_std()));
        }
        let filled = wire.fill(deadline).await;
        wire.peer.idle_since.set(None);
        match filled {
            Ok(()) => {}
            Err(Gone::Late) if !idle => {
                return Err(Some(Bad { status: 408, message: "the head did not arrive in time" }));
            }
            Err(_) => return Err(None),
        }
    }
}

fn decode(wire: &mut Wire<'_>, bytes: usize) -> Result<Parts, Option<Bad>> {
    let mut head = wire.input.split_to(bytes);
    match RequestHeadDecoder.decode(&mut head) {
        Ok(Decoded::Some(head)) => Ok(head),
        _ => Err(Some(Bad { status: 400, message: "the head is not one of HTTP/1.1" })),
    }
}

/// Bytes that are no request: answered once, and the connection ends, because what follows has no known meaning.
fn misframed(app: &App, wire: &mut Wire<'_>, bad: Bad, head_only: bool) -> Next {
    let frame = Frame {
        request_id: app.clock.request_id(),
        origin: None,
        preflight: false,
        keep_alive: false,
        old: false,
        head_only,
        upgrade: None,
    };
    let request = Request { entry: None, sandbox: None, frame, started: Instant::now(), slot: None };
    let answer = Answer::refusal(Refusal::request(bad.status, bad.message), &request.frame.request_id);
    write_head(&mut wire.out, &app.clock, &answer, &request.frame);
    if let (Reply::Whole(body), false) = (&answer.body, head_only) {
        wire.out.extend_from_slice(body);
    }
    log(&request, answer.status, answer.code);
    Next::Close
}

/// A request that was let in.
enum Admitted<'h> {
    Call { entry: &'static Entry, caller: &'h [u8], item: Option<(&'static str, &'h str)> },
    Options(Option<String>),
    Mcp { endpoint: &'h mcp::Endpoint, set: Set, caller: &'h [u8] },
}

async fn answer<'h>(
    app: &'h App,
    wire: &mut Wire<'_>,
    head: &'h Parts,
    framing: &Framing<'_>,
    request: &mut Request<'h>,
) -> Result<Answer, Stop> {
    let admitted = match admit(app, head, framing, request) {
        Ok(admitted) => admitted,
        Err(refusal) => {
            request.frame.keep_alive &= body::drain(app, wire, framing).await;
            return match page_instead(app, head).await {
                Some(page) => Ok(Answer::page(refusal, page)),
                None => Err(refusal.into()),
            };
        }
    };
    let (entry, caller, item) = match admitted {
        Admitted::Call { entry, caller, item } => (entry, caller, item),
        Admitted::Mcp { endpoint, set, caller } => {
            return mcp::answer(app, (endpoint, set), wire, head, framing, request, caller).await;
        }
        Admitted::Options(allow) => {
            request.frame.keep_alive &= body::drain(app, wire, framing).await;
            return Ok(Answer::empty(allow));
        }
    };
    call::answer(app, wire, head, framing, request, Call { entry, caller, item }).await
}

/// Everything that is decided by the head alone, before a byte of the body is asked for.
fn admit<'h>(
    app: &'h App,
    head: &'h Parts,
    framing: &Framing<'_>,
    request: &mut Request<'h>,
) -> Result<Admitted<'h>, Refusal> {
    request.frame.origin = origin::check(&app.settings, &head.headers, framing.host)?;
    if let Some(admitted) = admit_mcp(app, head, request)? {
        return Ok(admitted);
    }
    let found = app.router.find(&head.method, head.uri.path());
    if head.method == Method::OPTIONS {
        request.frame.preflight = head.headers.contains_key("access-control-request-method");
        return match found {
            Found::OtherMethods(allow) => Ok(Admitted::Options(Some(allow))),
            _ if head.uri.path() == "*" => Ok(Admitted::Options(None)),
            _ => Err(unknown_route()),
        };
    }
    let caller = match &found {
        Found::Operation { entry, .. } if entry.access == Access::Open => &[][..],
        Found::Operation { entry, .. } if entry.socket.is_some() && upgrade::is_asked(head) => {
            app.settings.api_keys.socket_caller(&head.headers, upgrade::key_in_query(head).as_deref())?;
            &[][..]
        }
        _ => app.settings.api_keys.caller(&head.headers)?,
    };
    let (entry, names) = match found {
        // It would run the command, or follow the process, and show nothing of it.
        Found::Operation { entry, .. }
            if head.method == Method::HEAD && (entry.media_type == EVENT_STREAM || entry.socket.is_some()) =>
        {
            let message = "what goes on has no HEAD; use GET";
            return Err(Refusal {
                tells: Some(Tells::Allow("GET, OPTIONS".to_owned())),
                ..Refusal::request(405, message)
            });
        }
        Found::Operation { entry, names } => (entry, names),
        Found::OtherMethods(allow) => {
            let message = "this route does not have this method; see the header Allow";
            return Err(Refusal { tells: Some(Tells::Allow(allow)), ..Refusal::request(405, message) });
        }
        Found::Nothing => return Err(unknown_route()),
    };
    request.entry = Some(entry);
    if let Some(id) = names.id {
        let sandbox = SandboxId::parse(id);
        request.sandbox = Some(sandbox.ok_or_else(|| Error::new(Reason::SandboxNotFound, "no sandbox has this id"))?);
    }
    fields::media_type(head, entry.carries)?;
    if let Some(protocols) = entry.socket {
        request.frame.upgrade = Some(upgrade::read(head, framing, protocols)?);
    }
    Ok(Admitted::Call { entry, caller, item: names.item })
}

/// The same for what lies under MCP's path.
fn admit_mcp<'h>(app: &'h App, head: &'h Parts, request: &mut Request<'h>) -> Result<Option<Admitted<'h>>, Refusal> {
    let Some(endpoint) = &app.mcp else { return Ok(None) };
    let Some(set) = endpoint.set(head.uri.path()) else { return Ok(None) };
    if head.method == Method::OPTIONS {
        request.frame.preflight = head.headers.contains_key("access-control-request-method");
        return Ok(Some(Admitted::Options(Some(mcp::ALLOW.to_owned()))));
    }
    let caller = app.settings.api_keys.caller(&head.headers)?;
    mcp::admit(head)?;
    Ok(Some(Admitted::Mcp { endpoint, set, caller }))
}

/// What a refused browser is shown, where the route has a page.
async fn page_instead(app: &App, head: &Parts) -> Option<Reply> {
    let Found::Operation { entry, .. } = app.router.find(&head.method, head.uri.path()) else { return None };
    if entry.access != Access::KeyOrPage {
        return None;
    }
    (entry.invoke)(&app.shard, Arguments::nothing()).await.ok()
}

fn unknown_route() -> Refusal {
    Refusal::request(404, "no such route; /openapi.json lists them")
}

/// The one line of a request. Never a body, a path, a query or a key.
fn log(request: &Request<'_>, status: u16, code: u16) {
    tracing::info!(
        request_id = request.frame.request_id.as_str(),
        operation = request.entry.map_or("-", |entry| entry.name),
        sandbox = request.sandbox.as_ref().map_or("-", |id| id.as_str()),
        status,
        code,
        us = request.started.elapsed().as_micros() as u64,
        "request"
    );
}
