//! What an operation is: declared once, shown on every surface.
//!
//! ```text
//!  impl Operation ──► Entry (the static table in `operations`) ──► route · OpenAPI · reference.md · MCP tool · metric
//!  bytes ──► Arguments ──► Input ──► call(shard) ──► Output ──► Reply
//! ```
//! Must not know: sockets, HTTP statuses of failures (`failure`), how an answer is framed.

pub use crate::content::{Asked, Carries, Content, Incoming};
pub use crate::reply::{Document, EVENT_STREAM, Events, Follow, Json, Output, Pieces, Ready, Reply, Shown, Socket};
use crate::wire::{fields, json, query};
use futures_util::future::LocalBoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use workspace_core::sandbox::Idempotency;
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason, SandboxId};

/// A mebibyte.
pub const MIB: usize = 1 << 20;

/// The methods that routes use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads; its input is the query.
    Get,
    /// Acts; its input is a JSON body.
    Post,
    /// Replaces; its input is a JSON body.
    Put,
    /// Removes; its input is the query.
    Delete,
}

impl Method {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
        }
    }

    /// True where the input comes from a JSON body, false where it comes from the query.
    pub const fn has_body(self) -> bool {
        matches!(self, Method::Post | Method::Put)
    }
}

/// A method and a whole path; `{id}` stands for one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// From the root, e.g. `/api/v1/sandboxes/{id}`.
    pub path: &'static str,
}

/// A GET route.
pub const fn get(path: &'static str) -> Route {
    Route { method: Method::Get, path }
}

/// A POST route.
pub const fn post(path: &'static str) -> Route {
    Route { method: Method::Post, path }
}

/// A PUT route.
pub const fn put(path: &'static str) -> Route {
    Route { method: Method::Put, path }
}

/// A DELETE route.
pub const fn delete(path: &'static str) -> Route {
    Route { method: Method::Delete, path }
}

/// A set of MCP tools; each holds those above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// Runs commands, no more.
    Executor,
    /// And works on files.
    Developer,
    /// And on sandboxes.
    Full,
}

/// How MCP shows an operation that is a tool, where that differs from HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsTool {
    /// For people.
    pub title: &'static str,
    /// For a model: what it does, what to mind, what to do next.
    pub about: &'static str,
    /// Fields of the input that the tool does not have.
    pub hides: &'static [&'static str],
    /// Fields of the input, and what the tool calls them.
    pub renames: &'static [(&'static str, &'static str)],
    /// Fields of the input in milliseconds, which the tool has in seconds.
    pub seconds: &'static [&'static str],
    /// Fields that are set where the caller does not, as JSON.
    pub defaults: &'static [(&'static str, &'static str)],
    /// The operation that does the same and tells of it while it goes on.
    pub follow: Option<&'static str>,
}

impl AsTool {
    /// As HTTP has it.
    pub const PLAIN: AsTool =
        AsTool { title: "", about: "", hides: &[], renames: &[], seconds: &[], defaults: &[], follow: None };
}

/// What a call changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Read,
    /// Something, and doing it twice does it twice.
    Write,
    /// It takes away; doing it twice is like once.
    Remove,
}

/// Who may call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// With API keys set: who has one.
    Key,
    /// Everyone.
    Open,
    /// As `Key`, for a browser that cannot send one with an address: every refusal has the answer as its body. So the
    /// answer is one that holds no secret and needs neither a sandbox nor an input.
    KeyOrPage,
}

/// What becomes of a call whose client went away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abandoned {
    /// It goes on to its end: half of it would be worse than all of it.
    Finish,
    /// Its future is dropped, which ends what it started.
    Cancel,
}

/// Bounds of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the request's body; a longer one is 413.
    pub body_bytes_max: usize,
    /// Calls at once on one sandbox, counted per core; more is 429.
    pub in_flight_max_per_sandbox: u32,
}

/// For calls that are short: no count is kept.
pub const SHORT: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: u32::MAX };

/// What a caller asked, not yet read.
#[derive(Debug)]
pub struct Arguments<'a> {
    /// The sandbox that the path names.
    pub sandbox: Option<SandboxId>,
    /// What else the path names: a field of the input, and its text.
    pub item: Option<(&'static str, &'a str)>,
    /// Of the header Last-Event-ID: where a reader of events left off.
    pub last_event_id: Option<&'a str>,
    /// Of a WebSocket: the subprotocol that was agreed on.
    pub protocol: Option<&'static str>,
    /// Where the input is.
    pub form: Form<'a>,
    /// Of the header Idempotency-Key.
    pub idempotency: Option<Idempotency>,
    /// What the head says about bytes.
    pub asked: Asked,
    /// A body that is not JSON.
    pub incoming: Option<Incoming>,
}

