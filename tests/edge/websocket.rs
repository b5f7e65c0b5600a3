//! Attacks T15 and T16 before and around the frames: who gets a WebSocket, how it lives, and how it ends.

use crate::echo::{SOCKETS, UNDER_WAY};
use crate::kit::{Client, Driver, Server, eventually};
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use workspace_server::http::{ApiKeys, Deadlines, Settings};

pub const MASK: [u8; 4] = [0xa1, 0x02, 0x73, 0x44];

/// The head of an upgrade, with more fields.
pub fn upgrade(target: &str, fields: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        0..126 => bytes.push(0x80 | payload.len() as u8),
        126..65536 => bytes.extend([&[0xfe], &(payload.len() as u16).to_be_bytes()[..]].concat()),
        _ => bytes.extend([&[0xff], &(payload.len() as u64).to_be_bytes()[..]].concat()),
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]));
    bytes
}

/// The next frame of the server: its first byte and its payload; `None` where the connection ends.
pub fn heard(client: &mut Client) -> Option<(u8, Vec<u8>)> {
    let mut want = 2;
    loop {
        while client.buffer.len() < want {
            client.more()?;
        }
        assert_eq!(client.buffer[1] & 0x80, 0, "a server does not mask");
        let (head, length) = match client.buffer[1] {
            126 if client.buffer.len() >= 4 => {
                (4, usize::from(u16::from_be_bytes(client.buffer[2..4].try_into().unwrap())))
            }
            127 if client.buffer.len() >= 10 => {
                (10, u64::from_be_bytes(client.buffer[2..10].try_into().unwrap()) as usize)
            }
            126 => (4, 0),
            127 => (10, 0),
            length => (2, usize::from(length)),
        };
        want = head + length;
        if client.buffer.len() >= want && client.buffer.len() >= head {
            let payload = client.buffer[head..want].to_vec();
            let first = client.buffer[0];
            client.buffer.drain(..want);
            return Some((first, payload));
        }
    }
}

/// The close that must come next, and the end behind it.
pub fn closed(client: &mut Client) -> (u16, String) {
    let (first, payload) = heard(client).expect("a close before the end");
    assert_eq!(first, 0x88, "{payload:?}");
    assert_eq!(heard(client), None, "nothing follows a close");
    let code = payload.get(..2).map_or(0, |c| u16::from_be_bytes([c[0], c[1]]));
    (code, String::from_utf8(payload.get(2..).unwrap_or_default().to_vec()).unwrap())
}

pub fn start(driver: Driver, deadlines: Deadlines) -> Server {
    Server::with(driver, Settings { deadlines, ..Settings::default() }, SOCKETS)
}

/// A client after its 101.
pub fn connected(server: &Server, target: &str) -> Client {
    let mut client = server.client();
    client.send(upgrade(target, ""));
    assert_eq!(client.answer().status, 101);
    client
}

#[test]
fn a_frame_behind_the_head_belongs_to_the_conversation() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = start(driver, Deadlines::default());
        let mut client = server.client();
        let fields = "Sec-WebSocket-Protocol: x, echo.v1\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
        client.send([upgrade("/echo", fields).into_bytes(), frame(0x81, b"early"), frame(0x82, b"\xff")].concat());
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("upgrade")), (101, Some("websocket")));
        assert_eq!(answer.field("connection"), Some("upgrade"));
        assert_eq!(answer.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(answer.field("sec-websocket-protocol"), Some("echo.v1"));
        for absent in ["sec-websocket-extensions", "content-length", "content-type", "transfer-encoding"] {
            assert_eq!(answer.field(absent), None);
        }
        assert_eq!(heard(&mut client), Some((0x81, b"early".to_vec())));
        assert_eq!(heard(&mut client), Some((0x82, b"\xff".to_vec())));
        client.send(frame(0x88, b"\x03\xe8bye"));
        assert_eq!(closed(&mut client), (1000, "bye".to_owned()));
    }
}

