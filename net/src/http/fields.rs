//! What header fields say about a call: the body's type, the key of a repetition, where a reader of events left off.

use crate::failure::Refusal;
use crate::wire::framing;
use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::request::Parts;
use workspace_core::sandbox::Idempotency;
use workspace_core::{Error, Reason};

/// A body must say that it is JSON: a browser sends that only after a preflight, which foreign pages don't pass.
pub(super) fn media_type(head: &Parts) -> Result<(), Refusal> {
    let wrong = |message| Err(Refusal::request(415, message));
    let mut codings = head.headers.get_all(CONTENT_ENCODING).iter();
    if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return wrong("a body may not be compressed");
    }
    if head.method != Method::POST && head.method != Method::PUT {
        return Ok(());
    }
    let value = framing::single(&head.headers, &CONTENT_TYPE, "two Content-Type fields");
    let essence = value.ok().flatten().and_then(|v| v.split(';').next()).unwrap_or_default();
    if essence.trim().eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    wrong("the body must be JSON, with `Content-Type: application/json`")
}

/// Where a reader of events left off.
pub(super) fn last_event_id(head: &Parts) -> Result<Option<&str>, Refusal> {
    let name = http::HeaderName::from_static("last-event-id");
    framing::single(&head.headers, &name, "two Last-Event-ID fields").map_err(|bad| Refusal::request(400, bad.message))
}

/// The key of a repetition, with a digest of who asks and for what.
pub(super) fn idempotency(head: &Parts, caller: &[u8], body: &[u8]) -> Result<Option<Idempotency>, Error> {
    let refuse = || {
        let message = "Idempotency-Key must be one field of 1 to 255 visible ASCII characters";
        Error::new(Reason::InvalidParameter, message).details("Idempotency-Key")
    };
    let mut keys = head.headers.get_all("idempotency-key").iter();
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
