//! What is asked of one sandbox's agent: one typed function per call.
//!
//! The link itself (HTTP/2 over a Unix socket) is `net`'s; here stands only what the core needs of it. Everything an
//! agent answers is hostile input: an implementation checks sizes, order and numbers before it returns.

use crate::error::Error;
use crate::id::SandboxId;
use crate::process::Finished;
use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use workspace_proto::agent::RunRequest;

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

    /// How many callers' processes are alive. At most `timeout_ms`.
    fn process_count(&self, timeout_ms: u64) -> LocalBoxFuture<'static, Result<u64, Error>>;

    /// Resolves when the connection has ended.
    fn closed(&self) -> LocalBoxFuture<'static, ()>;
}
