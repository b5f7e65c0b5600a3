//! What do the tools do that take their time, tell of themselves, or ask? One that tells is answered by a stream.

use super::content::{self, refused};
use super::outlet::{Outlet, Working};
use super::peer::{LEVELS, Peer};
use super::questions::{Question, Reply};
use super::rounds::{self, Asked, Round};
use super::{changes, changes::List, forms};
use crate::mcp::Era;
use crate::mcp::engine::{Answer, Messages};
use crate::mcp::message::{Fault, response};
use crate::mcp::methods::one;
use crate::mcp::offer::Asker;
use crate::mcp::session::{Facts, Underway};
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use rmcp::model::{CallToolRequestParams, CallToolResult, JsonObject, ProgressToken, RequestId, RequestParamsMeta};
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Between two things that a tool tells.
const STEP: Duration = Duration::from_millis(50);

/// What a request says beside its arguments.
pub(super) struct Said {
    /// What its client can do. Modern only.
    pub(super) capabilities: Value,
    /// From which level on it wants the log. Modern only.
    pub(super) level: Option<String>,
}

/// Calls a tool that this era has.
pub(super) async fn call(
    asker: Asker<'_>,
    id: RequestId,
    params: CallToolRequestParams,
    said: Said,
) -> Result<Answer, Fault> {
    let (era, streams, name) = (asker.era, asker.context.streams, params.name.to_string());
    let facts = asker.session.as_ref().map(|(facts, _)| *facts);
    if let Some(result) = at_once(&name, &said, facts)? {
        return Ok(done(era, &id, result));
    }
    let token = params.progress_token();
    if era == Era::Modern {
        let (responses, state) = (params.input_responses, params.request_state);
        let asked = Asked { name: &name, responses, state, capabilities: &said.capabilities };
        match rounds::next(&asked).transpose()? {
            Some(Round::Wants(result)) if name == "test_streaming_elicitation" && streams => {
                return Ok(streamed(token, response(&id, result)));
            }
            Some(Round::Wants(result)) => return Ok(one(response(&id, result))),
            Some(Round::Done(text)) => return Ok(done(era, &id, content::said(text))),
            None => {}
        }
    }
    let (peer, underway) = asker.session.map(|(facts, underway)| (facts.peer.clone(), underway)).unzip();
    if let (true, "test_reconnection", Some(peer)) = (streams, name.as_str(), &peer) {
        return Ok(Answer::Stream(cut_off(peer, id, underway)));
    }
    let outlet = Outlet::new(streams);
    let work = match peer {
        Some(peer) => of_session(&name, &params.arguments.unwrap_or_default(), &outlet, token, peer),
        None => for_itself(&name, &outlet, token, said.level.as_deref()),
    };
    let work = work.map(move |result| answer(era, &id, result)).boxed_local();
    let mut working = Working::new(outlet, work, underway);
    if streams {
        return Ok(Answer::Stream(Box::new(working)));
    }
    Ok(working.next().await.map_or(Answer::Nothing, one))
}

/// The answer of a tool that has it ready; `None` where it is not one of those.
fn at_once(name: &str, said: &Said, facts: Option<&Facts>) -> Result<Option<CallToolResult>, Fault> {
    Ok(match name {
        "test_missing_capability" if !said.capabilities["sampling"].is_object() => {
            return Err(rounds::missing("sampling"));
        }
        "test_missing_capability" => Some(content::said("called")),
        "test_trigger_tool_change" | "test_trigger_prompt_change" => {
            changes::tell(if name.ends_with("tool_change") { List::Tools } else { List::Prompts }, facts);
            Some(content::said("changed"))
        }
        _ => content::of(name),
    })
}

type Work = LocalBoxFuture<'static, CallToolResult>;

