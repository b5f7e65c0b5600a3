//! Does the service lose anything it has acknowledged, or leave anything behind, whatever fails and whenever?
//!
//! `cargo test -p workspace-core --test simulate` runs the found seeds and then many new ones; `-- SEED` runs one and
//! prints what happens. Real: the state machine, deadlines, records and the writer's rule. Faked: the disk (loses,
//! tears, is full), the machine's sandboxes, callers and time. No clock, no thread, no sleep.

mod caller;
mod disk;
mod effects;
mod host;
mod random;
mod totals;
mod world;

use std::panic::catch_unwind;
use std::process::ExitCode;
use world::World;

/// Seeds that once found a mistake; they stay.
const FOUND: &[u64] = &[51];

/// New seeds in one run.
const SEEDS: u64 = 2000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        return ExitCode::SUCCESS;
    }
    if let Some(seed) = arguments.iter().find_map(|a| a.parse().ok()) {
        World::new(seed, true).run();
        println!("seed {seed}: ok");
        return ExitCode::SUCCESS;
    }
    let mut totals = totals::Totals::default();
    for seed in FOUND.iter().copied().chain(1..=SEEDS) {
        match catch_unwind(|| World::new(seed, false).run()) {
            Ok(counts) => totals.add(counts),
            Err(_) => {
                eprintln!("seed {seed} failed; see it happen: cargo test -p workspace-core --test simulate -- {seed}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("simulate: {} seeds ok: {totals:?}", SEEDS + FOUND.len() as u64);
    assert!(totals.reached_everything(), "the simulation does not reach what it is for: {totals:?}");
    ExitCode::SUCCESS
}
