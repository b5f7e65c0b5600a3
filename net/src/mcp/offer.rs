//! What does one endpoint offer? Its tools, resources and prompts, behind one trait, so that eras and transports do not
//! know them.

use super::Era;
use super::call::Seen;
use super::engine::{Answer, Context, Engine, Messages};
use super::message::{Fault, Request};
use super::session::{Facts, Own, Underway};
use futures_util::future::LocalBoxFuture;
use rmcp::model::{RequestId, ServerCapabilities, SubscriptionFilter};
use serde_json::Value;
use std::rc::Rc;

/// One of the engine's offers, by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set(pub(super) u8);

/// What of a subscription will be told, and what tells it.
pub(super) type Agreed = (SubscriptionFilter, Box<dyn Messages>);

/// What an endpoint has.
pub(super) trait Offer {
    /// The last part of its path.
    fn name(&self) -> &'static str;

    /// What clients are told that it can do.
    fn capabilities(&self) -> ServerCapabilities;

    /// What a model should know before it calls a tool.
    fn instructions(&self) -> &'static str;

    /// Of a tool: the header field that repeats an argument, and that argument.
    fn repeated(&self, tool: &str) -> Option<(&'static str, &'static str)>;

    /// Answers a request, where its method is known: each era has its own word for one that nobody knows.
    fn answer<'a>(
        &'a self,
        asker: Asker<'a>,
        request: &'a mut Request,
        seen: &'a mut Seen,
    ) -> LocalBoxFuture<'a, Option<Result<Answer, Fault>>>;

    /// What of `wanted`, which is within the capabilities, will be told; and what tells it, each message with the
    /// subscription's id. Modern only.
    fn listen<'a>(
        &'a self,
        asker: Asker<'a>,
        subscription: &'a RequestId,
        wanted: SubscriptionFilter,
    ) -> LocalBoxFuture<'a, Result<Agreed, Fault>>;

    /// A legacy client has answered something that it was asked. Who asks nothing forgets it.
    fn answered(&self, _facts: &Facts, _id: &RequestId, _answer: Value) {}

    /// What follows the message of this mark, where it is one of this session.
    fn resume(&self, _facts: &Facts, _last: &str) -> Option<Box<dyn Messages>> {
        None
    }
}

/// Who asks, and how.
pub(super) struct Asker<'a> {
    pub(super) engine: &'a Rc<Engine>,
    pub(super) context: &'a Context<'a>,
    pub(super) era: Era,
    /// Legacy only.
    pub(super) session: Option<(&'a Facts, Underway)>,
}

impl<'a> Asker<'a> {
    /// The sandbox that is used where none is named, for who has one for itself.
    pub(super) fn own(&self) -> Option<&'a Own> {
        let of_session = self.session.as_ref().map(|(facts, _)| *facts).filter(|facts| facts.auto_sandbox);
        of_session.map(|facts| &facts.sandbox).or(self.context.own)
    }
}
