//! How the world reaches core: HTTP, and what is declared once for every protocol.
//!
//! Reading order is the path of a request: bytes (`wire`), connection and route (`http`), the operation, the answer.
//! Must not know: launcher, namespaces, agents' programs. `core` decides what a sandbox is and does.

pub mod failure;
pub mod http;
pub mod openapi;
pub mod operation;
pub mod operations;
mod sys;
pub mod wire;
