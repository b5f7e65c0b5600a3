//! What is left of a terminal? Attack T18: jobs that keep it, DELETE in the middle of a flood, viewers that read and that
//! do not. Its end is told, its descriptors are closed, nobody of it lives.

use crate::kit::{Server, WebSocket, turn, until};
use crate::pty::open;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TERMINALS: usize = 16;
/// What a viewer is sent of a flood before its terminal ends.
const SEEN_BYTES: usize = 1 << 20;

/// Descriptors of an agent but those of cgroups, of which it keeps some for the next commands.
fn descriptors(agent: i32) -> usize {
    let Ok(all) = std::fs::read_dir(format!("/proc/{agent}/fd")) else { return 0 };
    let links = all.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| !link.starts_with("/sys/fs/cgroup")).count()
}

#[test]
fn jobs_that_keep_a_terminal_leave_with_it() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    let agent = server.agent();
    let before = descriptors(agent.pid);
    let keepers = [
        "trap '' HUP TERM; sleep 9801 & exec sleep 9801",
        "setsid sleep 9801 & setsid sh -c 'trap \"\" HUP TERM; sleep 9801 & sleep 9801' & exec sleep 9801",
        "(setsid sleep 9801 </dev/null &); python3 -c 'import os; os.dup2(0, 200); os.execlp(\"sleep\", \"sleep\", \"9801\")'",
        "exec 3<>/dev/tty; (sleep 9801; echo late >&3) & kill -STOP $!; exec sleep 9801",
    ];
    let script = |at: usize| json!({"command": "sh", "args": ["-c", keepers[at % keepers.len()]]});
    for by in ["DELETE", "the end of its program"] {
        let paths: Vec<String> = (0..TERMINALS).map(|at| open(&server, &id, script(at))).collect();
        let mut viewers: Vec<WebSocket> = paths.iter().map(|path| WebSocket::connect(&server, path, &[])).collect();
        until("they run", 30, || server.count_of("sleep 9801") >= TERMINALS);
        if by == "DELETE" {
            for path in &paths {
                server.request("DELETE", path, &[], b"").expect(200);
            }
        } else {
            let listed = server.get(&format!("/api/v1/sandboxes/{id}/pty")).expect(200).json();
            let pids: Vec<String> =
                listed["ptys"].as_array().expect("ptys").iter().map(|pty| pty["pid"].to_string()).collect();
            assert_eq!(pids.len(), TERMINALS);
            server.sh(&id, &format!("kill -9 {}", pids.join(" ")));
        }
        for viewer in &mut viewers {
            let (_, _, close) = viewer.until_closed();
            assert_eq!(close.0, 1000, "{by}: {close:?}");
        }
        until("all terminals are closed", 10, || descriptors(agent.pid) <= before);
        let listed = server.get(&format!("/api/v1/sandboxes/{id}/pty")).expect(200).json();
        assert_eq!(listed["ptys"], Value::Array(Vec::new()), "{by}");
        if by == "DELETE" {
            until("all that stood on them has gone", 10, || server.count_of("9801") == 0);
            assert_eq!(server.sh(&id, "ls /dev/pts"), "ptmx", "{by}");
        }
    }
    server.delete(&id);
    until("nobody is left", 5, || server.count_of("9801") == 0);
}

#[test]
fn a_sandbox_ends_in_the_middle_of_a_flood() {
    let _turn = turn::heavy();
    let server = Server::start();
    server.server_process().expect("the server process");
    for round in 0..3 {
        let id = server.create(json!({}));
        let path = open(&server, &id, json!({"command": "sh", "args": ["-c", "yes 0123456789 & yes 9802"]}));
        let mut reading = WebSocket::connect(&server, &path, &[]);
        let stuck: Vec<WebSocket> = (0..8).map(|_| WebSocket::connect_narrow(&server, &path)).collect();
        reading.see_until("a flood", |seen| seen.len() > SEEN_BYTES);
        let started = Instant::now();
        std::thread::scope(|scope| {
            let told = scope.spawn(|| reading.until_closed().2);
            server.delete(&id);
            let close = told.join().expect("join");
            // A reader that was a moment too slow for it was sent away before.
            assert!(matches!(close.0, 1000 | 1001 | 1013), "{round}: {close:?}");
        });
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        until("nobody of it is left", 5, || server.count_of("9802") == 0);
        drop(stuck);
    }
    let descriptors = || server.server_process().map_or(0, |p| p.descriptors());
    until("its connections are closed", 20, || descriptors() < 100);
}
