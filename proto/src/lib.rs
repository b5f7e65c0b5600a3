//! The contracts between server, launcher and agent: what is said, and the bounds of each message.
//!
//! `agent.proto` and `launcher.proto` are the truth; the Rust types are generated at build time.
//! Must not know: sockets, threads, clocks, any other crate of this workspace.

pub mod grpc_frame;

/// The server–agent messages of `agent.proto`.
#[allow(missing_docs, unreachable_pub)]
pub mod agent {
    include!(concat!(env!("OUT_DIR"), "/workspace.agent.v1.rs"));
}

/// The server–launcher messages of `launcher.proto`.
#[allow(missing_docs, unreachable_pub)]
pub mod launcher {
    include!(concat!(env!("OUT_DIR"), "/workspace.launcher.v1.rs"));
}

pub use prost::Message;

/// Number of the server–agent protocol. The server speaks this one and the one before.
pub const PROTOCOL: u32 = 1;

/// Largest gRPC message on the agent link, in bytes, the 5-byte prefix not counted.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Largest piece of output in one `RunEvent`, in bytes.
pub const OUTPUT_CHUNK_BYTES_MAX: usize = 64 << 10;

/// Largest packet between server and launcher, in bytes.
pub const PACKET_BYTES_MAX: usize = 64 << 10;

/// Paths of the gRPC methods of `agent.proto`.
pub mod method {
    /// `Agent.Hello`, unary.
    pub const HELLO: &str = "/workspace.agent.v1.Agent/Hello";
    /// `Agent.Run`, server streaming.
    pub const RUN: &str = "/workspace.agent.v1.Agent/Run";
    /// `Agent.List`, unary.
    pub const LIST: &str = "/workspace.agent.v1.Agent/List";
}
