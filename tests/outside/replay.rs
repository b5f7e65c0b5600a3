//! Can a reader get what is not its own, or cost what it does not read? Attack T14: positions that were never given, of
//! another process, from the future; a thousand followers of one process; one that never reads.

use crate::kit::{Client, Event, Events, Process, Server, cpu_ticks, encode, turn, until, with_query};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CREATE: &str = "/api/v1/sandboxes";
const LINES: u64 = 600_000;
/// A hundred bytes a line, and `done`.
const PRINTED: u64 = LINES * 100 + 5;
/// Followers that never read, and what each takes before it is stuck: its windows, and the kernel's share of a connection.
const STUCK: u64 = 4;
const AHEAD_BYTES_MAX: u64 = 12 << 20;
const LOOK_EVENTS: u64 = 100;
const IDLE: usize = 200;
const FOLLOWERS: usize = 1000;
/// Of server and agent together, for all followers.
const FOLLOWERS_KIB_MAX: u64 = 96 * 1024;

fn all_text(events: &[Event], kind: &str) -> String {
    let told = events.iter().map(Event::json).filter(|(found, _)| found == kind);
    told.map(|(_, value)| value["data"].as_str().expect("data").to_owned()).collect()
}

#[test]
fn positions_that_were_not_given_are_refused() {
    let server = Server::start();
    let id = server.create(json!({}));
    let print = |text: &str| {
        let pid = server.launch(&id, json!({"command": "printf", "args": ["%s", text]}));
        server.ended(&id, pid);
        pid
    };
    let (first, second) = (print("first€"), print("the second process's output, which is longer"));
    let path = format!("{}/stream", server.process_path(&id, first));
    let odd = [
        "-1",
        "+1",
        "01",
        "1.5",
        "0x1",
        "1e1",
        "text",
        "1-",
        "1-o",
        "1-o41",
        "1-oE2",
        "1-oe2-oe2",
        "1-end-end",
        "18446744073709551616",
        "99999999999999999999999",
        "1 1",
        "1,2",
        "end",
        "%31",
        "\u{661}",
    ];
    for text in odd {
        for answer in [
            server.request("GET", &path, &[("Last-Event-ID", text)], b""),
            server.get(&with_query(&path, &[("cursor", text)])),
        ] {
            assert_eq!(answer.status, 400, "{text:?}: {}", answer.text());
            answer.assert_error_form();
            assert!(!answer.text().contains("first"), "{}", answer.text());
        }
    }
    // Beyond what was ever printed, where another process was.
    let end_of_second = server.follow(&id, second).rest().iter().rev().nth(1).expect("output").id.clone();
    for future in [end_of_second.as_str(), "9", "18446744073709551615", "4294967296", "9-oe282"] {
        let answer = server.request("GET", &path, &[("Last-Event-ID", future)], b"");
        assert_eq!(answer.status, 400, "{future}: {}", answer.text());
    }
    let two = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 1\r\nLast-Event-ID: 2\r\n\r\n");
    let mut client = server.client();
    client.send(two.as_bytes()).expect("send");
    assert_eq!(client.response("GET").expect("answer").status, 400, "two positions are none");
    // What was given goes on where it stood: each event's id, in each form, leaves the rest and nothing else.
    let events = server.follow(&id, first).rest();
    for (at, event) in events.iter().enumerate() {
        let again = server.try_events("GET", &path, &[("Last-Event-ID", &event.id)], b"");
        let rest = match again {
            Ok(again) => again.rest(),
            Err(answer) => {
                assert_eq!((answer.status, at + 1), (204, events.len()), "only behind the end there is nothing");
                continue;
            }
        };
        assert_eq!(all_text(&rest, "stdout"), all_text(&events[at + 1..], "stdout"), "{}", event.id);
    }
    // A header wins over the query, and a position within a character never shows half of it as whole.
    let both = server.try_events("GET", &format!("{path}?cursor=0"), &[("Last-Event-ID", "5")], b"");
    assert_eq!(all_text(&both.expect("events").rest(), "stdout"), "€");
    let within = server.try_events("GET", &path, &[("Last-Event-ID", "7-oe282")], b"").expect("events").rest();
    assert_eq!(all_text(&within, "stdout"), "€");
    // No cursor makes a command run again.
    let run = with_query(
        &format!("{CREATE}/{id}/process/run/stream"),
        &[("command", "touch"), ("args", "[\"/workspace/ran\"]")],
    );
    for text in ["0", "-1", "text", "0-end", "18446744073709551616"] {
        assert_eq!(server.request("GET", &run, &[("Last-Event-ID", text)], b"").status, 204, "{text}");
    }
    assert_eq!(server.run(&id, json!({"command": "test", "args": ["-e", "/workspace/ran"]}))["exit_code"], 1);
}

