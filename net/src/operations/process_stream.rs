//! Read what a command prints while it runs: run one and follow it, or follow one that was started.
//!
//! The position of a reader is the id of the last event that it has; from there another connection goes on.

use super::bounds::refuse;
use super::command::{self, Command, PROCESS_ERRORS, RUN_ERRORS};
use super::pid::Pid;
use crate::operation::{Abandoned, Call, Effect, Events, Follow, Limits, MIB, Operation, Profile, Route, get, post};
use crate::wire::printed::Encoding;
use crate::wire::{fields, json, sse};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use workspace_core::output::{Cut, Position, Seams};
use workspace_core::process::Event;
use workspace_core::shard::{self, Shard};
use workspace_core::{Error, Reason};

/// Events are sent when this much has collected, even where more are there.
const PAGE_BYTES_MAX: usize = 32 << 10;

/// A command of a query.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Query {
    /// The program: a path, or a name looked up in the command's PATH; 1 to 4096 bytes.
    command: String,
    /// Its arguments: a JSON array of strings.
    args: Option<String>,
    /// Added to the sandbox's environment: a JSON object of strings.
    env: Option<String>,
    /// Working directory, relative to `/workspace`; `/workspace`; at most 4095 bytes.
    cwd: Option<String>,
    /// Milliseconds until the command is ended, 0 = none; at most 315360000000.
    #[serde(default)]
    timeout: u64,
    /// `user` (1000) or `root` (0); `user`.
    user: Option<String>,
    /// How output is written: `utf8` (what is not UTF-8 is replaced) or `base64` (exact).
    encoding: Option<String>,
}

impl Query {
    fn command(self) -> Result<Command, Error> {
        Ok(Command {
            command: self.command,
            args: inner("args", self.args)?,
            env: inner("env", self.env)?,
            cwd: self.cwd,
            timeout: self.timeout,
            user: self.user,
            encoding: self.encoding,
            ..Command::default()
        })
    }
}

/// JSON in a parameter of a query.
fn inner<T: DeserializeOwned + Default>(field: &str, text: Option<String>) -> Result<T, Error> {
    let Some(text) = text else { return Ok(T::default()) };
    let malformed = |why: String| Error::new(Reason::InvalidRequest, format!("`{field}` {why}")).details(field);
    let value = json::parse(text.as_bytes()).map_err(|why| malformed(format!("is not JSON: {why}")))?;
    fields::decode(&value, fields::Source::Json).map_err(|wrong| {
        let path = if wrong.path.is_empty() { field.to_owned() } else { format!("{field}.{}", wrong.path) };
        Error::new(Reason::InvalidRequest, format!("`{path}` {}", wrong.what())).details(path)
    })
}

/// Reads a command's events and writes them as server-sent ones.
struct Written {
    follow: shard::Follow,
    seams: Seams,
    encoding: Encoding,
    can_resume: bool,
}

impl Written {
    fn boxed(follow: shard::Follow, position: Position, encoding: Encoding, can_resume: bool) -> Follow {
        let cut = match encoding {
            Encoding::Utf8 => Cut::Characters,
            Encoding::Base64 => Cut::Bytes,
        };
        Follow(Some(Box::new(Written { follow, seams: Seams::new(position, cut), encoding, can_resume })))
    }

    /// False behind the last event.
    fn write(&mut self, event: Result<Event, Error>, out: &mut Vec<u8>) -> bool {
        let encoding = self.encoding;
        match event {
            Ok(Event::Started { pid }) => sse::start(out, self.seams.position(), pid),
            Ok(Event::Output { stream, bytes, cursor }) => {
                self.seams.output(stream, &bytes, cursor, |at, piece| sse::output(out, at, stream, piece, encoding));
            }
            Ok(Event::Dropped { bytes, cursor }) => {
                self.seams.dropped(cursor, |stream, at, piece| sse::output(out, at, stream, piece, encoding));
                sse::dropped(out, self.seams.position(), bytes);
            }
            Ok(Event::Ended(ending)) => {
                self.seams.flush(|stream, at, piece| sse::output(out, at, stream, piece, encoding));
                sse::exit(out, self.seams.end(), &ending);
                return false;
            }
            Err(error) => {
                sse::error(out, &error.message, error.reason.name());
                return false;
            }
        }
        true
    }

