//! Every field of every body, tried wrong in every way: 4xx that names the field, and nothing changed.
//!
//! The table is made from the schemas of `openapi.json`, so a new field or operation is tried without a new line here.
//! `null` is no case: it counts as absent, also in a map, because deployed clients send it for what was not set.
//! Attacks T06, T07 and T08.

use crate::kit::{Response, Server};
use crate::openapi::{description, operations, resolved, with_names};
use serde_json::{Map, Value, json};

const CREATE: &str = "/api/v1/sandboxes";

/// A body as text, because some wrong numbers and strings are no `Value`.
struct Case {
    field: String,
    body: String,
}

/// Panics unless the answer is a failure that names the field.
#[track_caller]
pub(crate) fn refused(answer: &Response, field: &str, shown: &str) {
    let shown: String = shown.chars().take(200).collect();
    assert!((400..500).contains(&answer.status), "{field}: {} for {shown}", answer.status);
    answer.assert_error_form();
    let error = answer.json();
    let said = format!("{} {}", error["message"], error["details"]);
    assert!(said.contains(field), "the error names {field}: {said} for {shown}");
}

/// Wrong values of a type, as JSON text.
fn wrong_values(document: &Value, schema: &Value) -> Vec<String> {
    let kinds = kinds(document, schema);
    let is = |kind: &str| kinds.iter().any(|k| k == kind);
    let all = [
        ("\"\u{1f4a3}\"", "string"),
        ("5000", "integer"),
        ("1.5", "number"),
        ("true", "boolean"),
        ("[5]", "array"),
        ("{\"a\":5}", "object"),
    ];
    let accepts = |other: &str| is(other) || (is("number") && other == "integer");
    let mut wrong: Vec<&str> = all.iter().filter(|(_, other)| !accepts(other)).map(|(text, _)| *text).collect();
    if is("integer") || is("number") {
        wrong.extend(NUMBERS_ALWAYS_WRONG);
    }
    if is("array") {
        wrong.extend(["[5]", "[null]", "[\"a\\u0000\"]", "[[]]", "[\"a\", {}]"]);
    }
    if resolved(document, schema)["additionalProperties"].is_object() {
        wrong.extend(["{\"\":\"x\"}", "{\"a\":5}", "{\"a\":[\"x\"]}", "{\"a\\u0000\":\"x\"}"]);
    }
    wrong.into_iter().map(str::to_owned).collect()
}

const NUMBERS_ALWAYS_WRONG: &[&str] =
    &["-1", "9223372036854775808", "18446744073709551616", "-9223372036854775809", "\"1\""];

/// The types that a schema allows, without null.
pub(crate) fn kinds(document: &Value, schema: &Value) -> Vec<String> {
    let schema = resolved(document, schema);
    let own = schema["type"].as_array().cloned().unwrap_or_else(|| vec![schema["type"].clone()]);
    let own = own.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").map(str::to_owned);
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    own.chain(choices.into_iter().flatten().flat_map(|choice| kinds(document, choice))).collect()
}

/// One case per property and wrong value, those of objects within too.
fn cases(document: &Value, properties: &Map<String, Value>, base: &Value) -> Vec<Case> {
    let mut all = Vec::new();
    for (field, schema) in properties {
        all.extend(wrong_values(document, schema).iter().map(|wrong| with_field(base, field, wrong)));
        for (name, schema) in inner(document, schema).into_iter().flatten() {
            for wrong in wrong_values(document, schema) {
                let mut case = with_field(base, field, &format!("{{\"{name}\":{wrong}}}"));
                case.field = name.clone();
                all.push(case);
            }
        }
    }
    all
}

/// The fields of an object within.
fn inner<'a>(document: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    let schema = resolved(document, schema);
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    let within = choices.and_then(|all| all.iter().find_map(|choice| inner(document, choice)));
    within.or_else(|| schema["properties"].as_object())
}

fn with_field(base: &Value, field: &str, text: &str) -> Case {
    let mut parts = vec![format!("\"{field}\":{text}")];
    let others = base.as_object().into_iter().flatten().filter(|(name, _)| *name != field);
    parts.extend(others.map(|(name, value)| format!("\"{name}\":{value}")));
    Case { field: field.to_owned(), body: format!("{{{}}}", parts.join(",")) }
}

