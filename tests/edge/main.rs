//! Does the HTTP edge hold against what is sent to it? Raw bytes to a real listener, on both drivers of the ring.

#![allow(unreachable_pub, clippy::unwrap_used)]

mod agent;
mod bodies;
mod echo;
mod events;
mod framing;
mod kit;
mod lifetimes;
mod origins;
mod routes;
mod shard;
mod slow;
mod terminals;
mod websocket;
mod websocket_frames;
mod workers;
