//! Sandboxes made ahead: a create takes one, nobody sees the others, and none outlives the server's clean end.

use crate::kit::{Server, until};
use serde_json::json;

const BLANKS: usize = 4;

/// Agents of this server: PID 1 of a sandbox each, asked for or made ahead.
fn agents(server: &Server) -> usize {
    server.own_processes().iter().filter(|process| process.is_init()).count()
}

#[test]
fn a_create_takes_a_sandbox_made_ahead() {
    let server = Server::builder().env("WORKSPACE_POOL_BLANKS", &BLANKS.to_string()).start();
    until("the pool is full", 20, || agents(&server) >= BLANKS);
    assert!(server.list().is_empty(), "nobody asked for them");
    let before: Vec<i32> = server.own_processes().iter().filter(|p| p.is_init()).map(|p| p.pid).collect();
    let id = server.create(json!({"env": {"A": "b"}}));
    assert_eq!(server.sh(&id, "echo $A; pwd; id -un"), "b\n/workspace\nuser");
    let after: Vec<i32> = server.own_processes().iter().filter(|p| p.is_init()).map(|p| p.pid).collect();
    assert!(before.iter().all(|pid| after.contains(pid)), "it was there before: {before:?} {after:?}");
    let other = server.create(json!({"resources": {"pids": 50}}));
    assert_eq!(server.sh(&other, "echo launched for itself"), "launched for itself");
    assert_eq!(server.list().len(), 2);
    server.delete(&id);
    server.delete(&other);
    until("the pool is full again, and no fuller", 20, || agents(&server) >= BLANKS);
}

#[test]
fn a_crash_leaves_no_blank_behind() {
    let mut server = Server::builder().env("WORKSPACE_POOL_BLANKS", &BLANKS.to_string()).start();
    until("the pool is full", 20, || agents(&server) >= BLANKS);
    let id = server.create(json!({}));
    server.kill9_all();
    server.restart();
    assert_eq!(server.sh(&id, "echo lives"), "lives");
    // As many as before and this one: those of the first server were removed, not added to.
    until("the pool is full", 20, || agents(&server) > BLANKS);
    until("and no fuller", 20, || agents(&server) <= BLANKS + 2);
    server.delete(&id);
}
