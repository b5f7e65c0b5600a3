//! The Model Context Protocol: what a model's host may ask, in both eras, over any transport.
//!
//! ```text
//!  bytes ─► message ─► engine ─┬─► legacy  (a session: initialize … ─► 2025-11-25) ─┬─► offer ─► call ─► the operation
//!                              └─► modern  (each request for itself: 2026-07-28)   ─┘   │         └─► progress
//!  answer: nothing · one message · messages until the last     workspace: tools, resources, completion, subscription
//! ```
//! The era is chosen for each request: what names its version in `_meta` is modern. A transport (`http/mcp.rs`, `stdio`) hands in
//! one message with what it knows of its sender and carries the answer back; it knows no method.
//! Must not know: sockets, how a stream is framed.

mod call;
mod completion;
#[cfg(any(test, feature = "mcp-conformance"))]
mod conformance;
mod content;
mod engine;
mod legacy;
mod message;
mod methods;
mod modern;
mod offer;
mod outbox;
mod progress;
mod resources;
mod session;
mod subscription;
mod tools;
mod uri;
mod watching;
mod workspace;

pub use engine::{Answer, Context, Engine, Mark, Messages, Taken};
pub use offer::Set;
pub use session::{Own, Sessions};

use rmcp::model::{CacheScope, CallToolResult, Implementation, MetaObject, ProtocolVersion, RequestId, ResultType};
use serde_json::Value;

#[cfg(all(feature = "mcp-conformance", not(debug_assertions)))]
compile_error!("the fixtures of the MCP suite are for its test: no release has the feature mcp-conformance");

/// Of one message: what `file_write` takes, and what stands around it.
pub const MESSAGE_BYTES_MAX: usize = 9 << 20;
/// How long a list of tools may be kept: it changes with the server's version only.
const LIST_TTL_MS: u64 = 60_000;
/// Where a modern answer names its server.
const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    /// Within a session.
    Legacy,
    /// For itself.
    Modern,
}

impl Era {
    /// Makes a tool's answer one of this era.
    fn mark(self, result: &mut CallToolResult) {
        result.result_type = self.result_type();
        result.meta = self.meta();
    }

    fn result_type(self) -> Option<ResultType> {
        (self == Era::Modern).then_some(ResultType::COMPLETE)
    }

    fn meta(self) -> Option<MetaObject> {
        (self == Era::Modern).then(|| {
            let mut meta = MetaObject::new();
            // A struct of texts is always JSON.
            meta.insert(SERVER_INFO.to_owned(), serde_json::to_value(server_info()).unwrap_or(Value::Null));
            meta
        })
    }

    /// How long, and by whom, an answer may be kept that changes with the server alone.
    fn caching(self) -> (Option<u64>, Option<CacheScope>) {
        self.keeping(LIST_TTL_MS)
    }

    /// The same of an answer that may be another one at any time.
    fn no_caching(self) -> (Option<u64>, Option<CacheScope>) {
        self.keeping(0)
    }

    fn keeping(self, ttl_ms: u64) -> (Option<u64>, Option<CacheScope>) {
        match self {
            Era::Legacy => (None, None),
            Era::Modern => (Some(ttl_ms), Some(CacheScope::Private)),
        }
    }
}

/// What a transport answers to a message that it did not read to its end.
pub(crate) fn too_long(message: &str) -> Vec<u8> {
    message::Fault::invalid(message).write()
}

/// Reads a message, or several in an array. An error is the answer to what is no JSON.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Vec<u8>> {
    message::parse(bytes).map_err(message::Fault::write)
}

/// What a transport answers to a request that it does not hand on.
pub(crate) fn refused(id: Option<&RequestId>, message: &str) -> Vec<u8> {
    message::Fault { id: id.cloned(), ..message::Fault::invalid(message) }.write()
}

fn server_info() -> Implementation {
    Implementation::new("elevo-workspace", env!("CARGO_PKG_VERSION")).with_title("Elevo Workspace")
}

fn versions() -> Vec<ProtocolVersion> {
    ProtocolVersion::KNOWN_VERSIONS
        .iter()
        .filter(|version| **version != ProtocolVersion::V_2024_11_05)
        .cloned()
        .collect()
}