/// Each of them costs its descriptor and a bounded buffer, and all read the same.
#[test]
fn a_thousand_followers_read_the_same() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "while read -r line; do echo \"told $line\"; done; exit 7";
    let pid = server.launch(&id, json!({"command": "sh", "args": ["-c", script]}));
    let path = format!("{}/stream", server.process_path(&id, pid));
    server.follow(&id, pid).expect("start");
    let both = both(&server);
    let (before, descriptors) = (rss_kib(&both), both[1].descriptors());
    let request = encode(&server.address().to_string(), "GET", &path, &[], b"");
    let clients: Vec<Client> = (0..FOLLOWERS)
        .map(|_| {
            let mut client = server.client();
            client.send(&request).expect("send");
            client
        })
        .collect();
    let mut followers: Vec<Events> =
        clients.into_iter().map(|c| Events::of(c).unwrap_or_else(|a| panic!("{} {}", a.status, a.text()))).collect();
    for follower in &mut followers {
        follower.expect("start");
    }
    let grown = rss_kib(&both).saturating_sub(before);
    assert!(grown < FOLLOWERS_KIB_MAX, "{grown} KiB for {FOLLOWERS} followers");
    assert!(both[1].descriptors() <= descriptors + 2, "a follower is no descriptor of the agent's");
    let started = Instant::now();
    let stdin = format!("{}/stdin", server.process_path(&id, pid));
    server.post(&stdin, &json!({"data": "one\ntwo\n", "eof": true})).expect(200);
    for follower in followers {
        let rest = follower.rest();
        assert_eq!(all_text(&rest, "stdout"), "told one\ntold two\n");
        assert_eq!(rest.last().expect("an exit").json().1["code"], 7);
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    until("they are forgotten", 10, || server.server_process().is_some_and(|p| p.descriptors() < 200));
    assert_eq!(server.sh(&id, "echo well"), "well");
}

/// What a follower is told adds up: from its first byte to the last, each is shown or said to be dropped.
struct Sum {
    cursor: u64,
    dropped: u64,
}

impl Sum {
    /// True at the exit.
    #[track_caller]
    fn add(&mut self, event: &Event) -> bool {
        let (kind, value) = event.json();
        let now: u64 = event.id.split('-').next().and_then(|n| n.parse().ok()).expect("an id");
        let bytes = match kind.as_str() {
            "dropped" => value["bytes"].as_u64().expect("bytes"),
            "stdout" | "stderr" => value["data"].as_str().expect("data").len() as u64,
            "exit" => 0,
            other => panic!("{other}: {event:?}"),
        };
        assert_eq!(now - self.cursor, bytes, "{event:?}");
        self.cursor = now;
        self.dropped += if kind == "dropped" { bytes } else { 0 };
        if kind == "exit" {
            assert_eq!(value["code"], 0);
        }
        kind == "exit"
    }
}

/// Followers that never read hold up neither the process nor one that reads, and are told what they have missed.
#[test]
fn followers_that_never_read_hold_nobody_up() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let script = format!("read -r go; seq -f %099.0f {LINES}; echo done >&2");
    let pid = server.launch(&id, json!({"command": "sh", "args": ["-c", script]}));
    let mut reader = server.follow(&id, pid);
    let mut stuck: Vec<Events> = (0..STUCK).map(|_| server.follow(&id, pid)).collect();
    for events in stuck.iter_mut().chain([&mut reader]) {
        events.expect("start");
    }
    let both = both(&server);
    let before = rss_kib(&both);
    server.post(&format!("{}/stdin", server.process_path(&id, pid)), &json!({"data": "go\n"})).expect(200);
    let (mut read, mut highest, mut looks) = (Sum { cursor: 0, dropped: 0 }, 0, 0);
    let started = Instant::now();
    while !read.add(&reader.next().expect("an exit comes")) {
        looks += 1;
        if looks % LOOK_EVENTS == 0 {
            highest = highest.max(rss_kib(&both));
        }
    }
    assert_eq!(read.cursor, PRINTED);
    // As long as the windows of the others are open, one of them may set the pace.
    assert!(read.dropped < STUCK * AHEAD_BYTES_MAX, "{} bytes were dropped for one that reads", read.dropped);
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    // A ring of a mebibyte, and for each that is stuck a window, a few events and a page.
    let grown = highest.saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
    let mut late = Sum { cursor: 0, dropped: 0 };
    let rest = stuck.pop().expect("one").rest();
    let ends = rest.iter().filter(|event| late.add(event)).count();
    assert_eq!((ends, late.cursor), (1, PRINTED));
    assert!(late.dropped > PRINTED / 2, "{} bytes were dropped for one that did not read", late.dropped);
    drop(stuck);
    let shown: Value = server.get(&server.process_path(&id, pid)).expect(200).json();
    assert_eq!((&shown["cursor"], &shown["truncated"]), (&json!(PRINTED), &json!(true)));
    assert!(both.iter().all(Process::is_alive));
}

/// To wait for readers costs next to nothing, however many they are.
#[test]
fn followers_that_never_read_cost_no_time() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let pid = server.launch(&id, json!({"command": "sh", "args": ["-c", "yes 9701"]}));
    let mut stuck: Vec<Events> = (0..IDLE).map(|_| server.follow(&id, pid)).collect();
    for events in &mut stuck {
        events.expect("start");
    }
    let process = server.server_process().expect("the server process");
    let rests = || {
        let (ticks, started) = (cpu_ticks(&process), Instant::now());
        until("two seconds have passed", 5, || started.elapsed() >= Duration::from_secs(2));
        let used = cpu_ticks(&process) - ticks;
        used < 20
    };
    // First there is much to send, until the windows of all are full.
    until("the server rests", 60, rests);
    drop(stuck);
    assert_eq!(server.kill(&id, pid, json!("KILL")).status, 200);
}

/// Of server and agent.
fn rss_kib(both: &[Process; 2]) -> u64 {
    both.iter().filter_map(|process| process.status("VmRSS")).sum()
}

fn both(server: &Server) -> [Process; 2] {
    [server.server_process().expect("the server process"), server.agent()]
}