impl Arguments<'_> {
    /// Of a call that says nothing.
    pub fn nothing() -> Arguments<'static> {
        let form = Form::Query("");
        Arguments {
            sandbox: None,
            item: None,
            last_event_id: None,
            protocol: None,
            form,
            idempotency: None,
            asked: Asked::default(),
            incoming: None,
        }
    }
}

/// Where an input is read from.
#[derive(Debug)]
pub enum Form<'a> {
    /// A query string, still percent-encoded.
    Query(&'a str),
    /// A JSON object; empty stands for `{}`.
    Json(&'a [u8]),
    /// A query string and a JSON object, each field in one of them.
    Both(&'a str, &'a [u8]),
    /// A JSON object that was parsed already.
    Parsed(&'a serde_json::Value),
}

impl Form<'_> {
    /// Reads the input, with the field that the path gives. 1001 names the field that is missing or of another type.
    pub fn read<T: DeserializeOwned>(&self, item: Option<(&str, &str)>) -> Result<T, Error> {
        let (mut object, source) = match self {
            Form::Parsed(object) => return decode(object, fields::Source::Json),
            Form::Query(text) => (query::object(text).map_err(malformed)?, fields::Source::Text),
            Form::Json([]) => (serde_json::json!({}), fields::Source::Json),
            Form::Json(bytes) => (json::parse(bytes).map_err(malformed)?, fields::Source::Json),
            Form::Both(text, bytes) => (both(text, bytes)?, fields::Source::Text),
        };
        if let (Some((name, text)), Some(object)) = (item, object.as_object_mut()) {
            object.insert(name.to_owned(), text.into());
        }
        decode(&object, source)
    }
}

fn decode<T: DeserializeOwned>(object: &serde_json::Value, source: fields::Source) -> Result<T, Error> {
    fields::decode(object, source).map_err(|wrong| {
        let error = Error::new(Reason::InvalidRequest, wrong.to_string());
        if wrong.path.is_empty() { error } else { error.details(wrong.path) }
    })
}

/// The fields of a query and of a body together.
fn both(text: &str, bytes: &[u8]) -> Result<serde_json::Value, Error> {
    let mut object = if bytes.is_empty() { serde_json::json!({}) } else { json::parse(bytes).map_err(malformed)? };
    let (Some(fields), serde_json::Value::Object(query)) =
        (object.as_object_mut(), query::object(text).map_err(malformed)?)
    else {
        return Err(malformed("the body must be an object"));
    };
    for (name, value) in query {
        if fields.insert(name.clone(), value).is_some() {
            let message = format!("`{name}` stands in the query and in the body");
            return Err(Error::new(Reason::InvalidRequest, message).details(name));
        }
    }
    Ok(object)
}

fn malformed(why: impl ToString) -> Error {
    Error::new(Reason::InvalidRequest, why.to_string())
}

/// One call, read.
#[derive(Debug)]
pub struct Call<I> {
    sandbox: Option<SandboxId>,
    /// Of the header Last-Event-ID: where a reader of events left off.
    pub last_event_id: Option<String>,
    /// Of a WebSocket: the subprotocol that was agreed on.
    pub protocol: Option<&'static str>,
    /// Of the header Idempotency-Key.
    pub idempotency: Option<Idempotency>,
    /// What the head says about bytes.
    pub asked: Asked,
    /// A body that is not JSON.
    pub incoming: Option<Incoming>,
    /// The input, of the right shape; values are checked by the operation.
    pub input: I,
}

impl<I> Call<I> {
    /// The sandbox that the call is about.
    pub fn sandbox(&self) -> Result<SandboxId, Error> {
        self.sandbox.ok_or_else(|| Error::new(Reason::SandboxNotFound, "no sandbox was named"))
    }

    /// The same call with its input in another form.
    pub fn try_map<J>(self, map: impl FnOnce(I) -> Result<J, Error>) -> Result<Call<J>, Error> {
        let Call { sandbox, last_event_id, protocol, idempotency, asked, incoming, input } = self;
        Ok(Call { sandbox, last_event_id, protocol, idempotency, asked, incoming, input: map(input)? })
    }
}

/// An input without fields.
#[derive(Debug, serde::Deserialize, JsonSchema)]
pub struct Nothing {}

/// One thing that callers can ask for.
pub trait Operation: 'static {
    /// MCP tool, operationId, metric label, log field.
    const NAME: &'static str;
    /// One sentence for documents.
    const SUMMARY: &'static str;
    /// Where HTTP has it; the first is the one that documents show.
    const ROUTES: &'static [Route];
    /// The status of success.
    const STATUS: u16 = 200;
    /// The smallest tool set that has it.
    const TOOL: Option<Profile>;
    /// How that tool looks.
    const AS_TOOL: AsTool = AsTool::PLAIN;
    /// What it changes.
    const EFFECT: Effect;
    /// Who may call it.
    const ACCESS: Access = Access::Key;
    /// Where its answer is a WebSocket, which is a GET with the status 101: the subprotocols that it knows.
    const SOCKET: Option<&'static [&'static str]> = None;
    /// What becomes of it when its client goes.
    const ABANDONED: Abandoned = Abandoned::Finish;
    /// What it carries beside JSON.
    const CARRIES: Carries = Carries::Json;
    /// Its bounds.
    const LIMITS: Limits = SHORT;
    /// The reasons for failure that are its own, beside those that every operation has.
    const ERRORS: &'static [Reason];
    /// What it takes.
    type Input: DeserializeOwned + JsonSchema + 'static;
    /// What it answers.
    type Output: Output;

    /// Does it. Values are checked here, once, into core's own types.
    fn call(shard: &Shard, call: Call<Self::Input>) -> impl Future<Output = Result<Self::Output, Error>>;
}

