//! Does anybody outlive a kill? Attack T11: commands that ignore SIGTERM, fork twice, change session and group, or fork
//! on and on, ended by timeout, by the kill route, by a client that goes; and by DELETE, after which nobody is left.

use crate::kit::{Events, Server, turn, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CREATE: &str = "/api/v1/sandboxes";
/// SIGTERM, a second of grace, SIGKILL, and a machine that does other things as well.
const GONE_S_MAX: u64 = 15;
const MARK: &str = "sleep 9401";
/// What each of the stubborn is, told apart by its name in the messages.
const STUBBORN: &[(&str, &str, usize)] = &[
    ("ignores signals", "trap '' TERM INT HUP QUIT USR1 USR2 ALRM; sleep 9401 & sleep 9401; sleep 9401", 2),
    ("other sessions", "setsid sleep 9401 & setsid sh -c 'setsid sleep 9401 & sleep 9401' & sleep 9401", 4),
    (
        "daemons",
        "trap '' TERM; (setsid sh -c 'trap \"\" TERM; sleep 9401 & sleep 9401' &); (sleep 9401 &); sleep 9401",
        4,
    ),
    ("other groups", "set -m; sleep 9401 & sleep 9401 & (set -m; sleep 9401 & wait) & wait", 3),
    ("stopped", "sleep 9401 & sleep 9401 & kill -STOP $!; kill -STOP $$; wait", 2),
    // Fewer than its sandbox may have, all the time.
    (
        "forks on",
        "while :; do i=0; while [ $i -lt 20 ]; do setsid sleep 9401 & i=$((i+1)); done; sleep 0.05; pkill -o -x sleep; done",
        20,
    ),
];

/// A way to go, by name.
type Leave = (&'static str, fn(Events));

fn body(script: &str) -> Value {
    json!({"command": "sh", "args": ["-c", script]})
}

fn running(server: &Server, what: &str, least: usize) {
    until(&format!("{what}: it runs"), 20, || server.count_of(MARK) >= least);
}

#[track_caller]
fn gone(server: &Server, id: &str, what: &str, started: Instant) {
    until(&format!("{what}: all its processes are gone"), GONE_S_MAX, || server.count_of(MARK) == 0);
    println!("{what}: gone after {:?}", started.elapsed());
    assert_eq!(server.sh(id, "echo well"), "well", "{what}: its sandbox lives on");
}

fn stream(server: &Server, id: &str, body: &Value) -> Events {
    let mut events = server.events("POST", &format!("{CREATE}/{id}/process/run/stream"), body);
    events.expect("start");
    events
}

#[test]
fn nobody_outlives_a_timeout() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({"resources": {"pids": 300}}));
    for (what, script, _) in STUBBORN {
        let mut timed = body(script);
        timed["timeout"] = json!(500);
        let started = Instant::now();
        let (streamed, kept) = std::thread::scope(|scope| {
            let streamed = scope.spawn(|| stream(&server, &id, &timed).rest());
            let kept = scope.spawn(|| server.ended(&id, server.launch(&id, timed.clone())));
            (streamed.join().expect("join"), kept.join().expect("join"))
        });
        let exit = streamed.last().expect("an exit").json().1;
        assert_eq!((&exit["type"], &exit["exit_reason"]), (&json!("exit"), &json!("timed_out")), "{what}: {exit}");
        assert_eq!(kept["exit_reason"], "timed_out", "{what}: {kept}");
        assert!(started.elapsed() >= Duration::from_millis(500), "{what}: not before its time");
        gone(&server, &id, what, started);
    }
}

#[test]
fn nobody_outlives_the_kill_route() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({"resources": {"pids": 300}}));
    for (what, script, least) in STUBBORN {
        let pid = server.launch(&id, body(script));
        running(&server, what, *least);
        let started = Instant::now();
        assert_eq!(server.kill(&id, pid, json!("SIGKILL")).status, 200);
        let ended = server.ended(&id, pid);
        assert_eq!((&ended["exit_code"], &ended["signal"]), (&json!(137), &json!(9)), "{what}: {ended}");
        gone(&server, &id, what, started);
        server.kill(&id, pid, json!(9)).expect_error(404, 4001);
    }
    // A signal that can be refused is; and reaches all that do not refuse it. The shell has no child in the foreground: it
    // would take the signal as well, and a shell says `Terminated` of that, before its trap.
    let pid =
        server.launch(&id, body("trap 'echo got it' TERM; sleep 9401 & setsid sleep 9401 & while :; do wait; done"));
    let sleepers = || server.own_processes().iter().filter(|p| p.command_line() == MARK).count();
    // Both are what they will be: a shell's child that takes SIGTERM before it has put its parent's trap away lives on.
    until("a trap: its descendants run", 20, || sleepers() == 2);
    assert_eq!(server.kill(&id, pid, Value::Null).status, 200);
    let mut events = server.follow(&id, pid);
    events.expect("start");
    assert_eq!(events.expect("stdout")["data"], "got it\n");
    until("its descendants took the signal", GONE_S_MAX, || sleepers() == 0);
    assert_eq!(server.get(&server.process_path(&id, pid)).expect(200).json()["state"], "running");
    assert_eq!(server.kill(&id, pid, json!("KILL")).status, 200);
    assert_eq!(server.ended(&id, pid)["exit_code"], 137);
}

#[test]
fn nobody_outlives_the_client_of_a_stream() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({"resources": {"pids": 300}}));
    let leave: [Leave; 3] = [
        ("closes", |events| drop(events)),
        ("half-closes", |mut events| {
            events.client.end().expect("end");
            // The server ends its half as well; whatever is on its way may come.
            while matches!(events.try_next(), Ok(Some(_))) {}
        }),
        ("resets", |events| {
            let socket = events.client.sender();
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("linger");
        }),
    ];
    for (at, (what, script, least)) in STUBBORN.iter().enumerate() {
        let (how, leave) = &leave[at % leave.len()];
        let events = stream(&server, &id, &body(script));
        running(&server, what, *least);
        let started = Instant::now();
        leave(events);
        gone(&server, &id, &format!("{what}, the client {how}"), started);
    }
}

/// Nothing runs on after DELETE, however it was started; nothing but its end was waited for.
#[test]
fn nobody_outlives_the_sandbox() {
    let _turn = turn::heavy();
    let server = Server::start();
    for (what, script, least) in STUBBORN {
        let id = server.create(json!({"resources": {"pids": 300}}));
        let pid = server.launch(&id, body(script));
        let mut followed = server.follow(&id, pid);
        followed.expect("start");
        let streamed = stream(&server, &id, &body(script));
        running(&server, what, 2 * least);
        let refused = server.request("DELETE", &format!("{CREATE}/{id}"), &[], b"");
        refused.expect_error(409, 2004);
        let started = Instant::now();
        server.delete(&id);
        assert!(started.elapsed() < Duration::from_secs(10), "{what}: {:?}", started.elapsed());
        until(&format!("{what}: nobody is left"), 5, || server.count_of(MARK) == 0);
        for mut events in [followed, streamed] {
            let mut last = None;
            while let Ok(Some(event)) = events.try_next() {
                last = Some(event.json());
            }
            // Never a made-up exit 0.
            let (kind, value) = last.unwrap_or_else(|| panic!("{what}: no last event"));
            assert!(kind == "error" || (kind == "exit" && value["code"] != 0), "{what}: {value}");
        }
    }
}
