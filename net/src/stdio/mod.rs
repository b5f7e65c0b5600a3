//! MCP over stdio: a client starts this program and speaks through its pipes, one JSON message a line.
//!
//! ```text
//!  client ═stdin/stdout═ relay ──mcp.sock── server ─► conversation ─► mcp::Engine
//!                          │ finds the one that holds the data directory,
//!                          └ or starts it; that one ends with its last client
//! ```
//! The program at the pipes only carries bytes: no server, launcher, agent or command ever holds a client's descriptors,
//! and what they print cannot come between the messages. Reading order: `find`, `relay`, `packet`; then the server's
//! side, `listen`, `conversation`. Decision 0023.

mod conversation;
mod find;
mod listen;
mod packet;
mod relay;
mod socket;
mod underway;

pub use find::{Found, IN_USE, server};
pub use listen::{Clients, Lasts, SOCKET, bind_in, serve};
pub use relay::run;