/// How the table calls an operation: one boxed future a call.
pub type Invoke = for<'a> fn(&'a Shard, Arguments<'a>) -> LocalBoxFuture<'a, Result<Reply, Error>>;

/// An operation as a row of the table.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // Each field is the constant of the same name in [`Operation`].
pub struct Entry {
    pub name: &'static str,
    pub summary: &'static str,
    pub routes: &'static [Route],
    pub status: u16,
    pub media_type: &'static str,
    pub tool: Option<Profile>,
    pub as_tool: AsTool,
    pub effect: Effect,
    pub access: Access,
    pub socket: Option<&'static [&'static str]>,
    pub abandoned: Abandoned,
    pub carries: Carries,
    pub limits: Limits,
    pub errors: &'static [Reason],
    pub input: fn(&mut SchemaGenerator) -> Schema,
    pub output: fn(&mut SchemaGenerator) -> Option<Schema>,
    pub invoke: Invoke,
}

/// The row of an operation.
pub const fn entry<O: Operation>() -> Entry {
    Entry {
        name: O::NAME,
        summary: O::SUMMARY,
        routes: O::ROUTES,
        status: O::STATUS,
        media_type: O::Output::MEDIA_TYPE,
        tool: O::TOOL,
        as_tool: O::AS_TOOL,
        effect: O::EFFECT,
        access: O::ACCESS,
        socket: O::SOCKET,
        abandoned: O::ABANDONED,
        carries: O::CARRIES,
        limits: O::LIMITS,
        errors: O::ERRORS,
        input: |generator| generator.subschema_for::<O::Input>(),
        output: |generator| O::Output::schema(generator),
        invoke: |shard, arguments| Box::pin(invoke::<O>(shard, arguments)),
    }
}

async fn invoke<O: Operation>(shard: &Shard, arguments: Arguments<'_>) -> Result<Reply, Error> {
    let Arguments { sandbox, item, last_event_id, protocol, form, idempotency, asked, incoming } = arguments;
    let input = form.read::<O::Input>(item)?;
    let last_event_id = last_event_id.map(str::to_owned);
    let call = Call { sandbox, last_event_id, protocol, idempotency, asked, incoming, input };
    O::call(shard, call).await?.reply()
}

/// Reasons that every operation may answer with, because the edge, the mailboxes or the store do.
pub const COMMON_ERRORS: &[Reason] = &[
    Reason::InvalidRequest,
    Reason::InvalidParameter,
    Reason::Internal,
    Reason::NotImplemented,
    Reason::Unauthenticated,
    Reason::RateLimited,
    Reason::ForbiddenOrigin,
    Reason::Overloaded,
    Reason::DatabaseError,
];
