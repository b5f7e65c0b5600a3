//! Does any parser panic, hang, or contradict itself on bytes that nobody wrote?
//!
//! A target is a plain `fn(&[u8])`, so that any fuzzer can drive it. `cargo test` runs each over its corpus, over every
//! prefix of it, and over a fixed number of mutations from a fixed seed: a failure is repeated by the same command, and
//! prints the input. `FUZZ_ROUNDS=1000000 cargo test -p workspace-server --test fuzz` goes on for longer.
#![allow(clippy::unwrap_used)]

mod corpus;
mod mutate;
mod targets;

use std::panic::catch_unwind;

/// Mutations of each target in an ordinary run: together a few seconds.
const ROUNDS: usize = 4000;
const INPUT_BYTES_MAX: usize = 4096;

fn run(target: fn(&[u8]), seeds: &[&[u8]]) {
    let attempt = |input: &[u8]| {
        let shown = String::from_utf8_lossy(input).into_owned();
        assert!(catch_unwind(|| target(input)).is_ok(), "input {shown:?} = {input:?}");
    };
    for seed in seeds {
        for cut in 0..=seed.len().min(INPUT_BYTES_MAX) {
            attempt(&seed[..cut]);
        }
    }
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut mutator = mutate::Mutator::new(seeds);
    for _ in 0..rounds {
        attempt(&mutator.next_input(INPUT_BYTES_MAX));
    }
}

macro_rules! fuzz {
    ($($name:ident)*) => { $(#[test] fn $name() { run(targets::$name, corpus::$name); })* };
}

fuzz! { head framing chunked query json fields base64_url printed grpc_frame record database_file }
