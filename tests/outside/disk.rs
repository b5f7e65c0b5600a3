//! What the disk does to it: a full one is an answer that says so and loses nothing; one that cannot be idmapped works.

use crate::kit::{Host, Server, needs_root, until};
use serde_json::json;

const DISK_BYTES: u64 = 24 << 20;

#[test]
fn a_full_disk_is_507_and_loses_nothing() {
    if needs_root() {
        return;
    }
    let server = Server::builder().disk_bytes(DISK_BYTES).start();
    let ids: Vec<String> = (0..4).map(|n| server.create(json!({"name": format!("n{n}")}))).collect();
    let before = server.list();
    let fill = "dd if=/dev/zero of=/workspace/fill bs=1M 2>/dev/null; dd if=/dev/zero of=/workspace/rest bs=1 2>/dev/null; echo full";
    assert_eq!(server.sh(&ids[0], fill), "full");
    let mut refused = 0;
    for n in 0..64 {
        // The database may have a page left for a few; in the end it must say that there is none.
        let body = json!({"name": format!("late{n}"), "metadata": {"m": "x".repeat(4000)}});
        let answer = server.post("/api/v1/sandboxes", &body);
        if answer.status != 201 {
            let error = answer.expect_error(507, 3008);
            assert_eq!((&error["reason"], &error["retryable"]), (&json!("no_space"), &json!(true)));
            refused += 1;
        }
    }
    assert!(refused > 0, "64 records fit nowhere");
    for id in &ids {
        assert_eq!(server.sh(id, "echo alive"), "alive");
        assert_eq!(server.get(&format!("/api/v1/sandboxes/{id}")).status, 200);
    }
    let listed = server.list();
    assert!(before.iter().all(|sandbox| listed.contains(sandbox)), "nothing that was answered is lost");
    server.sh(&ids[0], "rm /workspace/fill /workspace/rest");
    let id = server.create(json!({"name": "room again"}));
    assert_eq!(server.sh(&id, "echo well"), "well");
}

#[test]
fn a_command_that_fills_its_sandbox_is_ended_and_room_can_be_made() {
    let server = Server::start();
    let id = server.create(json!({"resources": {"disk_bytes": 16 << 20}}));
    let path = format!("/api/v1/sandboxes/{id}/process/run");
    let fill =
        json!({"command": "sh", "args": ["-c", "dd if=/dev/zero of=big bs=1M count=64 2>/dev/null; sleep 7009"]});
    let error = server.post(&path, &fill).expect_error(507, 3008);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("disk_bytes")), "{error}");
    let left = || server.own_processes().iter().any(|process| process.command_line().contains("sleep 7009"));
    crate::kit::until("the command was ended with its tree", 5, || !left());
    assert_eq!(server.sh(&id, "rm big; echo room"), "room");
    let sandbox = server.get(&format!("/api/v1/sandboxes/{id}")).json();
    assert_eq!(sandbox["resources"]["enforced"]["disk"], "soft");
}

#[test]
fn a_disk_that_cannot_be_idmapped_is_served_and_emptied() {
    if needs_root() {
        return;
    }
    let mut server = Server::builder().on_overlay().start();
    assert!(server.log().contains("idmapped"), "what the disk can't do is said: {}", server.log());
    let ids = [server.create(json!({})), server.create(json!({}))];
    let script =
        "mkdir -p a/b && echo kept >a/b/f && chmod 700 a && chmod 000 a/b/f && echo x >$HOME/x && stat -c %u a";
    for id in &ids {
        assert_eq!(server.sh(id, script), "1000");
    }
    let root = json!({"command": "sh", "args": ["-c", "mkdir r && chmod 700 r && echo x >r/x && stat -c %u r"], "user": "root"});
    assert_eq!(server.run(&ids[0], root)["stdout"], "0\n");
    let look = json!({"command": "cat", "args": ["/workspace/a/b/f"], "user": "root"});
    assert_eq!(server.run(&ids[1], look)["stdout"], "kept\n");
    server.kill9_server();
    until("the unit comes back", 30, || server.server_process().is_some());
    server.wait_ready();
    for id in &ids {
        assert_eq!(server.sh(id, "ls a/b"), "f");
        server.delete(id);
    }
    until("the server can delete what its sandboxes wrote", 10, || Host::of(&server).files.is_empty());
}
