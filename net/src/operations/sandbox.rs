//! What can be asked about sandboxes: make, show, list, delete.

use super::bounds::{self, SECONDS_MAX, refuse};
use crate::operation::{AsTool, Call, Effect, Json, Nothing, Operation, Profile, Route, Shown, delete, get, post};
use crate::wire::base64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use workspace_core::sandbox::{CreateSandbox, Force, Idempotency, ListFilter, Sandbox, State};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason, SandboxId};

/// What a new sandbox should be. Everything has a default.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewSandbox {
    /// The root file system and its defaults; `workspace-base:latest`.
    template: Option<String>,
    /// For people; need not be unique; at most 256 characters.
    name: Option<String>,
    /// Environment of every command; at most 256 variables of at most 32 KiB.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// The caller's own marks, to filter by; at most 64 of at most 4 KiB.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// Seconds of life, 0 = no end; at most 315360000.
    #[serde(default)]
    timeout: u64,
    /// Idle seconds after which it may be stopped, 0 = never.
    #[serde(default)]
    idle_timeout: u64,
    /// `auto` or `namespace`.
    runtime: Option<String>,
    /// A workspace to use instead of its own; not built yet.
    workspace_id: Option<String>,
    /// Limits.
    resources: Option<NewResources>,
    /// `none`.
    network: Option<String>,
}

/// The limits of a new sandbox.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct NewResources {
    /// Memory of all commands; 1 GiB; at least 16 MiB. `/tmp` and `/dev/shm` together take 256 MiB of it, half where it is small.
    memory_bytes: Option<u64>,
    /// A quota of CPUs, 0.01 to 1024; without it: all, shared by weight.
    cpus: Option<f64>,
    /// Processes and threads; 2048; 1 to 4194304.
    pids: Option<u64>,
    /// `/workspace` and the home directory; 4 GiB; at least 1 MiB.
    disk_bytes: Option<u64>,
}

impl NewSandbox {
    fn check(self, idempotency: Option<Idempotency>) -> Result<CreateSandbox, Error> {
        if let Some(template) = &self.template {
            bounds::text("template", template, 1..=256)?;
            bounds::label("template", template, 256)?;
        }
        if let Some(name) = &self.name {
            bounds::label("name", name, 256)?;
        }
        bounds::env(&self.env)?;
        bounds::metadata(&self.metadata)?;
        runtime(self.runtime.as_deref())?;
        if self.workspace_id.is_some() {
            return Err(later("`workspace_id`: shared workspaces are not built yet; leave it out", "workspace_id"));
        }
        if self.network.as_deref().is_some_and(|network| network != "none") {
            return Err(refuse("network", "must be \"none\", the only network there is"));
        }
        let resources = self.resources.unwrap_or_default();
        if resources.cpus.is_some_and(|cpus| !(0.01..=1024.0).contains(&cpus)) {
            return Err(refuse("resources.cpus", "must be 0.01 to 1024"));
        }
        let within = |field, value: Option<u64>, range| value.map(|v| bounds::number(field, v, range)).transpose();
        Ok(CreateSandbox {
            template: self.template,
            name: self.name,
            env: self.env,
            metadata: self.metadata,
            timeout: bounds::number("timeout", self.timeout, 0..=SECONDS_MAX)?,
            idle_timeout: bounds::number("idle_timeout", self.idle_timeout, 0..=SECONDS_MAX)?,
            memory_bytes: within("resources.memory_bytes", resources.memory_bytes, 16 << 20..=1 << 50)?,
            cpus: resources.cpus,
            pids: within("resources.pids", resources.pids, 1..=4_194_304)?,
            disk_bytes: within("resources.disk_bytes", resources.disk_bytes, 1 << 20..=1 << 50)?,
            idempotency,
        })
    }
}

fn runtime(name: Option<&str>) -> Result<(), Error> {
    match name {
        None | Some("auto" | "namespace") => Ok(()),
        Some("docker") => Err(later("`runtime`: docker is not built yet; use \"auto\" or \"namespace\"", "runtime")),
        Some(_) => Err(refuse("runtime", "must be \"auto\" or \"namespace\"")),
    }
}

fn later(message: &str, field: &str) -> Error {
    Error::new(Reason::NotImplemented, message).details(field)
}

pub(super) struct SandboxCreate;

