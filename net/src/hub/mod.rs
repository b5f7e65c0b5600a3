//! The server's side of the agent link: gRPC over HTTP/2 over one Unix socket per sandbox.
//!
//! `link.rs` is one connection and its calls; `run.rs` reads one command's stream. What an agent sends is hostile:
//! message sizes are bounded by `proto::grpc_frame`, output by what was asked for, and anything else is `AgentError`.

mod link;
mod run;

pub use link::Hub;
