//! Every field of create and run, tried wrong in every way: 4xx that names the field, and nothing changed.
//!
//! The table is made from the schemas of `openapi.json`, so a new field is tried without a new line here.
//! `null` is no case: it counts as absent, also in a map, because deployed clients send it for what was not set.
//! Attacks T05, T06, T07.

use crate::kit::{Response, Server};
use crate::openapi::{body_properties, description, resolved};
use serde_json::{Map, Value, json};

const CREATE: &str = "/api/v1/sandboxes";

/// A body as text, because some wrong numbers and strings are no `Value`.
struct Case {
    field: String,
    body: String,
}

fn refused(answer: &Response, case: &Case) {
    let shown: String = case.body.chars().take(200).collect();
    assert!((400..500).contains(&answer.status), "{}: {} for {shown}", case.field, answer.status);
    answer.assert_error_form();
    let error = answer.json();
    let said = format!("{} {}", error["message"], error["details"]);
    assert!(said.contains(&case.field), "the error names {}: {said} for {shown}", case.field);
}

/// Wrong values of a type, as JSON text. `field` helps where a name decides what is allowed.
fn wrong_values(document: &Value, schema: &Value) -> Vec<String> {
    let schema = without_null(document, schema);
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or("");
    let mut wrong: Vec<&str> = Vec::new();
    let all = [
        ("\"x\"", "string"),
        ("5", "integer"),
        ("1.5", "number"),
        ("true", "boolean"),
        ("[5]", "array"),
        ("{\"a\":5}", "object"),
    ];
    let accepts = |other: &str| other == kind || (kind == "number" && other == "integer");
    wrong.extend(all.iter().filter(|(_, other)| !accepts(other)).map(|(text, _)| *text));
    let mut wrong: Vec<String> = wrong.into_iter().map(str::to_owned).collect();
    match kind {
        "integer" | "number" => wrong.extend(NUMBERS_ALWAYS_WRONG.iter().map(|n| (*n).to_owned())),
        "array" => wrong.extend(["[5]", "[null]", "[\"a\\u0000\"]", "[[]]", "[\"a\", {}]"].map(str::to_owned)),
        "object" if schema["additionalProperties"].is_object() => {
            wrong.extend(["{\"\":\"x\"}", "{\"a\":5}", "{\"a\":[\"x\"]}", "{\"a\\u0000\":\"x\"}"].map(str::to_owned));
        }
        _ => {}
    }
    wrong
}

const NUMBERS_ALWAYS_WRONG: &[&str] =
    &["-1", "9223372036854775808", "18446744073709551616", "-9223372036854775809", "\"1\""];

fn without_null<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let schema = resolved(document, schema);
    let choices = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    let real = choices.and_then(|c| c.iter().find(|s| s["type"] != "null"));
    real.map_or(schema, |s| resolved(document, s))
}

/// One case per property and wrong value, below `resources` too.
fn cases(document: &Value, properties: &Map<String, Value>, base: &Value) -> Vec<Case> {
    let mut all = Vec::new();
    for (field, schema) in properties {
        for wrong in wrong_values(document, schema) {
            all.push(with_field(base, field, &wrong));
        }
        if let Some(inner) = without_null(document, schema)["properties"].as_object() {
            for (name, schema) in inner {
                for wrong in wrong_values(document, schema) {
                    let mut case = with_field(base, field, &format!("{{\"{name}\":{wrong}}}"));
                    case.field = name.clone();
                    all.push(case);
                }
            }
        }
    }
    all
}

fn with_field(base: &Value, field: &str, text: &str) -> Case {
    let mut parts = vec![format!("\"{field}\":{text}")];
    let others = base.as_object().into_iter().flatten().filter(|(name, _)| *name != field);
    parts.extend(others.map(|(name, value)| format!("\"{name}\":{value}")));
    Case { field: field.to_owned(), body: format!("{{{}}}", parts.join(",")) }
}

/// What a type alone does not say: bounds and forbidden characters of single fields.
fn special(base: &Value, table: &[(&str, &str)]) -> Vec<Case> {
    table.iter().map(|(field, text)| with_field(base, field, text)).collect()
}