impl Operation for SandboxCreate {
    const NAME: &'static str = "sandbox_create";
    const SUMMARY: &'static str = "Make a sandbox; the answer comes when it can run a command.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes")];
    const STATUS: u16 = 201;
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Make a sandbox",
        about: "Make an isolated Linux sandbox; answers when commands can run in it. Every field has a default. Use its id as sandbox_id in the other tools, and delete it with sandbox_delete when the work is done.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = &[
        Reason::SandboxAlreadyExists,
        Reason::TemplateNotFound,
        Reason::SandboxLimitExceeded,
        Reason::NoSpace,
        Reason::AgentNotConnected,
        Reason::AgentTimeout,
        Reason::AgentError,
        Reason::RuntimeError,
    ];
    type Input = NewSandbox;
    type Output = Json<Sandbox>;

    async fn call(shard: &Shard, call: Call<NewSandbox>) -> Result<Self::Output, Error> {
        shard.create(call.input.check(call.idempotency)?).await.map(Json)
    }
}

pub(super) struct SandboxGet;

impl Operation for SandboxGet {
    const NAME: &'static str = "sandbox_get";
    const SUMMARY: &'static str = "Show a sandbox.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool =
        AsTool { title: "Show a sandbox", about: "Show the state, limits and marks of a sandbox.", ..AsTool::PLAIN };
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[Reason::SandboxNotFound, Reason::AgentNotConnected];
    type Input = Nothing;
    type Output = Shown<Sandbox>;

    async fn call(shard: &Shard, call: Call<Nothing>) -> Result<Self::Output, Error> {
        shard.get_shown(call.sandbox()?, Shown::<Sandbox>::write).await.map(Shown::new)
    }
}

/// Which sandboxes to list.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Filter {
    /// Only those in this state: starting, running, paused, stopping, stopped, error.
    state: Option<String>,
    /// Only those with all of these marks; `metadata.KEY=VALUE` in a query.
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    /// How many at most, 1 to 1000; 100.
    limit: Option<u64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl Filter {
    fn check(self) -> Result<ListFilter, Error> {
        bounds::metadata(&self.metadata)?;
        let state = match self.state.as_deref() {
            None => None,
            Some(name) => Some(state(name)?),
        };
        let after = match self.cursor.as_deref() {
            None => None,
            Some(text) => Some(cursor(text).ok_or_else(|| refuse("cursor", "is not one that this server gave"))?),
        };
        let limit = bounds::number("limit", self.limit.unwrap_or(100), 1..=1000)? as usize;
        Ok(ListFilter { state, metadata: self.metadata.into_iter().collect(), limit, after })
    }
}

fn state(name: &str) -> Result<State, Error> {
    let all = [State::Starting, State::Running, State::Paused, State::Stopping, State::Stopped, State::Error];
    all.into_iter()
        .find(|state| state.name() == name)
        .ok_or_else(|| refuse("state", "must be one of starting, running, paused, stopping, stopped, error"))
}

/// Writes where a page ended, opaque to callers.
fn write_cursor((created_us, id): (u64, SandboxId)) -> String {
    base64::encode_url(&[&created_us.to_be_bytes(), id.as_str().as_bytes()].concat())
}

/// Reads where a page ended; `None` where it was not written here.
fn cursor(text: &str) -> Option<(u64, SandboxId)> {
    // 40 bytes are 54 characters; anything longer is not even decoded.
    let bytes = (text.len() == 54).then(|| base64::decode_url(text)).flatten()?;
    let (created_us, id) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*created_us), SandboxId::parse(std::str::from_utf8(id).ok()?)?))
}

/// One page of sandboxes, oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Listing {
    /// At most `limit`.
    sandboxes: Vec<Sandbox>,
    /// How many match the filter in all.
    total: usize,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

pub(super) struct SandboxList;

impl Operation for SandboxList {
    const NAME: &'static str = "sandbox_list";
    const SUMMARY: &'static str = "List sandboxes, oldest first, by state and metadata, in pages.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "List sandboxes",
        about: "List sandboxes, oldest first, all or those in a state or with given metadata. `next_cursor` is there where more follows.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[Reason::AgentNotConnected];
    type Input = Filter;
    type Output = Json<Listing>;

    async fn call(shard: &Shard, call: Call<Filter>) -> Result<Self::Output, Error> {
        let page = shard.list(call.input.check()?).await?;
        let next_cursor = page.next.map(write_cursor);
        Ok(Json(Listing { sandboxes: page.sandboxes, total: page.total, next_cursor }))
    }
}

