//! The version without a handshake, 2026-07-28: each request says all that there is to know, in `_meta` and in its head.
//!
//! Head and body must agree, so that what stands between may route by the head: what differs is refused before it acts.
//! A request is canceled by closing its answer. Source: the specification, 2026-07-28, basic and transports.

use super::call::Seen;
use super::engine::{Answer, Context, Engine, Messages};
use super::message::{self, Fault, Incoming, Request, notification, response};
use super::methods::one;
use super::offer::{Asker, Offer};
use super::{Era, LIST_TTL_MS, server_info, versions};
use crate::wire::base64;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use http::HeaderMap;
use rmcp::model::{
    CacheScope, DiscoverResult, ErrorCode, ErrorData, NotificationMetaObject, ProtocolVersion, RequestMetaObject,
    SubscriptionsAcknowledgedNotificationParams, SubscriptionsListenRequestParams,
};
use serde_json::Value;
use std::rc::Rc;

const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const VERSION_HEADER: &str = "mcp-protocol-version";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

/// True for a message that names its version itself, or whose head names one that has no handshake.
pub(super) fn is_meant(message: &Value, context: &Context<'_>) -> bool {
    let named = message["params"]["_meta"].get(VERSION).is_some();
    let head = context.head.and_then(|head| head.get(VERSION_HEADER)).and_then(|value| value.to_str().ok());
    let asks = message["method"] == "server/discover" || message["method"] == "subscriptions/listen";
    named || asks || head.is_some_and(|version| version >= ProtocolVersion::NO_INITIALIZE.as_str())
}

/// Takes a message.
pub(super) async fn take(
    engine: &Rc<Engine>,
    incoming: Incoming,
    context: &Context<'_>,
    seen: &mut Seen,
) -> Result<Answer, Fault> {
    let Incoming::Request(mut request) = incoming else { return Ok(Answer::Nothing) };
    let id = request.id.clone();
    check(engine, &request, context).map_err(|fault| fault.of(&id))?;
    match request.method.as_str() {
        "server/discover" => return Ok(one(response(&id, discovered(engine.offer(context.set))))),
        "subscriptions/listen" => return listen(engine, context, &mut request).await,
        _ => {}
    }
    let asker = Asker { engine, context, era: Era::Modern, session: None };
    match engine.offer(context.set).answer(asker, &mut request, seen).await {
        Some(answer) => answer,
        None => Err(Fault::new(404, ErrorCode::METHOD_NOT_FOUND, "no such method").of(&id)),
    }
}

fn check(engine: &Rc<Engine>, request: &Request, context: &Context<'_>) -> Result<(), Fault> {
    let meta = match request.params.get("_meta") {
        Some(Value::Object(meta)) => RequestMetaObject::from(meta.clone()),
        _ => RequestMetaObject::new(),
    };
    let missing = meta.missing_required_keys(&ProtocolVersion::V_2026_07_28);
    if !missing.is_empty() {
        let message = format!("`params._meta` must hold {}", missing.join(" and "));
        return Err(Fault::new(400, ErrorCode::INVALID_PARAMS, message));
    }
    let version = meta.protocol_version().unwrap_or_default();
    if let Some(head) = context.head {
        agree(head, VERSION_HEADER, Some(version.as_str()))?;
    }
    if version != ProtocolVersion::V_2026_07_28 {
        let error = ErrorData::unsupported_protocol_version(version, &newest_first());
        return Err(Fault { status: 400, id: None, error });
    }
    let Some(head) = context.head else { return Ok(()) };
    agree(head, METHOD_HEADER, Some(&request.method))?;
    let name = match request.method.as_str() {
        "tools/call" | "prompts/get" => request.params["name"].as_str(),
        "resources/read" => request.params["uri"].as_str(),
        _ => return Ok(()),
    };
    agree(head, NAME_HEADER, name)?;
    let tool = name.filter(|_| request.method == "tools/call");
    match tool.and_then(|tool| engine.offer(context.set).repeated(tool)) {
        Some((header, argument)) => {
            agree(head, header, request.params["arguments"].get(argument).and_then(Value::as_str))
        }
        None => Ok(()),
    }
}