#[test]
fn create_refuses_every_wrong_field() {
    let server = Server::start();
    let kept = server.create(json!({"name": "kept"}));
    let before = server.list();
    let document = description(&server);
    let mut all = cases(&document, body_properties(&document, "post", CREATE), &json!({}));
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    let (name, value, key, large) = (
        long(257),
        format!("{{\"A\":{}}}", long(40_000)),
        format!("{{{}:\"x\"}}", long(65)),
        format!("{{\"A\":{}}}", long(5000)),
    );
    let many: Vec<String> = (0..300).map(|n| format!("\"V{n}\":\"x\"")).collect();
    let many = format!("{{{}}}", many.join(","));
    all.extend(special(
        &json!({}),
        &[
            ("name", "\"a\\u0000b\""),
            ("name", "\"a\\nb\""),
            ("name", "\"\\u001b[2J\""),
            ("name", &name),
            ("template", "\"\\u0000\""),
            ("template", &long(5000)),
            ("runtime", "\"vm\""),
            ("network", "\"host\""),
            ("env", "{\"A=B\":\"x\"}"),
            ("env", "{\"A\":\"x\\u0000\"}"),
            ("env", &value),
            ("env", &many),
            ("metadata", &many),
            ("metadata", &key),
            ("metadata", &large),
            ("timeout", "4294967296000"),
            ("idle_timeout", "9007199254740993"),
            ("resources", "{\"memory_bytes\":1}"),
            ("resources", "{\"cpus\":0}"),
            ("resources", "{\"cpus\":-0.5}"),
            ("resources", "{\"cpus\":1e9}"),
            ("resources", "{\"pids\":0}"),
            ("resources", "{\"pids\":4294967296}"),
            ("resources", "{\"disk_bytes\":1}"),
        ],
    ));
    assert!(all.len() > 80, "{} cases", all.len());
    for case in &all {
        let answer = server.request("POST", CREATE, &[], case.body.as_bytes());
        if case.field == "template" && answer.status == 404 {
            answer.expect_error(404, 2003);
        } else {
            refused(&answer, case);
        }
    }
    assert_eq!(server.list(), before, "{} refused bodies changed nothing", all.len());
    assert_eq!(server.sh(&kept, "echo well"), "well");
}

