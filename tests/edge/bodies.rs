//! Attacks T03, T05, T06 and T07: bodies that are too much, too deep, too odd, or not what they say.

use crate::kit::{Server, post};
use crate::shard::NOWHERE;
use std::time::Duration;
use workspace_server::http::Settings;

fn echo(body: &str) -> String {
    post("/echo", body)
}

#[test]
fn a_length_above_the_limit_is_refused_before_the_body() {
    let server = Server::start();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for length in [(1 << 20) + 1u64, 10 << 30] {
        let (answer, closed) = server.ask(format!("{head}Content-Length: {length}\r\n\r\n"));
        assert_eq!((answer.status, answer.code(), closed), (413, 1001, true));
        let (answer, _) = server.ask(format!("{head}Content-Length: {length}\r\nExpect: 100-continue\r\n\r\n"));
        assert_eq!(answer.status, 413, "no 100 for a body that will be refused");
    }
    let mut client = server.client();
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    for _ in 0..40 {
        client.send(format!("10000\r\n{}\r\n", "x".repeat(0x10000)));
    }
    assert_eq!(client.answer().status, 413);
    let fits = format!("{{\"text\":\"{}\"}}", "x".repeat((1 << 20) - 11));
    assert_eq!(server.ask(echo(&fits)).0.status, 200);
}

#[test]
fn chunk_framing_that_outweighs_the_data() {
    let server = Server::start();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (answer, closed) = server.ask(format!("{head}1;{}\r\n{{\r\n", "e".repeat(4096)));
    assert_eq!((answer.status, closed), (400, true));
    let (answer, _) = server.ask(format!("{head}{}", format!("1;{}\r\nx\r\n", "e".repeat(200)).repeat(1000)));
    assert_eq!(answer.status, 400);
    let (answer, _) = server.ask(format!("{head}0\r\n{}\r\n", "X: y\r\n".repeat(10_000)));
    assert_eq!(answer.status, 400);
}

#[test]
fn continue_is_sent_once_and_only_before_a_wanted_body() {
    let server = Server::start();
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n";
    let mut client = server.client();
    client.send(format!("{head}Content-Length: 13\r\n\r\n"));
    assert_eq!(client.answer().status, 100);
    client.send("{\"text\":\"hi\"}");
    assert_eq!(client.answer().json()["text"], "hi");
    client.send(format!("{head}Content-Length: 13\r\n\r\n{{\"text\":\"hi\"}}"));
    assert_eq!(client.answer().status, 200, "the body was there already");
    let lost = head.replace("/echo", "/nowhere");
    let (answer, closed) = server.ask(format!("{lost}Content-Length: 13\r\n\r\n"));
    assert_eq!((answer.status, closed), (404, true));
}

#[test]
fn a_body_must_be_plain_json_and_say_so() {
    let server = Server::start();
    let with = |fields: &str| format!("POST /echo HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: 2\r\n\r\n{{}}");
    for fields in ["Content-Type: application/json\r\n", "Content-Type: Application/JSON ; charset=utf-8\r\n"] {
        assert_eq!(server.ask(with(fields)).0.status, 200, "{fields}");
    }
    for fields in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: text/plain; x=application/json\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data; boundary=application/json\r\n",
        "Content-Type: application/jsonx\r\n",
        "Content-Type: application/json\r\nContent-Type: text/plain\r\n",
        "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
    ] {
        let (answer, closed) = server.ask(with(fields));
        assert_eq!((answer.status, answer.code(), closed), (415, 1001, false), "{fields}");
    }
    let none = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(server.ask(none).0.status, 200, "nothing stands for {{}}");
}

