//! What changes in a sandbox's files is told while it happens, whoever changes it, and whoever leaves leaves nothing.

use crate::kit::{
    Events, Server, needs_root,
    nfs_guest::{self, Guest},
    turn, until,
};
use serde_json::{Value, json};

fn files(id: &str) -> String {
    format!("/api/v1/sandboxes/{id}/files")
}

#[track_caller]
fn watch(server: &Server, id: &str, query: &str) -> Events {
    let mut events = server.events("GET", &format!("{}/watch?{query}", files(id)), &Value::Null);
    events.expect("watching");
    events
}

/// The next change but those that say again that a file was modified.
#[track_caller]
fn next(events: &mut Events) -> Value {
    loop {
        let change = events.next().expect("a change").json().1;
        if change["type"] != "modified" {
            return change;
        }
    }
}

fn at(kind: &str, path: &str, is_dir: bool) -> Value {
    json!({"type": kind, "path": path, "is_dir": is_dir})
}

#[test]
fn every_door_is_seen() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut events = watch(&server, &id, "recursive=true");
    server.sh(&id, "mkdir -p a/b && echo x >a/b/f");
    for expected in [
        at("created", "/workspace/a", true),
        at("created", "/workspace/a/b", true),
        at("created", "/workspace/a/b/f", false),
    ] {
        assert_eq!(next(&mut events), expected);
    }
    // What HTTP writes comes from a room that nobody sees.
    let form = &[("content-type", "application/octet-stream")];
    server.request("PUT", &format!("{}?path=a/h", files(&id)), form, b"one").expect(200);
    assert_eq!(next(&mut events), at("created", "/workspace/a/h", false));
    server.request("PUT", &format!("{}?path=a/h", files(&id)), form, b"two").expect(200);
    assert_eq!(events.expect("modified"), at("modified", "/workspace/a/h", false));
    server.post(&format!("{}/move", files(&id)), &json!({"source": "a/b", "destination": "c"})).expect(200);
    let moved = json!({"type": "moved", "from": "/workspace/a/b", "to": "/workspace/c", "is_dir": true});
    assert_eq!(next(&mut events), moved);
    server.sh(&id, "echo y >>c/f; rm c/f; rmdir c");
    assert_eq!(next(&mut events), at("removed", "/workspace/c/f", false));
    assert_eq!(next(&mut events), at("removed", "/workspace/c", true));
    server.sh(&id, r"printf x >$(printf 'caf\351')");
    assert_eq!(next(&mut events)["path"], "/workspace/caf\u{10efe9}");
}

#[test]
fn clients_of_nfs_are_seen() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.start();
    let id = server.create(json!({}));
    let mut events = watch(&server, &id, "recursive=true");
    let script = format!("nfs-mount {port} /{id} /mnt/a && cd /mnt/a && mkdir d && echo x >d/f && mv d/f g && rm g");
    Guest::start(&server, port, &script).finish();
    assert_eq!(next(&mut events), at("created", "/workspace/d", true));
    assert_eq!(next(&mut events), at("created", "/workspace/d/f", false));
    let moved = json!({"type": "moved", "from": "/workspace/d/f", "to": "/workspace/g", "is_dir": false});
    assert_eq!(next(&mut events), moved);
    assert_eq!(next(&mut events), at("removed", "/workspace/g", false));
}

#[test]
fn only_what_was_asked_for_is_told_and_an_end_has_its_reason() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "mkdir -p d/e; echo x >file; ln -s /etc away");
    let mut flat = watch(&server, &id, "path=d");
    server.sh(&id, "echo x >outside; echo x >d/e/below; echo x >d/seen");
    // The directory below is itself modified by what is made in it.
    assert_eq!(next(&mut flat), at("created", "/workspace/d/seen", false));
    let refused = |query: &str| server.get(&format!("{}/watch?{query}", files(&id)));
    refused("path=none").expect_error(404, 3001);
    refused("path=file").expect_error(400, 3005);
    refused("path=away").expect_error(501, 1004);
    refused("path=../../etc").expect_error(501, 1004);
    refused("recursive=perhaps").expect_error(400, 1001);
    server.sh(&id, "mv d elsewhere");
    assert_eq!(next(&mut flat), at("removed", "/workspace/d", true));
    assert_eq!(next(&mut flat)["reason"], "file_not_found");
    assert!(flat.next().is_none());
    let mut whole = watch(&server, &id, "recursive=true");
    server.delete(&id);
    let last = std::iter::from_fn(|| whole.next()).last().expect("an end").json().1;
    assert_eq!(last["type"], "error");
}

/// Names of links are told; nothing behind them ever is.
#[test]
fn no_link_leads_a_watch_outside() {
    let server = Server::start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    server.sh(&id, "ln -s /etc etc; ln -s .. up; ln -s . loop; mkdir -p a/b");
    let mut events = watch(&server, &id, "recursive=true");
    server.sh(&id, "for n in $(seq 300); do mkdir s; ln -s / t; mv -T a x; mv -T t a; rm a; mv -T x a; rmdir s; done; echo x >a/b/end");
    server.sh(&other, "echo secret >canary");
    loop {
        let change = next(&mut events);
        for path in ["path", "from", "to"].iter().filter_map(|name| change[*name].as_str()) {
            let names: Vec<&str> = path.split('/').collect();
            assert!(path.starts_with("/workspace/") && names.len() <= 5, "{path}");
            assert!(!path.contains("canary") && !path.contains("loop/") && !path.contains("up/"), "{path}");
        }
        if change["path"] == "/workspace/a/b/end" {
            return;
        }
    }
}

#[test]
fn who_leaves_leaves_nothing() {
    if needs_root() {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "for n in $(seq 500); do mkdir -p t/$n/x; done");
    let process = server.server_process().expect("the server");
    let held = || {
        let count = |dir: &str| std::fs::read_dir(format!("/proc/{}/{dir}", process.pid)).expect(dir).count();
        let inotify = std::fs::read_dir(format!("/proc/{}/fdinfo", process.pid)).expect("fdinfo");
        let lines = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        let watches: usize = inotify.flatten().map(|file| lines(file.path()).matches("inotify wd").count()).sum();
        (count("fd"), watches)
    };
    let before = held();
    let watchers: Vec<Events> = (0..8).map(|_| watch(&server, &id, "recursive=true")).collect();
    assert!(held().1 >= 1000, "{:?}", held());
    drop(watchers);
    until("all is given back", 5, || held().1 == before.1 && held().0 <= before.0 + 1);
}
