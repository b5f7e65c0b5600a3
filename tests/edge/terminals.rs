//! Terminals through the whole server, from the WebSocket to an agent that plays a part, on both drivers.

use crate::agent::machine;
use crate::kit::{Answer, Client, Driver, Server, get, post};
use crate::websocket::{closed, frame, heard, upgrade};
use serde_json::{Value, json};
use std::io::Write;
use std::time::{Duration, Instant};
use workspace_server::http::{Deadlines, Settings};
use workspace_server::operations::OPERATIONS;

struct World {
    server: Server,
    pty: String,
}

impl World {
    fn new(driver: Driver, deadlines: Deadlines) -> World {
        let server = Server::on(machine, driver, Settings { deadlines, ..Settings::default() }, OPERATIONS);
        let created = server.ask(post("/api/v1/sandboxes", "{}")).0;
        assert_eq!(created.status, 201, "{:?}", String::from_utf8_lossy(&created.body));
        let pty = format!("/api/v1/sandboxes/{}/pty", created.json()["id"].as_str().unwrap());
        World { server, pty }
    }

    fn both() -> [World; 2] {
        [Driver::Uring, Driver::Legacy].map(|driver| World::new(driver, Deadlines::default()))
    }

    fn open(&self, body: Value) -> Answer {
        self.server.ask(post(&self.pty, &body.to_string())).0
    }

    /// Opens a terminal with a script; gives the path to it.
    fn script(&self, name: &str) -> String {
        let opened = self.open(json!({"command": name}));
        assert_eq!(opened.status, 200, "{:?}", String::from_utf8_lossy(&opened.body));
        format!("{}/{}", self.pty, opened.json()["id"].as_str().unwrap())
    }

    fn connect(&self, path: &str, fields: &str) -> Client {
        let mut client = self.server.client();
        client.send(upgrade(path, fields));
        let answer = client.answer();
        assert_eq!(answer.status, 101, "{:?}", String::from_utf8_lossy(&answer.body));
        client
    }

    fn delete(&self, path: &str) -> Answer {
        self.server.ask(get(path).replace("GET", "DELETE")).0
    }
}

const V1: &str = "Sec-WebSocket-Protocol: workspace.pty.v1\r\n";

/// Binary messages until `text` has come.
fn see(client: &mut Client, text: &str) {
    let mut seen = String::new();
    while !seen.ends_with(text) {
        let (first, payload) = heard(client).unwrap_or_else(|| panic!("ended behind {seen:?}"));
        assert_eq!(first, 0x82, "output is binary: {payload:?}");
        seen += std::str::from_utf8(&payload).unwrap();
    }
    assert_eq!(seen, text);
}