/// That a field of the head is there once and says what the body says, or is absent where the body says nothing.
fn agree(head: &HeaderMap, name: &str, body: Option<&str>) -> Result<(), Fault> {
    let refuse = |what: &str| Err(Fault::new(400, ErrorCode::HEADER_MISMATCH, format!("the header {name} {what}")));
    let mut fields = head.get_all(name).iter();
    let (field, body) = match (fields.next(), body) {
        (None, None) => return Ok(()),
        (None, Some(_)) => return refuse("is missing"),
        (Some(_), None) => return refuse("is there, and the body does not have what it says"),
        (Some(field), Some(body)) => (field, body),
    };
    if fields.next().is_some() {
        return refuse("is there twice");
    }
    let Ok(text) = field.to_str() else { return refuse("holds characters that a header may not have") };
    let decoded = match text.strip_prefix("=?base64?").and_then(|text| text.strip_suffix("?=")) {
        Some(inner) => match base64::decode(inner).and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(decoded) => decoded,
            None => return refuse("is not base64 of a text"),
        },
        None => text.to_owned(),
    };
    if decoded == body { Ok(()) } else { refuse("is not what the body says") }
}

fn newest_first() -> Vec<ProtocolVersion> {
    let mut versions = versions();
    versions.reverse();
    versions
}

fn discovered(offer: &dyn Offer) -> DiscoverResult {
    let mut result = DiscoverResult::new(newest_first(), offer.capabilities())
        .with_server_info(server_info())
        .with_ttl_ms(LIST_TTL_MS)
        .with_cache_scope(CacheScope::Public);
    result.instructions = Some(offer.instructions().to_owned());
    result
}

async fn listen(engine: &Rc<Engine>, context: &Context<'_>, request: &mut Request) -> Result<Answer, Fault> {
    let params: SubscriptionsListenRequestParams = message::params(request)?;
    if !context.streams {
        return Err(Fault::new(406, ErrorCode::INVALID_REQUEST, "this answer is a stream: accept text/event-stream")
            .of(&request.id));
    }
    let offer = engine.offer(context.set);
    let wanted = params.notifications.supported_by(&offer.capabilities());
    let asker = Asker { engine, context, era: Era::Modern, session: None };
    let (accepted, told) = offer.listen(asker, &request.id, wanted).await?;
    let mut meta = NotificationMetaObject::new();
    meta.set_subscription_id(request.id.clone());
    let params = SubscriptionsAcknowledgedNotificationParams::new(accepted).with_meta(meta);
    let first = notification("notifications/subscriptions/acknowledged", params);
    Ok(Answer::Stream(Box::new(Subscription { first: Some(first), told })))
}

/// What is told of changes, until the client has heard enough.
struct Subscription {
    first: Option<Vec<u8>>,
    told: Box<dyn Messages>,
}

impl Messages for Subscription {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        match self.first.take() {
            Some(first) => async { Some(first) }.boxed_local(),
            None => self.told.next(),
        }
    }

    fn only_listens(&self) -> bool {
        self.told.only_listens()
    }

    fn stop(&mut self) -> Option<Vec<u8>> {
        self.told.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_and_body_agree_or_are_refused() {
        let head = |values: &[&str]| {
            let mut head = HeaderMap::new();
            for value in values {
                head.append(NAME_HEADER, value.parse().unwrap());
            }
            head
        };
        for (values, body, fine) in [
            (&["a"][..], Some("a"), true),
            (&["=?base64?w6k=?="], Some("é"), true),
            (&[], None, true),
            (&["a"], Some("b"), false),
            (&["a", "a"], Some("a"), false),
            (&[], Some("a"), false),
            (&["a"], None, false),
            (&["=?base64?***?="], Some("a"), false),
            (&["A"], Some("a"), false),
        ] {
            let outcome = agree(&head(values), NAME_HEADER, body);
            assert_eq!(outcome.is_ok(), fine, "{values:?} {body:?}");
            if let Err(fault) = outcome {
                assert_eq!((fault.status, fault.error.code.0), (400, -32020));
            }
        }
    }
}
