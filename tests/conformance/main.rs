//! What does Autobahn|Testsuite, the judge of WebSocket implementations, say of ours?
//!
//! Its fuzzing client talks to an echo that stands on the product's own edge and session, in this process. Every case
//! but those of compression, which is never agreed on, must be `OK`, or be named below with its reason.
//! It runs on Python 2.7 alone; where there is none, or its packages cannot be fetched, the test says so and is skipped.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used)]

#[path = "../edge/echo.rs"]
mod echo;
#[path = "../edge/kit.rs"]
mod kit;
#[path = "../edge/shard.rs"]
mod shard;

mod judge;

use kit::{Driver, Server};
use workspace_server::http::Settings;

/// Cases that may be other than `OK`: observations, which the suite itself does not judge.
const INFORMATIONAL: &[&str] = &["7.1.6", "7.13.1", "7.13.2"];
/// Of the suite, without compression (12 and 13): fewer means that it did not run whole.
const CASES_MIN: usize = 301;

#[test]
fn autobahn_finds_no_fault() {
    let judge = match judge::Judge::install() {
        Ok(judge) => judge,
        Err(why) => return println!("skipped: {why}"),
    };
    let server = Server::with(Driver::Uring, Settings::default(), echo::SOCKETS);
    let verdicts = judge.judge(&format!("ws://{}/echo", server.address), &["*"], &["12.*", "13.*"]);
    assert!(verdicts.len() >= CASES_MIN, "only {} cases were run", verdicts.len());
    let mut counts = std::collections::BTreeMap::new();
    let mut faults = Vec::new();
    for verdict in &verdicts {
        *counts.entry((verdict.behavior.as_str(), verdict.close.as_str())).or_insert(0) += 1;
        let fine = |word: &str| word == "OK" || (word == "INFORMATIONAL" && INFORMATIONAL.contains(&&*verdict.case));
        if !fine(&verdict.behavior) || !fine(&verdict.close) {
            faults.push(format!("{verdict:?}"));
        }
    }
    println!("{} cases, (behavior, close): {counts:?}", verdicts.len());
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}
