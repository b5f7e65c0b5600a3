//! What does the official MCP suite look for? Its fixtures, offered at an endpoint of their own by the engine that serves
//! the product: eras, heads, sessions, streams and schemas are the engine's, and they are what is judged.
//!
//! Only with the feature `mcp-conformance`, which no release has. Names and texts are the suite's
//! (modelcontextprotocol/conformance, 0.2.0); the product asks no client for its model or its roots.

mod calls;
mod changes;
mod content;
mod forms;
mod outlet;
mod peer;
mod prompts;
mod questions;
mod resources;
mod resume;
mod rounds;
mod state;
mod tools;

pub(super) use peer::Peer;

use super::Era;
use super::call::Seen;
use super::engine::{Answer, Messages};
use super::message::{self, Fault, Request, response};
use super::methods::{self, invalid_params, list, no_resource, one, only_page};
use super::offer::{Asker, Offer};
use super::session::Facts;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rmcp::model::{
    CallToolRequestParams, CompleteRequestParams, CompleteResult, ContentBlock, EmptyObject, ErrorCode,
    GetPromptRequestParams, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PromptsCapability, ReadResourceRequestParams, RequestId, ResourcesCapability, ServerCapabilities,
    SubscriptionFilter, ToolsCapability,
};
use rounds::{Asked, Round};
use serde::Deserialize;
use serde_json::Value;

const CAPABILITIES_META: &str = "io.modelcontextprotocol/clientCapabilities";

/// The endpoint.
pub(super) struct Fixture;

#[derive(Deserialize)]
struct SetLevel {
    level: String,
}

#[derive(Deserialize)]
struct Subscribe {
    uri: String,
}

impl Fixture {
    async fn answer(&self, asker: Asker<'_>, request: &mut Request) -> Option<Result<Answer, Fault>> {
        let era = asker.era;
        let facts = asker.session.as_ref().map(|(facts, _)| *facts);
        let answer = match (request.method.as_str(), facts) {
            ("tools/list", _) => list!(era, request, ListToolsResult, |at| only_page(tools::listed(era), at)),
            ("resources/list", _) => list!(era, request, ListResourcesResult, |at| only_page(resources::listed(), at)),
            ("resources/templates/list", _) => {
                list!(era, request, ListResourceTemplatesResult, |at| only_page(resources::templates(), at))
            }
            ("prompts/list", _) => list!(era, request, ListPromptsResult, |at| only_page(prompts::listed(era), at)),
            ("tools/call", _) => call(asker, request).await,
            ("resources/read", _) => read(era, request),
            ("prompts/get", _) => prompt(era, request),
            ("completion/complete", _) => complete(era, request),
            ("logging/setLevel", Some(facts)) => set_level(facts, request),
            ("resources/subscribe", Some(facts)) => subscribe(request, |uri| changes::subscribe(facts, uri)),
            ("resources/unsubscribe", Some(_)) => subscribe(request, |uri| resources::read(uri).is_some()),
            _ => return None,
        };
        Some(answer.map_err(|fault| fault.of(&request.id)))
    }
}

async fn call(asker: Asker<'_>, request: &mut Request) -> Result<Answer, Fault> {
    let capabilities = capabilities(request);
    let level = request.params["_meta"]["io.modelcontextprotocol/logLevel"].as_str().map(str::to_owned);
    let params: CallToolRequestParams = message::params(request)?;
    if !tools::is_there(&params.name, asker.era) {
        return Err(invalid_params("no such tool"));
    }
    calls::call(asker, request.id.clone(), params, calls::Said { capabilities, level }).await
}

/// What a modern request says that its client can do.
fn capabilities(request: &Request) -> Value {
    request.params["_meta"][CAPABILITIES_META].clone()
}

fn read(era: Era, request: &mut Request) -> Result<Answer, Fault> {
    let params: ReadResourceRequestParams = message::params(request)?;
    let Some(mut result) = resources::read(&params.uri) else {
        return Err(no_resource(era, &request.id, &params.uri));
    };
    (result.result_type, result.meta) = (era.result_type(), era.meta());
    (result.ttl_ms, result.cache_scope) = era.caching();
    Ok(one(response(&request.id, result)))
}

