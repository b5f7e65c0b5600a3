//! What a sandbox is and does.
//!
//! Must not know: HTTP, WebSocket, MCP, NFS; serde and schema derives are all it shows of them. `net` stands on it.
//! Reading order is the path of a request: configuration, names and failures, the shard, the sandbox, its processes,
//! the store, the runtime.

pub mod agent;
pub mod clock;
pub mod config;
pub mod disk;
pub mod error;
pub mod export;
pub mod files;
#[cfg(test)]
#[path = "../../tests/fuzz/run.rs"]
mod fuzz;
pub mod id;
pub mod output;
pub mod process;
pub mod pty;
pub mod runtime;
pub mod sandbox;
pub mod shard;
pub mod store;
pub mod template;

pub use error::{Error, Reason};
pub use id::{BASE32, SandboxId};
