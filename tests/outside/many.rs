//! Many at once: a thousand commands in one sandbox, ten streams in each of two hundred, one that is stuck among others.
//! None is lost, and descriptors and memory come back to where they were.

use crate::kit::{Process, Server, turn, until};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const RSS_GROWN_KIB_MAX: u64 = 8 << 10;

/// Descriptors and resident KiB of the server and of all agents.
struct Held(Vec<(Process, usize, u64)>);

impl Held {
    fn of(server: &Server) -> Held {
        let agents = server.own_processes().into_iter().filter(Process::is_init);
        let all = server.server_process().into_iter().chain(agents);
        Held(all.map(|p| (p.clone(), p.descriptors(), p.status("VmRSS").unwrap_or(0))).collect())
    }

    /// Some of what was used is kept for the next: connections of this test, idle leaves of an agent.
    #[track_caller]
    fn come_back(&self) {
        until("descriptors come back", 30, || {
            self.0.iter().all(|(process, before, _)| process.descriptors() <= before + 80)
        });
        until("memory comes back", 30, || {
            self.0.iter().all(|(process, _, before)| process.status("VmRSS").unwrap_or(0) <= before + RSS_GROWN_KIB_MAX)
        });
    }
}

/// Does `each` for 0..count on some threads.
fn together(threads: usize, count: usize, each: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    each(at);
                }
            });
        }
    });
}

#[test]
fn a_thousand_commands_at_once_in_one_sandbox() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    let held = Held::of(&server);
    let path = format!("/api/v1/sandboxes/{id}/process");
    let pids = Mutex::new(Vec::new());
    together(16, 1000, |at| {
        // Each waits for its input, so that all are alive at once.
        let body = json!({"command": "sh", "args": ["-c", format!("read x; echo {at} $x; exit {}", at % 200)], "tag": at.to_string()});
        let process = server.post(&format!("{path}/start"), &body).expect(200).json();
        pids.lock().expect("pids").push((at, process["pid"].as_u64().expect("a pid")));
    });
    let pids = pids.into_inner().expect("pids");
    let all = server.get(&path).expect(200).json();
    let alive = all["processes"].as_array().expect("a list").iter().filter(|p| p["state"] == "running").count();
    assert_eq!(alive, 1000, "all of them are alive at once");
    together(16, pids.len(), |index| {
        let (at, pid) = pids[index];
        server.post(&format!("{path}/{pid}/stdin"), &json!({"data": "in\n"})).expect(200);
        let ended = server.get(&format!("{path}/{pid}/wait")).expect(200).json();
        assert_eq!((&ended["exit_code"], &ended["tag"]), (&json!(at % 200), &json!(at.to_string())), "{ended}");
        // Those that ended first may be forgotten by now: 256 are kept.
        if let Ok(events) = server.try_events("GET", &format!("{path}/{pid}/stream"), &[], b"") {
            let text: String =
                events.rest().iter().filter_map(|e| e.json().1["data"].as_str().map(str::to_owned)).collect();
            assert_eq!(text, format!("{at} in\n"));
        }
    });
    held.come_back();
    server.delete(&id);
}

#[test]
fn ten_streams_in_each_of_two_hundred_sandboxes() {
    let _turn = turn::heavy();
    let server = Server::builder().env("WORKSPACE_POOL_BLANKS", "0").start();
    let first = server.create(json!({}));
    server.sh(&first, "true");
    // Tables and rings grow once to the size of the crowd; the second crowd must find room in them.
    crowd(&server);
    let held = Held::of(&server);
    crowd(&server);
    held.come_back();
}

fn crowd(server: &Server) {
    let ids = Mutex::new(Vec::new());
    together(8, 200, |_| {
        let id = server.create(json!({}));
        ids.lock().expect("ids").push(id);
    });
    let ids = ids.into_inner().expect("ids");
    // A lock that somebody else has holds them all without a processor's time.
    let holders: Mutex<Vec<(usize, u64)>> = Mutex::default();
    together(8, ids.len(), |at| {
        let path = format!("/api/v1/sandboxes/{}/process/start", ids[at]);
        let holder = json!({"command": "flock", "args": ["lock", "sh", "-c", "echo held; exec sleep 7401"]});
        let pid = server.post(&path, &holder).expect(200).json()["pid"].as_u64().expect("a pid");
        let mut events =
            server.events("GET", &format!("/api/v1/sandboxes/{}/process/{pid}/stream", ids[at]), &Value::Null);
        events.expect("start");
        events.expect("stdout");
        holders.lock().expect("holders").push((at, pid));
    });
    // All of them are open before any ends.
    let open = Mutex::new(Vec::new());
    together(16, 2000, |at| {
        let body = json!({"command": "sh", "args": ["-c", format!("echo begun; flock lock echo {at}")]});
        let path = format!("/api/v1/sandboxes/{}/process/run/stream", ids[at / 10]);
        let mut events = server.events("POST", &path, &body);
        events.expect("start");
        open.lock().expect("open").push((at, events));
    });
    let open = open.into_inner().expect("open");
    assert_eq!(open.len(), 2000);
    for (at, pid) in holders.into_inner().expect("holders") {
        server.post(&format!("/api/v1/sandboxes/{}/process/{pid}/kill", ids[at]), &json!({"signal": 9})).expect(200);
    }
    for (at, events) in open {
        let events = events.rest();
        let text: String = events.iter().filter_map(|e| e.json().1["data"].as_str().map(str::to_owned)).collect();
        assert_eq!(text, format!("begun\n{at}\n"));
        assert_eq!(events.last().map(|e| e.json().1["code"].clone()), Some(json!(0)));
    }
    together(8, ids.len(), |at| server.delete(&ids[at]));
}

/// One reader that does not read, one command that does not end: others are not slower for it.
#[test]
fn one_that_is_stuck_delays_no_other() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = format!("/api/v1/sandboxes/{id}/process");
    let stuck: Vec<_> = (0..20)
        .map(|_| {
            let mut events = server.events("POST", &format!("{path}/run/stream"), &json!({"command": "yes"}));
            events.expect("start");
            events
        })
        .collect();
    for _ in 0..50 {
        assert_eq!(server.sh(&id, "echo well"), "well");
    }
    let body = json!({"command": "seq", "args": ["1", "200000"]});
    let events = server.events("POST", &format!("{path}/run/stream"), &body).rest();
    let bytes: usize = events.iter().map(|e| e.json().1["data"].as_str().map_or(0, str::len)).sum();
    assert_eq!(bytes, 1_288_895);
    drop(stuck);
    until("those whose reader has gone end", 10, || {
        let all = server.get(&path).json();
        all["processes"].as_array().is_some_and(|all| all.iter().all(|p: &Value| p["state"] != "running"))
    });
}
