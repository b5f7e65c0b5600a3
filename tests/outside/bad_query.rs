//! Every parameter of every query and every name in a path, tried wrong in every way, JSON within a query too.
//!
//! Made from `openapi.json` as `bad_fields` is. Attacks T05, T07, T08 and T12.

use crate::bad_fields::{kinds, refused};
use crate::kit::{Server, with_query};
use crate::openapi::{Described, description, operations, with_names};
use serde_json::{Value, json};

/// A process that no sandbox has.
const NO_PID: &str = "999999";

/// Wrong texts of a parameter.
fn wrong_texts(document: &Value, name: &str, schema: &Value) -> Vec<&'static str> {
    let kinds = kinds(document, schema);
    let mut wrong: Vec<&str> = if kinds.iter().any(|kind| kind == "integer") {
        vec!["-1", "1.5", "", "x", "1 1", "+1", "0x1", "1e3", "\u{661}", "9223372036854775808", "18446744073709551616"]
    } else if kinds.iter().any(|kind| kind == "boolean") {
        vec!["yes", "", "2", "True", "nul"]
    } else {
        vec![]
    };
    wrong.extend(match name {
        "limit" => &["0", "10001", "4294967297"][..],
        "state" => &["bogus", "", "Running"],
        "cursor" => &["bogus", "-1", "1-x", "01", " 1", "18446744073709551616"],
        "timeout" => &["315360000001", "9223372036854775807"],
        "user" => &["", "-1", "4294967295", "2147483648", "1000:0", "nobody", "1", "Root", "root\n"],
        "encoding" => &["latin1", "", "UTF8"],
        "command" | "cwd" => &[""],
        _ => &[],
    });
    wrong
}

/// Query parameters that are needed, with right values.
fn base(operation: &Described) -> Vec<(&'static str, &'static str)> {
    let has_command = operation.query().any(|(name, _)| name == "command");
    let has_path = operation.query().any(|(name, _)| name == "path");
    match (has_command, has_path) {
        (true, _) => vec![("command", "touch"), ("args", "[\"/workspace/ran\"]")],
        (_, true) => vec![("path", "/workspace")],
        _ => vec![],
    }
}

#[test]
fn every_query_refuses_every_wrong_parameter() {
    let server = Server::start();
    let id = server.create(json!({}));
    let before = server.list();
    let document = description(&server);
    let (mut tried, mut needed) = (0, Vec::new());
    // Fields that may stand in a query or in a body are tried by the tests of files.
    for operation in operations(&document).into_iter().filter(|o| !o.described["requestBody"].is_object()) {
        let path = with_names(&operation.path, &id, NO_PID);
        for (name, schema) in operation.query() {
            let others: Vec<_> = base(&operation).into_iter().filter(|(other, _)| *other != name).collect();
            let ask = |pairs: &[(&str, &str)], raw: &str| {
                let target = format!("{}{raw}", with_query(&path, pairs));
                let answer = server.request(&operation.method, &target, operation.headers(), b"");
                (answer, target)
            };
            for wrong in wrong_texts(&document, name, schema) {
                let (answer, target) = ask(&[&others[..], &[(name, wrong)]].concat(), "");
                refused(&answer, name, &format!("{} {target}", operation.method));
                tried += 1;
            }
            // Twice, a NUL, what is not UTF-8, and escapes that are none: refused before anybody looks at the name.
            for raw in [
                format!("&{name}=1&{name}=1"),
                format!("&{name}=%00"),
                format!("&{name}=a%ff"),
                format!("&{name}=%zz"),
                format!("&{name}=%4"),
            ] {
                let (answer, target) = ask(&others, &raw);
                assert_eq!(answer.status, 400, "{target}: {}", answer.text());
                answer.assert_error_form();
                tried += 1;
            }
        }
    }
    for operation in operations(&document) {
        for name in operation.required() {
            let path = with_names(&operation.path, &id, NO_PID);
            let others: Vec<_> = base(&operation).into_iter().filter(|(other, _)| *other != name).collect();
            let answer = server.request(&operation.method, &with_query(&path, &others), operation.headers(), b"");
            refused(&answer, name, &path);
            needed.push(name.to_owned());
        }
    }
    assert!(tried > 60, "{tried} cases");
    needed.sort_unstable();
    needed.dedup();
    assert_eq!(needed, ["command", "path"], "what a query must have is described");
    assert_eq!(server.list(), before);
    let ran = server.run(&id, json!({"command": "test", "args": ["-e", "/workspace/ran"]}));
    assert_eq!(ran["exit_code"], 1, "none of {tried} refused queries started anything");
}

