//! Protocols without sockets: bytes in, values or a refusal out.
//!
//! Must not know: monoio, shards, clocks. Every parser here has a fuzz target in `tests/fuzz`.

pub mod base64;
pub mod chunked;
pub mod date;
pub mod entity;
pub mod fields;
pub mod framing;
pub mod head;
pub mod json;
pub mod lines;
pub mod printed;
pub mod query;
pub mod range;
pub mod rpc;
pub mod rpc_record;
pub mod sse;
pub mod terminal;
pub mod watched;
pub mod xdr;
