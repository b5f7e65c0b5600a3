//! What can be asked in either era? Tools; of resources, prompts and completion, what there is of them.
//!
//! `None` is a method that nobody knows: each era has its own word for that.

use super::call::{self, Called, Seen};
use super::engine::{Answer, Context, Engine};
use super::message::{self, Fault, Request, response};
use super::modern::no_resource;
use super::session::{Facts, Underway};
use super::{Era, call::failed};
use rmcp::model::{
    CallToolRequestParams, ErrorCode, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, PaginatedRequestParams, PromptsCapability, ReadResourceRequestParams, ResourcesCapability,
    ServerCapabilities, ToolsCapability,
};
use std::rc::Rc;
use workspace_core::{Error, Reason};

/// What this server can do.
pub(super) fn capabilities() -> ServerCapabilities {
    let mut capabilities = ServerCapabilities::default();
    capabilities.tools = Some(ToolsCapability::default());
    capabilities.resources = Some(ResourcesCapability::default());
    capabilities.prompts = Some(PromptsCapability::default());
    capabilities
}

/// What a model should know before it calls a tool.
pub(super) const INSTRUCTIONS: &str = "Isolated Linux sandboxes: run commands and work with files in them. Every tool \
    that works in a sandbox takes its id as `sandbox_id`. Files live in /workspace. Commands are executed without a \
    shell unless you run one. There is no network inside.";

/// Answers a request, where its method is known.
pub(super) async fn answer(
    engine: &Rc<Engine>,
    context: &Context<'_>,
    (era, session): (Era, Option<(&Facts, Underway)>),
    request: &mut Request,
    seen: &mut Seen,
) -> Option<Result<Answer, Fault>> {
    macro_rules! list {
        ($list:ident, $items:expr) => {{
            let page: Result<PaginatedRequestParams, Fault> = message::params(request);
            match page.and_then(|page| first_page(page, request)) {
                Ok(()) => {
                    let mut list = $list::with_all_items($items);
                    list.result_type = era.result_type();
                    list.meta = era.meta();
                    (list.ttl_ms, list.cache_scope) = era.caching();
                    Ok(one(response(&request.id, list)))
                }
                Err(fault) => Err(fault),
            }
        }};
    }
    Some(match request.method.as_str() {
        "tools/list" => list!(ListToolsResult, engine.tools(context.profile).listed()),
        "resources/list" => list!(ListResourcesResult, Vec::new()),
        "resources/templates/list" => list!(ListResourceTemplatesResult, Vec::new()),
        "prompts/list" => list!(ListPromptsResult, Vec::new()),
        "tools/call" => match message::params::<CallToolRequestParams>(request) {
            Ok(params) => call(engine, context, (era, session), request, params, seen).await,
            Err(fault) => Err(fault),
        },
        "resources/read" => {
            let read: Result<ReadResourceRequestParams, Fault> = message::params(request);
            read.and_then(|read| Err(no_resource(era, &request.id, &read.uri)))
        }
        "prompts/get" => Err(Fault::new(200, ErrorCode::INVALID_PARAMS, "no such prompt").of(&request.id)),
        _ => return None,
    })
}

async fn call(
    engine: &Rc<Engine>,
    context: &Context<'_>,
    (era, session): (Era, Option<(&Facts, Underway)>),
    request: &Request,
    params: CallToolRequestParams,
    seen: &mut Seen,
) -> Result<Answer, Fault> {
    if params.input_responses.is_some() || params.request_state.is_some() {
        let error =
            Error::new(Reason::InvalidRequest, "no tool of this server asks for input; call it without answers");
        return Ok(done(era, request, failed(&error)));
    }
    match call::call(engine, context, (era, session), &request.id, params, seen).await? {
        Called::Done(result) => Ok(done(era, request, result)),
        Called::Goes(progress) => Ok(Answer::Stream(Box::new(progress))),
    }
}

fn done(era: Era, request: &Request, mut result: rmcp::model::CallToolResult) -> Answer {
    era.mark(&mut result);
    one(response(&request.id, result))
}

/// Every list fits on its first page, so that no cursor was ever given.
fn first_page(page: PaginatedRequestParams, request: &Request) -> Result<(), Fault> {
    match page.cursor {
        None => Ok(()),
        Some(_) => {
            let code = rmcp::model::ErrorCode::INVALID_PARAMS;
            Err(Fault::new(200, code, "`cursor` is not one that this server gave").of(&request.id))
        }
    }
}

/// An answer of one message.
pub(super) fn one(bytes: Vec<u8>) -> Answer {
    Answer::Message { status: 200, bytes, session: None }
}
