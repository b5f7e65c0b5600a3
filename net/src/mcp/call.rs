//! What becomes of a tool call? The operation's own call, and its answer as text and structure alike.
//!
//! A call that fails is an answer that says so (`isError`), with the reason, the message and the next step: a model can
//! act on it. Only what is no call at all, as an unknown tool, is an error of the protocol.

use super::content;
use super::engine::Engine;
use super::message::Fault;
use super::methods::invalid_params;
use super::offer::Asker;
use super::progress::Progress;
use super::session::{Own, Underway};
use super::tools::{READ_BYTES_DEFAULT, READ_BYTES_MAX, Row, SANDBOX_ID, Tools};
use crate::failure::next_step;
use crate::http::slot::Slot;
use crate::operation::{Abandoned, Arguments, Asked, COMMON_ERRORS, Carries, Entry, Form, Reply};
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use rmcp::model::{CallToolRequestParams, CallToolResult, ContentBlock, JsonObject, RequestId, RequestParamsMeta};
use serde_json::{Value, json};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason, SandboxId};

/// Of an answer that comes in pieces.
const ANSWER_BYTES_MAX: u64 = 64 << 20;
/// Seconds that a sandbox of a session lives at most, should the server not see the session's end.
const OWN_SANDBOX_S: u64 = 86_400;

/// A call, begun.
pub(super) enum Called {
    /// Its answer.
    Done(CallToolResult),
    /// It tells of itself, then its answer.
    Goes(Progress),
}

/// Who calls, for the log.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) entry: Option<&'static Entry>,
    pub(super) sandbox: Option<SandboxId>,
}

/// Calls a tool.
pub(super) async fn call(
    tools: &Tools,
    Asker { engine, context, era, session }: Asker<'_>,
    id: &RequestId,
    params: CallToolRequestParams,
    seen: &mut Seen,
) -> Result<Called, Fault> {
    let Some(row) = tools.find(&params.name) else {
        let name: String = params.name.chars().take(64).collect();
        return Err(invalid_params(format!("no tool is called {name:?}")).of(id));
    };
    seen.entry = Some(row.entry);
    let token = params.progress_token();
    let (facts, underway) = session.unzip();
    let own = facts.filter(|facts| facts.auto_sandbox).map(|facts| &facts.sandbox).or(context.own);
    let begun = begin(engine, row, own, params.arguments.unwrap_or_default(), seen);
    let (sandbox, input, read, slot) = match unless_cancelled(underway.as_ref(), begun).await {
        Ok(begun) => begun,
        Err(error) => return Ok(Called::Done(failed(&error))),
    };
    let follow = row.follow.filter(|_| context.streams && input["encoding"].as_str() != Some("base64"));
    if let (Some(follow), Some(token)) = (follow, token) {
        let output_bytes_max = input["max_output_bytes"].as_u64().unwrap_or(0);
        let invoked = invoke(engine.shard().clone(), follow, sandbox, input, Asked::default());
        return Ok(match unless_cancelled(underway.as_ref(), invoked).await {
            Ok(Reply::Events(events)) => {
                Called::Goes(Progress::new(events, (era, id.clone(), token), output_bytes_max, (slot, underway)))
            }
            Ok(_) => Called::Done(failed(&Error::new(Reason::Internal, "the command tells nothing"))),
            Err(error) => Called::Done(failed(&error)),
        });
    }
    let asked = read.as_ref().map(content::Range::asked).unwrap_or_default();
    let base64 = input["encoding"].as_str() == Some("base64");
    let invoked = invoke(engine.shard().clone(), row.entry, sandbox, input, asked);
    let answered = async {
        match invoked.await? {
            Reply::Content(bytes) => content::collect(bytes, read.unwrap_or_default(), base64).await.map(structured),
            reply => json_of(reply).map(|(text, value)| answer(text, value)),
        }
    };
    let answered = unless_cancelled(underway.as_ref(), answered).await;
    if let (Err(error), Some(own)) = (&answered, own)
        && error.reason == Reason::SandboxNotFound
    {
        // Somebody has deleted it: the next call makes another one.
        own.lock().await.take_if(|own| Some(*own) == sandbox);
    }
    drop(slot);
    Ok(Called::Done(answered.unwrap_or_else(|error| failed(&checked(row.entry, error)))))
}

