//! How do programs at clients' pipes begin, share a server, and end? Whatever ends them, nothing of theirs is left.

use crate::kit::{Place, Server, Stdio, until};
use rustix::process::Signal;
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio as Pipe};
use std::time::{Duration, Instant};

const SLEEP: &str = "sleep 7421";

/// A command that goes on, as a request that is not answered.
fn leave_running(stdio: &mut Stdio, place: &Place) {
    stdio.sh("true");
    stdio.send(&json!({"jsonrpc": "2.0", "id": "slow", "method": "tools/call",
        "params": {"name": "process_run", "arguments": {"command": "sleep", "args": ["7421"]}}}));
    until("it runs", 20, || count(place) == 1);
    place.remember();
}

fn count(place: &Place) -> usize {
    place.processes().iter().filter(|process| process.command_line() == SLEEP).count()
}

#[test]
fn a_signal_ends_it_with_all_that_it_had() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let place = Place::new();
        let mut stdio = place.begin();
        leave_running(&mut stdio, &place);
        let began = Instant::now();
        stdio.signal(signal);
        assert!(stdio.wait().success(), "{signal:?}: {}", stdio.errors());
        assert!(began.elapsed() < Duration::from_secs(4), "{signal:?}: {:?}", began.elapsed());
        place.assert_nothing_left();
        assert_eq!(stdio.rest(), Vec::<serde_json::Value>::new(), "half an answer is none");
    }
}

#[test]
fn a_client_that_has_gone_ends_it() {
    let place = Place::new();
    let mut child = place.command().stdin(Pipe::piped()).stdout(Pipe::piped()).spawn().expect("spawn");
    let mut input = child.stdin.take().expect("stdin");
    let mut output = BufReader::new(child.stdout.take().expect("stdout"));
    let begin = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let sleep = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "process_run", "arguments": {"command": "sleep", "args": ["7421"]}}});
    writeln!(input, "{begin}\n{sleep}").expect("write");
    output.read_line(&mut String::new()).expect("an answer");
    until("it runs", 20, || count(&place) == 1);
    place.remember();
    // Its input stays open: only nobody reads its answers any more.
    drop(output);
    until("it ends", 4, || child.try_wait().expect("wait").is_some());
    assert!(child.wait().expect("wait").success());
    place.assert_nothing_left();
}

#[test]
fn a_kill_leaves_nothing_either() {
    let place = Place::new();
    let mut stdio = place.begin();
    leave_running(&mut stdio, &place);
    let began = Instant::now();
    stdio.process().kill9();
    until("the command is gone", 20, || count(&place) == 0);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    until("the server and the sandbox are gone", 10, || place.left().is_empty());
}

#[test]
fn the_end_of_input_waits_for_answers_and_not_for_ever() {
    let place = Place::new();
    let mut stdio = place.begin();
    leave_running(&mut stdio, &place);
    stdio.send(&json!({"jsonrpc": "2.0", "id": "soon", "method": "tools/call",
        "params": {"name": "process_run", "arguments": {"command": "sh", "args": ["-c", "sleep 2; echo soon"]}}}));
    let began = Instant::now();
    stdio.end_input();
    assert_eq!(stdio.next()["result"]["structuredContent"]["stdout"], "soon\n");
    assert!(stdio.wait().success());
    let took = began.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(15), "{took:?}");
    place.assert_nothing_left();
}

#[test]
fn many_share_the_server_of_the_first_and_none_loses_it_at_the_end_of_another() {
    let place = Place::new();
    // All at once: one server comes of it.
    let mut all: Vec<Stdio> = (0..8).map(|_| place.start()).collect();
    all.iter_mut().for_each(|stdio| drop(stdio.shake_hands("2025-11-25")));
    for (n, stdio) in all.iter_mut().enumerate() {
        assert_eq!(
            stdio.sh(&format!("test ! -e mine && echo {n} >mine && cat mine")),
            n.to_string(),
            "its own sandbox"
        );
    }
    let supervisors =
        place.servers().iter().filter(|process| process.parent == 1 || process.parent != process.pid).count();
    assert_eq!(supervisors, 2, "a supervisor and its server");
    place.remember();
    // The first may have started it. One ends by its input, one by a signal, one is killed.
    assert!(all.remove(0).end().success());
    let mut second = all.remove(0);
    second.signal(Signal::TERM);
    assert!(second.wait().success());
    all.remove(0).process().kill9();
    for (n, stdio) in all.iter_mut().enumerate() {
        assert_eq!(stdio.sh("cat mine"), (n + 3).to_string());
    }
    let mut last = all.pop().expect("the last");
    all.iter_mut().for_each(|stdio| assert!(stdio.end().success()));
    assert_eq!(last.sh("cat mine"), "7");
    assert!(last.end().success());
    place.assert_nothing_left();
}

