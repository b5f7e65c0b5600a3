//! MCP without a handshake: every request says all, its head agrees with its body, and closing the answer cancels.

use crate::kit::{Response, Server, encode, messages, modern, until};
use serde_json::{Value, json};

fn send(server: &Server, message: &Value, fields: &[(String, String)]) -> Response {
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    server.request("POST", "/mcp/full", &fields, message.to_string().as_bytes())
}

fn ask(server: &Server, method: &str, params: Value) -> Response {
    let (message, fields) = modern(method, params);
    send(server, &message, &fields)
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: i64) {
    assert_eq!((answer.status, answer.json()["error"]["code"].as_i64()), (status, Some(code)), "{}", answer.text());
    assert_eq!(answer.json()["id"], 7);
}

#[test]
fn discovered_listed_and_called() {
    let server = Server::start();
    let id = server.create(json!({}));
    let found = ask(&server, "server/discover", json!({})).expect(200).json()["result"].clone();
    assert_eq!((&found["resultType"], &found["supportedVersions"][0]), (&json!("complete"), &json!("2026-07-28")));
    assert!(found["capabilities"]["tools"].is_object() && found["ttlMs"].is_u64() && found["instructions"].is_string());
    let listed = ask(&server, "tools/list", json!({})).expect(200).json()["result"].clone();
    assert_eq!((listed["tools"].as_array().map(Vec::len), &listed["cacheScope"]), (Some(14), &json!("private")));
    let call = json!({"name": "process_run", "arguments": {"sandbox_id": id, "command": "echo", "args": ["hi"]}});
    let called = ask(&server, "tools/call", call).expect(200).json()["result"].clone();
    assert_eq!((&called["resultType"], &called["structuredContent"]["stdout"]), (&json!("complete"), &json!("hi\n")));
    assert_eq!(called["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "elevo-workspace");
    for method in ["ping", "initialize", "logging/setLevel", "no/such"] {
        refused(&ask(&server, method, json!({})), 404, -32601);
    }
    for method in ["GET", "DELETE"] {
        let fields = [("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", "x")];
        assert_eq!(server.request(method, "/mcp/full", &fields, b"").status, 405, "{method}");
    }
}

#[test]
fn what_is_missing_or_differs_is_refused_before_it_acts() {
    let server = Server::start();
    let id = server.create(json!({}));
    let other = server.create(json!({}));
    let call = json!({"name": "process_run", "arguments": {"sandbox_id": id, "command": "touch", "args": ["ran"]}});
    let (message, fields) = modern("tools/call", call);
    for name in ["mcp-protocol-version", "mcp-method", "mcp-name", "mcp-param-sandbox-id"] {
        let without: Vec<_> = fields.iter().filter(|(field, _)| field != name).cloned().collect();
        refused(&send(&server, &message, &without), 400, -32020);
        let twice = [fields.clone(), fields.iter().filter(|(field, _)| field == name).cloned().collect()].concat();
        refused(&send(&server, &message, &twice), 400, -32020);
        for wrong in ["x", &other, "", "=?base64?!?=", "2025-11-25"] {
            let mut differs = without.clone();
            differs.push((name.to_owned(), wrong.to_owned()));
            refused(&send(&server, &message, &differs), 400, -32020);
        }
    }
    let mut bare = message.clone();
    bare["params"]["_meta"].as_object_mut().expect("meta").remove("io.modelcontextprotocol/clientCapabilities");
    refused(&send(&server, &bare, &fields), 400, -32602);
    let mut future = message.clone();
    future["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
    let mut future_fields = fields.clone();
    future_fields.iter_mut().filter(|(name, _)| name == "mcp-protocol-version").for_each(|f| f.1 = "2099-01-01".into());
    let answer = send(&server, &future, &future_fields);
    refused(&answer, 400, -32022);
    assert_eq!(answer.json()["error"]["data"]["requested"], "2099-01-01");
    assert_eq!(server.sh(&id, "ls"), "", "nothing of it ran");
    assert_eq!(server.sh(&other, "ls"), "");
    send(&server, &message, &fields).expect(200);
    assert_eq!(server.sh(&id, "ls"), "ran", "the one that agrees does");
}

#[test]
fn closing_the_answer_ends_the_command() {
    let server = Server::start();
    let id = server.create(json!({}));
    for meta in [json!({}), json!({"progressToken": 1})] {
        let call = json!({"name": "process_run", "arguments": {"sandbox_id": id, "command": "sleep", "args": ["7311"]}, "_meta": meta});
        let (message, fields) = modern("tools/call", call);
        let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut client = server.client();
        client.send(&encode("localhost", "POST", "/mcp/full", &fields, message.to_string().as_bytes())).expect("send");
        let alive = || server.own_processes().iter().filter(|p| p.command_line().contains("sleep 7311")).count();
        until("it runs", 20, || alive() == 1);
        drop(client);
        until("it is gone", 2, || alive() == 0);
    }
}

#[test]
fn a_subscription_is_acknowledged_and_stays_open() {
    let server = Server::start();
    let (message, fields) = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let mut client = server.client();
    client.send(&encode("localhost", "POST", "/mcp/full", &fields, message.to_string().as_bytes())).expect("send");
    let mut answer = client.head().expect("head");
    assert_eq!((answer.status, answer.header("x-accel-buffering")), (200, Some("no")));
    answer.body = client.chunk().expect("a chunk").expect("an event");
    let first = messages(&answer).remove(0);
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7, "{first}");
}
