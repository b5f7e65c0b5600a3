//! Attacks T01 and T02: messages with two readings, and heads that never end.

use crate::kit::{Driver, EDGE, Server, get};
use std::time::{Duration, Instant};
use workspace_server::http::Settings;

/// The request that must never be answered as part of the one before it.
const SECOND: &str = "GET /echo?text=smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// Each is answered once with 400 and the connection ends, on both drivers.
#[test]
fn two_readings_are_none() {
    let json = "Host: a\r\nContent-Type: application/json\r\n";
    let cases: Vec<String> = [
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2\r\nContent-Length: 50\r\n\r\n{}",
        "Content-Length: +2\r\n\r\n{}",
        "Content-Length: 2, 2\r\n\r\n{}",
        "Content-Length: 0x2\r\n\r\n{}",
        "Content-Length: 2 2\r\n\r\n{}",
        "Content-Length: -1\r\n\r\n{}",
        "Content-Length: \r\n\r\n{}",
        "Content-Length: 18446744073709551616\r\n\r\n{}",
        "Content-Length : 2\r\n\r\n{}",
        "Content-Length\t: 2\r\n\r\n{}",
        "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\n\r\n{}",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        "X: a\nContent-Length: 2\r\n\r\n{}",
        "X: a\rContent-Length: 2\r\n\r\n{}",
        "Content-Length: 2\n\n{}",
        "Content-Length: 2\r\n\n{}",
        "X: \0\r\n\r\n",
        ": no name\r\n\r\n",
        "no colon\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ]
    .iter()
    .map(|rest| format!("POST /echo HTTP/1.1\r\n{json}{rest}"))
    .collect();
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = Server::with(driver, Settings::default(), EDGE);
        for case in &cases {
            let mut client = server.client();
            client.send(format!("{case}{SECOND}"));
            let answer = client.answer();
            assert_eq!((answer.status, answer.code()), (400, 1001), "{case:?}");
            assert_eq!(answer.field("connection"), Some("close"), "{case:?}");
            assert!(client.closed(Duration::from_secs(5)), "{case:?}");
        }
    }
}

#[test]
fn old_clients_have_their_rules() {
    let server = Server::start();
    let te = "POST /echo HTTP/1.0\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(server.ask(te).0.status, 400);
    let (answer, closed) = server.ask("GET /echo HTTP/1.0\r\n\r\n");
    assert_eq!((answer.status, answer.field("connection"), closed), (200, Some("close"), true));
    let (answer, closed) = server.ask("GET /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((answer.status, answer.field("connection"), closed), (200, Some("keep-alive"), false));
    let (answer, closed) = server.ask("GET /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert_eq!((answer.status, answer.field("connection"), closed), (200, Some("close"), true));
}

#[test]
fn strictly_by_the_book_where_there_is_one_reading() {
    let server = Server::start();
    for (request, status) in [
        (get("/echo"), 200),
        (format!("\r\n\r\n{}", get("/echo")), 200),
        ("GET /echo HTTP/1.1\r\nhost: a\r\nX: \r\nY:b\r\nZ:\t c \t\r\n\r\n".into(), 200),
        ("GET http://a/echo HTTP/1.1\r\nHost: a\r\n\r\n".into(), 200),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n\r\n".into(), 200),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".into(), 200),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404),
    ] {
        let mut client = server.client();
        client.send(format!("{request}{}", get("/echo?text=second")));
        assert_eq!(client.answer().status, status, "{request:?}");
        assert_eq!(client.answer().json()["text"], "second", "{request:?}");
    }
}

#[test]
fn heads_that_are_none() {
    let server = Server::start();
    for (request, status) in [
        ("GET /echo HTTP/1.1\r\n\r\n".to_owned(), 400),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), 400),
        ("GET http://b/echo HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n".into(), 400),
        ("GET /echo\r\n\r\n".into(), 400),
        ("GET /echo HTTP/1.1\n\n".into(), 400),
        ("GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("GET /echo HTTP/1.1\r\nHost: \u{e9}\r\n\r\n".into(), 400),
        ("G\0T /echo HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("\r\n\r\n\r\nGET /echo HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505),
        ("GET /echo HTTP/3.0\r\nHost: a\r\n\r\n".into(), 505),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n".into(), 417),
        (format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1 << 20)), 414),
        (format!("GET /echo HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(100_000)), 431),
        (format!("GET /echo HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(96)), 431),
        (format!("GET /echo HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(16 << 20)), 431),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03".into(), 400),
    ] {
        let mut client = server.client();
        client.send(&request);
        let answer = client.answer();
        let shown: String = request.chars().take(80).collect();
        assert_eq!((answer.status, answer.code()), (status, 1001), "{shown:?}");
        assert!(answer.field("x-request-id").is_some_and(|id| answer.json()["request_id"] == id), "{shown:?}");
        assert!(client.closed(Duration::from_secs(5)), "{shown:?}");
    }
    let fits = format!("GET /echo HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(95));
    assert_eq!(server.ask(fits).0.status, 200);
}

/// One byte a packet: each cut of a request is the same request.
#[test]
fn any_cut_is_the_same_request() {
    let server = Server::start();
    let body = "4;x=\"y\"\r\n{\"te\r\nc\r\nxt\":\"whole\"}\r\n0\r\nX-Sum: 1\r\n\r\n";
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let request = format!("{head}{body}");
    let mut client = server.client();
    for byte in request.as_bytes() {
        client.send([*byte]);
    }
    assert_eq!(client.answer().json()["text"], "whole");
    for cut in 0..request.len() {
        client.send(&request.as_bytes()[..cut]);
        std::thread::sleep(Duration::from_micros(200));
        client.send(&request.as_bytes()[cut..]);
        assert_eq!(client.answer().json()["text"], "whole", "cut at {cut}");
    }
}

/// The walk over a head remembers where it was: many small packets cost no more than their bytes.
#[test]
fn a_slow_head_costs_no_more_than_its_bytes() {
    let server = Server::start();
    let mut client = server.client();
    let started = Instant::now();
    client.send("GET /echo HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..3000 {
        client.send("A: b\r\n".as_bytes().get(..3).unwrap());
        client.send("bcd");
    }
    client.send("\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
