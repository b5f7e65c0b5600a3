//! Where does a stream of events end? Nothing that stands behind its request is answered, nothing that a command prints
//! ends a chunk, and a request that is not whole starts nothing. Attacks T01 to T03 on streams and started commands.

use crate::kit::{Client, Events, Server, encode, turn, until, with_query};
use crate::openapi::{description, operations, with_names};
use serde_json::{Value, json};

const CREATE: &str = "/api/v1/sandboxes";

fn stream_path(id: &str) -> String {
    format!("{CREATE}/{id}/process/run/stream")
}

fn rss_kib(server: &Server) -> u64 {
    server.server_process().and_then(|p| p.status("VmRSS")).expect("VmRSS")
}

/// A request that would create a sandbox, if anybody answered it.
fn smuggled(server: &Server) -> Vec<u8> {
    encode(&server.address().to_string(), "POST", CREATE, &[], br#"{"name":"smuggled"}"#)
}

#[test]
fn what_follows_a_stream_is_never_answered() {
    let server = Server::start();
    let id = server.create(json!({}));
    let before = server.list();
    let host = server.address().to_string();
    let printed = "0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let body = json!({"command": "printf", "args": ["%s", printed]}).to_string();
    let args = json!(["%s", printed]).to_string();
    let target = with_query(&stream_path(&id), &[("command", "printf"), ("args", &args)]);
    let chunked = format!(
        "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{:x};a=b\r\n{body}\r\n0\r\nX: y\r\n\r\n",
        stream_path(&id),
        body.len()
    );
    let requests = [
        ("POST", encode(&host, "POST", &stream_path(&id), &[], body.as_bytes())),
        (
            "POST that keeps alive",
            encode(&host, "POST", &stream_path(&id), &[("Connection", "keep-alive")], body.as_bytes()),
        ),
        ("chunked POST", chunked.into_bytes()),
        ("GET", encode(&host, "GET", &target, &[], b"")),
        ("GET with a body", encode(&host, "GET", &target, &[], b"{\"command\":\"false\"}")),
        (
            "GET that would upgrade",
            encode(&host, "GET", &target, &[("Connection", "Upgrade"), ("Upgrade", "h2c")], b""),
        ),
    ];
    for (name, request) in &requests {
        // At once, and only when the stream has begun.
        for at_once in [true, false] {
            let mut client = server.client();
            let behind = if at_once { smuggled(&server) } else { Vec::new() };
            client.send(&[request.as_slice(), &behind].concat()).expect("send");
            let mut events =
                Events::of(client).unwrap_or_else(|answer| panic!("{name}: {} {}", answer.status, answer.text()));
            events.expect("start");
            if !at_once {
                // It may have ended by now, and the connection with it.
                let _ = events.client.send(&smuggled(&server));
            }
            let rest: Vec<(String, Value)> = events.rest().iter().map(|event| event.json()).collect();
            let text: String = rest.iter().filter_map(|(_, value)| value["data"].as_str()).collect();
            assert_eq!((text.as_str(), &rest.last().expect("an exit").1["code"]), (printed, &json!(0)), "{name}");
        }
    }
    assert_eq!(server.list(), before, "nothing behind a stream was done");
    // The control: behind an answer that is none, the same bytes are a request.
    let mut client = server.client();
    let whole = encode(&host, "POST", &format!("{CREATE}/{id}/process/run"), &[], body.as_bytes());
    client.send(&[whole, smuggled(&server)].concat()).expect("send");
    assert_eq!(client.response("POST").expect("answer").expect(200).json()["stdout"], printed);
    assert_eq!(client.response("POST").expect("answer").expect(201).json()["name"], "smuggled");
}

/// What a client sends while it reads is not kept without end, and its leaving is noticed all the same.
#[test]
fn requests_behind_a_stream_cost_bounded_memory() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "while :; do echo tick; sleep 0.05; done; : 9101";
    let mut events = server.events("POST", &stream_path(&id), &json!({"command": "sh", "args": ["-c", script]}));
    events.expect("start");
    let before = rss_kib(&server);
    let batch = smuggled(&server).repeat(500);
    let mut sender = events.client.sender();
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(move || {
            use std::io::Write;
            sender.set_write_timeout(Some(std::time::Duration::from_secs(1))).expect("timeout");
            (0..200).take_while(|_| sender.write_all(&batch).is_ok()).count()
        });
        for _ in 0..10 {
            assert_eq!(events.expect("stdout")["data"], "tick\n");
        }
        flood.join().expect("join")
    });
    assert!(sent < 200, "the server stops reading ahead");
    let after = rss_kib(&server);
    assert!(after < before + 4 * 1024, "{before} KiB before, {after} after");
    drop(events);
    until("the command ends with its reader", 10, || server.count_of("9101") == 0);
    assert_eq!(server.list().len(), 1);
}