type Begun = (Option<SandboxId>, Value, Option<content::Range>, Slot);

/// Finds the sandbox, reads the arguments, and waits for a place among the sandbox's calls.
async fn begin(
    engine: &Rc<Engine>,
    row: &Row,
    own: Option<&Own>,
    mut arguments: JsonObject,
    seen: &mut Seen,
) -> Result<Begun, Error> {
    let read = match row.entry.carries {
        Carries::Answers => Some(range(&mut arguments)?),
        Carries::Json | Carries::Takes => None,
    };
    let sandbox = match (row.in_sandbox, arguments.get(SANDBOX_ID)) {
        (false, _) => None,
        (true, Some(Value::String(id))) => {
            Some(SandboxId::parse(id).ok_or_else(|| Error::new(Reason::SandboxNotFound, "no sandbox has this id"))?)
        }
        (true, None | Some(Value::Null)) => Some(own_sandbox(engine, own).await?),
        (true, Some(_)) => return Err(Error::new(Reason::InvalidRequest, "`sandbox_id` must be a string")),
    };
    seen.sandbox = sandbox;
    let input = row.input(arguments)?;
    let slot = Slot::wait(engine.running(), row.entry, sandbox).await?;
    Ok((sandbox, input, read, slot))
}

fn range(arguments: &mut JsonObject) -> Result<content::Range, Error> {
    let mut number = |name: &str, default: u64, max: u64| match arguments.remove(name) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value.as_u64().filter(|number| *number <= max).ok_or_else(|| {
            Error::new(Reason::InvalidParameter, format!("`{name}` must be a whole number, at most {max}"))
                .details(name)
        }),
    };
    let offset = number("offset", 0, 1 << 53)?;
    let limit = number("limit", READ_BYTES_DEFAULT, READ_BYTES_MAX)?.max(1);
    Ok(content::Range { offset, limit })
}

