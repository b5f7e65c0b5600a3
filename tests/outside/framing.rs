//! Bytes that are not quite HTTP: smuggling, bombs, cut and slow requests. Attacks T01 to T04.
//!
//! After each form the server must be in step: what follows is never answered as part of what came before.

use crate::kit::{Client, Response, Server, turn};
use crate::openapi::{description, operations, with_names};
use serde_json::json;
use std::io::Write;
use std::time::{Duration, Instant};

const LIST: &str = "/api/v1/sandboxes";
/// Answered with 404 when it is taken for a request; no other request in these tests is.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Sends bytes and gives every answer until the server closes.
fn answers(server: &Server, bytes: &[u8]) -> Vec<Response> {
    let mut client = server.client();
    // A server that refuses early may close before it has read all: the answer is still there to be read.
    let _ = client.send(bytes);
    let mut found = Vec::new();
    while let Ok(response) = client.response("GET") {
        found.push(response);
    }
    found
}

fn post(framing: &str, rest: &str) -> String {
    post_to(LIST, framing, rest)
}

fn post_to(path: &str, framing: &str, rest: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{framing}\r\n{rest}{SMUGGLED}"
    )
}

/// What an attacker sends so that two readers see two different requests.
fn doubtful_forms(path: &str) -> Vec<(&'static str, String)> {
    let post = |framing: &str, rest: &str| post_to(path, framing, rest);
    vec![
        ("both lengths", post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("both, other order", post("Transfer-Encoding: chunked\r\nContent-Length: 2\r\n", "0\r\n\r\n")),
        ("two lengths", post("Content-Length: 2\r\nContent-Length: 60\r\n", "{}")),
        ("a list of lengths", post("Content-Length: 2, 60\r\n", "{}")),
        ("signed length", post("Content-Length: +2\r\n", "{}")),
        ("negative length", post("Content-Length: -2\r\n", "{}")),
        ("hexadecimal length", post("Content-Length: 0x2\r\n", "{}")),
        ("a length of 2^64", post("Content-Length: 18446744073709551616\r\n", "{}")),
        ("a length of 2^64 + 2", post("Content-Length: 18446744073709551618\r\n", "{}")),
        ("an empty length", post("Content-Length: \r\n", "{}")),
        ("a length with a space inside", post("Content-Length: 2 0\r\n", "{}")),
        ("identity after chunked", post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")),
        ("xchunked", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")),
        ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n")),
        ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")),
        ("space before the colon", post("Content-Length : 2\r\n", "{}")),
        ("tab before the colon", post("Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n")),
        ("a folded line", post("X: a\r\n b\r\nContent-Length: 2\r\n", "{}")),
        ("a folded length", post("Content-Length:\r\n 2\r\n", "{}")),
        ("bare LF in the head", post("X: a\nContent-Length: 2\r\n", "{}")),
        ("bare CR in the head", post("X: a\rContent-Length: 2\r\n", "{}")),
        ("NUL in a header", post("X: a\0b\r\nContent-Length: 2\r\n", "{}")),
        ("no name", post(": a\r\nContent-Length: 2\r\n", "{}")),
        ("chunk size of 2^64", post("Transfer-Encoding: chunked\r\n", "10000000000000000\r\n{}\r\n0\r\n\r\n")),
        ("chunk size with a sign", post("Transfer-Encoding: chunked\r\n", "+2\r\n{}\r\n0\r\n\r\n")),
        ("chunk size with 0x", post("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n")),
        ("no chunk size", post("Transfer-Encoding: chunked\r\n", "\r\n{}\r\n0\r\n\r\n")),
        ("LF in a chunk extension", post("Transfer-Encoding: chunked\r\n", "2;a\nb\r\n{}\r\n0\r\n\r\n")),
        ("chunk ended by LF", post("Transfer-Encoding: chunked\r\n", "2\n{}\r\n0\r\n\r\n")),
        ("no CRLF after the data", post("Transfer-Encoding: chunked\r\n", "2\r\n{}xx0\r\n\r\n")),
        ("two hosts", format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n{SMUGGLED}")),
        ("no host", format!("GET {path} HTTP/1.1\r\n\r\n{SMUGGLED}")),
        (
            "chunked in 1.0",
            format!("POST {path} HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        ),
        ("bare LF everywhere", format!("GET {path} HTTP/1.1\nHost: localhost\n\n{SMUGGLED}")),
        ("a space in the path", format!("GET {path} x HTTP/1.1\r\nHost: localhost\r\n\r\n{SMUGGLED}")),
        ("a method in lower case with junk", format!("g\x01t {path} HTTP/1.1\r\nHost: localhost\r\n\r\n{SMUGGLED}")),
    ]
}

#[test]
fn doubtful_framing_is_refused_and_the_connection_closed() {
    let server = Server::start();
    let id = server.create(json!({}));
    let document = description(&server);
    let bodies = operations(&document).into_iter().filter(|o| o.method == "POST");
    let paths: Vec<String> = bodies.map(|o| with_names(&o.path, &id, "999999")).collect();
    assert!(paths.len() >= 6 && paths.iter().any(|path| path == LIST), "{paths:?}");
    for path in &paths {
        for (name, bytes) in doubtful_forms(path) {
            let got = answers(&server, bytes.as_bytes());
            assert_eq!(got.len(), 1, "{path}: {name}: one answer, then closed: {got:?}");
            assert!(matches!(got[0].status, 400 | 413 | 501), "{path}: {name}: {}", got[0].status);
            got[0].assert_error_form();
        }
    }
    assert_eq!(server.list().len(), 1, "none of them created anything");
    // RFC 9112 lets a server drop such a trailer or refuse the request.
    let trailer = post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\nContent-Length: 99\r\n\r\n");
    let statuses: Vec<u16> = answers(&server, trailer.as_bytes()).iter().map(|r| r.status).collect();
    assert!(statuses == [400] || statuses == [201, 404], "a length in a trailer: {statuses:?}");
}

#[test]
fn odd_but_right_framing_is_understood() {
    let server = Server::start();
    let get = |more: &str, body: &str| format!("GET {LIST} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n{body}{SMUGGLED}");
    let forms = [
        ("the same, once", post("Content-Length: 2\r\n", "{}"), 201),
        ("spaces around the length", post("Content-Length: \t 2 \r\n", "{}"), 201),
        ("a chunk extension", post("Transfer-Encoding: chunked\r\n", "2;name=\"value\"\r\n{}\r\n0\r\n\r\n"), 201),
        ("chunk size in capitals with zeros", post("Transfer-Encoding: Chunked\r\n", "0002\r\n{}\r\n000\r\n\r\n"), 201),
        ("a body on GET", get("Content-Length: 5\r\n", "hello"), 200),
        (
            "h2c is not taken up",
            get("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n", ""),
            200,
        ),
        ("names in any case", get("hOsT-like: x\r\n", ""), 200),
    ];
    for (name, bytes, status) in &forms {
        let got = answers(&server, bytes.as_bytes());
        let statuses: Vec<u16> = got.iter().map(|r| r.status).collect();
        assert_eq!(statuses, [*status, 404], "{name}: its answer, then that of the next request");
    }
}

#[test]
fn heads_have_limits() {
    let server = Server::start();
    let (rss, cpu) = (server_rss_kib(&server), server_cpu_ticks(&server));
    let forms: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("a URL of 1 MiB", format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20)).into(), &[414]),
        (
            "100,000 headers",
            format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(100_000)).into(),
            &[431],
        ),
        ("97 headers", format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "a: b\r\n".repeat(97)).into(), &[431]),
        (
            "a header of 16 MiB",
            format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "a".repeat(16 << 20)).into(),
            &[431],
        ),
        ("HTTP/0.9", b"GET /\r\n\r\n".to_vec(), &[400, 505]),
        ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(), &[400, 404, 505]),
        ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n".to_vec(), &[400, 505]),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &[400, 505]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        ("NUL in the path", b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[400]),
        (
            "8-bit bytes in the path",
            b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
            &[400, 404],
        ),
        (
            "percent nonsense",
            b"GET /api/v1/sandboxes/%zz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
            &[400, 404],
        ),
        (
            "absolute form with another name",
            b"GET http://evil.example/api/v1/sandboxes HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                .to_vec(),
            &[400, 403],
        ),
        ("GET *", b"GET * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(), &[400, 404]),
        (
            "CONNECT",
            b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\nConnection: close\r\n\r\n".to_vec(),
            &[400, 403, 404, 405],
        ),
        ("TRACE", b"TRACE / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(), &[404, 405, 501]),
    ];
    for (name, bytes, statuses) in &forms {
        let got = answers(&server, bytes);
        match got.first() {
            Some(answer) => {
                assert!(statuses.contains(&answer.status), "{name}: {}", answer.status);
                answer.assert_error_form();
            }
            // Megabytes that nobody reads can make the kernel reset the connection over the answer.
            None => assert!(bytes.len() > 500_000, "{name}: no answer"),
        }
    }
    let mut slowly = server.client();
    let head = format!("GET /{} HTTP/1.1\r\n", "a".repeat(40_000));
    for byte in head.as_bytes() {
        if slowly.send(&[*byte]).is_err() {
            break;
        }
    }
    drop(slowly);
    assert_eq!(server.get("/api/v1/health").status, 200);
    let (rss_after, cpu_after) = (server_rss_kib(&server), server_cpu_ticks(&server));
    assert!(rss_after < rss + 16 * 1024, "{rss} KiB before, {rss_after} after");
    assert!(cpu_after - cpu < 300, "{} ticks of 10 ms", cpu_after - cpu);
}

#[test]
fn bodies_have_limits() {
    let server = Server::start();
    let rss = server_rss_kib(&server);
    let head =
        |more: &str| format!("POST {LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{more}\r\n");
    let declared = answers(&server, head("Content-Length: 10737418240\r\n").as_bytes());
    assert_eq!(declared.first().map(|r| r.status), Some(413));
    let mut endless = server.client();
    endless.send(head("Transfer-Encoding: chunked\r\n").as_bytes()).expect("send");
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let sent = (0..1000).take_while(|_| endless.send(chunk.as_bytes()).is_ok()).count();
    assert!(sent < 500, "the server stopped reading long before 64 MiB");
    let mut crumbs = server.client();
    crumbs.send(head("Transfer-Encoding: chunked\r\n").as_bytes()).expect("send");
    let crumb = format!("1;{}\r\n \r\n", "e".repeat(4096));
    let sent = (0..20_000).take_while(|_| crumbs.send(crumb.as_bytes()).is_ok()).count();
    assert!(sent < 20_000, "one byte in 4 KiB of extension ends as well");
    let mut short = server.client();
    short.send(format!("{}{{}}", head("Content-Length: 50\r\n")).as_bytes()).expect("send");
    short.end().expect("end");
    let answer = short.response("POST");
    assert!(answer.is_err() || answer.is_ok_and(|r| r.status == 400), "a body cut short is no request");
    let over = format!("{{\"name\":\"{}\"}}", "n".repeat(2 << 20));
    let answer = server.client().request("POST", LIST, &[], over.as_bytes());
    assert!(answer.is_err() || answer.is_ok_and(|r| r.status == 413));
    let rss_after = server_rss_kib(&server);
    assert!(rss_after < rss + 16 * 1024, "{rss} KiB before, {rss_after} after");
    assert!(server.list().is_empty());
}

#[test]
fn slow_clients_are_dropped_and_harm_nobody() {
    let _turn = turn::shared();
    let server = Server::start();
    let started = Instant::now();
    let mut heads: Vec<Client> = (0..200).map(|_| server.client()).collect();
    let mut bodies: Vec<Client> = (0..20).map(|_| server.client()).collect();
    for client in &mut heads {
        client.send(b"GET /api/v1/health HTTP/1.1\r\n").expect("send");
    }
    for client in &mut bodies {
        let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n";
        client.send(format!("POST {LIST} HTTP/1.1\r\n{head}\r\n{{").as_bytes()).expect("send");
    }
    while started.elapsed() < Duration::from_secs(2) {
        let asked = Instant::now();
        assert_eq!(server.get("/api/v1/health").status, 200);
        assert!(asked.elapsed() < Duration::from_secs(1), "others are served");
        std::thread::sleep(Duration::from_millis(100));
    }
    for client in &mut heads {
        let rest = client.rest().expect("closed in time");
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
    let took = started.elapsed();
    assert!(took > Duration::from_secs(8) && took < Duration::from_secs(20), "a head has 10 s: {took:?}");
    for client in &mut bodies {
        let rest = client.rest().expect("closed in time");
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 408"), "{}", String::from_utf8_lossy(&rest));
    }
    assert!(started.elapsed() < Duration::from_secs(45), "a body has 30 s between bytes: {:?}", started.elapsed());
}

#[test]
fn many_connections_are_kept_apart() {
    let server = Server::start();
    let mut clients: Vec<Client> = (0..500).map(|_| server.client()).collect();
    for client in &mut clients {
        assert_eq!(client.request("GET", "/api/v1/health", &[], b"").expect("answer").status, 200);
    }
    drop(clients);
    let mut raw = server.raw();
    raw.set_nonblocking(true).expect("nonblocking");
    let request = format!("GET {LIST} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // A client that asks and never reads must not hold more than the socket buffers.
    let mut sent = 0;
    while sent < 200_000 && raw.write(request.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!(sent < 200_000, "the server stops reading from a client that does not read");
    assert_eq!(server.get("/api/v1/health").status, 200);
}

fn server_rss_kib(server: &Server) -> u64 {
    server.server_process().and_then(|p| p.status("VmRSS")).expect("VmRSS")
}

/// User and system time of the server process in ticks of 10 ms.
fn server_cpu_ticks(server: &Server) -> u64 {
    let pid = server.server_process().expect("the server process").pid;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}
