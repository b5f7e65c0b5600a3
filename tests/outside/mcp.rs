//! MCP as today's clients speak it: a handshake, the tools of each set, calls that succeed, fail, go on and are ended.

use crate::kit::{Mcp, Server, messages, until};
use serde_json::{Value, json};

fn alive(server: &Server, text: &str) -> usize {
    server.own_processes().iter().filter(|p| p.command_line().contains(text)).count()
}

fn error_code(message: &Value) -> i64 {
    message["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {message}"))
}

#[test]
fn each_set_has_its_tools_and_they_work() {
    let server = Server::start();
    let id = server.create(json!({}));
    for (set, count) in [("executor", 1), ("developer", 6), ("full", 14)] {
        let mut session = Mcp::begin(&server, set);
        assert_eq!(session.ask("ping", json!({}))["result"], json!({}));
        let tools = session.ask("tools/list", json!({}))["result"]["tools"].clone();
        assert_eq!(tools.as_array().map(Vec::len), Some(count), "{set}");
        let hello = json!({"sandbox_id": id, "command": "echo", "args": ["Hello, World!"]});
        let result = session.call("process_run", hello);
        assert_eq!(
            (&result["isError"], &result["structuredContent"]["stdout"]),
            (&json!(false), &json!("Hello, World!\n"))
        );
        let text: Value = serde_json::from_str(result["content"][0]["text"].as_str().expect("text")).expect("JSON");
        assert_eq!(text, result["structuredContent"], "text and structure agree");
        assert_eq!(session.end().status, 204);
        assert_eq!(session.end().status, 404, "it has ended");
        assert_eq!(session.send(&json!({"jsonrpc": "2.0", "id": 9, "method": "ping"})).status, 404);
    }
}

#[test]
fn files_and_sandboxes_by_tools_alone() {
    let server = Server::start();
    let mut session = Mcp::begin(&server, "full");
    let sandbox = session.call("sandbox_create", json!({"name": "by a model"}))["structuredContent"].clone();
    let id = sandbox["id"].as_str().expect("id").to_owned();
    let mut call = |tool: &str, mut arguments: Value| {
        arguments["sandbox_id"] = json!(id);
        let result = session.call(tool, arguments);
        assert_eq!(result["isError"], false, "{tool}: {result}");
        result["structuredContent"].clone()
    };
    call("file_mkdir", json!({"path": "a/b", "recursive": true}));
    call("file_write", json!({"path": "a/b/c.txt", "content": "zwölf\n"}));
    assert_eq!(call("file_read", json!({"path": "a/b/c.txt"}))["content"], "zwölf\n");
    let part = call("file_read", json!({"path": "a/b/c.txt", "limit": 3}));
    assert_eq!((&part["content"], &part["next_offset"]), (&json!("zw"), &json!(2)), "no character is cut");
    let rest = call("file_read", json!({"path": "a/b/c.txt", "offset": 2}));
    assert_eq!((&rest["content"], &rest["next_offset"]), (&json!("ölf\n"), &Value::Null));
    call("file_move", json!({"src": "a/b/c.txt", "dst": "d.txt"}));
    call("file_copy", json!({"src": "d.txt", "dst": "e.txt"}));
    assert_eq!(call("file_info", json!({"path": "e.txt"}))["size"], 7);
    call("file_remove", json!({"path": "a", "recursive": true}));
    let names: Vec<Value> =
        call("file_list", json!({}))["files"].as_array().expect("files").iter().map(|f| f["name"].clone()).collect();
    assert_eq!(names, [json!("d.txt"), json!("e.txt")]);
    assert_eq!(call("sandbox_get", json!({}))["name"], "by a model");
    call("sandbox_delete", json!({"force": true}));
    assert_eq!(session.call("sandbox_list", json!({}))["structuredContent"]["total"], 0);
}

#[test]
fn what_fails_says_the_next_step_and_the_server_goes_on() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "developer");
    for (tool, arguments, word) in [
        ("process_run", json!({"command": "true"}), "`sandbox_id` is missing"),
        ("process_run", json!({"sandbox_id": "../x", "command": "true"}), "sandbox_not_found (2001)"),
        ("process_run", json!({"sandbox_id": id}), "`command` is missing"),
        ("process_run", json!({"sandbox_id": id, "command": 1}), "`command` must be a string"),
        ("process_run", json!({"sandbox_id": id, "command": "true", "timeout": 1.5}), "whole seconds"),
        ("file_read", json!({"sandbox_id": id, "path": "none"}), "file_not_found (3001)"),
        ("file_read", json!({"sandbox_id": id, "path": "/"}), "is_a_directory (3007)"),
    ] {
        let result = session.call(tool, arguments);
        let text = result["content"][0]["text"].as_str().expect("text");
        assert!(result["isError"] == true && text.contains(word) && text.contains("\nNext: "), "{text}");
    }
    let timed_out = session.call(
        "process_run",
        json!({"sandbox_id": id, "command": "sh", "args": ["-c", "echo a; sleep 60"], "timeout": 1}),
    );
    assert_eq!((&timed_out["isError"], &timed_out["structuredContent"]["stdout"]), (&json!(true), &json!("a\n")));
    let long = session.call("process_run", json!({"sandbox_id": id, "command": "seq", "args": ["100000"]}));
    assert_eq!(long["structuredContent"]["truncated"], true);
    assert!(long["content"][1]["text"].as_str().is_some_and(|note| note.contains("file_read")), "how to get the rest");
    assert_eq!(
        error_code(&session.ask("tools/call", json!({"name": "file_move", "arguments": {}}))),
        -32602,
        "not of this set"
    );
    assert_eq!(error_code(&session.ask("tools/call", json!({"arguments": {}}))), -32602);
    assert_eq!(error_code(&session.ask("tools/list", json!({"cursor": "x"}))), -32602);
    assert_eq!(error_code(&session.ask("no/such", json!({}))), -32601);
    assert_eq!(session.call("process_run", json!({"sandbox_id": id, "command": "true"}))["isError"], false);
}