/// What a body may not be, `args=` and `env=` may not be either.
#[test]
fn json_in_a_query_is_read_as_strictly_as_a_body() {
    let server = Server::start();
    let id = server.create(json!({}));
    let stream = format!("/api/v1/sandboxes/{id}/process/run/stream");
    let keys = (0..600).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
    let common = ["", "x", "null]", "[1]", "{\"A\":1}", "1", "true", "\"[]\"", "1e999999", "-0", "9223372036854775808"];
    let args = [
        "{}",
        "[\"\\ud800\"]",
        "[\"\\u0000\"]",
        "[\"a\",null]",
        "[\"a\"",
        "[\"a\"]]",
        "[\"a\",]",
        "['a']",
        "\u{feff}[]",
        "[[]]",
        "[\"a\"] [\"b\"]",
    ];
    let env = [
        "[]",
        "{\"A\":null,\"A\":\"x\"}",
        "{\"A\":\"1\",\"A\":\"2\"}",
        "{\"\":\"x\"}",
        "{\"A=B\":\"x\"}",
        "{\"A\":\"\\u0000\"}",
        "{\"A\":[]}",
        "{\"A\":\"\\udc00\"}",
    ];
    let bombs =
        ["[".repeat(4000), "{\"a\":".repeat(600), format!("{{{keys}}}"), format!("[{}]", vec!["0"; 1500].join(","))];
    let for_args = common.iter().chain(&args).map(|text| ("args", (*text).to_owned()));
    let for_env = common.iter().chain(&env).map(|text| ("env", (*text).to_owned()));
    let bombs = bombs.iter().flat_map(|bomb| [("args", bomb.clone()), ("env", bomb.clone())]);
    for (name, text) in for_args.chain(for_env).chain(bombs) {
        let target = with_query(&stream, &[("command", "touch"), (name, &text)]);
        refused(&server.request("GET", &target, &[], b""), name, &text);
    }
    for (name, raw) in
        [("args", "[%22%ff%22]"), ("env", "{%22A%22:%22%ed%a0%80%22}"), ("args", "%00[]"), ("args", "[]&args=[]")]
    {
        let answer = server.request("GET", &format!("{stream}?command=touch&{name}={raw}"), &[], b"");
        assert_eq!(answer.status, 400, "{raw}: {}", answer.text());
    }
    let long = with_query(&stream, &[("command", "touch"), ("args", &"[".repeat(200_000))]);
    let answer = server.client().request("GET", &long, &[], b"");
    assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status == 414), "a line has a bound");
    assert_eq!(server.sh(&id, "echo well"), "well");
    // The control: right ones are taken, escapes decoded once.
    let pairs =
        [("command", "sh"), ("args", r#"["-c","printf %s \"$A$1\"","sh","%41\u00e9"]"#), ("env", r#"{"A":"+%20"}"#)];
    let events = server.events("GET", &with_query(&stream, &pairs), &Value::Null).rest();
    assert_eq!(events[1].json().1["data"], "+%20%41é");
}

#[test]
fn what_names_no_sandbox_or_process_is_not_found() {
    let server = Server::start();
    let id = server.create(json!({}));
    let document = description(&server);
    let ids = ["x", "..", "%2e%2e", "a%00", "-", "1", &id.to_uppercase(), &format!("{id}a"), &id[1..], &"a".repeat(32)];
    let items = ["-1", "0", "00", "x", "..", "%2e%2e", "self", "2%00", "18446744073709551618", "36893488147419103234"];
    // 1 is the sandbox's own first process. A terminal's id is a larger number than a pid.
    let mut pids: Vec<String> = items.into_iter().chain(["1", "2147483648", "4294967295"]).map(str::to_owned).collect();
    let ptys: Vec<String> = items.map(str::to_owned).into();
    // What another reader would take for a process that is there.
    let pid = server.launch(&id, json!({"command": "sleep", "args": ["9101"]}));
    let escaped: String = pid.to_string().bytes().map(|digit| format!("%{digit:x}")).collect();
    pids.extend([format!("0{pid}"), format!("+{pid}"), format!("-{pid}"), format!("{pid}.0"), format!("0x{pid:x}")]);
    pids.extend([format!("{pid}%20"), format!("%20{pid}"), format!("{pid}%00"), format!("{pid}x"), escaped]);
    pids.extend([(pid + (1 << 32)).to_string(), (u128::from(pid) + (1 << 64)).to_string(), format!("{pid}%d9%a1")]);
    let mut tried = 0;
    for operation in operations(&document) {
        if operation.described["responses"]["200"]["content"]["text/html"].is_object() {
            continue; // A page is asked for by people, and says so in its own words.
        }
        let has_body = operation.described["requestBody"].is_object();
        let query = if has_body { String::new() } else { with_query("", &base(&operation)) };
        let ask = |path: &str| {
            let body: &[u8] = if has_body {
                br#"{"command":"touch","cols":80,"rows":24,"path":"x","content":"x","source":"x","destination":"y"}"#
            } else {
                b""
            };
            server.request(&operation.method, &format!("{path}{query}"), operation.headers(), body)
        };
        for bad in ids.iter().filter(|_| operation.path.contains("{id}")) {
            let answer = ask(&with_names(&operation.path, bad, "2"));
            let error = answer.json();
            assert_eq!((answer.status, &error["code"]), (404, &json!(2001)), "{} {bad}: {error}", operation.path);
            tried += 1;
        }
        let (items, code) = match operation.path.as_str() {
            path if path.contains("{pid}") => (&pids[..], 4001),
            path if path.contains("{pty_id}") => (&ptys[..], 4101),
            _ => continue,
        };
        for bad in items {
            let answer = ask(&with_names(&operation.path, &id, bad));
            let error = answer.json();
            assert_eq!((answer.status, &error["code"]), (404, &json!(code)), "{} {bad}: {error}", operation.path);
            tried += 1;
        }
    }
    assert!(tried > 100, "{tried} cases");
    let shown = server.get(&server.process_path(&id, pid)).expect(200).json();
    assert_eq!(shown["state"], "running", "the control: it is there, and nobody reached it");
    assert_eq!(server.sh(&id, "echo well"), "well");
}
