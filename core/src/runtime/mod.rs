//! What makes sandboxes out of a machine: one trait, implemented by the namespace runtime.
//!
//! The trait is free of namespace words: other runtimes (containers, microVMs) fit the same calls.

pub mod namespace;

use crate::error::Error;
use crate::id::SandboxId;
pub use crate::sandbox::state::Files;
use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use workspace_proto::launcher::{Enforced, Entry, Identity};

/// What a sandbox shall be, all decided.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Whose.
    pub id: SandboxId,
    /// The block of 65,536 host ids it gets; 0 where all share one range.
    pub block: u32,
    /// A template name of the runtime's own.
    pub template: String,
    /// Memory limit in bytes, 0 = none.
    pub memory_bytes: u64,
    /// Process limit, 0 = none.
    pub pids_max: u64,
    /// CPU quota per 100 ms in µs, 0 = none.
    pub cpu_quota_us: u32,
    /// CPUs by affinity, 0 = all.
    pub cpu_count: u32,
    /// `/tmp` and `/dev/shm` together, in bytes.
    pub tmp_bytes: u64,
}

/// A sandbox whose first process was let go; that it came up is told by its agent.
#[derive(Debug)]
pub struct Launched {
    /// A connected stream to the agent.
    pub link: OwnedFd,
    /// Readable when the sandbox's first process has ended.
    pub pidfd: OwnedFd,
    /// Who the agent is.
    pub identity: Identity,
    /// Which limits hold.
    pub enforced: Enforced,
}

/// A sandbox's first process has ended, or never came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Whose.
    pub id: SandboxId,
    /// Why, one line for `error_message`.
    pub why: String,
}

/// A machine that can hold sandboxes. One instance per shard; dropping a future does not undo what it asked for.
pub trait Runtime {
    /// The name in the public `runtime` field.
    fn name(&self) -> &'static str;

    /// Starts a sandbox.
    fn create(&self, plan: Plan) -> LocalBoxFuture<'_, Result<Launched, Error>>;

    /// Ends a sandbox and removes all it holds; its files go to the trash unless kept. Repeatable.
    fn destroy(&self, id: SandboxId, files: Files) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// What exists on this machine, whether known to the store or not.
    fn inventory(&self) -> LocalBoxFuture<'_, Result<Vec<Entry>, Error>>;

    /// Takes a living sandbox over after a restart and opens a new stream to its agent, having checked who it is.
    fn adopt(&self, id: SandboxId, identity: Identity) -> LocalBoxFuture<'_, Result<Launched, Error>>;

    /// The next sandbox that ended. Never resolves to an error: a lost runtime ends the program.
    fn ended(&self) -> LocalBoxFuture<'_, Ended>;
}