/// What a tool does that a session's client calls: it may be asked.
fn of_session(
    name: &str,
    arguments: &JsonObject,
    outlet: &Outlet,
    token: Option<ProgressToken>,
    peer: Arc<Peer>,
) -> Work {
    let argument = |name: &str| arguments.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let question = match name {
        "test_tool_with_logging" => return logs(outlet.clone(), Some(peer.level())).boxed_local(),
        "test_tool_with_progress" => return advances(outlet.clone(), token).boxed_local(),
        "test_sampling" => Question::sample("", &argument("prompt")),
        "test_elicitation" => forms::user(&argument("message")),
        "test_elicitation_sep1034_defaults" => forms::defaults(),
        "test_elicitation_sep1330_enums" => forms::choices(),
        _ => return no_stream(),
    };
    asks(outlet.clone(), peer, question).boxed_local()
}

/// What a tool does that a modern client calls.
fn for_itself(name: &str, outlet: &Outlet, token: Option<ProgressToken>, level: Option<&str>) -> Work {
    match name {
        "test_tool_with_logging" | "test_logging_tool" => {
            let heard = level.and_then(|level| LEVELS.iter().position(|one| *one == level));
            logs(outlet.clone(), heard).boxed_local()
        }
        "test_tool_with_progress" => advances(outlet.clone(), token).boxed_local(),
        _ => no_stream(),
    }
}

fn no_stream() -> Work {
    async { refused("this needs a client that accepts text/event-stream") }.boxed_local()
}

fn answer(era: Era, id: &RequestId, mut result: CallToolResult) -> Vec<u8> {
    era.mark(&mut result);
    response(id, result)
}

fn done(era: Era, id: &RequestId, result: CallToolResult) -> Answer {
    one(answer(era, id, result))
}

/// A result behind what is told before it.
fn streamed(token: Option<ProgressToken>, result: Vec<u8>) -> Answer {
    let outlet = Outlet::new(true);
    outlet.progress(token.as_ref(), 1.0, 2.0);
    Answer::Stream(Box::new(Working::new(outlet, async { result }.boxed_local(), None)))
}

async fn logs(outlet: Outlet, heard: Option<usize>) -> CallToolResult {
    let steps = ["Tool execution started", "Tool processing data", "Tool execution completed"];
    for (step, text) in steps.into_iter().enumerate() {
        if step > 0 {
            monoio::time::sleep(STEP).await;
        }
        let info = LEVELS.iter().position(|one| *one == "info");
        if heard.is_some() && info >= heard {
            outlet.log("info", text);
        }
    }
    content::said("Tool with logging executed successfully")
}

async fn advances(outlet: Outlet, token: Option<ProgressToken>) -> CallToolResult {
    for (step, done) in [0.0, 50.0, 100.0].into_iter().enumerate() {
        if step > 0 {
            monoio::time::sleep(STEP).await;
        }
        outlet.progress(token.as_ref(), done, 100.0);
    }
    content::said("Tool with progress executed successfully")
}

async fn asks(outlet: Outlet, peer: Arc<Peer>, question: Question) -> CallToolResult {
    let about = if question.capability() == "sampling" { "LLM response" } else { "User response" };
    match peer.ask(&outlet, &question).await {
        Ok(Reply::Said(text)) => content::said(format!("{about}: {text}")),
        Ok(Reply::Declined) => content::said(format!("{about}: declined")),
        Err(why) => refused(why),
    }
}

/// Works on while the stream of the call has ended, and puts the answer where the client comes back for it.
fn cut_off(peer: &Peer, id: RequestId, underway: Option<Underway>) -> Box<dyn Messages> {
    let (stream, reading) = peer.streams.begin();
    monoio::spawn(async move {
        let work = async {
            monoio::time::sleep(STEP).await;
            stream.cut();
            monoio::time::sleep(2 * STEP).await;
            stream.finish(Some(answer(Era::Legacy, &id, content::said("the client came back for this"))));
        };
        match &underway {
            None => work.await,
            Some(underway) => {
                if let Either::Right(_) = select(pin!(work), pin!(underway.cancelled())).await {
                    stream.finish(None);
                }
            }
        }
    });
    Box::new(reading)
}
