//! The main job: create, run, read, list, delete.

use crate::kit::{Host, Server};
use serde_json::json;

#[test]
fn a_sandbox_runs_echo_and_goes() {
    let server = Server::start();
    let before = Host::of(&server);
    let id = server.create(json!({}));
    let answer = server.run(&id, json!({"command": "echo", "args": ["Hello"]}));
    assert_eq!(answer["stdout"], "Hello\n", "{answer}");
    server.delete(&id);
    Host::assert_back(&server, &before, 10);
}