/// How to delete.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Deletion {
    /// Also where a caller's process is alive.
    #[serde(default)]
    force: bool,
}

/// That it was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// `true`.
    success: bool,
}

pub(super) struct SandboxDelete;

impl Operation for SandboxDelete {
    const NAME: &'static str = "sandbox_delete";
    const SUMMARY: &'static str =
        "End a sandbox and remove its files; without `force` only where no command of a caller runs.";
    const ROUTES: &'static [Route] = &[delete("/api/v1/sandboxes/{id}")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Delete a sandbox",
        about: "End a sandbox and remove all its files; it can not be undone. Refused while a command of a caller runs in it, unless force is set.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Remove;
    const ERRORS: &'static [Reason] = &[
        Reason::SandboxNotFound,
        Reason::InvalidSandboxState,
        Reason::AgentNotConnected,
        Reason::AgentTimeout,
        Reason::RuntimeError,
    ];
    type Input = Deletion;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<Deletion>) -> Result<Self::Output, Error> {
        let force = if call.input.force { Force::Yes } else { Force::No };
        shard.delete(call.sandbox()?, force).await?;
        Ok(Json(Done { success: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Form;

    /// A cursor has one text; whatever a query says, a filter is within its bounds.
    fn listing(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        if let Some(at) = cursor(&text) {
            assert_eq!(write_cursor(at), text);
        }
        let Ok(filter) = Form::Query(&text).read::<Filter>(None).and_then(Filter::check) else { return };
        assert!((1..=1000).contains(&filter.limit) && filter.metadata.len() <= 64);
        assert!(filter.metadata.iter().all(|(key, value)| (1..=64).contains(&key.len()) && value.len() <= 4096));
        assert!(filter.state.is_none_or(|state| text.contains(state.name()) || text.contains('%')));
    }

    #[test]
    fn any_query_is_a_filter_within_bounds() {
        let id = SandboxId::from_random([5; 20]);
        let written = write_cursor((1_795_482_123_000_000, id));
        assert_eq!(cursor(&written), Some((1_795_482_123_000_000, id)));
        let query = format!("state=paused&limit=1000&cursor={written}&metadata.a=b&metadata.c.d=e+f%20g");
        let corpus: [&[u8]; 4] = [written.as_bytes(), query.as_bytes(), b"limit=0", b"limit=1001&state=hibernated"];
        crate::fuzz::run(listing, &corpus);
    }

    /// What core is asked to make is within the bounds that the contract names.
    fn creation(input: &[u8]) {
        let Ok(asked) = Form::Json(input).read::<NewSandbox>(None).and_then(|new| new.check(None)) else { return };
        let control = |text: &String| text.chars().any(char::is_control);
        assert!(asked.template.is_none_or(|name| (1..=256).contains(&name.len()) && !control(&name)));
        assert!(asked.name.is_none_or(|name| name.chars().count() <= 256 && !control(&name)));
        assert!(asked.env.len() <= 256 && asked.metadata.len() <= 64);
        for (name, value) in &asked.env {
            assert!((1..=256).contains(&name.len()) && !name.contains(['=', '\0']) && !value.contains('\0'));
        }
        assert!(asked.timeout <= SECONDS_MAX && asked.idle_timeout <= SECONDS_MAX);
        assert!(asked.memory_bytes.is_none_or(|bytes| bytes >= 16 << 20));
        assert!(asked.cpus.is_none_or(|cpus| (0.01..=1024.0).contains(&cpus)));
        assert!(asked.pids.is_none_or(|pids| (1..=4_194_304).contains(&pids)));
        assert!(asked.disk_bytes.is_none_or(|bytes| bytes >= 1 << 20));
    }

    #[test]
    fn any_body_is_a_creation_within_bounds() {
        let corpus: [&[u8]; 5] = [
            b"",
            br#"{"template":"workspace-base:latest","name":"a","env":{"A":"B"},"metadata":{"c":"d"},"timeout":60}"#,
            br#"{"resources":{"memory_bytes":16777216,"cpus":0.5,"pids":1,"disk_bytes":1048576},"idle_timeout":315360000}"#,
            br#"{"env":{"A=":"","":"x","B":"\u0000"},"runtime":"auto","network":"none"}"#,
            br#"{"resources":{"cpus":1e400,"pids":-1},"name":"\u001b[1m"}"#,
        ];
        crate::fuzz::run(creation, &corpus);
    }
}