#[test]
fn run_refuses_every_wrong_field() {
    let server = Server::start();
    let id = server.create(json!({}));
    let before = server.list();
    let path = format!("{CREATE}/{id}/process/run");
    let document = description(&server);
    let properties = body_properties(&document, "post", &format!("{CREATE}/{{id}}/process/run"));
    let base = json!({"command": "sh", "args": ["-c", "touch /workspace/ran"]});
    let mut all = cases(&document, properties, &base);
    let long = |n: usize| format!("\"{}\"", "x".repeat(n));
    let (command, cwd) = (long(4097), long(4096));
    let args: Vec<&str> = vec!["\"\""; 300_000];
    let args = format!("[{}]", args.join(","));
    all.extend(special(
        &base,
        &[
            ("command", "null"),
            ("command", "\"\""),
            ("command", "\"sh\\u0000\""),
            ("command", &command),
            ("cwd", "\"/tmp\\u0000\""),
            ("cwd", &cwd),
            ("env", "{\"A=B\":\"x\"}"),
            ("env", "{\"A\":\"x\\u0000\"}"),
            ("user", "\"\""),
            ("user", "\"-1\""),
            ("user", "\"4294967295\""),
            ("user", "\"root\\u0000\""),
            ("encoding", "\"latin1\""),
            ("encoding", "\"\""),
            ("max_output_bytes", "18446744073709551615"),
        ],
    ));
    assert!(all.len() > 60, "{} cases", all.len());
    for case in &all {
        refused(&server.request("POST", &path, &[], case.body.as_bytes()), case);
    }
    let crowd = with_field(&base, "args", &args);
    let answer = server.request("POST", &path, &[], crowd.body.as_bytes());
    let too_long = answer.status == 200 && answer.json()["exit_code"] == 126;
    assert!(too_long || matches!(answer.status, 400 | 413), "{}", answer.text());
    assert_eq!(server.list(), before);
    let ran = server.run(&id, json!({"command": "test", "args": ["-e", "/workspace/ran"]}));
    assert_eq!(ran["exit_code"], 1, "none of {} refused bodies started anything", all.len());
    for answer in [server.request("POST", &path, &[], b"{}"), server.request("POST", &path, &[], br#"{"args":["x"]}"#)]
    {
        assert!(answer.status == 400 && answer.text().contains("command"), "{}", answer.text());
    }
}

#[test]
fn json_bombs_are_refused() {
    let server = Server::start();
    let id = server.create(json!({}));
    let before = server.list();
    let run = format!("{CREATE}/{id}/process/run");
    let keys: Vec<String> = (0..60_000).map(|n| format!("\"k{n}\":1")).collect();
    let mut bodies: Vec<Vec<u8>> = vec![
        b"[".repeat(200_000),
        b"{\"a\":".repeat(100_000),
        format!("{{\"env\":{{{}}}}}", keys.join(",")).into_bytes(),
        b"{\"name\":\"\xff\xfe\"}".to_vec(),
        b"{\"name\":\"\xed\xa0\x80\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        br#"{"name":"\ud800"}"#.to_vec(),
        br#"{"name":"\udc00\ud800"}"#.to_vec(),
        br#"{"timeout":1e999999}"#.to_vec(),
        br#"{"timeout":1e400}"#.to_vec(),
        br#"{"timeout":01}"#.to_vec(),
        br#"{"timeout":NaN}"#.to_vec(),
        br#"{"name":"a"} {"name":"b"}"#.to_vec(),
        br#"{"name":"a",}"#.to_vec(),
        br#"{'name':'a'}"#.to_vec(),
        br#"{/**/}"#.to_vec(),
        b"null".to_vec(),
        b"\"{}\"".to_vec(),
        b"{\"name\":\"a\nb\"}".to_vec(),
    ];
    bodies.push([b"{\"metadata\":".as_slice(), &b"[".repeat(1000), &b"]".repeat(1000), b"}"].concat());
    for body in &bodies {
        for path in [CREATE, &run] {
            let answer = server.request("POST", path, &[], body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(answer.status, 400, "{path}: {shown}: {}", answer.text());
            answer.assert_error_form();
        }
    }
    let escapes = format!("{{\"name\":\"{}\"}}", "\\u0041".repeat(170_000));
    let answer = server.request("POST", CREATE, &[], escapes.as_bytes());
    assert!(matches!(answer.status, 400 | 413), "{}", answer.status);
    assert_eq!(server.list(), before);
    assert_eq!(server.sh(&id, "echo well"), "well");
}

#[test]
fn a_field_given_twice_is_settled_one_way() {
    let server = Server::start();
    let id = server.create(json!({}));
    let run = format!("{CREATE}/{id}/process/run");
    let twice = br#"{"command":"false","command":"true"}"#;
    let answers: Vec<Response> = (0..5).map(|_| server.request("POST", &run, &[], twice)).collect();
    let settled = |r: &Response| (r.status, if r.status == 200 { r.json()["exit_code"].clone() } else { Value::Null });
    assert!(answers.iter().all(|r| settled(r) == settled(&answers[0])));
    assert!(answers[0].status == 400 || answers[0].json()["exit_code"] == 0, "refused, or the last one wins");
}

#[test]
fn numbers_at_their_edges_are_taken_or_refused_never_bent() {
    let server = Server::start();
    for timeout in
        [1_u64, 65_536, 2_147_483_647, 2_147_483_648, 4_294_967_295, 4_294_967_296, 9_223_372_036_854_775_807]
    {
        let answer = server.post(CREATE, &json!({"timeout": timeout}));
        if answer.status == 201 {
            let made = answer.json();
            assert_eq!(made["timeout"], json!(timeout));
            assert!(made["expires_at"].is_string(), "{timeout} does not become never: {made}");
            server.request("DELETE", &format!("{CREATE}/{}?force=true", made["id"].as_str().expect("id")), &[], b"");
        } else {
            assert!(answer.status == 400 && answer.text().contains("timeout"), "{timeout}: {}", answer.text());
        }
    }
    let id = server.create(json!({}));
    let run = format!("{CREATE}/{id}/process/run");
    for timeout in [65_536_u64, 2_147_483_648, 4_294_967_296, 315_360_000_000, 9_223_372_036_854_775_807] {
        let answer = server.post(&run, &json!({"command": "sleep", "args": ["0.05"], "timeout": timeout}));
        let well = answer.status == 200 && answer.json()["exit_code"] == 0;
        assert!(well || answer.status == 400, "{timeout} does not become now: {}", answer.text());
    }
    for limit in ["0", "-1", "1001", "4294967297", "18446744073709551616", "1.5", "x", "", "1%201"] {
        let answer = server.get(&format!("{CREATE}?limit={limit}"));
        assert_eq!(answer.status, 400, "limit={limit}: {}", answer.text());
        assert!(answer.text().contains("limit"), "{}", answer.text());
    }
}
