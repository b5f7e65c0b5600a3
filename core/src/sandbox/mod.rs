//! What a sandbox is: the public shape, the request that makes one, and the bounds of each field.

pub mod deadlines;
pub mod state;

use crate::id::SandboxId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a sandbox is in its life. `hibernated` will be shown as running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Being made; no command can run yet.
    Starting,
    /// Commands can run.
    Running,
    /// Frozen.
    Paused,
    /// Its processes are being ended.
    Stopping,
    /// No process; the files stay.
    Stopped,
    /// Something failed, `error_message` says what; the files stay.
    Error,
}

impl State {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            State::Starting => "starting",
            State::Running => "running",
            State::Paused => "paused",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Error => "error",
        }
    }
}

/// How strictly a limit holds on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Enforcement {
    /// The kernel refuses what is over it.
    Hard,
    /// Measured, and acted upon later.
    Soft,
    /// Not at all.
    None,
}

/// How strictly each limit holds on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Enforced {
    /// Of `memory_bytes`.
    pub memory: Enforcement,
    /// Of `cpus`.
    pub cpu: Enforcement,
    /// Of `disk_bytes`.
    pub disk: Enforcement,
    /// Of `pids`.
    pub pids: Enforcement,
}

/// The limits of a sandbox, all of them decided.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Resources {
    /// Memory of all commands, in bytes.
    pub memory_bytes: u64,
    /// CPUs: none asked is all by weight; a number is a quota.
    pub cpus: Option<f64>,
    /// Processes and threads of all commands.
    pub pids: u64,
    /// `/workspace` and the home directory, in bytes.
    pub disk_bytes: u64,
    /// How strictly each of them holds here.
    pub enforced: Enforced,
}

/// A sandbox as every protocol shows it.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Sandbox {
    /// 32 characters of a-z2-7.
    #[schemars(with = "String")]
    #[serde(serialize_with = "as_text")]
    pub id: SandboxId,
    /// As asked, or the id's first 12 characters.
    pub name: String,
    /// The template's name as asked.
    pub template: String,
    /// Where it is in its life.
    pub state: State,
    /// Environment of every command.
    pub env: BTreeMap<String, String>,
    /// The caller's own marks.
    pub metadata: BTreeMap<String, String>,
    /// Where `/workspace` can be mounted.
    pub nfs_url: String,
    /// RFC 3339 in UTC.
    pub created_at: String,
    /// RFC 3339 in UTC.
    pub updated_at: String,
    /// Seconds of life, 0 = none.
    pub timeout: u64,
    /// Why it is in `error`.
    pub error_message: Option<String>,
    /// `namespace` or `docker`.
    pub runtime: String,
    /// The workspace it uses, where it is not its own.
    pub workspace_id: Option<String>,
    /// Its limits.
    pub resources: Resources,
    /// `none`.
    pub network: String,
    /// RFC 3339 in UTC; absent without a timeout.
    pub expires_at: Option<String>,
}

fn as_text<S: serde::Serializer>(id: &SandboxId, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(id.as_str())
}

/// A request for a sandbox, checked: every field is within its bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateSandbox {
    /// `None`: `workspace-base:latest`.
    pub template: Option<String>,
    /// At most 256 characters, no control characters.
    pub name: Option<String>,
    /// At most 256 variables; names 1..=256 bytes without `=` and NUL, values at most 32 KiB without NUL.
    pub env: BTreeMap<String, String>,
    /// At most 64 entries; keys 1..=64 bytes, values at most 4 KiB.
    pub metadata: BTreeMap<String, String>,
    /// Seconds of life, 0 = none; at most 10 years.
    pub timeout: u64,
    /// Idle seconds after which it may be stopped, 0 = none; at most 10 years. Kept in the record.
    pub idle_timeout: u64,
    /// Memory limit in bytes; `None`: 1 GiB. At least 16 MiB.
    pub memory_bytes: Option<u64>,
    /// CPU quota, 0.01..=1024; `None`: all, by weight.
    pub cpus: Option<f64>,
    /// 1..=4194304; `None`: 2048.
    pub pids: Option<u64>,
    /// `None`: 4 GiB. At least 1 MiB.
    pub disk_bytes: Option<u64>,
    /// With the same key and the same body again, the first answer is given again. At most 255 bytes.
    pub idempotency: Option<Idempotency>,
}

/// An Idempotency-Key and the digest of the body it came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idempotency {
    /// 1..=255 visible ASCII characters.
    pub key: String,
    /// Of the caller's API key and the body; equal means the same request.
    pub digest: u64,
}

/// Which sandboxes to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Only those in this state.
    pub state: Option<State>,
    /// Only those that have all of these metadata entries.
    pub metadata: Vec<(String, String)>,
    /// How many at most, 1..=1000; 100 unless asked.
    pub limit: usize,
    /// Where the last page ended: (created at in µs, id).
    pub after: Option<(u64, SandboxId)>,
}

/// One page of sandboxes, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// At most `limit`.
    pub sandboxes: Vec<Sandbox>,
    /// How many match the filter in all.
    pub total: usize,
    /// Where the next page starts, if there is one.
    pub next: Option<(u64, SandboxId)>,
}

/// Whether DELETE ends a sandbox in which a caller's process is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Refuse with 2004.
    No,
    /// End them.
    Yes,
}