/// The session's own sandbox, made where it is not there yet.
async fn own_sandbox(engine: &Rc<Engine>, own: Option<&Own>) -> Result<SandboxId, Error> {
    let Some(own) = own else {
        let message =
            "`sandbox_id` is missing: give the id of a sandbox; sandbox_create (or POST /api/v1/sandboxes) makes one";
        return Err(Error::new(Reason::InvalidRequest, message).details(SANDBOX_ID));
    };
    let mut own = own.lock().await;
    if let Some(sandbox) = *own {
        return Ok(sandbox);
    }
    let create = engine.operation("sandbox_create").ok_or_else(|| Error::new(Reason::Internal, "no sandbox_create"))?;
    let asked = json!({"metadata": {"made_for": "mcp-session"}, "timeout": OWN_SANDBOX_S});
    let reply = invoke(engine.shard().clone(), create, None, asked, Asked::default()).await?;
    let made: Value = match reply {
        Reply::Whole(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        _ => Value::Null,
    };
    let made = made["id"].as_str().and_then(SandboxId::parse);
    let sandbox = made.ok_or_else(|| Error::new(Reason::Internal, "the sandbox has no id"))?;
    *own = Some(sandbox);
    Ok(sandbox)
}

/// Removes the sandbox that a session had for itself.
pub(super) async fn remove_own_sandbox(engine: &Rc<Engine>, own: &Own) {
    let Some(sandbox) = own.lock().await.take() else { return };
    let Some(delete) = engine.operation("sandbox_delete") else { return };
    let removed = invoke(engine.shard().clone(), delete, Some(sandbox), json!({"force": true}), Asked::default());
    if let Err(error) = removed.await
        && error.reason != Reason::SandboxNotFound
    {
        tracing::warn!(%sandbox, %error, "the sandbox of a session that has ended was not removed");
    }
}

/// Calls an operation. Where its client going must not stop it, dropping this future does not.
pub(super) async fn invoke(
    shard: Shard,
    entry: &'static Entry,
    sandbox: Option<SandboxId>,
    input: Value,
    asked: Asked,
) -> Result<Reply, Error> {
    let work = async move {
        let arguments = Arguments { sandbox, asked, form: Form::Parsed(&input), ..Arguments::nothing() };
        let called = AssertUnwindSafe((entry.invoke)(&shard, arguments)).catch_unwind().await;
        called.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the server failed at this; its log says how")))
    };
    match entry.abandoned {
        Abandoned::Cancel => work.await,
        Abandoned::Finish => monoio::spawn(work).await,
    }
}

/// Does it, or says that its client has canceled it.
pub(super) async fn unless_cancelled<T>(
    underway: Option<&Underway>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let Some(underway) = underway else { return work.await };
    match select(pin!(work), pin!(underway.cancelled())).await {
        Either::Left((outcome, _)) => outcome,
        Either::Right(_) => Err(Error::new(Reason::InvalidRequest, "the call was canceled by its client")),
    }
}

/// An answer of JSON, as its text and read.
pub(super) fn json_of(reply: Reply) -> Result<(String, Value), Error> {
    let bytes = match reply {
        Reply::Whole(bytes) => bytes.to_vec(),
        Reply::Pieces(mut pieces) => {
            if pieces.bytes() > ANSWER_BYTES_MAX {
                return Err(Error::new(Reason::InvalidParameter, "the answer is too long; ask for less of it"));
            }
            let mut bytes = Vec::with_capacity(pieces.bytes() as usize);
            while pieces.write_next(&mut bytes) {}
            bytes
        }
        Reply::Refused(refusal) => return Err(refusal.error),
        _ => return Err(Error::new(Reason::Internal, "the answer is not one of a tool")),
    };
    let value = serde_json::from_slice(&bytes).map_err(|why| unreadable(&why))?;
    let text = String::from_utf8(bytes).map_err(|why| unreadable(&why))?;
    Ok((text, value))
}

fn unreadable(why: &dyn std::fmt::Display) -> Error {
    Error::new(Reason::Internal, "the answer could not be read").source(why)
}

/// An answer of this structure.
pub(super) fn structured(value: Value) -> CallToolResult {
    answer(value.to_string(), value)
}

fn answer(text: String, value: Value) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    if value["truncated"] == true && value["exit_code"].is_i64() {
        result.content.push(ContentBlock::text(
            "Note: the output was cut. To get the rest, run the command again with its output redirected to a file \
             (sh -c 'command > /workspace/output.txt 2>&1'), then read parts of it with file_read (offset, limit), or \
             with head, tail, sed -n or grep.",
        ));
    }
    if value["timed_out"] == true {
        result.is_error = Some(true);
        result.content.push(ContentBlock::text(
            "The command was ended at its timeout; what it had printed is above. Raise `timeout`, or let it run on in \
             the background: sh -c 'nohup command > /workspace/output.txt 2>&1 &'.",
        ));
    }
    result.structured_content = Some(value);
    result
}

/// A call that has failed, for a model to act on.
pub(super) fn failed(error: &Error) -> CallToolResult {
    if let Some(source) = &error.source {
        tracing::warn!(source, "a tool call failed");
    }
    let details = error.details.as_ref().map(|details| format!(" [{details}]")).unwrap_or_default();
    let reason = error.reason;
    let text =
        format!("{} ({}): {}{details}\nNext: {}", reason.name(), reason.code(), error.message, next_step(reason));
    CallToolResult::error(vec![ContentBlock::text(text)])
}

fn checked(entry: &Entry, error: Error) -> Error {
    if !COMMON_ERRORS.contains(&error.reason) && !entry.errors.contains(&error.reason) {
        tracing::error!(operation = entry.name, reason = error.reason.name(), "an undeclared reason");
    }
    error
}
