//! How an answer is written: the fewest fields, into the connection's output, without an allocation of its own.

use super::clock::{Clock, RequestId};
use super::download;
use crate::failure::{Refusal, Tells};
use crate::operation::{EVENT_STREAM, Reply};
use crate::websocket::upgrade::{self, Upgrade};
use serde::Serialize;

/// More than a head takes in most answers.
const HEAD_BYTES: usize = 384;
/// A body up to this length is copied behind its head, so that both go in one write.
pub(super) const COPIED_BYTES_MAX: usize = 64 << 10;

const JSON: &str = "application/json";
const NOT_HELD_BACK: &[u8] = b"cache-control: no-store\r\nx-accel-buffering: no\r\n";

/// An answer, ready to be written.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Reply,
    /// What its head says more.
    pub(super) tells: Option<Tells>,
    /// The stable number of the failure, 0 of success.
    pub(super) code: u16,
}

/// What an answer depends on beside itself.
pub(super) struct Frame<'a> {
    pub(super) request_id: RequestId,
    /// The listed origin that asked.
    pub(super) origin: Option<&'a str>,
    /// It is the answer to a preflight.
    pub(super) preflight: bool,
    pub(super) keep_alive: bool,
    /// HTTP/1.0, which closes unless told otherwise.
    pub(super) old: bool,
    /// HEAD: all but the body.
    pub(super) head_only: bool,
    /// What a 101 agrees to.
    pub(super) upgrade: Option<Upgrade>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    code: u16,
    reason: &'static str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a str>,
    retryable: bool,
    request_id: &'a str,
}

impl Answer {
    /// What a refused caller is told; `source` stays in the log.
    pub(super) fn refusal(refusal: Refusal, request_id: &RequestId) -> Answer {
        let error = &refusal.error;
        let body = ErrorBody {
            code: error.reason.code(),
            reason: error.reason.name(),
            message: &error.message,
            details: error.details.as_deref(),
            retryable: error.reason.retryable(),
            request_id: request_id.as_str(),
        };
        let body = Reply::Whole(serde_json::to_vec(&body).unwrap_or_default().into());
        let code = error.reason.code();
        Answer { status: refusal.status, body, tells: refusal.tells, code }
    }

    /// A refusal that people see: its status, and a page that finds out the reason.
    pub(super) fn page(refusal: Refusal, page: Reply) -> Answer {
        let code = refusal.error.reason.code();
        Answer { status: refusal.status, body: page, tells: refusal.tells, code }
    }

    /// 204, perhaps with Allow.
    pub(super) fn empty(allow: Option<String>) -> Answer {
        Answer { status: 204, body: Reply::NoContent, tells: allow.map(Tells::Allow), code: 0 }
    }
}

/// Writes the head of `answer`; the body is the caller's, who knows whether it is worth a copy.
pub(super) fn write_head(out: &mut Vec<u8>, clock: &Clock, answer: &Answer, frame: &Frame<'_>) {
    let (media_type, length) = match &answer.body {
        Reply::Whole(body) => (JSON, Some(body.len() as u64)),
        Reply::Pieces(pieces) => (JSON, Some(pieces.bytes())),
        Reply::Document(document) => (document.media_type, Some(document.bytes.len() as u64)),
        Reply::Events(_) => (EVENT_STREAM, None),
        Reply::Content(content) => (content.media_type, content.length()),
        Reply::NoContent | Reply::Socket(_) | Reply::Refused(_) => (JSON, Some(0)),
    };
    let copied = length.filter(|length| *length <= COPIED_BYTES_MAX as u64).unwrap_or(0);
    out.reserve(HEAD_BYTES + copied as usize);
    status_line(out, answer.status);
    out.extend_from_slice(b"x-content-type-options: nosniff\r\nvary: origin\r\ndate: ");
    out.extend_from_slice(&clock.date());
    field(out, b"\r\nx-request-id: ", frame.request_id.as_str());
    if !matches!(answer.status, 101 | 204 | 304) {
        field(out, b"content-type: ", media_type);
        match length {
            Some(length) => {
                out.extend_from_slice(b"content-length: ");
                decimal(out, length);
                out.extend_from_slice(b"\r\n");
            }
            // No cache and no proxy may hold events back. HTTP/1.0 ends a body by closing.
            None if frame.old => out.extend_from_slice(NOT_HELD_BACK),
            None => {
                out.extend_from_slice(NOT_HELD_BACK);
                out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            }
        }
    }
    if let Reply::Document(document) = &answer.body {
        out.extend_from_slice(document.headers.as_bytes());
    }
    if let Reply::Content(content) = &answer.body {
        download::write_fields(out, content);
    }
    match answer.status {
        401 => out.extend_from_slice(b"www-authenticate: Bearer\r\n"),
        426 => {
            out.extend_from_slice(b"upgrade: websocket\r\n");
            field(out, b"sec-websocket-version: ", upgrade::VERSION);
        }
        429 | 503 => out.extend_from_slice(b"retry-after: 1\r\n"),
        _ => {}
    }
    match &answer.tells {
        Some(Tells::Allow(allow)) => field(out, b"allow: ", allow),
        Some(Tells::RangeOf(bytes)) => {
            out.extend_from_slice(b"content-range: bytes */");
            decimal(out, *bytes);
            out.extend_from_slice(b"\r\n");
        }
        Some(Tells::Session(id)) => field(out, b"mcp-session-id: ", id),
        None => {}
    }
    if let Some(origin) = frame.origin {
        field(out, b"access-control-allow-origin: ", origin);
        out.extend_from_slice(
            b"access-control-expose-headers: x-request-id, retry-after, etag, last-modified, content-range, mcp-session-id\r\n",
        );
        if frame.preflight {
            out.extend_from_slice(
                b"access-control-allow-methods: GET, HEAD, POST, PUT, DELETE\r\n\
                  access-control-allow-headers: authorization, content-type, idempotency-key, if-match, if-none-match, last-event-id, mcp-method, mcp-name, mcp-param-sandbox-id, mcp-protocol-version, mcp-session-id, range, x-api-key, x-workspace-auto-sandbox\r\n\
                  access-control-max-age: 600\r\n",
            );
        }
    }
    match (frame.keep_alive, frame.old) {
        _ if answer.status == 101 => write_upgrade(out, frame.upgrade.as_ref()),
        (false, _) => out.extend_from_slice(b"connection: close\r\n"),
        (true, true) => out.extend_from_slice(b"connection: keep-alive\r\n"),
        (true, false) if answer.status == 426 => out.extend_from_slice(b"connection: upgrade\r\n"),
        (true, false) => {}
    }
    out.extend_from_slice(b"\r\n");
}

fn write_upgrade(out: &mut Vec<u8>, upgrade: Option<&Upgrade>) {
    out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
    let Some(upgrade) = upgrade else { return };
    field(out, b"sec-websocket-accept: ", &upgrade.accept);
    if let Some(protocol) = upgrade.protocol {
        field(out, b"sec-websocket-protocol: ", protocol);
    }
}

fn status_line(out: &mut Vec<u8>, status: u16) {
    match status {
        200 => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        201 => out.extend_from_slice(b"HTTP/1.1 201 Created\r\n"),
        status => {
            let phrase = http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("Failed");
            out.extend_from_slice(b"HTTP/1.1 ");
            decimal(out, u64::from(status));
            field(out, b" ", phrase);
        }
    }
}

pub(super) fn field(out: &mut Vec<u8>, name: &[u8], value: &str) {
    out.extend_from_slice(name);
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}
