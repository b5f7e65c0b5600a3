//! The server's side of the agent link: gRPC over HTTP/2 over one Unix socket per sandbox.
//!
//! `link.rs` is one connection, `call.rs` one call over it; `run.rs` collects what a command prints, `follow.rs` hands
//! it on as it comes, `process.rs` reads what is said of processes, `pty.rs` of terminals. What an agent sends is hostile:
//! message sizes are bounded by `proto::grpc_frame`, output by what was asked for, and anything else is `AgentError`.

mod call;
mod files;
mod follow;
mod link;
mod process;
mod pty;
mod run;

pub use link::Hub;