#[test]
fn a_request_that_is_not_whole_starts_nothing() {
    let server = Server::start();
    let id = server.create(json!({}));
    let host = server.address().to_string();
    let document = description(&server);
    let body = json!({"command": "touch", "args": ["/workspace/ran"], "data": "x"}).to_string();
    for operation in operations(&document).iter().filter(|o| o.method == "POST" && o.path != CREATE) {
        let path = with_names(&operation.path, &id, "999999");
        let head = |more: &str| {
            format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{more}\r\n")
        };
        let ask = |bytes: &str| {
            let mut client = server.client();
            client.send(bytes.as_bytes()).expect("send");
            client.end().expect("end");
            client.response("POST").map(|answer| answer.status).ok()
        };
        let cuts = [
            format!("{}{body}", head(&format!("Content-Length: {}\r\n", body.len() + 1))),
            format!("{}{:x}\r\n{body}\r\n", head("Transfer-Encoding: chunked\r\n"), body.len()),
            format!("{}{:x}\r\n{body}\r\n0\r\n", head("Transfer-Encoding: chunked\r\n"), body.len()),
            format!("{}{:x}\r\n{body}", head("Transfer-Encoding: chunked\r\n"), body.len() + 1),
        ];
        for cut in &cuts {
            assert!(matches!(ask(cut), None | Some(400)), "{path}: {cut}");
        }
        for length in ["10737418240", "18446744073709551615"] {
            let declared = ask(&head(&format!("Content-Length: {length}\r\n")));
            assert!(matches!(declared, Some(413 | 400)), "{path}: {length}: {declared:?}");
        }
        for more in ["Content-Encoding: gzip\r\n", "Content-Encoding: br\r\n", "Content-Type: text/plain\r\n"] {
            let coded = ask(&format!("{}{body}", head(&format!("Content-Length: {}\r\n{more}", body.len()))));
            assert_eq!(coded, Some(415), "{path}: {more}");
        }
    }
    let ran = server.run(&id, json!({"command": "test", "args": ["-e", "/workspace/ran"]}));
    assert_eq!(ran["exit_code"], 1, "what was cut started nothing");
}

/// Megabytes to a route with a body: it stops reading at the bound of that route.
#[test]
fn bodies_end_at_their_bound_on_every_route() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let document = description(&server);
    let before = rss_kib(&server);
    for operation in operations(&document).iter().filter(|o| o.method == "POST") {
        let path = with_names(&operation.path, &id, "999999");
        let mut endless: Client = server.client();
        let head = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        endless.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n").as_bytes()).expect("send");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
        let sent = (0..1000).take_while(|_| endless.send(chunk.as_bytes()).is_ok()).count();
        assert!(sent < 500, "{path}: it stops reading long before 64 MiB");
    }
    let after = rss_kib(&server);
    assert!(after < before + 16 * 1024, "{before} KiB before, {after} after");
    assert_eq!(server.list().len(), 1);
}
