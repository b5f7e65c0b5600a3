//! Does a parser of this program panic or contradict itself on bytes that nobody wrote?
//!
//! A target is a plain `fn(&[u8])`, run over its corpus, over every prefix of it, and over a fixed number of mutations from
//! a fixed seed, by the mutator of `tests/fuzz`. The targets stand beside their parsers.

#[path = "../../tests/fuzz/mutate.rs"]
mod mutate;

const ROUNDS: usize = 4000;
const INPUT_BYTES_MAX: usize = 4096;

/// Runs one target; a panic shows the input.
pub(crate) fn run(target: fn(&[u8]), corpus: &[&[u8]]) {
    let attempt = |input: &[u8]| {
        assert!(std::panic::catch_unwind(|| target(input)).is_ok(), "input {input:?}");
    };
    for seed in corpus {
        (0..=seed.len()).for_each(|cut| attempt(&seed[..cut]));
    }
    let mut mutator = mutate::Mutator::new(corpus);
    (0..ROUNDS).for_each(|_| attempt(&mutator.next_input(INPUT_BYTES_MAX)));
}