    async fn next(&mut self, out: &mut Vec<u8>) -> bool {
        let Some(event) = self.follow.next().await else { return false };
        let mut goes_on = self.write(event, out);
        while goes_on && out.len() < PAGE_BYTES_MAX {
            let Some(event) = self.follow.ready() else { break };
            goes_on = self.write(event, out);
        }
        goes_on
    }
}

impl Events for Written {
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool> {
        self.next(out).boxed_local()
    }

    fn can_resume(&self) -> bool {
        self.can_resume
    }
}

/// At most so many streams of one kind on one sandbox, for each core.
const STREAMS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 2048 };

/// Runs a command and follows it.
async fn run(shard: &Shard, call: Call<Command>) -> Result<Follow, Error> {
    let sandbox = call.sandbox()?;
    let (mut command, encoding) = call.input.check()?;
    command.output_bytes_max = u64::MAX;
    Ok(Written::boxed(shard.stream(sandbox, command).await?, Position::default(), encoding, false))
}

pub(super) struct ProcessRunStream;

impl Operation for ProcessRunStream {
    const NAME: &'static str = "process_run_stream";
    const SUMMARY: &'static str =
        "Run a command and get what it prints as server-sent events; a client that goes away ends it.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/process/run/stream")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = STREAMS;
    const ERRORS: &'static [Reason] = RUN_ERRORS;
    type Input = Command;
    type Output = Follow;

    async fn call(shard: &Shard, call: Call<Command>) -> Result<Follow, Error> {
        run(shard, call).await
    }
}

pub(super) struct ProcessRunStreamGet;

impl Operation for ProcessRunStreamGet {
    const NAME: &'static str = "process_run_stream_get";
    const SUMMARY: &'static str = "The same for clients that can only GET; one that comes back with Last-Event-ID gets 204, and nothing runs twice.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/process/run/stream")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = STREAMS;
    const ERRORS: &'static [Reason] = RUN_ERRORS;
    type Input = Query;
    type Output = Follow;

    async fn call(shard: &Shard, call: Call<Query>) -> Result<Follow, Error> {
        if call.last_event_id.is_some() {
            return Ok(Follow(None));
        }
        run(shard, call.try_map(Query::command)?).await
    }
}

/// Where to begin.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct From {
    /// The process.
    pid: Pid,
    /// The id of the last event that is known, 0 = from the first that is kept; the header Last-Event-ID wins.
    cursor: Option<String>,
    /// How output is written: `utf8` (what is not UTF-8 is replaced) or `base64` (exact).
    encoding: Option<String>,
}

pub(super) struct ProcessStream;

impl Operation for ProcessStream {
    const NAME: &'static str = "process_stream";
    const SUMMARY: &'static str =
        "Get what a started command has printed from a position on, and what it prints, as server-sent events.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/process/{pid}/stream")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = STREAMS;
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = From;
    type Output = Follow;

    async fn call(shard: &Shard, call: Call<From>) -> Result<Follow, Error> {
        let sandbox = call.sandbox()?;
        let pid = call.input.pid.number()?;
        let encoding = command::encoding(call.input.encoding.as_deref())?;
        let (field, text) = match (&call.last_event_id, &call.input.cursor) {
            (Some(id), _) => ("Last-Event-ID", id.as_str()),
            (None, Some(cursor)) => ("cursor", cursor.as_str()),
            (None, None) => ("cursor", "0"),
        };
        let position =
            Position::parse(text).ok_or_else(|| refuse(field, "must be the id of an event of this process, or 0"))?;
        if position.ended {
            return Ok(Follow(None));
        }
        Ok(Written::boxed(shard.follow(sandbox, pid, position.cursor).await?, position, encoding, true))
    }
}
