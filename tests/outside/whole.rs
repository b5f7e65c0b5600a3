//! Is every byte that a command prints seen by its reader? Hundreds of megabytes, by one connection and by fifty, with
//! memory that stays where it was.

use crate::kit::{Event, Message, Process, Server, WebSocket, turn, until};
use crate::pty::open;
use serde_json::{Value, json};

const LINES: u64 = 20_000_000;
const RECONNECTS: u64 = 50;
/// Of the server and of the sandbox's agent.
const RSS_GROWN_KIB_MAX: u64 = 8 << 10;

/// What `seq 1 LINES` prints, compared as it comes.
struct Expected {
    line: u64,
    rest: Vec<u8>,
    bytes: u64,
}

impl Expected {
    fn new() -> Expected {
        Expected { line: 0, rest: Vec::new(), bytes: 0 }
    }

    #[track_caller]
    fn take(&mut self, printed: &[u8]) {
        while self.rest.len() < printed.len() && self.line < LINES {
            for _ in 0..4096 {
                if self.line < LINES {
                    self.line += 1;
                    self.rest.extend_from_slice(format!("{}\n", self.line).as_bytes());
                }
            }
        }
        assert!(self.rest.starts_with(printed), "other bytes from byte {} on", self.bytes);
        self.rest.drain(..printed.len());
        self.bytes += printed.len() as u64;
    }

    #[track_caller]
    fn is_whole(&self) {
        assert!(self.line == LINES && self.rest.is_empty(), "{} bytes and no more", self.bytes);
    }
}

struct Memory(Vec<(Process, u64)>);

impl Memory {
    /// Of the server and all agents, now.
    fn of(server: &Server) -> Memory {
        let agents = server.own_processes().into_iter().filter(Process::is_init);
        let all = server.server_process().into_iter().chain(agents);
        Memory(all.map(|process| (process.clone(), process.status("VmRSS").unwrap_or(0))).collect())
    }

    #[track_caller]
    fn has_not_grown(&self) {
        assert!(self.0.len() >= 2, "a server and an agent");
        // What was sent last is kept for some seconds, for a reader that comes back.
        until("memory comes back", 60, || {
            self.0.iter().all(|(process, before)| process.status("VmRSS").unwrap_or(0) <= before + RSS_GROWN_KIB_MAX)
        });
    }
}

/// The bytes of an event of output, or the exit code.
enum Told {
    Bytes(Vec<u8>),
    Exit(Value),
    Other,
}

#[track_caller]
fn told(event: &Event) -> Told {
    let (kind, mut value) = event.json();
    match kind.as_str() {
        "stdout" => match value["data"].take() {
            Value::String(text) => Told::Bytes(text.into_bytes()),
            other => panic!("{other}"),
        },
        "exit" => Told::Exit(value),
        "start" => Told::Other,
        other => panic!("{other}: {value}"),
    }
}

#[test]
fn one_stream_carries_all_of_it() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    // Both sides have been used once.
    server.sh(&id, "true");
    let memory = Memory::of(&server);
    let body = json!({"command": "seq", "args": ["1", LINES.to_string()]});
    let mut events = server.events("POST", &format!("/api/v1/sandboxes/{id}/process/run/stream"), &body);
    let mut expected = Expected::new();
    while let Some(event) = events.next() {
        match told(&event) {
            Told::Bytes(bytes) => expected.take(&bytes),
            Told::Exit(exit) => assert_eq!((&exit["code"], &exit["truncated"]), (&json!(0), &json!(false)), "{exit}"),
            Told::Other => {}
        }
    }
    expected.is_whole();
    memory.has_not_grown();
}

/// A reader that is cut off again and again, also in the middle of an event, and comes back with the last id it has.
#[test]
fn a_started_command_is_read_whole_over_fifty_connections() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    let memory = Memory::of(&server);
    let started = server.post(
        &format!("/api/v1/sandboxes/{id}/process/start"),
        &json!({"command": "seq", "args": ["1", LINES.to_string()]}),
    );
    let path = format!("/api/v1/sandboxes/{id}/process/{}/stream", started.expect(200).json()["pid"]);
    let mut expected = Expected::new();
    let mut last_id = None;
    let mut exit = None;
    let mut connections = 0;
    while exit.is_none() {
        connections += 1;
        let resumed: Vec<(&str, &str)> = last_id.iter().map(|id: &String| ("last-event-id", id.as_str())).collect();
        let mut events = server.try_events("GET", &path, &resumed, b"").expect("a stream");
        // Some after a few events, some after hundreds; the last one stays.
        let limit = if connections > RECONNECTS { u64::MAX } else { 1 + connections * 7919 % 397 };
        let mut count = 0;
        while count < limit
            && let Some(event) = events.next()
        {
            count += 1;
            match told(&event) {
                Told::Bytes(bytes) => expected.take(&bytes),
                Told::Exit(value) => exit = Some(value),
                Told::Other => {}
            }
            last_id = Some(event.id);
        }
    }
    expected.is_whole();
    assert_eq!(connections, RECONNECTS + 1);
    assert_eq!(exit.map(|exit| exit["code"].clone()), Some(json!(0)));
    let last_id = last_id.expect("an id");
    let again = server.try_events("GET", &path, &[("last-event-id", &last_id)], b"").expect_err("no stream");
    assert_eq!(again.status, 204, "nothing is left behind {last_id}");
    memory.has_not_grown();
}

/// Its terminal writes a carriage return in front of every line end.
#[test]
fn a_terminal_shows_all_of_it() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    // Without a viewer a terminal waits for nobody, so the first line waits for us, who have seen that it is ready.
    let script = format!("stty -echo; echo ready; read go; exec seq 1 {LINES}");
    let path = open(&server, &id, json!({"command": "sh", "args": ["-c", script]}));
    let mut viewer = WebSocket::connect(&server, &path, &[]);
    let memory = Memory::of(&server);
    let mut expected = Expected::new();
    let mut begun = false;
    let mut ready = Vec::new();
    loop {
        match viewer.next().expect("a message") {
            Message::Binary(bytes) if begun => {
                ready.extend(bytes.into_iter().filter(|byte| *byte != b'\r'));
                expected.take(&ready);
                ready.clear();
            }
            Message::Close(code, why) => {
                assert_eq!(code, 1000, "{why}");
                break;
            }
            _ => {}
        }
        if !begun {
            begun = true;
            viewer.send("\n");
        }
    }
    expected.is_whole();
    memory.has_not_grown();
}
