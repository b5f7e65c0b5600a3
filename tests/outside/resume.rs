//! Does a started command outlive the server, and is its output whole for a reader that comes back? At every position
//! of a sample, and under load, whichever way the server ended.

use crate::kit::{Event, Server, turn, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn start(server: &Server, id: &str, script: &str) -> u64 {
    let body = json!({"command": "sh", "args": ["-c", script]});
    let answer = server.post(&format!("/api/v1/sandboxes/{id}/process/start"), &body).expect(200).json();
    answer["pid"].as_u64().expect("a pid")
}

fn stream_path(id: &str, pid: u64) -> String {
    format!("/api/v1/sandboxes/{id}/process/{pid}/stream")
}

/// stdout and stderr of events, and whether the last one says how it ended.
fn shown(events: &[Event]) -> ([String; 2], bool) {
    let mut text = [String::new(), String::new()];
    let mut ended = false;
    for event in events {
        let (kind, value) = event.json();
        let data = value["data"].as_str().unwrap_or_default();
        match kind.as_str() {
            "stdout" => text[0] += data,
            "stderr" => text[1] += data,
            "exit" => ended = true,
            _ => {}
        }
    }
    (text, ended)
}

/// Characters of two to four bytes cut by reads, bytes that are no characters, both streams: from the id of every event
/// the rest is what follows it, in this server and in the next.
#[test]
fn from_every_id_the_rest_follows() {
    let mut server = Server::start();
    let id = server.create(json!({}));
    let script = "for i in 1 2 3 4 5 6; do printf 'a\\342'; sleep 0.02; printf '\\202\\254\\360\\237'; printf 'e\\303' >&2; \
        sleep 0.02; printf '\\230\\200\\377'; printf '\\251' >&2; sleep 0.02; done; printf '\\342\\202'; exit 7";
    let pid = start(&server, &id, script);
    let path = stream_path(&id, pid);
    let all: Vec<Event> = server.events("GET", &path, &Value::Null).rest();
    let (whole, ended) = shown(&all);
    assert_eq!(whole[0], "a€😀\u{fffd}".repeat(6) + "\u{fffd}");
    assert_eq!(whole[1], "eé".repeat(6));
    assert!(ended && all.len() > 10, "{all:?}");
    for round in ["the same server", "the next server"] {
        for at in 0..all.len() - 1 {
            let resumed = [("last-event-id", all[at].id.as_str())];
            let rest = server.try_events("GET", &path, &resumed, b"").expect("a stream").rest();
            let (before, _) = shown(&all[..=at]);
            let (after, ended) = shown(&rest);
            let joined = [before[0].clone() + &after[0], before[1].clone() + &after[1]];
            assert!(joined == whole && ended, "{round}, from {}: {joined:?}", all[at].id);
        }
        // Any byte can be the first where all that is read are bytes.
        let cursor = all[all.len() - 1].id.trim_end_matches("-end").to_owned();
        let printed: u64 = cursor.split('-').next().and_then(|c| c.parse().ok()).expect("a cursor");
        for from in 0..=printed {
            let bytes = format!("{path}?encoding=base64&cursor={from}");
            let rest = server.events("GET", &bytes, &Value::Null).rest();
            let text: usize = rest.iter().map(|e| e.json().1["data"].as_str().map_or(0, base64_bytes)).sum();
            assert_eq!(text as u64, printed - from, "{round}, from {from}");
        }
        server
            .try_events("GET", &format!("{path}?cursor={}", printed + 1), &[], b"")
            .expect_err("beyond")
            .expect_error(400, 1002);
        server.kill9_server();
        server.wait_ready();
    }
}

fn base64_bytes(text: &str) -> usize {
    text.len() / 4 * 3 - text.bytes().filter(|byte| *byte == b'=').count()
}

/// The server goes away twice while commands print and readers read: nothing is lost, nothing is told twice.
fn under_load(end: impl Fn(&mut Server)) {
    let _turn = turn::heavy();
    let mut server = Server::start();
    let ids: Vec<String> = (0..4).map(|_| server.create(json!({}))).collect();
    // 2 MB each, a line at a time, for about five seconds.
    let script = "i=0; while [ $i -lt 400 ]; do i=$((i+1)); seq -f \"$i %06g\" 1 500; sleep 0.01; done; exit 3";
    let commands: Vec<(String, u64)> = ids
        .iter()
        .flat_map(|id| (0..3).map(|_| (id.clone(), start(&server, id, script))).collect::<Vec<_>>())
        .collect();
    let mut read: Vec<(String, Option<String>, bool)> = vec![(String::new(), None, false); commands.len()];
    for round in 0..3 {
        std::thread::scope(|scope| {
            let server = &server;
            for ((id, pid), (text, last_id, ended)) in commands.iter().zip(&mut read) {
                scope.spawn(move || {
                    let resumed: Vec<_> = last_id.iter().map(|id| ("last-event-id", id.clone())).collect();
                    let resumed: Vec<(&str, &str)> = resumed.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    let path = stream_path(id, *pid);
                    let Ok(mut events) = server.try_events("GET", &path, &resumed, b"") else { return };
                    let mut count = 0;
                    while round == 2 || count < 200 {
                        let Ok(Some(event)) = events.try_next() else { return };
                        count += 1;
                        let (kind, value) = event.json();
                        *text += value["data"].as_str().unwrap_or_default();
                        *ended |= kind == "exit" && value["code"] == 3;
                        assert_ne!(kind, "dropped", "{value}");
                        *last_id = Some(event.id);
                    }
                });
            }
        });
        if round < 2 {
            end(&mut server);
        }
    }
    let line = |i: u32, j: u32| format!("{i} {j:06}\n");
    let whole: String = (1..=400).flat_map(|i| (1..=500).map(move |j| line(i, j))).collect();
    for (text, last_id, ended) in &read {
        assert!(*ended, "its end was told; the last id was {last_id:?}");
        assert!(*text == whole, "{} bytes instead of {}", text.len(), whole.len());
    }
}

#[test]
fn output_is_whole_when_the_server_is_killed() {
    under_load(|server| {
        server.kill9_server();
        server.wait_ready();
    });
}

#[test]
fn output_is_whole_when_the_server_is_asked_to_stop() {
    under_load(|server| {
        server.stop();
        server.restart();
    });
}

/// Kills a sandbox's agent under two streams; how long it takes until both have been told and have ended.
fn told_of_a_dead_agent(server: &Server) -> Duration {
    let id = server.create(json!({}));
    let pid = start(server, &id, "echo begun; sleep 7301");
    let mut followed = server.events("GET", &stream_path(&id, pid), &Value::Null);
    let body = json!({"command": "sleep", "args": ["7301"]});
    let mut run = server.events("POST", &format!("/api/v1/sandboxes/{id}/process/run/stream"), &body);
    followed.expect("start");
    followed.expect("stdout");
    run.expect("start");
    let agent = server.own_processes().into_iter().find(|p| p.is_init() && !p.command_line().contains("sleep"));
    let agent = agent.expect("an agent");
    agent.signal(Signal::KILL);
    let begin = Instant::now();
    for events in [&mut followed, &mut run] {
        let error = events.expect("error");
        assert!(error["message"].as_str().is_some_and(|m| !m.is_empty()), "{error}");
        assert!(events.next().is_none(), "nothing follows");
    }
    let took = begin.elapsed();
    let path = format!("/api/v1/sandboxes/{id}");
    until("the sandbox has failed", 10, || server.get(&path).json()["state"] == "error");
    assert!(server.get(&path).json()["error_message"].as_str().is_some_and(|m| !m.is_empty()));
    server.post(&format!("{path}/process/run"), &json!({"command": "true"})).expect_error(503, 5001);
    server.get(&format!("{path}/process")).expect_error(503, 5001);
    took
}

/// Within a second; a busy machine gets three tries, a server that waits for a deadline misses them all.
#[test]
fn a_follower_is_told_at_once_when_the_agent_dies() {
    let server = Server::start();
    let took: Vec<Duration> = (0..3).map(|_| told_of_a_dead_agent(&server)).collect();
    assert!(took.iter().any(|took| *took <= Duration::from_secs(1)), "{took:?}");
}