#[test]
fn a_head_that_asks_wrongly_gets_an_ordinary_answer() {
    let server = start(Driver::Uring, Deadlines::default());
    let right = upgrade("/echo", "");
    for (request, status) in [
        (right.replace("Upgrade: websocket\r\n", ""), 426),
        (right.replace("Connection: Upgrade\r\n", ""), 426),
        (right.replace("Version: 13", "Version: 8"), 426),
        (right.replace("Sec-WebSocket-Version: 13\r\n", ""), 426),
        (right.replace("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), 400),
        (right.replace("Sec-WebSocket-Key", "X"), 400),
        (right.replace("GET", "POST").replace("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n"), 405),
        (right.replace("GET", "HEAD"), 405),
        (right.replace("/echo", "/echo?slot=x"), 400),
        (right.replace("/echo", "/echo?refuse=true"), 404),
        (right.replace("/echo", "/nowhere"), 404),
        (right.replace("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc"), 400),
    ] {
        let mut client = server.client();
        client.send(&request);
        let method = request.split(' ').next().unwrap();
        let answer = client.answer_to(method).unwrap();
        assert_eq!(answer.status, status, "{request}");
        if method != "HEAD" {
            assert!([1001, 1002, 4101].contains(&answer.code()), "{request}");
        }
        if status == 426 {
            assert_eq!(answer.field("sec-websocket-version"), Some("13"));
            assert_eq!((answer.field("upgrade"), answer.field("connection")), (Some("websocket"), Some("upgrade")));
        }
        client.send(upgrade("/echo", ""));
        assert_eq!(client.answer().status, 101, "a refused upgrade does not cost the connection: {request}");
    }
    // Frames that come before the 101 of an upgrade that is refused are no request.
    let mut client = server.client();
    client.send([right.replace("Version: 13", "Version: 7").into_bytes(), frame(0x81, b"hello")].concat());
    assert_eq!(client.answer().status, 426);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    while client.more().is_some() {}
    assert!(!String::from_utf8_lossy(&client.buffer).contains("HTTP/1.1 2"), "they are never answered well");
}

/// T16 and M02: a page of another site gets nothing, whatever it knows.
#[test]
fn a_foreign_page_gets_no_socket() {
    let keys = || ApiKeys::new(["secret"]).unwrap();
    for api_keys in [ApiKeys::default(), keys()] {
        let allowed_origins = vec!["https://app.example".to_owned()];
        let settings = Settings { loopback: true, allowed_origins, api_keys, ..Settings::default() };
        let server = Server::with(Driver::Uring, settings, SOCKETS);
        let ask = |fields: &str| server.ask(upgrade("/echo?api_key=secret", fields)).0;
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost:81",
            "http://localhost.evil",
            "http://app.example",
            "https://app.example.evil",
        ] {
            let answer = ask(&format!("Origin: {origin}\r\n"));
            assert_eq!((answer.status, answer.code()), (403, 1007), "{origin}");
        }
        assert_eq!(ask("Sec-Fetch-Site: cross-site\r\n").status, 403);
        assert_eq!(ask("Origin: https://app.example\r\nOrigin: https://evil.example\r\n").status, 403);
        assert_eq!(ask("Origin: https://app.example\r\nSec-Fetch-Site: cross-site\r\n").status, 101);
        assert_eq!(ask("Origin: http://localhost\r\nSec-Fetch-Site: same-origin\r\n").status, 101, "a page of ours");
        assert_eq!(ask("").status, 101, "a program sends no Origin");
        let foreign_name = upgrade("/echo?api_key=secret", "").replace("Host: localhost", "Host: evil.example");
        assert_eq!(server.ask(foreign_name).0.status, 403);
    }
}

#[test]
fn a_key_in_the_query_opens_sockets_only() {
    let settings = Settings { api_keys: ApiKeys::new(["secret/+=", "other"]).unwrap(), ..Settings::default() };
    let server = Server::with(Driver::Uring, settings, SOCKETS);
    let status = |request: String| server.ask(request).0.status;
    assert_eq!(status(upgrade("/echo?api_key=secret%2F%2B%3D", "")), 101);
    assert_eq!(status(upgrade("/echo", "X-API-Key: other\r\n")), 101);
    assert_eq!(status(upgrade("/echo?api_key=other", "Authorization: Bearer other\r\n")), 101);
    for target in ["/echo", "/echo?api_key=", "/echo?api_key=wrong", "/echo?api_key=other&api_key=other", "/nowhere"] {
        assert_eq!(status(upgrade(target, "")), 401, "{target}");
    }
    assert_eq!(status(upgrade("/echo?api_key=other", "X-API-Key: secret/+=\r\n")), 401, "two keys are none");
    assert_eq!(status(upgrade("/plain?api_key=other", "")), 401, "no socket is there");
    let no_upgrade = upgrade("/echo?api_key=other", "").replace("Upgrade: websocket\r\n", "");
    assert_eq!(status(no_upgrade), 401, "no upgrade, no key in the query");
}

#[test]
fn a_silent_client_is_asked_and_then_dropped() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let deadlines = Deadlines { heartbeat: Duration::from_millis(300), ..Deadlines::default() };
        let server = start(driver, deadlines);
        let (mut lively, mut silent) = (connected(&server, "/echo?slot=1"), connected(&server, "/echo?slot=2"));
        // It answers three pings, which is longer than the silent one may live.
        let lively = std::thread::spawn(move || {
            for _ in 0..3 {
                assert_eq!(heard(&mut lively), Some((0x89, vec![])));
                lively.send(frame(0x8a, b""));
            }
            lively.send(frame(0x81, b"still here"));
            std::iter::from_fn(|| heard(&mut lively)).find(|(first, _)| *first != 0x89)
        });
        let pings = std::iter::from_fn(|| heard(&mut silent)).inspect(|(first, _)| assert_eq!(*first, 0x89)).count();
        assert!((1..=2).contains(&pings), "{pings} pings, then the end without a word");
        eventually("it was dropped", || UNDER_WAY[2].load(Ordering::SeqCst) == 0);
        assert_eq!(lively.join().unwrap(), Some((0x81, b"still here".to_vec())));
    }
}

