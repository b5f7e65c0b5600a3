//! How an operation is called: its body received, or handed on while it comes; its arguments put together; run, and
//! dropped where its client goes and it says so.

use super::answer::Answer;
use super::body::{self, Stop};
use super::connection::Request;
use super::slot::Slot;
use super::socket::Wire;
use super::{App, fields, upload};
use crate::failure::Refusal;
use crate::operation::{Abandoned, Arguments, Asked, COMMON_ERRORS, Carries, Document, Entry, Form, Reply};
use crate::wire::framing::Framing;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use http::Method;
use http::request::Parts;
use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::task::Poll;
use workspace_core::{Error, Reason};

/// A call that was let in.
pub(super) struct Call<'h> {
    pub(super) entry: &'static Entry,
    /// Who calls.
    pub(super) caller: &'h [u8],
    /// What its path names beside the sandbox.
    pub(super) item: Option<(&'static str, &'h str)>,
}

/// Calls it, and gives its answer.
pub(super) async fn answer<'h>(
    app: &'h App,
    wire: &mut Wire<'_>,
    head: &'h Parts,
    framing: &Framing<'_>,
    request: &mut Request<'h>,
    call: Call<'h>,
) -> Result<Answer, Stop> {
    let Call { entry, caller, item } = call;
    let has_body = head.method == Method::POST || head.method == Method::PUT;
    let is_bytes = has_body && entry.carries == Carries::Takes && fields::is_bytes(head);
    // Until a body has been read, the connection is out of step.
    let keep_alive = std::mem::replace(&mut request.frame.keep_alive, false);
    let received = match (has_body, is_bytes) {
        (true, false) => body::receive(app, wire, framing, entry.limits.body_bytes_max).await?,
        _ => Bytes::new(),
    };
    if !is_bytes {
        request.frame.keep_alive = keep_alive && (has_body || body::drain(app, wire, framing).await);
    }
    let query = head.uri.query().unwrap_or_default();
    let form = match entry.carries {
        Carries::Takes if has_body && !is_bytes => Form::Both(query, &received),
        _ if has_body && !is_bytes => Form::Json(&received),
        _ => Form::Query(query),
    };
    let idempotency = fields::idempotency(head, caller, &received).map_err(Refusal::from)?;
    request.slot = Some(Slot::take(&app.running, entry, request.sandbox).map_err(Refusal::from)?);
    let last_event_id = fields::last_event_id(head)?;
    let protocol = request.frame.upgrade.as_ref().and_then(|upgrade| upgrade.protocol);
    let asked = if entry.carries == Carries::Json { Asked::default() } else { fields::asked(head)? };
    let (sandbox, incoming) = (request.sandbox, None);
    let arguments = Arguments { sandbox, item, last_event_id, protocol, form, idempotency, asked, incoming };
    let outcome = if is_bytes {
        let invoke = |body| (entry.invoke)(&app.shard, Arguments { incoming: Some(body), ..arguments });
        let (outcome, in_step) = upload::run(app, wire, framing, invoke).await?;
        request.frame.keep_alive = keep_alive && in_step;
        outcome
    } else {
        run(wire, entry, (entry.invoke)(&app.shard, arguments)).await?
    };
    let body = match outcome.map_err(|error| checked(entry, error))? {
        Reply::Refused(refusal) => return Err(refusal.into()),
        body => body,
    };
    let status = match &body {
        Reply::NoContent => 204,
        Reply::Document(Document { status: Some(status), .. }) => *status,
        Reply::Content(content) => content.status(),
        _ => entry.status,
    };
    Ok(Answer { status, body, tells: None, code: 0 })
}

/// Runs an operation. Where its client goes and it says so, its future is dropped.
async fn run(
    wire: &mut Wire<'_>,
    entry: &Entry,
    future: LocalBoxFuture<'_, Result<Reply, Error>>,
) -> Result<Result<Reply, Error>, Stop> {
    let mut future = pin!(AssertUnwindSafe(future).catch_unwind());
    // Most operations are ready at once; only a wait makes it worth to send what was answered before.
    let outcome = match poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => {
            let sent = wire.flush().await;
            match entry.abandoned {
                Abandoned::Finish => future.await,
                Abandoned::Cancel if sent.is_err() => return Err(Stop::Gone),
                Abandoned::Cancel => match select(future, pin!(wire.left())).await {
                    Either::Left((outcome, _)) => outcome,
                    Either::Right(_) => return Err(Stop::Gone),
                },
            }
        }
    };
    Ok(outcome.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the server failed at this; its log says how"))))
}

/// A reason that was not declared is a gap in the documents, not a reason to hide it from the caller.
fn checked(entry: &Entry, error: Error) -> Refusal {
    if !COMMON_ERRORS.contains(&error.reason) && !entry.errors.contains(&error.reason) {
        tracing::error!(operation = entry.name, reason = error.reason.name(), "an undeclared reason");
    }
    error.into()
}
