//! What do the endpoints for sandboxes offer? The tools of one set, and the files of sandboxes as resources.

use super::call::{self, Called, Seen, failed, unless_cancelled};
use super::engine::Answer;
use super::message::{self, Fault, Request, response};
use super::methods::{self, invalid_params, list, no_resource, one, only_page};
use super::offer::{Agreed, Asker, Offer};
use super::resources::{self, Sees, refused};
use super::tools::{SANDBOX_HEADER, SANDBOX_ID, Tools};
use super::uri::Place;
use super::{Era, completion, subscription};
use crate::operation::{Entry, Profile};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use rmcp::model::{
    CallToolRequestParams, CompleteRequestParams, CompleteResult, EmptyObject, ListPromptsResult,
    ListResourceTemplatesResult, ListResourcesResult, ListToolsResult, PromptsCapability, ReadResourceRequestParams,
    RequestId, ResourcesCapability, ServerCapabilities, SubscribeRequestParams, SubscriptionFilter, ToolsCapability,
    UnsubscribeRequestParams,
};
use workspace_core::{Error, Reason};

const INSTRUCTIONS: &str = "Isolated Linux sandboxes: run commands and work with files in them. Every tool \
    that works in a sandbox takes its id as `sandbox_id`; where that is not required, leave it out to \
    work in one that is yours alone. Files live in /workspace. Commands are executed without a \
    shell unless you run one. There is no network inside.";

/// A set of tools.
pub(super) struct Workspace {
    name: &'static str,
    tools: Tools,
}

impl Workspace {
    /// Those of `operations` that belong to `profile`.
    pub(super) fn new(operations: &'static [Entry], profile: Profile) -> Workspace {
        let name = match profile {
            Profile::Executor => "executor",
            Profile::Developer => "developer",
            Profile::Full => "full",
        };
        Workspace { name, tools: Tools::new(operations, profile) }
    }

    /// Whoever may list sandboxes sees all of them.
    fn sees(&self) -> Sees {
        if self.tools.find("sandbox_list").is_some() { Sees::All } else { Sees::Own }
    }

    async fn answer(&self, asker: Asker<'_>, request: &mut Request, seen: &mut Seen) -> Option<Result<Answer, Fault>> {
        let (era, sees, has_own) = (asker.era, self.sees(), asker.own().is_some());
        Some(match request.method.as_str() {
            "tools/list" => list!(era, request, ListToolsResult, |at| only_page(self.tools.listed(has_own), at)),
            "resources/list" => {
                list!(era, request, ListResourcesResult, |at| resources::list(&asker, sees, at), era.no_caching())
            }
            "resources/templates/list" => {
                list!(era, request, ListResourceTemplatesResult, |at| only_page(resources::templates(), at))
            }
            "prompts/list" => list!(era, request, ListPromptsResult, |at| only_page(Vec::new(), at)),
            "tools/call" => match message::params::<CallToolRequestParams>(request) {
                Ok(params) => self.call(asker, request, params, seen).await,
                Err(fault) => Err(fault),
            },
            "resources/read" => read(&asker, request, seen).await,
            "resources/subscribe" if era == Era::Legacy => match message::params::<SubscribeRequestParams>(request) {
                Ok(params) => {
                    subscription::subscribe(&asker, &request.id, &params.uri).await.map(|()| nothing(request))
                }
                Err(fault) => Err(fault),
            },
            "resources/unsubscribe" if era == Era::Legacy => {
                message::params::<UnsubscribeRequestParams>(request).map(|params| {
                    asker.session.iter().for_each(|(facts, _)| subscription::unsubscribe(facts, &params.uri));
                    nothing(request)
                })
            }
            "completion/complete" => complete(&asker, sees, request).await,
            "prompts/get" => Err(invalid_params("no such prompt").of(&request.id)),
            _ => return None,
        })
    }

    async fn call(
        &self,
        asker: Asker<'_>,
        request: &Request,
        params: CallToolRequestParams,
        seen: &mut Seen,
    ) -> Result<Answer, Fault> {
        let era = asker.era;
        if params.input_responses.is_some() || params.request_state.is_some() {
            let error =
                Error::new(Reason::InvalidRequest, "no tool of this server asks for input; call it without answers");
            return Ok(done(era, request, failed(&error)));
        }
        match call::call(&self.tools, asker, &request.id, params, seen).await? {
            Called::Done(result) => Ok(done(era, request, result)),
            Called::Goes(progress) => Ok(Answer::Stream(Box::new(progress))),
        }
    }
}

impl Offer for Workspace {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> ServerCapabilities {
        let mut capabilities = ServerCapabilities::default();
        capabilities.tools = Some(ToolsCapability::default());
        let mut resources = ResourcesCapability::default();
        resources.subscribe = Some(true);
        capabilities.resources = Some(resources);
        capabilities.completions = Some(Default::default());
        capabilities.prompts = Some(PromptsCapability::default());
        capabilities
    }

    fn instructions(&self) -> &'static str {
        INSTRUCTIONS
    }

    fn repeated(&self, tool: &str) -> Option<(&'static str, &'static str)> {
        self.tools.find(tool).filter(|row| row.in_sandbox).map(|_| (SANDBOX_HEADER, SANDBOX_ID))
    }

    fn answer<'a>(
        &'a self,
        asker: Asker<'a>,
        request: &'a mut Request,
        seen: &'a mut Seen,
    ) -> LocalBoxFuture<'a, Option<Result<Answer, Fault>>> {
        self.answer(asker, request, seen).boxed_local()
    }

    fn listen<'a>(
        &'a self,
        asker: Asker<'a>,
        subscription: &'a RequestId,
        wanted: SubscriptionFilter,
    ) -> LocalBoxFuture<'a, Result<Agreed, Fault>> {
        subscription::listen(asker.engine, subscription, wanted).boxed_local()
    }
}

/// Reads a resource.
async fn read(asker: &Asker<'_>, request: &mut Request, seen: &mut Seen) -> Result<Answer, Fault> {
    let (era, ReadResourceRequestParams { uri, .. }) = (asker.era, message::params(request)?);
    let place = Place::read(&uri).map_err(|why| no_resource(era, &request.id, &uri).because(why))?;
    (seen.entry, seen.sandbox) = (asker.engine.operation("file_read"), Some(place.sandbox));
    let underway = asker.session.as_ref().map(|(_, underway)| underway);
    let read = unless_cancelled(underway, resources::read(asker.engine, &place, &uri)).await;
    let mut read = read.map_err(|error| refused(era, &request.id, &uri, &error))?;
    (read.result_type, read.meta) = (era.result_type(), era.meta());
    (read.ttl_ms, read.cache_scope) = era.no_caching();
    Ok(one(response(&request.id, read)))
}

/// Completes what is typed of a resource's name.
async fn complete(asker: &Asker<'_>, sees: Sees, request: &mut Request) -> Result<Answer, Fault> {
    let params: CompleteRequestParams = message::params(request)?;
    let completion = completion::complete(asker, sees, params).await.map_err(|fault| fault.of(&request.id))?;
    let mut result = CompleteResult::new(completion);
    (result.result_type, result.meta) = (asker.era.result_type(), asker.era.meta());
    Ok(one(response(&request.id, result)))
}

fn nothing(request: &Request) -> Answer {
    one(response(&request.id, EmptyObject {}))
}

fn done(era: Era, request: &Request, mut result: rmcp::model::CallToolResult) -> Answer {
    era.mark(&mut result);
    one(response(&request.id, result))
}