fn prompt(era: Era, request: &mut Request) -> Result<Answer, Fault> {
    let capabilities = capabilities(request);
    let params: GetPromptRequestParams = message::params(request)?;
    let mut result = if params.name == prompts::ASKS && era == Era::Modern {
        let (responses, state) = (params.input_responses, params.request_state);
        let asked = Asked { name: &params.name, responses, state, capabilities: &capabilities };
        match rounds::next(&asked).transpose()? {
            Some(Round::Wants(result)) => return Ok(one(response(&request.id, result))),
            Some(Round::Done(context)) => prompts::told(vec![ContentBlock::text(context)]),
            None => return Err(invalid_params("no such prompt")),
        }
    } else {
        prompts::get(&params.name, &params.arguments.unwrap_or_default()).map_err(invalid_params)?
    };
    (result.result_type, result.meta) = (era.result_type(), era.meta());
    Ok(one(response(&request.id, result)))
}

fn complete(era: Era, request: &mut Request) -> Result<Answer, Fault> {
    let params: CompleteRequestParams = message::params(request)?;
    let completion = prompts::complete(&params.r#ref, &params.argument).map_err(invalid_params)?;
    let mut result = CompleteResult::new(completion);
    (result.result_type, result.meta) = (era.result_type(), era.meta());
    Ok(one(response(&request.id, result)))
}

fn set_level(facts: &Facts, request: &mut Request) -> Result<Answer, Fault> {
    let SetLevel { level } = message::params(request)?;
    if !facts.peer.hear(&level) {
        return Err(invalid_params(format!("`level` must be one of {}", peer::LEVELS.join(" "))));
    }
    Ok(one(response(&request.id, EmptyObject {})))
}

fn subscribe(request: &mut Request, to: impl Fn(&str) -> bool) -> Result<Answer, Fault> {
    let Subscribe { uri } = message::params(request)?;
    if !to(&uri) {
        return Err(no_resource(Era::Legacy, &request.id, &uri));
    }
    Ok(one(response(&request.id, EmptyObject {})))
}

impl Offer for Fixture {
    fn name(&self) -> &'static str {
        "conformance"
    }

    fn capabilities(&self) -> ServerCapabilities {
        let mut capabilities = ServerCapabilities::default();
        let (mut tools, mut prompts) = (ToolsCapability::default(), PromptsCapability::default());
        let mut resources = ResourcesCapability::default();
        (tools.list_changed, prompts.list_changed, resources.subscribe) = (Some(true), Some(true), Some(true));
        (capabilities.tools, capabilities.prompts, capabilities.resources) =
            (Some(tools), Some(prompts), Some(resources));
        capabilities.logging = Some(JsonObject::new());
        capabilities.completions = Some(JsonObject::new());
        capabilities
    }

    fn instructions(&self) -> &'static str {
        "Fixtures of the official conformance suite."
    }

    fn repeated(&self, tool: &str) -> Option<(&'static str, &'static str)> {
        (tool == tools::REPEATED.0).then_some(tools::REPEATED.1)
    }

    fn answer<'a>(
        &'a self,
        asker: Asker<'a>,
        request: &'a mut Request,
        _seen: &'a mut Seen,
    ) -> LocalBoxFuture<'a, Option<Result<Answer, Fault>>> {
        self.answer(asker, request).boxed_local()
    }

    fn listen<'a>(
        &'a self,
        _asker: Asker<'a>,
        subscription: &'a RequestId,
        wanted: SubscriptionFilter,
    ) -> LocalBoxFuture<'a, Result<(SubscriptionFilter, Box<dyn Messages>), Fault>> {
        let listening = changes::listen(subscription, wanted);
        let full = || Fault::new(503, ErrorCode::INTERNAL_ERROR, "too many subscriptions; try again").of(subscription);
        async move { listening.ok_or_else(full) }.boxed_local()
    }

    fn answered(&self, facts: &Facts, id: &RequestId, answer: Value) {
        facts.peer.answered(id, answer);
    }

    fn resume(&self, facts: &Facts, last: &str) -> Option<Box<dyn Messages>> {
        facts.peer.streams.resume(last).map(|reading| -> Box<dyn Messages> { Box::new(reading) })
    }
}
