//! Can anybody write into the log but the server? Attack T20: whatever callers and commands send, the log is one JSON
//! object a line, each short, each of a known form, and none holds a key, an environment, an input or an output.

use crate::kit::{Client, Server, encode, with_query};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const CREATE: &str = "/api/v1/sandboxes";
const LINE_BYTES_MAX: usize = 4096;
/// What an attacker would have a reader of the log believe or its terminal do.
const FORGED: &str = "x\n{\"timestamp\":\"2026-01-01T00:00:00Z\",\"level\":\"ERROR\",\"message\":\"forged\",\"request_id\":\"forged\"}\r\n\u{1b}[2J\u{1b}]8;;http://evil.example\u{7}\u{202e}\u{9b}2J\u{2028}";
const KEY: &str = "key-of-a-caller-4711";

/// Words that must never stand in the log, one for each way in.
struct Secrets(Vec<String>);

impl Secrets {
    fn next(&mut self) -> String {
        let word = format!("secret{}word", self.0.len());
        self.0.push(word.clone());
        word
    }
}

#[test]
fn nobody_writes_into_the_log() {
    for filter in ["info", "trace"] {
        let server = Server::builder().env("WORKSPACE_API_KEYS", KEY).env("RUST_LOG", filter).start();
        let mut secrets = Secrets(vec![KEY.to_owned()]);
        let mut requests = BTreeSet::new();
        let id = by_body(&server, &mut secrets, &mut requests);
        by_query(&server, &id, &mut secrets, &mut requests);
        by_bytes(&server, &mut secrets);
        let log = server.log();
        let told = judge(&log, &secrets, filter);
        let untold: Vec<_> = requests.difference(&told).collect();
        assert!(untold.is_empty(), "each request has its line: {untold:?}");
        assert!(!told.contains("forged"));
    }
}

/// Checks every line; gives the ids of requests.
fn judge(log: &str, secrets: &Secrets, filter: &str) -> BTreeSet<String> {
    let mut told = BTreeSet::new();
    assert!(log.bytes().all(|b| b == b'\n' || (b >= 0x20 && b != 0x7f)), "{filter}: a control byte");
    for line in log.lines() {
        assert!(line.len() <= LINE_BYTES_MAX, "{filter}: {} bytes: {}", line.len(), &line[..200]);
        for character in ['\u{202e}', '\u{2028}', '\u{9b}'] {
            assert!(!line.contains(character), "{filter}: {line}");
        }
        if let Some(secret) = secrets.0.iter().find(|secret| line.contains(secret.as_str())) {
            panic!("{filter}: {secret} stands in the log: {line}");
        }
        let event: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{filter}: no event ({e}): {line}"));
        assert!(event["timestamp"].is_string() && event["message"] != "forged", "{filter}: {line}");
        let level = event["level"].as_str();
        assert!(matches!(level, Some("INFO" | "WARN" | "DEBUG" | "TRACE")), "{filter}: {line}");
        if event["message"] == "request" {
            told.insert(event["request_id"].as_str().expect("an id").to_owned());
        }
    }
    told
}

fn ask(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
    ids: &mut BTreeSet<String>,
) -> Value {
    let headers = [headers, &[("x-api-key", KEY)]].concat();
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = server.request(method, path, &headers, body.as_bytes());
    ids.insert(answer.header("x-request-id").expect("x-request-id").to_owned());
    serde_json::from_slice(&answer.body).unwrap_or(Value::Null)
}

