//! What becomes of one message? Read, told apart by era, answered; the same for every transport.

use super::call::Seen;
use super::message::{self, Fault, Incoming};
use super::offer::{Offer, Set};
use super::session::{IDLE, Own, Sessions};
use super::workspace::Workspace;
use super::{call, legacy, modern};
use crate::http::slot::Running;
use crate::operation::{Entry, Profile};
use futures_util::future::{LocalBoxFuture, join_all};
use http::HeaderMap;
use rmcp::model::ProtocolVersion;
use serde_json::Value;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use workspace_core::SandboxId;
use workspace_core::shard::Shard;

/// Messages in one array.
const BATCH_MAX: usize = 32;
/// How often sessions that idle are looked for.
const LOOK: Duration = Duration::from_secs(30);
/// Own sandboxes of idle sessions that are removed at once.
const REMOVED_AT_ONCE_MAX: usize = 32;

/// What one core knows to answer messages.
pub struct Engine {
    shard: Shard,
    running: Rc<Running>,
    sessions: Arc<Sessions>,
    operations: &'static [Entry],
    offers: Vec<Box<dyn Offer>>,
}

/// What a transport knows of a message's sender.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The endpoint that was asked.
    pub set: Set,
    /// A digest of who sends it.
    pub caller: u64,
    /// The session that it names.
    pub session: Option<&'a str>,
    /// Of HTTP: what must agree with the message.
    pub head: Option<&'a HeaderMap>,
    /// A session that begins is to have a sandbox of its own.
    pub auto_sandbox: bool,
    /// Of a transport that knows when its client goes: the sandbox that is used where none is named.
    pub own: Option<&'a Own>,
    /// More than one message can be answered.
    pub streams: bool,
}

/// Messages until the last. Dropping it ends what makes them.
pub trait Messages {
    /// The next one, without a line break, or nothing but its mark; `None` behind the last. Dropping the future loses
    /// nothing.
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>>;

    /// Names the message that came last, where the client can come back for what follows it.
    fn mark(&self) -> Option<Mark> {
        None
    }

    /// True where nothing is under way that has to come to its end: whoever carries it ends it when the server stops,
    /// with what [`Messages::stop`] says.
    fn only_listens(&self) -> bool {
        false
    }

    /// What is said last, where it is ended before its end. Nothing follows it.
    fn stop(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// The name of a message within a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The name.
    pub id: String,
    /// How long the client shall wait before it comes back.
    pub retry: Option<Duration>,
}

/// What a transport sends back.
pub enum Answer {
    /// Nothing: it was a notification.
    Nothing,
    /// One message.
    Message {
        /// HTTP's status.
        status: u16,
        /// The message.
        bytes: Vec<u8>,
        /// A session that has begun.
        session: Option<String>,
    },
    /// Several.
    Stream(Box<dyn Messages>),
}

/// An answer, with what the log says of it.
pub struct Taken {
    /// What is sent back.
    pub answer: Answer,
    /// The tool that was called.
    pub entry: Option<&'static Entry>,
    /// Where.
    pub sandbox: Option<SandboxId>,
}

impl Engine {
    /// One core's, with the sessions of all cores.
    pub(crate) fn new(
        shard: Shard,
        running: Rc<Running>,
        sessions: Arc<Sessions>,
        operations: &'static [Entry],
    ) -> Rc<Engine> {
        let profiles = [Profile::Executor, Profile::Developer, Profile::Full];
        let workspace = |profile| -> Box<dyn Offer> { Box::new(Workspace::new(operations, profile)) };
        let offers = profiles.into_iter().map(workspace);
        #[cfg(any(test, feature = "mcp-conformance"))]
        let offers = offers.chain([Box::new(super::conformance::Fixture) as Box<dyn Offer>]);
        Rc::new(Engine { shard, running, sessions, operations, offers: offers.collect() })
    }

    /// The endpoint of this name.
    pub fn set(&self, name: &str) -> Option<Set> {
        let at = self.offers.iter().position(|offer| offer.name() == name)?;
        u8::try_from(at).ok().map(Set)
    }

    /// Forgets sessions that idle, with their sandboxes; on one core, until the program ends.
    pub async fn forget_idle(self: Rc<Engine>) {
        loop {
            monoio::time::sleep(LOOK).await;
            for some in self.sessions.end_idle(IDLE).chunks(REMOVED_AT_ONCE_MAX) {
                join_all(some.iter().map(|facts| call::remove_own_sandbox(&self, &facts.sandbox))).await;
            }
        }
    }

