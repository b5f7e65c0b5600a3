//! What header fields say about a call: the body's type, the key of a repetition, where a reader of events left off.

use crate::failure::Refusal;
use crate::operation::{Asked, Carries};
use crate::wire::date;
use crate::wire::entity::{self, Comparison};
use crate::wire::framing;
use http::header::{
    ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
    RANGE,
};
use http::request::Parts;
use http::{HeaderName, Method};
use workspace_core::files::Conditions;
use workspace_core::sandbox::Idempotency;
use workspace_core::{Error, Reason};

static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
static LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Media types of bodies that are bytes.
const BYTES: [&str; 2] = ["application/octet-stream", "application/x-tar"];

/// A body must say that it is JSON: a browser sends that only after a preflight, which foreign pages don't pass.
pub(super) fn media_type(head: &Parts, carries: Carries) -> Result<(), Refusal> {
    let wrong = |message| Err(Refusal::request(415, message));
    let mut codings = head.headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return wrong("a body may not be compressed");
    }
    if head.method != Method::POST && head.method != Method::PUT {
        return Ok(());
    }
    let takes_bytes = carries == Carries::Takes;
    if essence(head).is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"))
        || (takes_bytes && is_bytes(head))
    {
        return Ok(());
    }
    wrong(if takes_bytes {
        "the body must be bytes, with `Content-Type: application/octet-stream`, or JSON, with `application/json`"
    } else {
        "the body must be JSON, with `Content-Type: application/json`"
    })
}

/// The one media type of the body, without its parameters.
fn essence(head: &Parts) -> Option<&str> {
    let value = framing::single(&head.headers, &CONTENT_TYPE, "two Content-Type fields");
    value.ok().flatten().and_then(|v| v.split(';').next()).map(str::trim)
}

/// The body is bytes. A PUT need not say so: like one of another type, it can't come from a foreign page.
pub(super) fn is_bytes(head: &Parts) -> bool {
    match essence(head) {
        Some(essence) => BYTES.iter().any(|bytes| essence.eq_ignore_ascii_case(bytes)),
        None => head.method == Method::PUT && !head.headers.contains_key(CONTENT_TYPE),
    }
}

/// What a head says about the bytes that it wants or brings.
pub(super) fn asked(head: &Parts) -> Result<Asked, Refusal> {
    let text = |name: HeaderName| {
        let value = framing::single(&head.headers, &name, "a field is there twice");
        value.map_err(|bad| Refusal::request(400, format!("{}: {name}", bad.message)))
    };
    let tags = |name: HeaderName, comparison| match text(name.clone())? {
        None => Ok(None),
        Some(value) => match entity::tags(value, comparison) {
            Some(tags) => Ok(Some(tags)),
            None => Err(Refusal::request(400, format!("{name} is no list of quoted tags and not `*`"))),
        },
    };
    let range = text(RANGE)?.map(str::to_owned);
    let accepts = head.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut types = accepts.flat_map(|value| value.split(',')).filter_map(|one| one.split(';').next());
    Ok(Asked {
        bytes: range.is_some() || types.any(|one| one.trim().eq_ignore_ascii_case("application/octet-stream")),
        head_only: head.method == Method::HEAD,
        range,
        if_range: text(IF_RANGE)?.map(str::to_owned),
        conditions: Conditions {
            if_match: tags(IF_MATCH, Comparison::Strong)?,
            if_none_match: tags(IF_NONE_MATCH, Comparison::Weak)?,
            // What is no date is as good as not there, RFC 9110 sections 13.1.3 and 13.1.4.
            if_unmodified_since_s: text(IF_UNMODIFIED_SINCE)?.and_then(date::read),
            if_modified_since_s: text(IF_MODIFIED_SINCE)?.and_then(date::read),
        },
    })
}

/// Where a reader of events left off.
pub(super) fn last_event_id(head: &Parts) -> Result<Option<&str>, Refusal> {
    framing::single(&head.headers, &LAST_EVENT_ID, "two Last-Event-ID fields")
        .map_err(|bad| Refusal::request(400, bad.message))
}

/// The key of a repetition, with a digest of who asks and for what.
pub(super) fn idempotency(head: &Parts, caller: &[u8], body: &[u8]) -> Result<Option<Idempotency>, Error> {
    let refuse = || {
        let message = "Idempotency-Key must be one field of 1 to 255 visible ASCII characters";
        Error::new(Reason::InvalidParameter, message).details("Idempotency-Key")
    };
    let mut keys = head.headers.get_all(&IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.to_str().map_err(|_| refuse())?;
    if keys.next().is_some() || key.is_empty() || key.len() > 255 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(refuse());
    }
    // FNV-1a: stable between versions, because the store keeps it. The separator keeps key and body apart.
    let bytes = caller.iter().chain(&[0xff]).chain(body);
    let digest = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    Ok(Some(Idempotency { key: key.to_owned(), digest }))
}
