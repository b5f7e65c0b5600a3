//! The versions with a handshake, 2025-03-26 to 2025-11-25: `initialize` begins a session, and all else is within one.

use super::call::Seen;
use super::engine::{Answer, Context, Engine};
use super::message::{self, Fault, Incoming, Request, response};
use super::methods::one;
use super::offer::Asker;
use super::session::Facts;
use super::{Era, server_info};
use rmcp::model::{
    CancelledNotificationParam, EmptyObject, ErrorCode, InitializeRequestParams, InitializeResult, ProtocolVersion,
};
use serde_json::Value;
use std::rc::Rc;
use std::sync::Arc;

const VERSION_HEADER: &str = "mcp-protocol-version";

/// Takes a message.
pub(super) async fn take(
    engine: &Rc<Engine>,
    incoming: Incoming,
    context: &Context<'_>,
    seen: &mut Seen,
) -> Result<Answer, Fault> {
    let mut request = match incoming {
        Incoming::Request(request) => request,
        Incoming::Response { id, answer } => {
            // What nobody asked for, or in no session, is nobody's fault.
            if let (Some(id), Ok((_, facts))) = (id, session(engine, context)) {
                engine.offer(context.set).answered(&facts, &id, answer);
            }
            return Ok(Answer::Nothing);
        }
        Incoming::Notification { method, params } => return told(engine, context, &method, params),
    };
    if request.method == "initialize" {
        return initialize(engine, context, &mut request);
    }
    let id = request.id.clone();
    let (session, facts) = session(engine, context).map_err(|fault| fault.of(&id))?;
    let nothing = || Ok(one(response(&id, EmptyObject {})));
    if request.method == "ping" {
        return nothing();
    }
    let Some(underway) = engine.sessions().start(session, &id) else {
        return Err(Fault::invalid("a request of this id is under way, or too many are").of(&id));
    };
    let asker = Asker { engine, context, era: Era::Legacy, session: Some((&facts, underway)) };
    match engine.offer(context.set).answer(asker, &mut request, seen).await {
        Some(answer) => answer,
        // Where nothing is ever logged to a client, every level is kept.
        None if request.method == "logging/setLevel" => nothing(),
        None => Err(Fault::new(200, ErrorCode::METHOD_NOT_FOUND, "no such method").of(&id)),
    }
}

/// A notification. What is not known is nobody's fault.
fn told(engine: &Rc<Engine>, context: &Context<'_>, method: &str, params: Value) -> Result<Answer, Fault> {
    let (session, _) = session(engine, context)?;
    if method == "notifications/cancelled"
        && let Ok(cancelled) = serde_json::from_value::<CancelledNotificationParam>(params)
        && let Some(id) = cancelled.request_id
    {
        engine.sessions().cancel(session, &id);
    }
    Ok(Answer::Nothing)
}

fn initialize(engine: &Rc<Engine>, context: &Context<'_>, request: &mut Request) -> Result<Answer, Fault> {
    let params: InitializeRequestParams = message::params(request)?;
    let asked = params.protocol_version;
    let known = [ProtocolVersion::V_2025_03_26, ProtocolVersion::V_2025_06_18, ProtocolVersion::V_2025_11_25];
    // A client that cannot live with the answer ends the session; an error would end it for all others.
    let version = known.into_iter().find(|version| *version == asked);
    let version = version.unwrap_or(ProtocolVersion::LATEST_WITH_INITIALIZE);
    let facts = Facts {
        version: version.clone(),
        set: context.set,
        caller: context.caller,
        auto_sandbox: context.auto_sandbox || context.own.is_some(),
        sandbox: context.own.cloned().unwrap_or_default(),
        outbox: engine.sessions().outbox(),
        subscribed: Arc::default(),
        #[cfg(any(test, feature = "mcp-conformance"))]
        peer: super::conformance::Peer::new(&params.capabilities),
    };
    let Some(session) = engine.sessions().begin(facts) else {
        return Err(Fault::new(503, ErrorCode::INTERNAL_ERROR, "too many sessions; try again").of(&request.id));
    };
    let offer = engine.offer(context.set);
    let result = InitializeResult::new(offer.capabilities())
        .with_protocol_version(version)
        .with_server_info(server_info())
        .with_instructions(offer.instructions());
    Ok(Answer::Message { status: 200, bytes: response(&request.id, result), session: Some(session) })
}

/// The session that a message names.
fn session<'a>(engine: &Rc<Engine>, context: &Context<'a>) -> Result<(&'a str, Facts), Fault> {
    let Some(id) = context.session else {
        let of_http = if context.head.is_some() { "Mcp-Session-Id is missing: " } else { "" };
        return Err(Fault::invalid(format!("{of_http}begin with `initialize`")));
    };
    let Some(facts) = engine.sessions().find(id, context.caller, context.set) else {
        return Err(Fault::new(404, ErrorCode::INVALID_REQUEST, "no such session: begin with `initialize`"));
    };
    let mut versions = context.head.into_iter().flat_map(|head| head.get_all(VERSION_HEADER));
    let is_known = |value: &http::HeaderValue| {
        ProtocolVersion::KNOWN_VERSIONS.iter().any(|version| version.as_str().as_bytes() == value.as_bytes())
    };
    if !versions.all(is_known) {
        return Err(Fault::invalid("MCP-Protocol-Version is none that this server knows"));
    }
    Ok((id, facts))
}
