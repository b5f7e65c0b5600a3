//! What is asked of one sandbox's agent: one typed function per call.
//!
//! The link itself (HTTP/2 over a Unix socket) is `net`'s; here stands only what the core needs of it. Everything an
//! agent answers is hostile input: an implementation checks sizes, order and numbers before it returns.

use crate::error::Error;
use crate::id::SandboxId;
use crate::process::{Event, Finished, Process};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use workspace_proto::agent::{RunRequest, StartRequest};

/// Makes links to agents.
pub trait Connector {
    /// Starts the protocol on a connected stream and waits for the agent's Hello, at most `timeout_ms`.
    /// Fails with `AgentNotConnected`, `AgentTimeout` or `AgentError`.
    fn connect(
        &self,
        stream: OwnedFd,
        id: SandboxId,
        timeout_ms: u64,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Agent>, Error>>;
}

/// A live link to one agent. Dropping it closes the connection; the sandbox lives on.
pub trait Agent {
    /// Runs a command to its end and collects what it prints. Dropping the future kills the command's whole tree.
    /// A link that is lost meanwhile is `sandbox_lost` with what had been printed.
    fn run(&self, request: RunRequest) -> LocalBoxFuture<'static, Result<Finished, Error>>;

    /// Runs a command whose output is read as it comes. Dropping the follower kills the command's whole tree.
    fn stream(&self, request: RunRequest) -> LocalBoxFuture<'static, Result<Box<dyn Follower>, Error>>;

    /// Starts a command that outlives this link.
    fn start(&self, request: StartRequest) -> LocalBoxFuture<'static, Result<Process, Error>>;

    /// Follows a started command's output from a cursor on. Dropping the follower ends the reading only.
    /// `ProcessNotFound` where it is not known, `InvalidParameter` for a cursor beyond its output.
    fn attach(&self, pid: u32, cursor: u64) -> LocalBoxFuture<'static, Result<Box<dyn Follower>, Error>>;

    /// All commands that are alive, and those that have ended and are kept; ascending by pid, at most 4096.
    fn processes(&self) -> LocalBoxFuture<'static, Result<Vec<Process>, Error>>;

    /// One of them.
    fn process(&self, pid: u32) -> LocalBoxFuture<'static, Result<Process, Error>>;

    /// One of them, once it has ended.
    fn wait(&self, pid: u32) -> LocalBoxFuture<'static, Result<Process, Error>>;

    /// Writes to a started command's stdin, and closes it behind that where `eof` is set.
    fn input(&self, pid: u32, data: Bytes, eof: bool) -> LocalBoxFuture<'static, Result<(), Error>>;

    /// Sends a signal, 1..=64, to a command and its descendants.
    fn signal(&self, pid: u32, signal: u32) -> LocalBoxFuture<'static, Result<(), Error>>;

    /// How many callers' processes are alive. At most `timeout_ms`.
    fn process_count(&self, timeout_ms: u64) -> LocalBoxFuture<'static, Result<u64, Error>>;

    /// Resolves when the connection has ended.
    fn closed(&self) -> LocalBoxFuture<'static, ()>;
}

/// Reads one command's events in order.
pub trait Follower {
    /// The next event; `None` behind the last. Dropping the future loses nothing.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Event>, Error>>;
}
