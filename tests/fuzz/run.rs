//! How is one target run? Over its corpus, over every prefix of it, and over mutations from a fixed seed.
//!
//! Shared by `tests/fuzz` and by the crates whose parsers are private: there the target stands beside its parser. A
//! failure is repeated by the same command, and prints the input.

#[path = "mutate.rs"]
mod mutate;

use std::panic::catch_unwind;

/// Mutations of each target in an ordinary run: all targets together take a few seconds.
const ROUNDS: usize = 4000;
const INPUT_BYTES_MAX: usize = 4096;

/// Runs one target; `FUZZ_ROUNDS` says how many mutations, for a longer run.
pub(crate) fn run(target: fn(&[u8]), corpus: &[&[u8]]) {
    let attempt = |input: &[u8]| {
        let shown = String::from_utf8_lossy(input).into_owned();
        assert!(catch_unwind(|| target(input)).is_ok(), "input {shown:?} = {input:?}");
    };
    for seed in corpus {
        (0..=seed.len().min(INPUT_BYTES_MAX)).for_each(|cut| attempt(&seed[..cut]));
    }
    let rounds = std::env::var("FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS);
    let mut mutator = mutate::Mutator::new(corpus);
    (0..rounds).for_each(|_| attempt(&mutator.next_input(INPUT_BYTES_MAX)));
}