#[test]
fn bombs_and_oddities_of_json() {
    let server = Server::start();
    for body in [
        "[".repeat(200_000),
        "{\"map\":".repeat(100_000),
        format!("{{\"map\":{{{}}}}}", (0..80_000).map(|i| format!("\"{i}\":\"\"")).collect::<Vec<_>>().join(",")),
        "{\"text\":\"a\",\"text\":\"b\"}".into(),
        "{\"map\":{\"a\":\"1\",\"a\":\"2\"}}".into(),
        "{\"text\":1e999999}".into(),
        "{\"text\":\"\\ud800\"}".into(),
        "\u{feff}{}".into(),
        "{\"text\":\"a\"} {}".into(),
        "{\"text\":\"a".into(),
        "null".into(),
        "[]".into(),
        "\"\"".into(),
        "{\"text\":null,}".into(),
    ] {
        let (answer, closed) = server.ask(echo(&body));
        let shown: String = body.chars().take(60).collect();
        assert_eq!((answer.status, answer.code(), closed), (400, 1001, false), "{shown}");
    }
    let mut client = server.client();
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"text\":\"\xff");
    client.send([b'"', b'}']);
    assert_eq!(client.answer().status, 400);
    let wide = format!("{{\"text\":\"{}\"}}", "\\u0061".repeat(170_000));
    assert_eq!(server.ask(echo(&wide)).0.json()["text"].as_str().unwrap().len(), 170_000);
    assert_eq!(server.ask(echo("{\"text\":null,\"later\":[1.5]}")).0.status, 200);
}