#[test]
fn who_leaves_is_noticed_also_by_a_conversation_without_room() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = start(driver, Deadlines::default());
        for (slot, target) in [(3, "/echo?slot=3"), (4, "/echo?slot=4&full_after=1")] {
            let mut client = connected(&server, target);
            client.send([frame(0x81, b"one"), frame(0x81, b"two")].concat());
            assert_eq!(heard(&mut client), Some((0x81, b"one".to_vec())));
            assert_eq!(UNDER_WAY[slot].load(Ordering::SeqCst), 1);
            drop(client);
            eventually("dropped with its client", || UNDER_WAY[slot].load(Ordering::SeqCst) == 0);
        }
    }
}

#[test]
fn a_conversation_without_room_holds_its_client_back() {
    let server = start(Driver::Uring, Deadlines::default());
    let mut client = connected(&server, "/echo?slot=5&full_after=1");
    client.stream.set_nonblocking(true).unwrap();
    let piece = frame(0x82, &[0; 60_000]);
    let (mut sent, mut still) = (0, Instant::now());
    while still.elapsed() < Duration::from_millis(300) {
        match client.stream.write(&piece) {
            Ok(bytes) => (sent, still) = (sent + bytes, Instant::now()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
        assert!(sent < 64 << 20, "the server reads on without having room");
    }
}

#[test]
fn the_end_of_the_server_is_told() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let mut server = start(driver, Deadlines::default());
        let mut clients: Vec<Client> = (0..3).map(|_| connected(&server, "/echo?slot=6")).collect();
        clients.push(connected(&server, "/echo?slot=6&full_after=0"));
        let began = Instant::now();
        server.request_stop();
        for client in &mut clients {
            assert_eq!(closed(client), (1001, "the server stops".to_owned()));
        }
        drop(clients);
        assert_eq!(server.join().cut, 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[test]
fn a_conversation_ends_with_its_own_word() {
    let server = start(Driver::Uring, Deadlines::default());
    let mut client = connected(&server, "/echo?slot=7");
    client.send([frame(0x81, b"last"), frame(0x81, b"enough"), frame(0x81, b"more")].concat());
    assert_eq!(heard(&mut client), Some((0x81, b"last".to_vec())));
    assert_eq!(closed(&mut client), (1000, "as you say".to_owned()));
}