#[test]
fn unknown_versions_are_answered_with_ours() {
    let server = Server::start();
    for (asked, given) in [
        ("2025-03-26", "2025-03-26"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2025-11-25"),
        ("2099-01-01", "2025-11-25"),
        ("x", "2025-11-25"),
    ] {
        let params = json!({"protocolVersion": asked, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let answer = server
            .post("/mcp/full", &json!({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params}))
            .expect(200);
        assert_eq!(answer.json()["result"]["protocolVersion"], given, "{asked}");
    }
    let get = server.get("/mcp/full");
    assert_eq!((get.status, get.header("allow")), (405, Some("POST, OPTIONS")));
    assert_eq!(server.get("/mcp/none").status, 404);
    let off = Server::builder().env("WORKSPACE_MCP_MODE", "disabled").start();
    assert_eq!(off.post("/mcp/full", &json!({})).status, 404);
    let moved = Server::builder().env("WORKSPACE_MCP_PATH", "/tools/mcp").start();
    assert_eq!(Mcp::begin(&Server::start(), "full").id.len(), 32);
    assert_eq!(
        (moved.post("/mcp/full", &json!({})).status, moved.post("/tools/mcp/full", &json!({})).status),
        (404, 400)
    );
}

#[test]
fn progress_is_told_and_its_end_is_the_same_answer() {
    let server = Server::start();
    let id = server.create(json!({}));
    let session = Mcp::begin(&server, "executor");
    let script = "for i in 1 2 3; do echo $i; sleep 0.3; done; echo e >&2; exit 4";
    let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "process_run",
        "arguments": {"sandbox_id": id, "command": "sh", "args": ["-c", script]}, "_meta": {"progressToken": "p"}}});
    let told = messages(&session.send(&call).expect(200));
    let (last, progress) = told.split_last().expect("messages");
    assert!(progress.len() >= 3, "{told:?}");
    let mut before = 0.0;
    for one in progress {
        assert_eq!((&one["method"], &one["params"]["progressToken"]), (&json!("notifications/progress"), &json!("p")));
        let now = one["params"]["progress"].as_f64().expect("progress");
        assert!(now > before, "it increases: {told:?}");
        before = now;
    }
    let outcome = &last["result"]["structuredContent"];
    assert_eq!((&last["id"], &outcome["exit_code"]), (&json!(5), &json!(4)), "{last}");
    assert_eq!((&outcome["stdout"], &outcome["stderr"]), (&json!("1\n2\n3\n"), &json!("e\n")));
}

#[test]
fn who_cancels_or_goes_ends_the_command_and_its_descendants() {
    let server = Server::start();
    let id = server.create(json!({}));
    let session = Mcp::begin(&server, "executor");
    for (token, by_notice) in [(None, true), (Some("p"), true), (None, false), (Some("p"), false)] {
        let mut params = json!({"name": "process_run", "arguments":
            {"sandbox_id": id, "command": "sh", "args": ["-c", "setsid sleep 7301 & sleep 7301"]}});
        params["_meta"] = token.map_or(json!({}), |token| json!({"progressToken": token}));
        let client =
            session.begin_request(&json!({"jsonrpc": "2.0", "id": "c", "method": "tools/call", "params": params}));
        until("it runs", 20, || alive(&server, "sleep 7301") >= 2);
        if by_notice {
            let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "c"}});
            session.send(&cancel).expect(202);
            until("canceled: it is gone", 2, || alive(&server, "sleep 7301") == 0);
        } else {
            drop(client);
            until("left: it is gone", 2, || alive(&server, "sleep 7301") == 0);
        }
    }
    let client = session
        .begin_request(&json!({"jsonrpc": "2.0", "id": "d", "method": "tools/call", "params": {"name": "process_run",
        "arguments": {"sandbox_id": id, "command": "sleep", "args": ["7302"]}}}));
    until("it runs", 20, || alive(&server, "sleep 7302") == 1);
    assert_eq!(session.end().status, 204);
    until("the session's end ends it", 2, || alive(&server, "sleep 7302") == 0);
    drop(client);
}

#[test]
fn a_session_may_have_a_sandbox_of_its_own() {
    let server = Server::start();
    let mut session = Mcp::begin_as(&server, "developer", "2025-11-25", &[("x-workspace-auto-sandbox", "true")]);
    assert_eq!(server.list().len(), 0, "not before it is used");
    session.call("file_write", json!({"path": "a", "content": "kept"}));
    assert_eq!(
        session.call("process_run", json!({"command": "cat", "args": ["a"]}))["structuredContent"]["stdout"],
        "kept"
    );
    assert_eq!(server.list().len(), 1);
    assert_eq!(session.end().status, 204);
    assert_eq!(server.list().len(), 0, "it ends with the session");
    let mut plain = Mcp::begin(&server, "developer");
    assert_eq!(plain.call("process_run", json!({"command": "true"}))["isError"], true);
}
