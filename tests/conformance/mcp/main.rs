//! What does the official suite of the Model Context Protocol say of ours, in all versions?
//!
//! The suite (npm, @modelcontextprotocol/conformance) looks for fixtures of its own names. They are served by a program
//! that this test builds with the feature `mcp-conformance`, on the product's engine: of what is required there, nothing
//! may fail. On the product's own endpoint only that may fail which `baseline-*.yml` names, each with its reason; what is
//! named there and passes is a fault, too.
//! Where npm or its packages cannot be had, the tests say so and are skipped.

#[path = "../../kit/mod.rs"]
mod kit;

mod asked;
mod program;
mod suite;

use kit::{Server, turn};
use serde_json::json;
use suite::{By, Suite};

/// Of each version: the scenarios that are run, and the checks that succeed, without those of extensions.
const VERSIONS: [(By, usize, usize); 4] = [
    (By::Requirements("2025-11-25"), 33, 83),
    (By::Requirements("2026-07-28"), 50, 152),
    (By::Scenarios("2025-06-18"), 27, 56),
    (By::Scenarios("2025-03-26"), 1, 3),
];
/// Scenarios of an extension that is not served, and that the suite does not score.
const EXTENSION: &str = "tasks-";

#[test]
fn the_suite_finds_no_fault() {
    let Some(suite) = suite() else { return };
    let _turn = turn::heavy();
    let server = Server::builder().program(program::built()).start();
    for (version, scenarios, successes) in VERSIONS {
        let verdict = suite.judge(&url(&server, "conformance"), version, None);
        assert!(verdict.passed, "{version:?}:\n{}", verdict.told);
        assert_eq!(verdict.scenarios, scenarios, "{version:?}:\n{}", verdict.told);
        let ours: Vec<_> = verdict.checks.iter().filter(|check| !check.scenario.starts_with(EXTENSION)).collect();
        let wrong = ours.iter().filter(|check| check.is_fault() || check.status == "SKIPPED");
        let wrong: Vec<String> = wrong.map(|check| check.to_string()).collect();
        assert!(wrong.is_empty(), "{version:?}:\n{}", wrong.join("\n"));
        let count = ours.iter().filter(|check| check.status == "SUCCESS").count();
        println!("{version:?}: {scenarios} scenarios, {count} checks succeed");
        assert!(count >= successes, "{version:?}: only {count} checks succeed");
    }
}

#[test]
fn the_product_fails_what_it_lacks_alone() {
    let Some(suite) = suite() else { return };
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "echo kept >note.txt");
    for (version, scenarios, _) in VERSIONS {
        let By::Requirements(name) = version else { continue };
        let verdict = suite.judge(&url(&server, "full"), version, Some(name));
        assert!(verdict.passed, "{version:?}:\n{}", verdict.told);
        assert_eq!(verdict.scenarios, scenarios, "{version:?}:\n{}", verdict.told);
        let count = verdict.checks.iter().filter(|check| check.status == "SUCCESS").count();
        println!("{version:?}: {scenarios} scenarios, {count} checks succeed");
    }
}

#[test]
fn the_program_that_people_build_has_no_fixtures() {
    let server = Server::start();
    let fields = [("accept", "application/json, text/event-stream")];
    let ask = |set: &str| server.request("POST", &format!("/mcp/{set}"), &fields, b"{").status;
    assert_eq!((ask("conformance"), ask("full")), (404, 400));
}

fn suite() -> Option<Suite> {
    Suite::install().map_err(|why| println!("skipped: {why}")).ok()
}

fn url(server: &Server, set: &str) -> String {
    format!("http://{}/mcp/{set}", server.address())
}