#[test]
fn who_comes_while_the_last_one_goes_is_served() {
    let place = Place::new();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let commands: Vec<Command> = (0..12).map(|_| place.command()).collect();
            std::thread::spawn(move || {
                for command in commands {
                    let mut stdio = Stdio::of(command);
                    stdio.shake_hands("2025-11-25");
                    assert_eq!(stdio.sh("echo here"), "here");
                    assert!(stdio.end().success(), "{}", stdio.errors());
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().expect("served"));
}

#[test]
fn a_server_that_runs_is_used_and_asks_its_owner_for_no_key() {
    let server = Server::builder().env("WORKSPACE_API_KEYS", "secret-key").start();
    let place = Place::new().env("WORKSPACE_DATA_DIR", &server.data_dir().to_string_lossy());
    let listed = || {
        let page = server.request("GET", "/api/v1/sandboxes", &[("x-api-key", "secret-key")], b"").expect(200).json();
        page["sandboxes"].as_array().expect("sandboxes").clone()
    };
    let mut stdio = place.start();
    stdio.shake_hands("2025-11-25");
    assert_eq!(listed().len(), 0, "none before it is needed");
    assert_eq!(stdio.sh("echo x >a; cat a"), "x");
    let all = listed();
    assert_eq!((all.len(), &all[0]["state"]), (1, &json!("running")));
    let path = format!("/api/v1/sandboxes/{}/files?path=a", all[0]["id"].as_str().expect("an id"));
    let read = server.request("GET", &path, &[("x-api-key", "secret-key")], b"").expect(200).json();
    assert_eq!(read["content"], "x\n", "it is the same server");
    // Somebody deletes it: the next call but one has a new one.
    let gone = all[0]["id"].as_str().expect("an id");
    server
        .request("DELETE", &format!("/api/v1/sandboxes/{gone}?force=true"), &[("x-api-key", "secret-key")], b"")
        .expect(200);
    let told = stdio.call("process_run", json!({"command": "true"}));
    assert!(told["isError"] == true && told["content"][0]["text"].to_string().contains("2001"), "{told}");
    assert_eq!(stdio.sh("ls"), "");
    assert!(stdio.end().success(), "{}", stdio.errors());
    assert_eq!(listed().len(), 0, "its own is gone with it");
    assert!(place.servers().is_empty(), "no other server was started");
    assert_eq!(server.request("GET", "/api/v1/health", &[], b"").status, 200, "and this one lives on");
}

#[test]
fn a_server_that_dies_is_told_and_the_next_start_works() {
    let server = Server::start();
    let place = Place::new().env("WORKSPACE_DATA_DIR", &server.data_dir().to_string_lossy());
    let mut stdio = place.start();
    stdio.shake_hands("2025-11-25");
    stdio.send(&json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "process_run", "arguments": {"command": "sleep", "args": ["7422"]}}}));
    until("it runs", 20, || server.count_of("sleep 7422") == 1);
    server.kill9_server();
    assert_eq!(stdio.wait().code(), Some(1), "an answer is lost, and not in silence");
    assert!(
        stdio.errors().contains("the server has ended") && stdio.errors().lines().count() == 1,
        "{}",
        stdio.errors()
    );
    // The socket is the supervisor's: the server that comes back answers there.
    let mut next = place.start();
    next.shake_hands("2025-11-25");
    assert_eq!(next.sh("echo again"), "again");
    assert!(next.end().success());
    until("http is there again", 20, || {
        server.find_again();
        server.try_request("GET", "/api/v1/health", &[], b"").is_ok()
    });
    // What the first had is an ordinary sandbox now, with a timeout.
    let left = server.list();
    assert_eq!((left.len(), &left[0]["timeout"]), (1, &json!(86_400)));
}

#[test]
fn a_server_that_stops_lets_answers_come() {
    let mut server = Server::start();
    let place = Place::new().env("WORKSPACE_DATA_DIR", &server.data_dir().to_string_lossy());
    let mut stdio = place.start();
    stdio.shake_hands("2025-11-25");
    stdio.sh("true");
    stdio.send(&json!({"jsonrpc": "2.0", "id": "soon", "method": "tools/call",
        "params": {"name": "process_run", "arguments": {"command": "sh", "args": ["-c", "sleep 4; echo soon"]}}}));
    until("it runs", 20, || server.count_of("sleep 4") == 2);
    server.signal(Signal::TERM);
    assert_eq!(stdio.next()["result"]["structuredContent"]["stdout"], "soon\n");
    assert!(stdio.wait().success(), "{}", stdio.errors());
    assert!(server.wait_end().success());
    assert!(!server.data_dir().join("mcp.sock").exists());
    server.restart();
    assert_eq!(server.list().len(), 0);
}

#[test]
fn a_server_without_mcp_is_named() {
    let server = Server::builder().env("WORKSPACE_MCP_MODE", "disabled").start();
    let place = Place::new().env("WORKSPACE_DATA_DIR", &server.data_dir().to_string_lossy());
    let mut stdio = place.start();
    let status = stdio.wait();
    assert_eq!((status.code(), stdio.rest().len()), (Some(1), 0));
    let pid = server.supervisor().expect("a supervisor").pid;
    assert!(
        stdio.errors().contains(&format!("pid {pid}")) && stdio.errors().contains("WORKSPACE_MCP_MODE=disabled"),
        "{}",
        stdio.errors()
    );
}

#[test]
fn nothing_but_messages_is_printed_whatever_is_logged() {
    let place = Place::new().env("RUST_LOG", "trace").env("WORKSPACE_NO_SUCH", "1");
    let mut stdio = place.begin();
    for n in 0..20 {
        assert_eq!(stdio.sh(&format!("echo out {n}; echo err >&2")), format!("out {n}"));
    }
    assert!(stdio.end().success());
    assert_eq!(stdio.rest(), Vec::<serde_json::Value>::new());
    // What is wrong with the configuration is said where a client shows it; what the server logs is in its file.
    assert!(stdio.errors().contains("WORKSPACE_NO_SUCH") && stdio.errors().lines().count() == 1, "{}", stdio.errors());
    let log = place.log();
    assert!(
        log.lines().count() > 20 && log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()),
        "{log}"
    );
    assert!(!log.contains("out 1"), "no output and no argument is logged");
}
