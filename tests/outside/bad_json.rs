//! JSON that is too deep, too wide, too odd, or not JSON, as the body of every operation. Attacks T05 and T07.

use crate::kit::{Response, Server};
use crate::openapi::{description, operations, with_names};
use serde_json::{Value, json};

const CREATE: &str = "/api/v1/sandboxes";

fn bombs() -> Vec<Vec<u8>> {
    // More keys and values than a document may have, in less than the longest body.
    let keys: Vec<String> = (0..70_000).map(|n| format!("\"k{n}\":1")).collect();
    vec![
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
        br#"{"x":1,"x":1}"#.to_vec(),
        br#"{"name":"a"} {"name":"b"}"#.to_vec(),
        br#"{"name":"a",}"#.to_vec(),
        br#"{'name':'a'}"#.to_vec(),
        br#"{/**/}"#.to_vec(),
        b"null".to_vec(),
        b"\"{}\"".to_vec(),
        b"{\"name\":\"a\nb\"}".to_vec(),
        [b"{\"metadata\":".as_slice(), &b"[".repeat(1000), &b"]".repeat(1000), b"}"].concat(),
    ]
}

#[test]
fn json_bombs_are_refused() {
    let server = Server::start();
    let id = server.create(json!({}));
    let before = server.list();
    let document = description(&server);
    let (bombs, mut routes) = (bombs(), 0);
    for operation in
        operations(&document).iter().filter(|o| o.described["requestBody"]["content"]["application/json"].is_object())
    {
        let path = with_names(&operation.path, &id, "999999");
        routes += 1;
        for body in &bombs {
            let answer = server.request(&operation.method, &path, &[], body);
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(answer.status, 400, "{path}: {shown}: {}", answer.text());
            answer.assert_error_form();
        }
    }
    assert!(routes >= 6, "{routes} routes");
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
}
