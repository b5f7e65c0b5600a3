//! HTTP/1.1 for callers that cannot be trusted: one listener per core, one task per connection.
//!
//! ```text
//!  listen ─► connection ─► (wire::head, RequestHeadDecoder, wire::framing) ─► origin ─► auth ─► route ─► body
//!                │                                                                                      │
//!                └◄── answer ◄── Reply or Refusal ◄── the operation's one boxed future ◄────────────────┘
//! ```
//! One read and one write a request; pipelined requests are answered in one write. Nothing is buffered for an idle
//! connection. Every wait has a deadline, every buffer a bound (the constants below).
//! Must not know: what operations do.

mod answer;
mod auth;
mod body;
mod call;
mod clock;
mod connection;
mod download;
mod fields;
#[cfg(test)]
mod fuzz;
pub mod listen;
mod mcp;
mod origin;
mod peers;
mod route;
pub(crate) mod slot;
pub(crate) mod socket;
mod stream;
mod upload;

pub use auth::ApiKeys;
pub use listen::{Drained, Stop, Stopper, serve};

use crate::mcp::{Engine, Sessions};
use crate::operation::Entry;
use crate::operations::OPERATIONS;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use workspace_core::shard::Shard;

/// On one core, unless said otherwise.
pub const CONNECTIONS_MAX: usize = 10_000;
/// Of bodies that are being received, on one core, together.
const BODIES_BYTES_MAX: usize = 128 << 20;

/// How long the edge waits for a peer, at each point of a connection's life.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// From a head's first byte to its last.
    pub head: Duration,
    /// Between two pieces of a body.
    pub body: Duration,
    /// From a body's first byte to its last.
    pub body_total: Duration,
    /// Between two requests.
    pub idle: Duration,
    /// Without any progress of a write.
    pub write: Duration,
    /// Between two signs of life of a stream of events that has nothing to tell, and between two pings of a WebSocket;
    /// a WebSocket's peer that is silent for two of them is dropped.
    pub heartbeat: Duration,
    /// From our last byte to the peer's end of stream.
    pub linger: Duration,
    /// From the request to stop to the end of the last connection.
    pub drain: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        Deadlines {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            body_total: Duration::from_secs(120),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            heartbeat: Duration::from_secs(15),
            linger: Duration::from_secs(2),
            drain: Duration::from_secs(10),
        }
    }
}

/// What the edge lets in.
#[derive(Debug)]
pub struct Settings {
    /// The listener is bound to a loopback address: only names of this machine are let in as Host.
    pub loopback: bool,
    /// Web origins that may call, e.g. `https://app.example`; matched whole.
    pub allowed_origins: Vec<String>,
    /// More names for Host on a loopback bind, e.g. that of a proxy in front; without port: with any.
    pub allowed_hosts: Vec<String>,
    /// Who may call. None: everyone.
    pub api_keys: ApiKeys,
    /// How long it waits.
    pub deadlines: Deadlines,
    /// On one core; more get 503.
    pub connections_max: usize,
    /// Where MCP lies, e.g. `/mcp`; `None`: nowhere.
    pub mcp_path: Option<String>,
    /// What all cores know of MCP's clients.
    pub mcp_sessions: Arc<Sessions>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            loopback: false,
            allowed_origins: Vec::new(),
            allowed_hosts: Vec::new(),
            api_keys: ApiKeys::default(),
            deadlines: Deadlines::default(),
            connections_max: CONNECTIONS_MAX,
            mcp_path: Some("/mcp".to_owned()),
            mcp_sessions: Arc::default(),
        }
    }
}

/// What the connections of one core share.
pub struct App {
    shard: Shard,
    settings: Settings,
    router: route::Router,
    mcp: Option<mcp::Endpoint>,
    peers: peers::Peers,
    clock: clock::Clock,
    running: Rc<slot::Running>,
    bodies_bytes: Cell<usize>,
}

impl App {
    /// Serves THE list.
    pub fn new(shard: Shard, settings: Settings) -> App {
        App::with_operations(shard, settings, OPERATIONS)
    }

    /// What answers MCP's messages, where it is served.
    pub fn mcp(&self) -> Option<Rc<Engine>> {
        self.mcp.as_ref().map(|endpoint| endpoint.engine.clone())
    }

    /// Serves a list of operations.
    pub fn with_operations(shard: Shard, settings: Settings, operations: &'static [Entry]) -> App {
        let running = Rc::default();
        let engine = || Engine::new(shard.clone(), Rc::clone(&running), settings.mcp_sessions.clone(), operations);
        let mcp = settings.mcp_path.clone().map(|path| mcp::Endpoint { path, engine: engine() });
        App {
            shard,
            settings,
            router: route::Router::new(operations),
            peers: peers::Peers::default(),
            clock: clock::Clock::new(),
            mcp,
            running,
            bodies_bytes: Cell::new(0),
        }
    }
}