/// What a type alone does not say: bounds and forbidden characters of a field, wherever it is one.
fn out_of_bounds(field: &str) -> Vec<String> {
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    let many = || (0..300).map(|n| format!("\"V{n}\":\"x\"")).collect::<Vec<_>>().join(",");
    let text: Vec<&str> = match field {
        "command" | "shell" => vec!["\"\"", "\"sh\\u0000\"", "\"\\u0000\""],
        "cwd" => vec!["\"\"", "\"/tmp\\u0000\"", "\"\\u0000/../..\""],
        "env" => vec!["{\"A=B\":\"x\"}", "{\"A\":\"x\\u0000\"}", "{\"=\":\"x\"}"],
        "name" | "tag" => vec!["\"a\\u0000b\"", "\"a\\nb\"", "\"\\u001b[2J\"", "\"\\u009b2J\"", "\"a\\r\""],
        "template" => vec!["\"\\u0000\"", "\"\""],
        "runtime" => vec!["\"vm\"", "\"\""],
        "network" => vec!["\"host\"", "\"\""],
        "user" => USERS.to_vec(),
        "encoding" => vec!["\"latin1\"", "\"\"", "\"UTF8\""],
        "signal" => SIGNALS.to_vec(),
        "cols" | "rows" => vec!["0", "4097", "65536", "4294967296", "65616"],
        "max_output_bytes" => vec!["0", "67108865", "18446744073709551615", "4294967296"],
        "timeout" | "idle_timeout" => vec!["9007199254740993", "9223372036854775807", "18446744073709551615"],
        "resources" => vec![
            "{\"memory_bytes\":1}",
            "{\"cpus\":0}",
            "{\"cpus\":-0.5}",
            "{\"cpus\":1e9}",
            "{\"pids\":0}",
            "{\"pids\":4294967296}",
            "{\"disk_bytes\":1}",
        ],
        _ => vec![],
    };
    let long = match field {
        "command" | "shell" => vec![long(4097)],
        "cwd" => vec![long(4096)],
        "name" | "tag" => vec![long(257)],
        "template" => vec![long(5000)],
        "env" => vec![format!("{{\"A\":{}}}", long(40_000)), format!("{{{}}}", many())],
        "metadata" => vec![
            format!("{{{}}}", many()),
            format!("{{{}:\"x\"}}", long(65)),
            format!("{{\"A\":{}}}", long(5000)),
            "{\"a\":\"\\u0000\"}".to_owned(),
        ],
        _ => vec![],
    };
    text.into_iter().map(str::to_owned).chain(long).collect()
}

/// Who nobody may be: the kernel's "no change", the agent's and unmapped ids, names that only a passwd file knows.
const USERS: &[&str] = &[
    "\"\"",
    "\"-1\"",
    "\"4294967295\"",
    "\"4294967296\"",
    "\"2147483648\"",
    "\"65534\"",
    "\"nobody\"",
    "\"1000:0\"",
    "\"0:0\"",
    "\"00\"",
    "\"+0\"",
    "\"0x0\"",
    "\" root\"",
    "\"root\\u0000\"",
    "\"root\\n\"",
    "\"Root\"",
    "\"\\u0000\"",
];
const SIGNALS: &[&str] =
    &["0", "65", "4294967305", "-9", "9.0", "\"9\"", "\"\"", "\"SIG\"", "\"SIGSIGKILL\"", "\"KILL\\u0000\"", "\"RT\""];

/// A body in which all that must be there is right.
fn base(document: &Value, schema: &Value) -> Value {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let right = |field: &str| match field {
        "command" => json!("touch"),
        _ if kinds(document, &schema["properties"][field]).iter().any(|kind| kind == "integer") => json!(80),
        _ => json!("x"),
    };
    let mut base: Map<String, Value> = required.map(|field| (field.to_owned(), right(field))).collect();
    // Beside JSON a file's content may come as bytes, so it is not among the fields that are needed.
    if schema["properties"]["content"].is_object() {
        base.insert("content".to_owned(), json!("x"));
    }
    if base.contains_key("command") {
        base.insert("args".to_owned(), json!(["/workspace/ran"]));
    }
    Value::Object(base)
}

