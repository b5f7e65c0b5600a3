//! Does any parser panic, hang, or contradict itself on bytes that nobody wrote?
//!
//! A target is a plain `fn(&[u8])`, so that any fuzzer can drive it. `cargo test` runs each over its corpus, over every
//! prefix of it, and over a fixed number of mutations from a fixed seed: a failure is repeated by the same command, and
//! prints the input. `FUZZ_ROUNDS=1000000 cargo test -p workspace-server --test fuzz` goes on for longer. Here are the
//! parsers that can be reached from outside of their crates; the others have their target beside them.
#![allow(clippy::unwrap_used)]

mod corpus;
mod run;
mod targets;

macro_rules! fuzz {
    ($($name:ident)*) => { $(#[test] fn $name() { run::run(targets::$name, corpus::$name); })* };
}

fuzz! { head framing chunked query range entity date json fields base64_url printed terminal websocket grpc_frame record database_file log_filter }
