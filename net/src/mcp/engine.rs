//! What becomes of one message? Read, told apart by era, answered; the same for every transport.

use super::call::Seen;
use super::message::{self, Fault, Incoming};
use super::session::{IDLE, Sessions};
use super::tools::Tools;
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
    sets: [Tools; 3],
}

/// What a transport knows of a message's sender.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// The set of tools that was asked.
    pub profile: Profile,
    /// A digest of who sends it.
    pub caller: u64,
    /// The session that it names.
    pub session: Option<&'a str>,
    /// Of HTTP: what must agree with the message.
    pub head: Option<&'a HeaderMap>,
    /// A session that begins is to have a sandbox of its own.
    pub auto_sandbox: bool,
    /// More than one message can be answered.
    pub streams: bool,
}

/// Messages until the last. Dropping it ends what makes them.
pub trait Messages {
    /// The next one, without a line break; `None` behind the last. Dropping the future loses nothing.
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>>;
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
        let sets =
            [Profile::Executor, Profile::Developer, Profile::Full].map(|profile| Tools::new(operations, profile));
        Rc::new(Engine { shard, running, sessions, operations, sets })
    }

    /// Forgets sessions that idle, with their sandboxes; on one core, until the program ends.
    pub async fn forget_idle(self: Rc<Engine>) {
        loop {
            monoio::time::sleep(LOOK).await;
            for some in self.sessions.end_idle(IDLE).chunks(REMOVED_AT_ONCE_MAX) {
                join_all(some.iter().map(|facts| call::remove_own_sandbox(&self, facts))).await;
            }
        }
    }

    /// Takes one message.
    pub async fn take(self: &Rc<Engine>, bytes: &[u8], context: Context<'_>) -> Taken {
        let mut seen = Seen::default();
        let answer = match message::parse(bytes) {
            Ok(Value::Array(messages)) => self.batch(messages, &context, &mut seen).await,
            Ok(message) => self.one(message, &context, &mut seen).await,
            Err(fault) => Err(fault),
        };
        let answer = answer.unwrap_or_else(|fault| Answer::Message {
            status: fault.status,
            bytes: fault.write(),
            session: None,
        });
        Taken { answer, entry: seen.entry, sandbox: seen.sandbox }
    }

    /// Ends a session; false where it is none of this caller.
    pub async fn end(self: &Rc<Engine>, session: &str, caller: u64, profile: Profile) -> bool {
        let Some(facts) = self.sessions.end(session, caller, profile) else { return false };
        call::remove_own_sandbox(self, &facts).await;
        true
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
        let facts = context.session.and_then(|id| self.sessions.find(id, context.caller, context.profile));
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

    pub(super) fn tools(&self, profile: Profile) -> &Tools {
        &self.sets[profile as usize]
    }

    pub(super) fn operation(&self, name: &str) -> Option<&'static Entry> {
        self.operations.iter().find(|entry| entry.name == name)
    }
}
