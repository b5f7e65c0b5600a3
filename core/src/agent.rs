//! What is asked of one sandbox's agent: one typed function per call.
//!
//! The link itself (HTTP/2 over a Unix socket) is `net`'s; here stands only what the core needs of it. Everything an
//! agent answers is hostile input: an implementation checks sizes, order and numbers before it returns.

use crate::error::Error;
use crate::id::SandboxId;
use crate::process::{Event, Finished, Process};
use crate::pty::{Pty, Seen, Size, Typed};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use workspace_proto::agent::{PtyOpenRequest, RunRequest, StartRequest, file_reply, file_request};

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

    /// Opens a terminal with a program on it. `PtyLimitExceeded` where the sandbox has as many as it may.
    fn pty_open(&self, request: PtyOpenRequest) -> LocalBoxFuture<'static, Result<Pty, Error>>;

    /// All that are open; ascending by id, at most `PTYS_MAX`.
    fn ptys(&self) -> LocalBoxFuture<'static, Result<Vec<Pty>, Error>>;

    /// Attaches a viewer. `PtyNotFound` where there is none (any more), `RateLimited` where there are enough viewers.
    fn pty_view(&self, id: u64) -> LocalBoxFuture<'static, Result<Viewing, Error>>;

    /// Gives one another size.
    fn pty_resize(&self, id: u64, size: Size) -> LocalBoxFuture<'static, Result<(), Error>>;

    /// Ends its program with all its descendants, and forgets it.
    fn pty_close(&self, id: u64) -> LocalBoxFuture<'static, Result<(), Error>>;

    /// Starts a worker on places that only the sandbox's own mounts have. `NotImplemented` where the agent is older.
    fn files(&self) -> LocalBoxFuture<'static, Result<Box<dyn FileWork>, Error>>;

    /// How many callers' processes are alive. At most `timeout_ms`.
    fn process_count(&self, timeout_ms: u64) -> LocalBoxFuture<'static, Result<u64, Error>>;

    /// Resolves when the connection has ended.
    fn closed(&self) -> LocalBoxFuture<'static, ()>;
}

/// A worker inside, asked one thing after the other. Dropping it ends it. What it says may be anybody's there: its
/// messages are bounded, and nothing else is known of them.
pub trait FileWork {
    /// Asks. Dropping the future may leave half of it: the worker must go then.
    fn ask(&mut self, request: file_request::Request) -> LocalBoxFuture<'_, Result<(), Error>>;

    /// What it says next, within the agent's patience. It is never over while something is asked.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<file_reply::Reply, Error>>;
}

/// Reads one command's events in order.
pub trait Follower {
    /// The next event; `None` behind the last. Dropping the future loses nothing.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Event>, Error>>;
}

/// A viewer at a terminal. Dropping both ends takes it away.
pub struct Viewing {
    /// As it is now.
    pub pty: Pty,
    /// What it sees.
    pub screen: Box<dyn Screen>,
    /// What it types.
    pub keys: Box<dyn Keys>,
}

/// Reads what a terminal shows, in order: first what is kept of the recent output.
pub trait Screen {
    /// The next piece; `None` behind the end. Dropping the future loses nothing. `RateLimited`: more was printed than is
    /// kept for this viewer.
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Seen>, Error>>;
}

/// Writes to a terminal, in order.
pub trait Keys {
    /// Waits until the agent has room for it. Dropping the future may leave half of it: the viewer must go then.
    fn press(&mut self, typed: Typed) -> LocalBoxFuture<'_, Result<(), Error>>;
}
