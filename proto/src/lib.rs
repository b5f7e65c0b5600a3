//! The contracts between server, launcher and agent: what is said, and the bounds of each message.
//!
//! `agent.proto` and `launcher.proto` are the truth; the Rust types are generated at build time.
//! Must not know: sockets, threads, clocks, any other crate of this workspace.

pub mod find;
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

/// Of a started process's output, kept where the caller asks for no other size, in bytes.
pub const RING_BYTES_DEFAULT: u64 = 1 << 20;

/// Smallest ring of a started process, in bytes: who asks for less gets this.
pub const RING_BYTES_MIN: u64 = 4 << 10;

/// Largest ring of a started process, in bytes.
pub const RING_BYTES_MAX: u64 = 16 << 20;

/// How long a full ring that nobody reads holds its process back, in seconds.
pub const RING_HOLD_S: u64 = 10;

/// How long a started process that has ended is kept, in seconds.
pub const ENDED_KEPT_S: u64 = 600;

/// Ended processes kept in one sandbox; the oldest goes first.
pub const ENDED_KEPT_MAX: usize = 256;

/// How long input may wait for a process that does not read, in seconds.
pub const INPUT_WAIT_S: u64 = 10;

/// From SIGTERM to SIGKILL at a command's timeout, in milliseconds.
pub const TIMEOUT_GRACE_MS: u64 = 1000;

/// Terminals of one sandbox at once.
pub const PTYS_MAX: usize = 32;

/// Attached viewers of all terminals of one sandbox.
pub const PTY_VIEWERS_MAX: usize = 256;

/// Largest piece of a file's bytes in one `FileRequest` or `FileReply`, in bytes.
pub const FILE_PIECE_BYTES_MAX: usize = 64 << 10;

/// Most entries that are asked for at once.
pub const FILE_ENTRIES_MAX: usize = 10_002;

/// Most matches of one search.
pub const FILE_MATCHES_MAX: usize = 10_000;

/// Of one line that a search shows, in characters.
pub const FOUND_TEXT_CHARS_MAX: usize = 1000;

/// Of all that a search shows, paths and lines, in bytes; the last one may go beyond it.
pub const FOUND_BYTES_MAX: usize = 4 << 20;

/// Most parts of an archive.
pub const FILE_PARTS_MAX: u64 = 1_000_000;

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
    /// `Agent.Start`, unary.
    pub const START: &str = "/workspace.agent.v1.Agent/Start";
    /// `Agent.Get`, unary.
    pub const GET: &str = "/workspace.agent.v1.Agent/Get";
    /// `Agent.Wait`, unary, answered late.
    pub const WAIT: &str = "/workspace.agent.v1.Agent/Wait";
    /// `Agent.Attach`, server streaming.
    pub const ATTACH: &str = "/workspace.agent.v1.Agent/Attach";
    /// `Agent.Input`, unary.
    pub const INPUT: &str = "/workspace.agent.v1.Agent/Input";
    /// `Agent.Signal`, unary.
    pub const SIGNAL: &str = "/workspace.agent.v1.Agent/Signal";
    /// `Agent.PtyOpen`, unary.
    pub const PTY_OPEN: &str = "/workspace.agent.v1.Agent/PtyOpen";
    /// `Agent.PtyList`, unary.
    pub const PTY_LIST: &str = "/workspace.agent.v1.Agent/PtyList";
    /// `Agent.PtyAttach`, streaming both ways.
    pub const PTY_ATTACH: &str = "/workspace.agent.v1.Agent/PtyAttach";
    /// `Agent.PtyResize`, unary.
    pub const PTY_RESIZE: &str = "/workspace.agent.v1.Agent/PtyResize";
    /// `Agent.PtyClose`, unary.
    pub const PTY_CLOSE: &str = "/workspace.agent.v1.Agent/PtyClose";
    /// `Agent.Files`, streaming both ways.
    pub const FILES: &str = "/workspace.agent.v1.Agent/Files";
}
