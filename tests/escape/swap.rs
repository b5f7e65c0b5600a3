//! A directory that changes places with a link, again and again, while a test's calls go through it.

use crate::case::Case;
use crate::program::{Lines, Program, nonce, program};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const FILES: Program = program!("files");
/// More calls than these must have met the directory itself, or there was no race.
const REACHED_MIN: u32 = 10;
/// Turns: on a disk that is slow, and each write waits for it, few calls fit into one.
const TURNS_MAX: u32 = 8;

/// What the calls of a race share.
pub(crate) struct Race {
    program: String,
    done: AtomicBool,
    reached: AtomicU32,
}

impl Race {
    /// Builds the program that swaps, so that no call is counted before it runs.
    pub(crate) fn new(case: &Case) -> Race {
        Race { program: case.build(FILES), done: AtomicBool::new(false), reached: AtomicU32::new(0) }
    }

    /// The calls end.
    pub(crate) fn is_done(&self) -> bool {
        self.done.load(Ordering::Relaxed)
    }

    /// A call met the directory itself.
    pub(crate) fn reached(&self) {
        self.reached.fetch_add(1, Ordering::Relaxed);
    }

    fn was_one(&self) -> bool {
        self.reached.load(Ordering::Relaxed) > REACHED_MIN
    }

    /// Exchanges both for `turn_ms`, and again until the calls have met the directory; then the race is done.
    pub(crate) fn swap(&self, case: &Case, turn_ms: &str, directory: &str, link: &str) {
        let (mut printed, calls) = (Vec::new(), CallsEnd(&self.done));
        for _ in 0..TURNS_MAX {
            let word = nonce();
            let answer = case.run("user", &self.program, &[&word, "swap", turn_ms, directory, link]);
            printed.push((word, answer["stdout"].as_str().unwrap_or_default().to_owned()));
            if self.was_one() {
                break;
            }
        }
        drop(calls);
        for (word, stdout) in printed {
            Lines::parse(FILES, &word, &stdout).complete().expect("swap", &["ok"]);
        }
        assert!(self.was_one(), "{:?} calls met the directory itself", self.reached);
    }
}

/// Ends the calls, also where the swap panics: they would go on for ever.
struct CallsEnd<'a>(&'a AtomicBool);

impl Drop for CallsEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