/// T06 and T07 against the real operations: what is refused never reaches a shard.
#[test]
fn fields_out_of_bounds_are_named() {
    let server = Server::product(Settings::default());
    let run = format!("/api/v1/sandboxes/{NOWHERE}/process/run");
    let long = "a".repeat(40 << 10);
    let cases = [
        (run.as_str(), "{}".to_owned(), "command"),
        (&run, r#"{"command":5}"#.into(), "command"),
        (&run, r#"{"command":""}"#.into(), "command"),
        (&run, r#"{"command":"a\u0000b"}"#.into(), "command"),
        (&run, format!(r#"{{"command":"{long}"}}"#), "command"),
        (&run, r#"{"command":"a","args":"b"}"#.into(), "args"),
        (&run, r#"{"command":"a","args":["b",1]}"#.into(), "args.1"),
        (&run, r#"{"command":"a","args":["b","\u0000"]}"#.into(), "args.1"),
        (&run, r#"{"command":"a","env":{"":"b"}}"#.into(), "env"),
        (&run, r#"{"command":"a","env":{"A=B":"b"}}"#.into(), "env"),
        (&run, r#"{"command":"a","env":{"A":"\u0000"}}"#.into(), "env.A"),
        (&run, format!(r#"{{"command":"a","env":{{"A":"{long}"}}}}"#), "env.A"),
        (&run, r#"{"command":"a","env":[]}"#.into(), "env"),
        (&run, r#"{"command":"a","cwd":"\u0000"}"#.into(), "cwd"),
        (&run, r#"{"command":"a","cwd":""}"#.into(), "cwd"),
        (&run, format!(r#"{{"command":"a","cwd":"{long}"}}"#), "cwd"),
        (&run, r#"{"command":"a","stdin":7}"#.into(), "stdin"),
        (&run, r#"{"command":"a","partial":"true"}"#.into(), "partial"),
        (&run, r#"{"command":"a","encoding":"latin1"}"#.into(), "encoding"),
        ("/api/v1/sandboxes", r#"{"name":"a\nb"}"#.into(), "name"),
        ("/api/v1/sandboxes", format!(r#"{{"name":"{long}"}}"#), "name"),
        ("/api/v1/sandboxes", r#"{"template":""}"#.into(), "template"),
        ("/api/v1/sandboxes", r#"{"template":"\u0000"}"#.into(), "template"),
        ("/api/v1/sandboxes", r#"{"metadata":{"a":1}}"#.into(), "metadata.a"),
        ("/api/v1/sandboxes", format!(r#"{{"metadata":{{"a":"{long}"}}}}"#), "metadata.a"),
        ("/api/v1/sandboxes", r#"{"network":"host"}"#.into(), "network"),
        ("/api/v1/sandboxes", r#"{"runtime":"firecracker"}"#.into(), "runtime"),
        ("/api/v1/sandboxes", r#"{"resources":{"cpus":0}}"#.into(), "resources.cpus"),
        ("/api/v1/sandboxes", r#"{"resources":{"cpus":1e300}}"#.into(), "resources.cpus"),
        ("/api/v1/sandboxes", r#"{"resources":{"cpus":"1"}}"#.into(), "resources.cpus"),
        ("/api/v1/sandboxes", r#"{"resources":{"memory_bytes":1}}"#.into(), "resources.memory_bytes"),
        ("/api/v1/sandboxes", r#"{"resources":{"pids":0}}"#.into(), "resources.pids"),
        ("/api/v1/sandboxes", r#"{"resources":{"disk_bytes":-1}}"#.into(), "resources.disk_bytes"),
        ("/api/v1/sandboxes", r#"{"resources":[]}"#.into(), "resources"),
    ];
    for (path, body, field) in cases {
        let (answer, _) = server.ask(post(path, &body));
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status, 400, "{shown}");
        assert!([1001, 1002].contains(&answer.code()), "{shown}");
        assert_eq!(answer.json()["details"], field, "{shown}");
        assert!(answer.json()["message"].as_str().unwrap().contains(&format!("`{field}`")), "{shown}");
    }
    let docker = server.ask(post("/api/v1/sandboxes", r#"{"runtime":"docker"}"#)).0;
    assert_eq!((docker.status, docker.code()), (501, 1004));
}

#[test]
fn numbers_at_their_edges() {
    let server = Server::product(Settings::default());
    let run = format!("/api/v1/sandboxes/{NOWHERE}/process/run");
    let ask = |path: &str, field: &str, value: &str| {
        let command = if path.ends_with("run") { "\"command\":\"a\"," } else { "" };
        server.ask(post(path, &format!("{{{command}\"{field}\":{value}}}"))).0
    };
    let wrong = [
        "-1",
        "1.5",
        "1.0",
        "1e3",
        "\"1\"",
        "-0",
        "9223372036854775808",
        "18446744073709551615",
        "18446744073709551616",
    ];
    for (path, field) in [
        (run.as_str(), "timeout"),
        (&run, "max_output_bytes"),
        ("/api/v1/sandboxes", "timeout"),
        ("/api/v1/sandboxes", "idle_timeout"),
    ] {
        for value in wrong {
            let answer = ask(path, field, value);
            assert_eq!((answer.status, answer.json()["details"].as_str()), (400, Some(field)), "{field} {value}");
        }
        // What is within bounds reaches the shard, which in this test has no sandbox and no runtime.
        for value in ["1", "65536", "null"] {
            assert!([2001, 5001].contains(&ask(path, field, value).code()), "{field} {value}");
        }
    }
    assert_eq!(ask(&run, "max_output_bytes", "0").code(), 1002);
    assert_eq!(ask(&run, "max_output_bytes", "67108865").code(), 1002);
    assert_eq!(ask(&run, "max_output_bytes", "67108864").code(), 2001);
    for value in ["user", "1000", "root", "0"] {
        assert_eq!(ask(&run, "user", &format!("\"{value}\"")).code(), 2001, "{value}");
    }
    for value in ["", "-1", "4294967295", "2147483648", "1000:0", "nobody", "1", "Root"] {
        let answer = ask(&run, "user", &format!("\"{value}\""));
        assert_eq!((answer.code(), answer.json()["details"].as_str()), (1002, Some("user")), "{value}");
    }
}

#[test]
fn a_body_cut_short_has_no_effect_and_no_answer() {
    let server = Server::start();
    let mut client = server.client();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"text\"",
    );
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.closed(Duration::from_secs(5)));
}
