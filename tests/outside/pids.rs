//! Whom does a pid of a route name? Attack T12: the sandbox's own first processes, children that nobody started by the
//! API, processes that have ended, and pids that the kernel has given out again.

use crate::kit::{Process, Server, needs_root, until_some};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Command;

const CREATE: &str = "/api/v1/sandboxes";
/// Tries to make the kernel give a pid out again.
const TRIES_MAX: u64 = 40;

/// Asks everything about a pid that is nobody's; each answer must be 404 4001.
#[track_caller]
fn names_nobody(server: &Server, id: &str, pid: &str) {
    let path = format!("{CREATE}/{id}/process/{pid}");
    for route in ["", "/wait?timeout=100", "/stream", "/stream?cursor=0"] {
        server.get(&format!("{path}{route}")).expect_error(404, 4001);
    }
    for signal in [json!(9), json!("STOP"), Value::Null] {
        server.post(&format!("{path}/kill"), &json!({"signal": signal})).expect_error(404, 4001);
    }
    for body in [json!({"data": "x"}), json!({"eof": true})] {
        server.post(&format!("{path}/stdin"), &body).expect_error(404, 4001);
    }
}

fn pids_inside(server: &Server, id: &str) -> BTreeSet<u64> {
    let all = server.sh(id, "ls /proc | grep '^[0-9]*$'");
    all.lines().map(|pid| pid.parse().expect("a pid")).collect()
}

#[test]
fn a_pid_that_was_not_started_here_names_nobody() {
    let server = Server::start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    // Those of the two looks are others each time.
    let own: BTreeSet<u64> = &pids_inside(&server, &id) & &pids_inside(&server, &id);
    assert!(own.contains(&1) && own.len() >= 2, "the agent and its spawner: {own:?}");
    let started = server.launch(&id, json!({"command": "sh", "args": ["-c", "sleep 9501 & echo $!; wait"]}));
    let child = until_some("it has a child", 10, || {
        let mut events = server.follow(&id, started);
        events.expect("start");
        events.expect("stdout")["data"].as_str()?.trim().parse::<u64>().ok()
    });
    let daemon = server.sh(&id, "setsid sleep 9502 >/dev/null 2>&1 & echo $!");
    let host = std::process::id().to_string();
    let server_pid = server.server_process().expect("the server process").pid.to_string();
    let mut strangers: Vec<String> = own.iter().map(u64::to_string).collect();
    strangers.extend([
        child.to_string(),
        daemon.clone(),
        "999999".to_owned(),
        "2147483647".to_owned(),
        host,
        server_pid,
    ]);
    // What runs in another sandbox, under a pid that this one does not have.
    let next = (0..20).map(|_| server.launch(&other, json!({"command": "sleep", "args": ["9503"]}))).max();
    strangers.push(next.expect("some").max(child + 50).to_string());
    for pid in &strangers {
        names_nobody(&server, &id, pid);
    }
    // They all live, and the agent answers.
    for mark in ["sleep 9501", "sleep 9502"] {
        assert_eq!(server.count_of(mark), if mark == "sleep 9501" { 2 } else { 1 }, "{mark}");
    }
    assert_eq!(server.count_of("sleep 9503"), 20);
    assert!(own.is_subset(&pids_inside(&server, &id)) && server.sh(&id, "echo well") == "well");
    // The control: the one that was started is named, and is ended by it.
    assert_eq!(server.kill(&id, started, json!("KILL")).status, 200);
    assert_eq!(server.ended(&id, started)["exit_code"], 137);
    let listed = server.get(&format!("{CREATE}/{id}/process")).expect(200).json();
    let pids: Vec<u64> =
        listed["processes"].as_array().expect("processes").iter().filter_map(|p| p["pid"].as_u64()).collect();
    assert_eq!(pids, [started]);
}

/// A command that a call waits for can be ended, and its output read by nobody else.
#[test]
fn a_command_of_a_call_keeps_its_output() {
    let server = Server::start();
    let id = server.create(json!({}));
    let body = json!({"command": "sh", "args": ["-c", "echo secret; exec sleep 9504"]});
    let mut events = server.events("POST", &format!("{CREATE}/{id}/process/run/stream"), &body);
    let pid = events.expect("start")["pid"].as_u64().expect("pid");
    let path = server.process_path(&id, pid);
    let shown = server.get(&path).expect(200).json();
    assert_eq!((&shown["attached"], &shown["state"]), (&json!(true), &json!("running")), "{shown}");
    for answer in [server.get(&format!("{path}/stream")), server.post(&format!("{path}/stdin"), &json!({"data": "x"}))]
    {
        assert!(matches!(answer.status, 400 | 404 | 409) && !answer.text().contains("secret"), "{}", answer.text());
        answer.assert_error_form();
    }
    assert_eq!(server.kill(&id, pid, json!("INT")).status, 200);
    assert_eq!(events.expect("stdout")["data"], "secret\n");
    assert_eq!(events.expect("exit")["code"], 130);
    server.get(&path).expect_error(404, 4001);
}

/// The kernel gives a pid out again; a kill by it must not reach who has it now.
#[test]
fn a_pid_that_is_somebody_elses_now_is_not_reached() {
    if needs_root() {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    let agent = server.agent();
    // How far behind the pid that was set the sleeper's comes: its shell's is the one before.
    let mut behind = 2;
    let reused = (0..TRIES_MAX).find_map(|_| {
        let ended = server.launch(&id, json!({"command": "true", "tag": "first"}));
        server.ended(&id, ended);
        set_last_pid(&agent, ended - behind);
        let sleeper: u64 = server.sh(&id, "setsid sleep 9505 >/dev/null 2>&1 & echo $!").parse().expect("a pid");
        if sleeper != ended {
            server.sh(&id, &format!("kill -9 {sleeper}"));
            behind = (behind + sleeper).saturating_sub(ended).max(2);
        }
        (sleeper == ended).then_some(ended)
    });
    let ended = reused.expect("the kernel gives a pid out again");
    server.kill(&id, ended, json!("KILL")).expect_error(404, 4001);
    server.kill(&id, ended, json!("STOP")).expect_error(404, 4001);
    let shown = server.get(&server.process_path(&id, ended)).expect(200).json();
    assert_eq!((&shown["tag"], &shown["state"]), (&json!("first"), &json!("exited")), "{shown}");
    let sleeping = server.own_processes().into_iter().find(|p| p.command_line() == "sleep 9505").expect("it lives");
    // It may be on its way to its sleep still.
    assert_ne!(sleeping.state, 'T', "nobody stopped it");
}

/// Writes the last pid of a sandbox's pid namespace, as only root of the host can.
fn set_last_pid(agent: &Process, pid: u64) {
    let script = format!("echo {pid} > /proc/sys/kernel/ns_last_pid");
    let done =
        Command::new("nsenter").args(["--pid", "--target", &agent.pid.to_string(), "sh", "-c", &script]).status();
    assert!(done.expect("nsenter").success());
}