/// By names, environments, commands, inputs, outputs, files; gives the sandbox.
fn by_body(server: &Server, secrets: &mut Secrets, ids: &mut BTreeSet<String>) -> String {
    let mut secret = || secrets.next();
    let (env, mark) = (json!({"SECRET": secret(), "LINES": FORGED}), json!({"mark": format!("{FORGED}{}", secret())}));
    let made = ask(server, "POST", CREATE, &[], &json!({"name": secret(), "env": env, "metadata": mark}), ids);
    let id = made["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let run = format!("{CREATE}/{id}/process/run");
    for field in ["name", "template", "runtime", "network"] {
        ask(server, "POST", CREATE, &[], &json!({field: format!("{FORGED}{}", secret())}), ids);
    }
    let odd = |field: &str, word: String| json!({"command": "true", field: format!("./{FORGED}{word}")});
    for field in ["command", "cwd", "user", "encoding", "tag"] {
        ask(server, "POST", &run, &[], &odd(field, secret()), ids);
        ask(server, "POST", &run.replace("/run", "/start"), &[], &odd(field, secret()), ids);
    }
    let script = "cat; printf '%s' \"$LINES$SECRET$1\" >&2; echo \"$1\" > /workspace/file; cat /workspace/file; \
        mkdir -p /workspace/d && cd /workspace/d && rmdir ../d; kill -9 $$";
    let body = json!({"command": "sh", "args": ["-c", script, "sh", secret()], "stdin": format!("{FORGED}{}", secret()),
        "env": {"OTHER": secret()}});
    let ran = ask(server, "POST", &run, &[], &body, ids);
    assert!(ran["stdout"].as_str().is_some_and(|out| out.contains("forged")), "the attack ran: {ran}");
    ask(server, "POST", &run, &[], &json!({"command": "sleep", "args": [secret()], "timeout": 50}), ids);
    let large = json!({"command": secret(), "stdin": "y".repeat(900_000)});
    ask(server, "POST", &run, &[], &large, ids);
    id
}

/// By paths, queries and headers.
fn by_query(server: &Server, id: &str, secrets: &mut Secrets, ids: &mut BTreeSet<String>) {
    let mut secret = || secrets.next();
    let escaped: String = FORGED.bytes().map(|b| format!("%{b:02x}")).collect();
    let paths = [
        format!("/{escaped}{}", secret()),
        format!("{CREATE}/{escaped}{}", secret()),
        format!("{CREATE}/{id}/process/{escaped}{}", secret()),
        format!("{CREATE}/{id}/process/999999/stream?cursor={escaped}{}", secret()),
        format!("{CREATE}?state={escaped}{}", secret()),
        format!("{CREATE}?{escaped}{}=1", secret()),
        format!("{CREATE}?metadata.{escaped}={}", secret()),
        with_query(&format!("{CREATE}/{id}/process/run/stream"), &[("command", &format!("{FORGED}{}", secret()))]),
        with_query(&format!("{CREATE}/{id}/process/run/stream"), &[("command", "true"), ("env", &secret())]),
        format!("{CREATE}?api_key={}", secret()),
        format!("/terminal/{escaped}{}", secret()),
    ];
    for path in &paths {
        let key = [("x-api-key", KEY), ("connection", "close")];
        let answer = server.client().request("GET", path, &key, b"").expect("answer");
        ids.insert(answer.header("x-request-id").expect("x-request-id").to_owned());
    }
    let word = secret();
    for name in [
        "User-Agent",
        "Referer",
        "X-Request-Id",
        "Idempotency-Key",
        "Last-Event-ID",
        "Cookie",
        "Accept",
        "X-Forwarded-For",
    ] {
        let value = format!("{word}\t\"level\":\"ERROR\"");
        ask(server, "POST", CREATE, &[(name, &value)], &json!({"name": 5}), ids);
    }
    for (name, value) in [("Origin", format!("http://{}", secret())), ("Host", format!("{}.evil", secret()))] {
        ask(server, "GET", CREATE, &[(name, &value)], &Value::Null, ids);
    }
    let wrong = [("authorization", format!("Bearer {}", secret())), ("x-api-key", secret())];
    for (name, value) in &wrong {
        let answer = server.request("GET", CREATE, &[(name, value)], b"");
        ids.insert(answer.expect(401).header("x-request-id").expect("x-request-id").to_owned());
    }
}

/// By bytes that are no request.
fn by_bytes(server: &Server, secrets: &mut Secrets) {
    let word = secrets.next();
    let host = server.address().to_string();
    let whole = encode(&host, "POST", CREATE, &[("x-api-key", KEY)], format!("{{\"name\":\"{word}").as_bytes());
    let mut forms = vec![
        whole,
        format!("GET /{word}\x1b[2J HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        format!("{word}\u{202e} / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: {word}\x1b]8;;\x07\r\n\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nX: a\n{{\"level\":\"ERROR\",\"message\":\"forged\"}}\r\n\r\n")
            .into_bytes(),
        format!("GET /{} HTTP/1.1\r\n\r\n", word.repeat(100_000)).into_bytes(),
    ];
    forms.push(format!("POST {CREATE} HTTP/1.1\r\nHost: {host}\r\n{word}: {}\r\n\r\n", word.repeat(5000)).into_bytes());
    for form in forms {
        let mut client: Client = server.client();
        // It may be refused while it is still sent.
        let _ = client.send(&form);
        let _ = client.end();
        let _ = client.rest();
    }
}
