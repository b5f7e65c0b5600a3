//! Terminals: a shell that one person uses, from its first prompt to its last word.

use crate::kit::{Server, WebSocket, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

pub(crate) const V1: &[(&str, &str)] = &[("Sec-WebSocket-Protocol", "workspace.pty.v1")];

/// Opens a terminal; gives the path to it.
#[track_caller]
pub(crate) fn open(server: &Server, id: &str, body: Value) -> String {
    let opened = server.post(&format!("/api/v1/sandboxes/{id}/pty"), &body).expect(200).json();
    format!("/api/v1/sandboxes/{id}/pty/{}", opened["id"].as_str().expect("an id that is a string"))
}

/// A shell that prints no prompt of its own and echoes nothing, so that a test sees what its commands print.
pub(crate) fn plain_shell() -> Value {
    json!({"command": "sh", "args": ["-c", "stty -echo; PS1= PS2= exec sh"]})
}

fn ptys(server: &Server, id: &str) -> Vec<Value> {
    let listed = server.get(&format!("/api/v1/sandboxes/{id}/pty")).expect(200).json();
    listed["ptys"].as_array().expect("ptys").clone()
}

#[test]
fn a_shell_from_its_prompt_to_its_exit() {
    let server = Server::start();
    let id = server.create(json!({"env": {"GREETING": "hello"}}));
    let opened = server.post(&format!("/api/v1/sandboxes/{id}/pty"), &json!({})).expect(200).json();
    assert_eq!((&opened["cols"], &opened["rows"], &opened["sandbox_id"]), (&json!(80), &json!(24), &json!(id)));
    let path = format!("/api/v1/sandboxes/{id}/pty/{}", opened["id"].as_str().expect("id"));
    assert_eq!(ptys(&server, &id), [opened]);
    let mut terminal = WebSocket::connect(&server, &path, V1);
    terminal.see("$ ");
    terminal.send("echo $GREETING:$TERM:$COLORTERM:$(tty):$(stty size):$(pwd)\r");
    let seen = terminal.see_until("the line", |seen| seen.contains(":24 80:/workspace"));
    assert!(seen.contains("hello:xterm-256color:truecolor:/dev/pts/"), "{seen}");
    terminal.text(r#"{"type":"input","data":"test -n \"$BASH\" && echo ba''sh\r"}"#);
    terminal.see("bash\r\n");
    terminal.text(r#"{"type":"ping"}"#);
    terminal.text(r#"{"type":"input","data":"exit 3\r"}"#);
    let (_, texts, close) = terminal.until_closed();
    assert_eq!(texts, [r#"{"type":"pong"}"#, r#"{"type":"exit","code":3}"#]);
    assert_eq!(close, (1000, "the program ended with code 3".to_owned()));
    until("it is forgotten", 5, || ptys(&server, &id).is_empty());
    WebSocket::try_connect(&server, &path, &[]).map(drop).expect_err("it has ended").expect_error(410, 4103);
    let unknown = path.replace("/pty/", "/pty/9");
    WebSocket::try_connect(&server, &unknown, &[]).map(drop).expect_err("never was").expect_error(404, 4101);
}

/// Its whole output and its exit were lost once: it was forgotten before anybody could connect.
#[test]
fn a_program_that_ends_unseen_is_shown_once() {
    let server = Server::start();
    let id = server.create(json!({}));
    let short = json!({"command": "sh", "args": ["-c", "echo qui''ck; exit 7"]});
    let path = open(&server, &id, short.clone());
    until("it has ended", 5, || ptys(&server, &id).is_empty());
    let (seen, texts, close) = WebSocket::connect(&server, &path, V1).until_closed();
    assert_eq!(seen, "quick\r\n");
    assert_eq!(texts, [r#"{"type":"exit","code":7}"#]);
    assert_eq!(close, (1000, "the program ended with code 7".to_owned()));
    let gone =
        || WebSocket::try_connect(&server, &path, &[]).map(drop).err().is_some_and(|answer| answer.status == 410);
    until("it is forgotten", 5, gone);
    // Those that are only kept are in nobody's way.
    let unseen: Vec<String> = (0..40)
        .map(|_| {
            let path = open(&server, &id, short.clone());
            until("it has ended", 5, || ptys(&server, &id).is_empty());
            path
        })
        .collect();
    let refused = |path: &str| WebSocket::try_connect(&server, path, &[]).map(drop).expect_err("it made room");
    refused(&unseen[0]).expect_error(410, 4103);
    server.request("DELETE", &unseen[39], &[], b"").expect(200);
    refused(&unseen[39]).expect_error(410, 4103);
    server.request("DELETE", &format!("/api/v1/sandboxes/{id}"), &[], b"").expect(200);
}

#[test]
fn keys_and_sizes_reach_the_program() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut terminal = WebSocket::connect(&server, &path, &[]);
    terminal.send("trap 'stty size' WINCH; echo rea''dy\r");
    terminal.see("ready\r\n");
    server.post(&format!("{path}/resize"), &json!({"cols": 132, "rows": 43})).expect(200);
    terminal.send("\r");
    terminal.see("43 132\r\n");
    // The signal goes to the group in the foreground, which is that of `stty` until the shell has taken its place again.
    terminal.send("echo ba''ck\r");
    terminal.see("back\r\n");
    terminal.text(r#"{"type":"resize","cols":100,"rows":30}"#);
    terminal.send("\r");
    terminal.see("30 100\r\n");
    for wrong in [json!({"cols": 0, "rows": 24}), json!({"cols": 80, "rows": 65536}), json!({"cols": -1, "rows": 1})] {
        let field = if wrong["cols"] == json!(80) { "rows" } else { "cols" };
        let answer = server.post(&format!("{path}/resize"), &wrong);
        assert_eq!((answer.status, &answer.json()["details"]), (400, &json!(field)));
    }
    terminal.send("trap - WINCH; sleep 1000; echo ended\r");
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(200));
    terminal.send("\x03");
    terminal.send("\recho still $((40 + 2))\r");
    terminal.see("still 42\r\n");
    assert!(began.elapsed() < Duration::from_secs(5), "Ctrl-C ends the sleep");
    terminal.text("echo as te''xt\r");
    terminal.see("as text\r\n");
}

#[test]
fn a_program_instead_of_a_shell() {
    let server = Server::start();
    let id = server.create(json!({}));
    let body = json!({
        "command": "sh", "args": ["-c", "echo $A:$TERM:$(pwd):$(id -u); stty size; exit 9"],
        "env": {"A": "b", "TERM": "dumb"}, "cwd": "/tmp", "cols": 1, "rows": 4096,
    });
    // It may end before anybody looks; then it is gone.
    let path = open(
        &server,
        &id,
        json!({"command": "sh", "args": ["-c", "read x; exec \"$@\"", "sh", "sh", "-c", body["args"][1]],
        "env": body["env"], "cwd": body["cwd"], "cols": body["cols"], "rows": body["rows"]}),
    );
    let mut terminal = WebSocket::connect(&server, &path, V1);
    terminal.send("\r");
    let (output, texts, close) = terminal.until_closed();
    assert!(output.contains("b:dumb:/tmp:1000\r\n4096 1\r\n"), "{output:?}");
    assert_eq!((texts, close.0), (vec![r#"{"type":"exit","code":9}"#.to_owned()], 1000));
    for body in [json!({"command": "no such program"}), json!({"command": "/etc/passwd"})] {
        let refused = server.post(&format!("/api/v1/sandboxes/{id}/pty"), &body).expect_error(400, 1002);
        assert_eq!(refused["details"], "command", "{body}");
    }
    assert!(ptys(&server, &id).is_empty(), "what was not started leaves no terminal");
}

#[test]
fn a_terminal_outlives_its_viewers_and_the_server() {
    let mut server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut first = WebSocket::connect(&server, &path, &[]);
    first.send("KEPT=yes; echo s''et\r");
    first.see("set\r\n");
    drop(first);
    let mut second = WebSocket::connect(&server, &path, &[]);
    second.see("set\r\n");
    second.send("echo $KEPT-$KEPT\r");
    second.see("yes-yes\r\n");
    assert!(server.stop().success());
    let (_, _, close) = second.until_closed();
    assert_eq!(close, (1001, "the server stops".to_owned()));
    server.restart();
    let mut third = WebSocket::connect(&server, &path, &[]);
    third.see("yes-yes\r\n");
    third.send("echo $KEPT again\r");
    third.see("yes again\r\n");
}

#[test]
fn each_end_has_its_close() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut viewer = WebSocket::connect(&server, &path, V1);
    viewer.send("sleep 1000 & echo run''ning\r");
    viewer.see("running\r\n");
    let refused = server.request("DELETE", &format!("/api/v1/sandboxes/{id}"), &[], b"");
    refused.expect_error(409, 2004);
    server.request("DELETE", &path, &[], b"").expect(200);
    let (_, texts, close) = viewer.until_closed();
    assert!(texts[0].starts_with(r#"{"type":"exit","code":"#), "{texts:?}");
    assert_eq!(close, (1000, "the terminal was closed".to_owned()));
    server.request("DELETE", &path, &[], b"").expect_error(410, 4103);
    until("its background job has gone too", 5, || {
        server.own_processes().iter().all(|p| !p.command_line().contains("sleep 1000"))
    });
    let path = open(&server, &id, plain_shell());
    let mut viewer = WebSocket::connect(&server, &path, V1);
    viewer.send("echo run''ning\r");
    viewer.see("running\r\n");
    let began = Instant::now();
    let deleting = std::thread::spawn(move || {
        let end = viewer.until_closed();
        (end, began.elapsed())
    });
    server.delete(&id);
    let ((_, _, close), took) = deleting.join().expect("viewer");
    assert!(close.0 == 1001 || close.0 == 1000, "{close:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// T18: the shell has gone, and something that it left behind still holds the terminal.
#[test]
fn a_background_job_does_not_keep_the_exit_back() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = open(&server, &id, plain_shell());
    let mut viewer = WebSocket::connect(&server, &path, V1);
    viewer.send("(trap '' HUP; sleep 1000) & exit 5\r");
    let began = Instant::now();
    let (_, texts, close) = viewer.until_closed();
    assert_eq!((texts, close.0), (vec![r#"{"type":"exit","code":5}"#.to_owned()], 1000));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    until("it is forgotten", 5, || ptys(&server, &id).is_empty());
}

#[test]
fn a_sandbox_has_so_many_terminals() {
    let server = Server::start();
    let id = server.create(json!({}));
    let paths: Vec<String> = (0..32).map(|_| open(&server, &id, plain_shell())).collect();
    let more = server.post(&format!("/api/v1/sandboxes/{id}/pty"), &plain_shell());
    assert_eq!(more.expect_error(429, 4102)["retryable"], true);
    server.request("DELETE", &paths[7], &[], b"").expect(200);
    let again = open(&server, &id, plain_shell());
    assert!(!paths.contains(&again), "no id is used twice");
    assert_eq!(ptys(&server, &id).len(), 32);
}

/// T20: what is typed, and the key in a URL, are nobody's business.
#[test]
fn keys_are_needed_and_never_logged() {
    let server = Server::builder().env("WORKSPACE_API_KEYS", "key-that-nobody-sees").env("RUST_LOG", "debug").start();
    let key = ("X-API-Key", "key-that-nobody-sees");
    let create = server.request("POST", "/api/v1/sandboxes", &[key], b"{}").expect(201).json();
    let pty = format!("/api/v1/sandboxes/{}/pty", create["id"].as_str().expect("id"));
    let opened = server.request("POST", &pty, &[key], plain_shell().to_string().as_bytes()).expect(200).json();
    let path = format!("{pty}/{}", opened["id"].as_str().expect("id"));
    for (target, fields) in [
        (path.clone(), vec![]),
        (format!("{path}?api_key=wrong"), vec![]),
        (format!("{path}?api_key=key-that-nobody-sees"), vec![("X-API-Key", "wrong")]),
    ] {
        let refused = WebSocket::try_connect(&server, &target, &fields).map(drop).expect_err("no key");
        refused.expect_error(401, 1005);
    }
    let evil = [("Origin", "https://evil.example")];
    let with_key = format!("{path}?api_key=key-that-nobody-sees");
    WebSocket::try_connect(&server, &with_key, &evil).map(drop).expect_err("foreign").expect_error(403, 1007);
    server.get(&format!("{pty}?api_key=key-that-nobody-sees")).expect_error(401, 1005);
    let mut terminal = WebSocket::connect(&server, &with_key, &[]);
    terminal.send("echo secret''-input\r");
    terminal.see("secret-input\r\n");
    drop(terminal);
    until("the viewer's line is there", 5, || server.log().contains("pty_connect"));
    let log = server.log();
    for secret in ["key-that-nobody-sees", "secret-input", "secret''-input", "api_key"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}
