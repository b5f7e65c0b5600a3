//! Does a reader that stops, or a client that holds descriptors, cost the server more than its place? Attacks T04 and T09
//! on the built program: the command waits, memory stays, the accept loop rests.

use crate::kit::{Client, Events, Server, turn, until, until_some};
use serde_json::json;
use std::time::{Duration, Instant};

const CREATE: &str = "/api/v1/sandboxes";
/// What lies between a command and a reader that has stopped: its pipe (64 KiB), the agent's and the server's windows
/// (256 KiB each), events on their way (256 KiB), and what the kernel holds of one TCP connection (6 MiB and 4 MiB).
const AHEAD_BYTES_MAX: u64 = 12 << 20;
const LINES: u64 = 300_000;
const LINE_BYTES: u64 = 100;

/// Numbered lines, and where it is, told in a file.
const COUNTER: &str = "import os, sys\nout = open(1, 'wb', buffering=0)\nfor n in range(0, int(sys.argv[1]), 100):\n  \
    out.write(b''.join(b'%099d\\n' % k for k in range(n, n + 100)))\n  \
    f = os.open('/workspace/at', os.O_CREAT | os.O_WRONLY); os.pwrite(f, b'%09d' % (n + 100), 0); os.close(f)\n";

fn counter(server: &Server, id: &str) -> Events {
    let body = json!({"command": "python3", "args": ["-c", COUNTER, LINES.to_string()]});
    server.events("POST", &format!("{CREATE}/{id}/process/run/stream"), &body)
}

/// How many bytes the counter has been let print.
fn printed(server: &Server, id: &str) -> u64 {
    server.sh(id, "cat /workspace/at 2>/dev/null || echo 0").trim_start_matches('0').parse().unwrap_or(0) * LINE_BYTES
}

/// Where the counter rests: the same at two looks with commands between them.
fn rests_at(server: &Server, id: &str) -> u64 {
    let mut last = (0, Instant::now());
    until_some("the command is held back", 30, || {
        let now = printed(server, id);
        if now != last.0 {
            last = (now, Instant::now());
        }
        (now > 0 && last.1.elapsed() > Duration::from_secs(1)).then_some(now)
    })
}

#[test]
fn a_reader_that_stops_holds_its_command_back_and_loses_nothing() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let rss = || -> u64 { server.own_processes().iter().filter_map(|p| p.status("VmRSS")).sum() };
    let before = rss();
    let mut events = counter(&server, &id);
    events.expect("start");
    let ahead = rests_at(&server, &id);
    assert!(ahead < AHEAD_BYTES_MAX, "{ahead} bytes were printed for nobody");
    // Python itself is some of it.
    let grown = rss().saturating_sub(before);
    println!("{ahead} bytes ahead of a reader that has stopped, {grown} KiB");
    assert!(grown < 24 * 1024, "{grown} KiB more");
    let (mut line, mut expected) = (String::new(), 0);
    loop {
        let (kind, value) = events.next().expect("an exit comes").json();
        if kind == "exit" {
            assert_eq!(value["code"], 0);
            break;
        }
        assert_eq!(kind, "stdout");
        line.push_str(value["data"].as_str().expect("data"));
        let whole = line.rfind('\n').map_or(0, |at| at + 1);
        for text in line[..whole].lines() {
            assert_eq!(text.parse(), Ok(expected), "no byte is lost and none comes twice");
            expected += 1;
        }
        line.drain(..whole);
    }
    assert_eq!(expected, LINES);
}

#[test]
fn a_reader_that_stops_and_goes_takes_its_command_along() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut events = counter(&server, &id);
    events.expect("start");
    rests_at(&server, &id);
    assert_eq!(server.count_of("/workspace/at"), 1);
    drop(events);
    until("the command ends with its reader", 10, || server.count_of("/workspace/at") == 0);
    let done = printed(&server, &id);
    assert!(done < LINES * LINE_BYTES, "it was ended, not let go");
}

/// With all descriptors taken by clients that are not idle, nothing can be done but wait for their deadline: cheaply.
#[test]
fn without_descriptors_the_accept_loop_rests() {
    let _turn = turn::heavy();
    let server = Server::builder().descriptors_max(96).start();
    let id = server.create(json!({}));
    let mut crowd: Vec<Client> = (0..400).map(|_| server.client()).collect();
    for client in &mut crowd {
        // Some are past what the kernel lets wait.
        let _ = client.send(b"GET /api/v1/health HTTP/1.1\r\nHost:");
    }
    let process = server.server_process().expect("the server process");
    until("its descriptors are used up", 20, || process.descriptors() >= 94);
    let log = server.log().len();
    let (ticks, started) = (cpu_ticks(process.pid), Instant::now());
    while started.elapsed() < Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let used = cpu_ticks(process.pid) - ticks;
    assert!(process.descriptors() >= 94, "they are still used up");
    assert!(used < 10, "{used} ticks of 10 ms in 2 s of waiting: more than 5 %");
    let told = server.log().len() - log;
    assert!(told < 8 * 1024, "{told} bytes of log in 2 s of waiting");
    drop(crowd);
    // Those that idle are no hindrance: they are ended for the next.
    let idle: Vec<Client> = (0..400).map(|_| server.client()).collect();
    until("it serves beside 400 that idle", 20, || {
        let health = server.client().request("GET", "/api/v1/health", &[("Connection", "close")], b"");
        health.is_ok_and(|answer| answer.status == 200)
    });
    drop(idle);
    // Our own kept connection idled longest of all.
    server.find_again();
    assert_eq!(server.sh(&id, "echo well"), "well");
}

/// User and system time of a process.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}