#[test]
fn every_body_refuses_every_wrong_field() {
    let server = Server::start();
    let id = server.create(json!({"name": "kept"}));
    let before = server.list();
    let document = description(&server);
    let mut tried = 0;
    for operation in
        operations(&document).iter().filter(|o| o.described["requestBody"]["content"]["application/json"].is_object())
    {
        let path = with_names(&operation.path, &id, "999999");
        let schema = resolved(&document, &operation.described["requestBody"]["content"]["application/json"]["schema"]);
        let base = base(&document, schema);
        let empty = Map::new();
        let properties = schema["properties"].as_object().unwrap_or(&empty);
        let mut all = cases(&document, properties, &base);
        for field in properties.keys() {
            all.extend(out_of_bounds(field).iter().map(|text| with_field(&base, field, text)));
        }
        for case in &all {
            let answer = server.request(&operation.method, &path, &[], case.body.as_bytes());
            if case.field == "template" && answer.status == 404 {
                answer.expect_error(404, 2003);
            } else {
                refused(&answer, &case.field, &format!("{path}: {}", case.body));
            }
        }
        for missing in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let mut body = base.clone();
            body.as_object_mut().map(|fields| fields.remove(missing));
            for body in [body.to_string(), with_field(&base, missing, "null").body] {
                refused(&server.request(&operation.method, &path, &[], body.as_bytes()), missing, &path);
            }
        }
        for body in ["[]", "5", "\"x\"", "null", "true", "[{}]"] {
            let answer = server.request(&operation.method, &path, &[], body.as_bytes());
            assert_eq!(answer.status, 400, "{path}: {body}: {}", answer.text());
        }
        tried += all.len();
    }
    assert!(tried > 300, "{tried} cases");
    assert_eq!(server.list(), before, "{tried} refused bodies changed nothing");
    let ran = server.run(&id, json!({"command": "test", "args": ["-e", "/workspace/ran"]}));
    assert_eq!(ran["exit_code"], 1, "none of {tried} refused bodies started anything");
    let alive = server.run(&id, json!({"command": "sh", "args": ["-c", "ls -d /proc/[0-9]* | wc -l"]}));
    assert!(alive["stdout"].as_str().is_some_and(|count| count.trim().parse::<u32>().is_ok_and(|n| n < 8)), "{alive}");
}

/// The control: what the table starts from is right, so each refusal was for the field alone.
#[test]
fn the_bodies_without_a_wrong_field_are_right() {
    let server = Server::start();
    let id = server.create(json!({}));
    let document = description(&server);
    for operation in
        operations(&document).iter().filter(|o| o.described["requestBody"]["content"]["application/json"].is_object())
    {
        let path = with_names(&operation.path, &id, "999999");
        let schema = resolved(&document, &operation.described["requestBody"]["content"]["application/json"]["schema"]);
        let body = base(&document, schema).to_string();
        let mut client = server.client();
        let head = format!(
            "{} {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            operation.method,
            server.address(),
            body.len()
        );
        client.send(head.as_bytes()).expect("send");
        let answer = client.response("POST").expect("answer");
        assert!(!matches!(answer.status, 400 | 413 | 415), "{path} {body}: {} {}", answer.status, answer.text());
    }
    assert_eq!(server.sh(&id, "ls /workspace/ran"), "/workspace/ran");
}

#[test]
fn too_much_for_exec_is_said_and_never_cut() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = format!("{CREATE}/{id}/process/run");
    let args: Vec<&str> = vec!["\"\""; 300_000];
    let answer = server.request(
        "POST",
        &path,
        &[],
        format!("{{\"command\":\"true\",\"args\":[{}]}}", args.join(",")).as_bytes(),
    );
    let too_long = answer.status == 200 && answer.json()["exit_code"] == 126;
    assert!(too_long || matches!(answer.status, 400 | 413), "{}", answer.text());
    for bytes in [131_071, 131_072, 500_000] {
        let body = json!({"command": "sh", "args": ["-c", "printf %s ${#1}", "sh", "x".repeat(bytes)]});
        let answer = server.run(&id, body);
        let whole = answer["exit_code"] == 0 && answer["stdout"] == *bytes.to_string();
        assert!(whole || answer["exit_code"] == 126, "{bytes}: {} {}", answer["exit_code"], answer["stdout"]);
    }
}
