//! What does output without end cost? Attack T09: `yes` on both streams, a byte at a time, a gigabyte without a line end,
//! from fifty processes at once, with readers that read, that stop and that vanish. Server and agent stay small.

use crate::kit::{Events, Process, Server, turn, until};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const CREATE: &str = "/api/v1/sandboxes";
const STREAMS: usize = 48;
/// A stream that stands still: the window of its agent (256 KiB), events between two cores (256 KiB), a page of at most
/// 64 KiB and what that is in JSON, and frames that are smaller than what holds them.
const STREAM_KIB_MAX: u64 = 1536;
/// Whatever runs, and what an allocator keeps.
const SERVER_KIB_MAX: u64 = 24 * 1024;
const AGENT_KIB_MAX: u64 = 24 * 1024;
const READ_BYTES: usize = 2 << 20;
const GIB: u64 = 1 << 30;

const FLOODS: &[&str] = &[
    "yes 0123456789abcdef & yes 0123456789abcdef >&2; : 9601",
    "while :; do printf x; printf y >&2; done; : 9601",
    "cat /dev/zero; : 9601",
    "head -c 100000000 /dev/zero | tr '\\0' '\\377'; yes 9601",
];

/// The most that two processes have needed while something ran.
struct Highest {
    server: AtomicU64,
    agent: AtomicU64,
}

fn rss(process: &Process) -> u64 {
    process.status("VmRSS").unwrap_or(0)
}

/// Looks on while `work` runs; gives by how much server and agent have grown at most, in KiB.
fn grown(server: &Server, work: impl FnOnce()) -> (u64, u64) {
    let (process, agent) = (server.server_process().expect("the server process"), server.agent());
    let before = (rss(&process), rss(&agent));
    let (highest, done) = (Highest { server: AtomicU64::new(0), agent: AtomicU64::new(0) }, AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                highest.server.fetch_max(rss(&process), Ordering::Relaxed);
                highest.agent.fetch_max(rss(&agent), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        // The watch ends also where the work panics.
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = worked {
            std::panic::resume_unwind(panic);
        }
    });
    assert!(process.is_alive() && agent.is_alive());
    (highest.server.into_inner().saturating_sub(before.0), highest.agent.into_inner().saturating_sub(before.1))
}

fn flood(server: &Server, id: &str, at: usize) -> Events {
    let body = json!({"command": "sh", "args": ["-c", FLOODS[at % FLOODS.len()]]});
    let mut events = server.events("POST", &format!("{CREATE}/{id}/process/run/stream"), &body);
    events.expect("start");
    events
}

/// Reads so much output, or to the end.
fn read(events: &mut Events, bytes: usize) -> usize {
    let mut read = 0;
    while read < bytes {
        let Some(event) = events.next() else { break };
        read += event.json().1["data"].as_str().map_or(0, str::len);
    }
    read
}

#[test]
fn streams_without_end_cost_bounded_memory() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let (server_kib, agent_kib) = grown(&server, || {
        let mut all: Vec<Events> = (0..STREAMS).map(|at| flood(&server, &id, at)).collect();
        std::thread::scope(|scope| {
            for (at, events) in all.iter_mut().enumerate() {
                match at / FLOODS.len() % 3 {
                    0 => drop(scope.spawn(move || assert!(read(events, READ_BYTES / 8) > 0))),
                    1 => {}
                    _ => drop(scope.spawn(move || assert!(read(events, 8192) > 0))),
                }
            }
        });
        // A third has vanished; the others stand still, with all that is on its way.
        let mut at = 0;
        all.retain(|_| {
            at += 1;
            (at - 1) / FLOODS.len() % 3 != 2
        });
        assert_eq!(server.sh(&id, "echo well"), "well", "others are served");
        assert_eq!(read(&mut all[0], READ_BYTES) / READ_BYTES, 1, "one that stood still goes on");
        drop(all);
        until("all floods end with their readers", 20, || server.count_of("9601") == 0);
    });
    assert!(server_kib < SERVER_KIB_MAX + STREAMS as u64 * STREAM_KIB_MAX, "{server_kib} KiB in the server");
    assert!(agent_kib < AGENT_KIB_MAX, "{agent_kib} KiB in the agent");
    let agent = server.agent();
    until("the agent gives it back", 10, || rss(&agent) < 16 * 1024);
}

#[test]
fn a_gigabyte_without_a_line_end_is_cut_and_said() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let zeros = |more: Value| {
        let mut body = json!({"command": "head", "args": ["-c", GIB.to_string(), "/dev/zero"]});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        body
    };
    let ran = grown(&server, || {
        let answer = server.run(&id, zeros(json!({"encoding": "base64"})));
        assert_eq!((&answer["exit_code"], &answer["truncated"]), (&json!(0), &json!(true)));
        assert_eq!(answer["stdout"].as_str().map(str::len), Some((8_usize << 20).div_ceil(3) * 4));
    });
    // Eight mebibytes are kept by default, and are in the answer.
    assert!(ran.0 < 48 * 1024 && ran.1 < AGENT_KIB_MAX, "{ran:?} KiB");
    let kept = grown(&server, || {
        let pid = server.launch(&id, zeros(json!({"max_output_bytes": 65536})));
        // Nobody reads: it is held back for a while, and then let go.
        let ended = server.ended(&id, pid);
        assert_eq!(
            (&ended["exit_code"], &ended["cursor"], &ended["truncated"]),
            (&json!(0), &json!(GIB), &json!(true))
        );
        let events = server.follow(&id, pid).rest();
        let kept: u64 = events.iter().filter_map(|e| e.json().1["data"].as_str().map(|text| text.len() as u64)).sum();
        assert!(kept > 0 && kept <= 65536 + (128 << 10), "{kept} bytes were kept");
        assert_eq!(events[1].json().1["bytes"], GIB - kept, "the rest is said to be dropped");
    });
    assert!(kept.0 < SERVER_KIB_MAX && kept.1 < AGENT_KIB_MAX, "{kept:?} KiB");
    assert_eq!(server.sh(&id, "echo well"), "well");
}