    /// Takes one message.
    pub async fn take(self: &Rc<Engine>, bytes: &[u8], context: Context<'_>) -> Taken {
        match message::parse(bytes) {
            Ok(message) => self.take_message(message, context).await,
            Err(fault) => {
                let answer = Answer::Message { status: fault.status, bytes: fault.write(), session: None };
                Taken { answer, entry: None, sandbox: None }
            }
        }
    }

    /// Takes one message, or several in an array, that [`super::parse`] has read.
    pub async fn take_message(self: &Rc<Engine>, message: Value, context: Context<'_>) -> Taken {
        let mut seen = Seen::default();
        let answer = match message {
            Value::Array(messages) => self.batch(messages, &context, &mut seen).await,
            message => self.one(message, &context, &mut seen).await,
        };
        let answer = answer.unwrap_or_else(|fault| Answer::Message {
            status: fault.status,
            bytes: fault.write(),
            session: None,
        });
        Taken { answer, entry: seen.entry, sandbox: seen.sandbox }
    }

    /// What follows the message of the mark `last`; else what is told to a session's client without being asked, until
    /// the session ends or this is called again. `None` where it is none of this caller.
    pub fn follow(&self, session: &str, caller: u64, set: Set, last: Option<&str>) -> Option<Box<dyn Messages>> {
        let facts = self.sessions.find(session, caller, set)?;
        if let Some(rest) = last.and_then(|last| self.offer(set).resume(&facts, last)) {
            return Some(rest);
        }
        facts.outbox.listen().map(|listener| -> Box<dyn Messages> { Box::new(listener) })
    }

    /// Ends a session; false where it is none of this caller.
    pub async fn end(self: &Rc<Engine>, session: &str, caller: u64, set: Set) -> bool {
        let Some(facts) = self.sessions.end(session, caller, set) else { return false };
        call::remove_own_sandbox(self, &facts.sandbox).await;
        true
    }

    /// Ends a session whose sandbox its client keeps.
    pub fn forget(&self, session: &str, caller: u64, set: Set) {
        self.sessions.end(session, caller, set);
    }

    /// Removes the sandbox that a client had for itself.
    pub async fn end_own(self: &Rc<Engine>, own: &Own) {
        call::remove_own_sandbox(self, own).await;
    }

    async fn one(self: &Rc<Engine>, message: Value, context: &Context<'_>, seen: &mut Seen) -> Result<Answer, Fault> {
        let is_modern = modern::is_meant(&message, context);
        let incoming = message::read(message)?;
        if is_modern {
            modern::take(self, incoming, context, seen).await
        } else {
            legacy::take(self, incoming, context, seen).await
        }
    }

    /// Several messages at once, which only one old version has. One after the other: each is bounded for itself.
    async fn batch(
        self: &Rc<Engine>,
        messages: Vec<Value>,
        context: &Context<'_>,
        seen: &mut Seen,
    ) -> Result<Answer, Fault> {
        let facts = context.session.and_then(|id| self.sessions.find(id, context.caller, context.set));
        if facts.is_none_or(|facts| facts.version != ProtocolVersion::V_2025_03_26) {
            return Err(Fault::invalid("an array of messages is allowed in sessions of version 2025-03-26 only"));
        }
        if messages.is_empty() || messages.len() > BATCH_MAX {
            return Err(Fault::invalid(format!("an array must hold 1 to {BATCH_MAX} messages")));
        }
        let context = Context { streams: false, ..*context };
        let mut answers = Vec::new();
        for message in messages {
            let answer = match message::read(message) {
                Ok(Incoming::Request(request)) if request.method == "initialize" => {
                    Err(Fault::invalid("`initialize` stands alone").of(&request.id))
                }
                Ok(incoming) => legacy::take(self, incoming, &context, seen).await,
                Err(fault) => Err(fault),
            };
            match answer {
                Ok(Answer::Message { bytes, .. }) => answers.push(bytes),
                Ok(Answer::Nothing | Answer::Stream(_)) => {}
                Err(fault) => answers.push(fault.write()),
            }
        }
        if answers.is_empty() {
            return Ok(Answer::Nothing);
        }
        let bytes = [&b"["[..], &answers.join(&b","[..]), b"]"].concat();
        Ok(Answer::Message { status: 200, bytes, session: None })
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    pub(super) fn running(&self) -> &Rc<Running> {
        &self.running
    }

    pub(super) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// What an endpoint offers.
    pub(super) fn offer(&self, set: Set) -> &dyn Offer {
        self.offers[usize::from(set.0)].as_ref()
    }

    pub(super) fn operation(&self, name: &str) -> Option<&'static Entry> {
        self.operations.iter().find(|entry| entry.name == name)
    }
}