#[test]
fn a_terminal_is_opened_listed_resized_and_closed() {
    for world in World::both() {
        let opened = world.open(json!({"cols": 132, "env": {"TERM": "dumb"}})).json();
        assert_eq!((&opened["id"], &opened["cols"], &opened["rows"]), (&json!("1"), &json!(132), &json!(24)));
        assert_eq!((&opened["pid"], &opened["command"]), (&json!(41), &json!("/bin/sh dumb truecolor")));
        assert!(world.pty.contains(opened["sandbox_id"].as_str().unwrap()), "{opened}");
        let path = format!("{}/1", world.pty);
        let sized = world.server.ask(post(&format!("{path}/resize"), r#"{"cols":1,"rows":4096}"#)).0;
        assert_eq!((sized.status, sized.json()), (200, json!({"success": true})));
        let listed = world.server.ask(get(&world.pty)).0.json();
        assert_eq!((&listed["ptys"][0]["cols"], &listed["ptys"][0]["rows"]), (&json!(1), &json!(4096)));
        assert_eq!(world.delete(&path).json(), json!({"success": true}));
        assert_eq!(world.server.ask(get(&world.pty)).0.json(), json!({"ptys": []}));
        for answer in [
            world.delete(&path),
            world.server.ask(upgrade(&path, "")).0,
            world.server.ask(post(&format!("{path}/resize"), r#"{"cols":1,"rows":1}"#)).0,
        ] {
            assert_eq!((answer.status, answer.code()), (410, 4103), "it has been there");
        }
        for id in ["2", "0", "01", "x", "%31", "18446744073709551616"] {
            let answer = world.server.ask(upgrade(&format!("{}/{id}", world.pty), "")).0;
            assert_eq!((answer.status, answer.code()), (404, 4101), "{id}");
        }
    }
}

/// T07 for terminals, and what an agent refuses.
#[test]
fn what_cannot_be_opened_is_said() {
    let world = World::new(Driver::Uring, Deadlines::default());
    for (field, value) in
        [("cols", "0"), ("cols", "4097"), ("rows", "65536"), ("rows", "-1"), ("cols", "1.5"), ("rows", "\"24\"")]
    {
        let body = format!("{{\"{field}\":{value}}}");
        let opened = world.server.ask(post(&world.pty, &body)).0;
        assert_eq!((opened.status, opened.json()["details"].as_str()), (400, Some(field)), "{body}");
        let other = if field == "cols" { "rows" } else { "cols" };
        let whole = format!("{{\"{other}\":80,\"{field}\":{value}}}");
        let sized = world.server.ask(post(&format!("{}/1/resize", world.pty), &whole)).0;
        assert_eq!((sized.status, sized.json()["details"].as_str()), (400, Some(field)), "{whole}");
    }
    for (body, status, code) in [
        (json!({"command": "missing"}), 400, 1002),
        (json!({"command": "text file"}), 400, 1002),
        (json!({"command": "one too many"}), 429, 4102),
        (json!({"command": ""}), 400, 1002),
        (json!({"shell": "a\0b"}), 400, 1002),
        (json!({"args": ["a\0"]}), 400, 1002),
        (json!({"user": "nobody"}), 400, 1002),
    ] {
        let answer = world.open(body.clone());
        assert_eq!((answer.status, answer.code()), (status, code), "{body}");
    }
}

#[test]
fn what_is_typed_comes_back_and_the_end_is_told() {
    for world in World::both() {
        let path = world.script("echo");
        let mut client = world.connect(&path, "");
        see(&mut client, "kept ");
        client.send(frame(0x82, b"raw "));
        client.send(frame(0x81, b"text "));
        client.send(frame(0x81, br#"{"type":"input","data":"input "}"#));
        client.send(frame(0x81, br#"{"type":"resize","cols":0,"rows":9}"#));
        client.send(frame(0x81, br#"{"type":"resize","cols":7,"rows":9}"#));
        client.send(frame(0x81, br#"{"type":"unknown"}"#));
        see(&mut client, r#"raw text input 7x9{"type":"unknown"}"#);
        client.send(frame(0x81, br#"{"type":"ping"}"#));
        assert_eq!(heard(&mut client), Some((0x81, br#"{"type":"pong"}"#.to_vec())));
        client.send(frame(0x82, b"exit"));
        assert_eq!(closed(&mut client), (1000, "the program ended with code 7".to_owned()));
    }
}

#[test]
fn with_the_subprotocol_the_exit_is_a_message() {
    for world in World::both() {
        let path = world.script("echo");
        let mut client = world.connect(&path, V1);
        see(&mut client, "kept ");
        client.send(frame(0x81, br#"{"type":"input","data":"exit"}"#));
        assert_eq!(heard(&mut client), Some((0x81, br#"{"type":"exit","code":7}"#.to_vec())));
        assert_eq!(closed(&mut client).0, 1000);
        for wrong in ["ls", "{}", r#"{"type":"resize","cols":80}"#, r#"{"type":"input"}"#] {
            let mut client = world.connect(&path, V1);
            client.send(frame(0x81, wrong.as_bytes()));
            see(&mut client, "kept ");
            assert_eq!(closed(&mut client).0, 1007, "{wrong}");
        }
    }
}

#[test]
fn large_input_comes_back_whole() {
    for world in World::both() {
        let path = world.script("echo");
        let mut client = world.connect(&path, "");
        see(&mut client, "kept ");
        let bytes: Vec<u8> = (0..1 << 20).map(|i| (i % 253) as u8).collect();
        let mut writer = client.stream.try_clone().unwrap();
        let sent = frame(0x82, &bytes);
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let mut seen = Vec::new();
        while seen.len() < bytes.len() {
            seen.extend(heard(&mut client).unwrap().1);
        }
        assert!(seen == bytes);
        writing.join().unwrap();
        client.send(frame(0x82, &[0; (1 << 20) + 1]));
        assert_eq!(closed(&mut client).0, 1009);
    }
}

/// What an agent says is hostile: the viewer is told at once that the sandbox failed, and nobody else is harmed.
#[test]
fn an_agent_that_breaks_the_protocol_is_not_believed() {
    for world in World::both() {
        for script in ["output first", "another", "no size"] {
            let answer = world.server.ask(upgrade(&world.script(script), "")).0;
            assert_eq!((answer.status, answer.code()), (500, 5003), "{script}");
        }
        let answer = world.server.ask(upgrade(&world.script("crowded"), "")).0;
        assert_eq!((answer.status, answer.code()), (429, 1006));
        for script in ["large", "empty", "no exit", "no reason"] {
            let mut client = world.connect(&world.script(script), "");
            assert_eq!(closed(&mut client).0, 1011, "{script}");
        }
        let mut client = world.connect(&world.script("after the exit"), "");
        assert_eq!(closed(&mut client).0, 1000, "what comes behind the exit is not looked at");
        let answer = world.server.ask(upgrade(&world.script("silent"), "")).0;
        assert_eq!((answer.status, answer.code()), (504, 5002));
    }
}

#[test]
fn who_is_sent_away_learns_why() {
    for world in World::both() {
        let mut slow = world.connect(&world.script("too slow"), "");
        see(&mut slow, "some");
        assert_eq!(closed(&mut slow).0, 1013);
        let mut cut = world.connect(&world.script("echo"), "");
        see(&mut cut, "kept ");
        cut.send(frame(0x82, b"cut"));
        assert_eq!(closed(&mut cut).0, 1011, "the sandbox lives, its link was lost");
        let mut last = world.connect(&world.script("echo"), "");
        see(&mut last, "kept ");
        let (sandbox, _) = world.pty.rsplit_once('/').unwrap();
        let began = Instant::now();
        let deleted = world.delete(&format!("{sandbox}?force=true"));
        assert_eq!(deleted.status, 200);
        assert_eq!(closed(&mut last), (1001, "the sandbox has ended".to_owned()));
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}

/// Four viewers that never read, and the others see and type as if they were alone.
#[test]
fn a_viewer_that_does_not_read_slows_nobody() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let world = World::new(driver, Deadlines { write: Duration::from_millis(700), ..Deadlines::default() });
        let flood = world.script("flood");
        let mut stuck: Vec<Client> = (0..20).map(|_| world.connect(&flood, "")).collect();
        let mut lively = world.connect(&world.script("echo"), "");
        see(&mut lively, "kept ");
        for _ in 0..20 {
            let began = Instant::now();
            lively.send(frame(0x82, b"a key"));
            see(&mut lively, "a key");
            assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        }
        // Who takes nothing within the write deadline is dropped; what was sent before is all that comes.
        std::thread::sleep(Duration::from_millis(1500));
        for client in &mut stuck {
            let mut bytes = 0;
            while client.more().is_some() {
                bytes += std::mem::take(&mut client.buffer).len();
                assert!(bytes < 32 << 20, "the flood goes on");
            }
        }
    }
}

/// A program that reads nothing holds its viewer's input back, and the viewer may still leave.
#[test]
fn a_program_that_does_not_read_holds_its_viewer_back() {
    for world in World::both() {
        let mut client = world.connect(&world.script("deaf"), "");
        client.stream.set_nonblocking(true).unwrap();
        let piece = frame(0x82, &[b'x'; 60_000]);
        let (mut sent, mut still) = (0, Instant::now());
        while still.elapsed() < Duration::from_millis(400) {
            match client.stream.write(&piece) {
                Ok(bytes) => (sent, still) = (sent + bytes, Instant::now()),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
            assert!(sent < 64 << 20, "the server reads on");
        }
        drop(client);
        let mut server = world.server;
        let began = Instant::now();
        assert_eq!(server.join().cut, 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}
