//! How the world reaches core: HTTP, and what is declared once for every protocol.
//!
//! Reading order is the path of a request: bytes (`wire`), connection and route (`http`), the operation, the answer.
//! `core` decides what a sandbox is and does. Beside the path stand the program's commands, the supervisor that keeps
//! launcher and server running, and the hub that links to agents.

pub mod command;
pub mod content;
pub mod failure;
#[cfg(test)]
#[path = "../../tests/fuzz/run.rs"]
mod fuzz;
mod heap;
pub mod http;
pub mod hub;
pub mod logging;
pub mod mcp;
pub mod nfs;
pub mod openapi;
pub mod operation;
pub mod operations;
pub mod reply;
pub mod server;
pub mod stdio;
pub mod supervisor;
pub mod sys;
mod trash;
pub mod websocket;
pub mod wire;
