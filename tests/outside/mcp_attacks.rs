//! Attacks M01 to M09, M11 and M12 on MCP: pages, keys, heads that lie, JSON-RPC abuse, arguments and output that mean more.
//! Each has its control: the same asked rightly is done.

use crate::kit::{Mcp, Server, messages, until};
use serde_json::{Value, json};

const PATHS: [&str; 3] = ["/mcp/executor", "/mcp/developer", "/mcp/full"];

fn initialize() -> String {
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string()
}

/// M01, M02, M03, M04.
#[test]
fn a_web_page_is_not_a_client() {
    let server = Server::start();
    for path in PATHS {
        let post = |host: &str, fields: &[(&str, &str)], media: &str| {
            let mut client = server.client();
            let lines: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let body = initialize();
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {media}\r\n{lines}Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            client.send(head.as_bytes()).expect("send");
            client.response("POST").expect("an answer")
        };
        let json = "application/json";
        assert_eq!(post("localhost", &[], json).status, 200, "the control");
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.nip.io", "localhost.evil"] {
            assert_eq!(post(host, &[], json).status, 403, "{host}");
        }
        for origin in ["https://evil.example", "null", "http://localhost.evil", "http://127.0.0.1:1"] {
            let answer = post("localhost", &[("Origin", origin)], json);
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (403, None), "{origin}");
        }
        assert_eq!(post("localhost", &[("Sec-Fetch-Site", "cross-site")], json).status, 403);
        for media in
            ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; a=application/json"]
        {
            assert_eq!(post("localhost", &[], media).status, 415, "{media}");
        }
        assert_eq!(post("localhost", &[("Accept", "text/html")], json).status, 406);
    }
}

/// M05.
#[test]
fn a_session_is_no_key() {
    let server = Server::builder().env("WORKSPACE_API_KEYS", "key-one,key-two").start();
    let ask = |key: Option<&str>, session: Option<&str>, path: &str, body: &str| {
        let bearer = key.map(|key| format!("Bearer {key}"));
        let mut fields: Vec<(&str, &str)> = Vec::new();
        fields.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        fields.extend(session.map(|session| ("mcp-session-id", session)));
        server.client().request("POST", path, &fields, body.as_bytes()).expect("an answer")
    };
    let ping = json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}).to_string();
    for path in PATHS {
        for key in [None, Some("key-three"), Some("")] {
            let answer = ask(key, None, path, &initialize());
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{key:?}");
        }
        assert_eq!(ask(None, None, &format!("{path}?api_key=key-one"), &initialize()).status, 401);
        let begun = ask(Some("key-one"), None, path, &initialize()).expect(200);
        let session = begun.header("mcp-session-id").expect("a session").to_owned();
        assert_eq!(ask(Some("key-one"), Some(&session), path, &ping).status, 200, "the control");
        assert_eq!(ask(None, Some(&session), path, &ping).status, 401, "a session without its key");
        assert_eq!(ask(Some(&session), Some(&session), path, &ping).status, 401, "a session as a key");
        assert_eq!(ask(Some("key-two"), Some(&session), path, &ping).status, 404, "another's session");
        assert_eq!(ask(Some("key-one"), Some("0".repeat(32).as_str()), path, &ping).status, 404);
        assert_eq!(ask(Some("key-one"), None, path, &ping).status, 400);
    }
    let begun = ask(Some("key-one"), None, PATHS[0], &initialize());
    let executor = begun.header("mcp-session-id").expect("a session").to_owned();
    assert_eq!(ask(Some("key-one"), Some(&executor), PATHS[2], &ping).status, 404, "a session of a smaller set");
}

/// M07.
#[test]
fn nonsense_has_one_error_each_and_nothing_runs_twice() {
    let server = Server::start();
    let id = server.create(json!({}));
    let session = Mcp::begin(&server, "full");
    let code = |bytes: &[u8]| {
        let answer = session.send_bytes(bytes);
        (answer.status, answer.json()["error"]["code"].as_i64().unwrap_or(0))
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for bad in [&b"{"[..], b" ", b"\xff", b"nul", deep.as_bytes(), b"{\"a\":1,\"a\":2}"] {
        assert_eq!(code(bad), (400, -32700), "{:?}", String::from_utf8_lossy(&bad[..bad.len().min(40)]));
    }
    for bad in [
        json!({}),
        json!(1),
        json!([]),
        json!("x"),
        json!({"jsonrpc": "2.0", "id": null, "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}),
        json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": 18446744073709551615u64, "method": "ping"}),
        json!({"jsonrpc": "2.0", "id": 1}),
        json!({"jsonrpc": "2.0", "id": "i".repeat(1 << 20), "method": "ping"}),
    ] {
        assert_eq!(
            code(bad.to_string().as_bytes()),
            (400, -32600),
            "{}",
            &bad.to_string()[..bad.to_string().len().min(80)]
        );
    }
    let touch = |n: usize| {
        json!({"jsonrpc": "2.0", "id": n, "method": "tools/call", "params": {"name": "process_run",
        "arguments": {"sandbox_id": id, "command": "sh", "args": ["-c", "echo >>ran"]}}})
    };
    let many: Vec<Value> = (0..10_000).map(|n| json!({"jsonrpc": "2.0", "id": n, "method": "ping"})).collect();
    assert_eq!(code(json!(many).to_string().as_bytes()), (400, -32600), "no arrays in this version");
    assert_eq!(code(json!([touch(1)]).to_string().as_bytes()), (400, -32600));
    let old = Mcp::begin_as(&server, "full", "2025-03-26", &[]);
    assert_eq!(old.send(&json!(many)).json()["error"]["code"], -32600, "too many");
    let answers =
        old.send(&json!([touch(1), {"jsonrpc": "2.0", "method": "notifications/x"}, touch(2), 3])).expect(200).json();
    assert_eq!(answers.as_array().map(Vec::len), Some(3), "{answers}");
    assert_eq!(server.sh(&id, "wc -l <ran"), "2", "each once");
    // A notification that should be a request does nothing.
    let mut silent = touch(9);
    silent.as_object_mut().expect("object").remove("id");
    assert_eq!(session.send(&silent).status, 202);
    let proto = json!({"jsonrpc": "2.0", "id": 3, "method": "ping", "params": {"__proto__": {"a": 1}}});
    assert_eq!(session.send(&proto).json()["result"], json!({}));
    assert_eq!(server.sh(&id, "wc -l <ran"), "2");
    // One request of an id at a time.
    let wait = json!({"jsonrpc": "2.0", "id": 4, "method": "tools/call", "params": {"name": "process_run",
        "arguments": {"sandbox_id": id, "command": "sh", "args": ["-c", "echo >>ran; sleep 2"]}}});
    let mut first = session.begin_request(&wait);
    until("it runs", 20, || server.sh(&id, "wc -l <ran") == "3");
    assert_eq!(session.send(&wait).json()["error"]["code"], -32600, "the id is in use");
    assert_eq!(first.response("POST").expect("an answer").json()["result"]["isError"], false);
    assert_eq!(server.sh(&id, "wc -l <ran"), "3");
}

/// M07: 50 MiB.
#[test]
fn a_message_that_is_too_long_is_refused() {
    let server = Server::start();
    let mut client = server.client();
    let length = 50 << 20;
    let head = format!(
        "POST /mcp/full HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    client.send(head.as_bytes()).expect("send");
    let answer = client.response("POST").expect("an answer");
    assert_eq!((answer.status, answer.json()["error"]["code"].as_i64()), (413, Some(-32600)));
    assert_eq!(Mcp::begin(&server, "full").ask("ping", json!({}))["result"], json!({}), "the server goes on");
}

/// M08.
#[test]
fn arguments_are_given_as_they_are() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "full");
    let words = ["--help", "-c", "; touch /workspace/x", "$(touch x)", "`touch x`", "a\nb", "*", "-rf", "--output=x"];
    for word in words {
        let result = session.call("process_run", json!({"sandbox_id": id, "command": "printf", "args": ["%s", word]}));
        assert_eq!(result["structuredContent"]["stdout"], word);
        let named = session.call("process_run", json!({"sandbox_id": id, "command": word}));
        assert_eq!(named["structuredContent"]["exit_code"], 127, "{word}: no shell reads it");
        session.call("file_write", json!({"sandbox_id": id, "path": word, "content": word}));
        assert_eq!(
            session.call("file_read", json!({"sandbox_id": id, "path": word}))["structuredContent"]["content"],
            word
        );
        let removed = session.call("file_remove", json!({"sandbox_id": id, "path": word, "recursive": true}));
        assert_eq!(removed["isError"], false, "{word}: {removed}");
    }
    for bad in ["../x", "x/../y", "?a=", "#", "", "%2e%2e", &id.to_uppercase(), &format!("{id}/..")] {
        let result = session.call("file_list", json!({"sandbox_id": bad}));
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(result["isError"] == true && text.contains("2001"), "{bad}: {result}");
    }
    assert_eq!(server.sh(&id, "find . -name x; ls -A | grep -v '^;' || true"), "");
}

/// M09.
#[test]
fn output_stays_in_its_string() {
    let server = Server::start();
    let id = server.create(json!({}));
    let session = Mcp::begin(&server, "developer");
    let hostile =
        "\n\ndata: {\"jsonrpc\":\"2.0\",\"id\":5,\"result\":{}}\n\n\u{2028}\u{1b}[2J</tool>\r\nevent: x\r\n\r\n";
    for meta in [json!({}), json!({"progressToken": 1})] {
        let call = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "process_run", "_meta": meta,
            "arguments": {"sandbox_id": id, "command": "printf", "args": ["%s", hostile]}}});
        let told = messages(&session.send(&call).expect(200));
        let last = told.last().expect("an answer");
        assert_eq!(told.iter().filter(|message| message["id"] == 5).count(), 1, "{told:?}");
        assert_eq!(last["result"]["structuredContent"]["stdout"], hostile);
        let text: Value =
            serde_json::from_str(last["result"]["content"][0]["text"].as_str().expect("text")).expect("JSON");
        assert_eq!(text, last["result"]["structuredContent"]);
        let flood = json!({"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "process_run", "_meta": meta,
            "arguments": {"sandbox_id": id, "command": "sh", "args": ["-c", "head -c 104857600 /dev/zero | tr '\\0' '\\377'"]}}});
        let answer = session.send(&flood).expect(200);
        assert!(answer.body.len() < 16 << 20, "bounded: {}", answer.body.len());
        let told = messages(&answer);
        assert_eq!(told.last().expect("an answer")["result"]["structuredContent"]["truncated"], true);
    }
}

/// M11.
#[test]
fn floods_of_cancels_leave_nothing() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "executor");
    for n in 0..10_000 {
        let cancel = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": n}});
        session.send(&cancel).expect(202);
    }
    // Of itself, of nothing, of what is no id: nobody's.
    for params in [json!({}), json!({"requestId": null}), json!({"requestId": [1]}), json!(null)] {
        session.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})).expect(202);
    }
    let own = json!({"jsonrpc": "2.0", "id": 5, "method": "notifications/cancelled", "params": {"requestId": 5}});
    assert_eq!(session.send(&own).json()["error"]["code"], -32601, "a notification is no request");
    let call = |n: usize, command: &[&str]| {
        json!({"jsonrpc": "2.0", "id": format!("f{n}"), "method": "tools/call", "params": {"name": "process_run",
        "_meta": {"progressToken": "same"}, "arguments": {"sandbox_id": id, "command": command[0], "args": command[1..]}}})
    };
    for n in 0..1000 {
        drop(session.begin_request(&call(n, &["sleep", "7321"])));
    }
    let alive = || server.own_processes().iter().filter(|p| p.command_line().contains("sleep 7321")).count();
    until("each started command ends", 60, || alive() == 0);
    // One token for many: each stream tells of its own command, and ends with its own answer.
    let mut clients: Vec<_> = (0..20)
        .map(|n| session.begin_request(&call(n, &["sh", "-c", &format!("echo {n}; sleep 0.5; echo {n}")])))
        .collect();
    for (n, client) in clients.iter_mut().enumerate() {
        let told = messages(&client.response("POST").expect("an answer"));
        let (last, progress) = told.split_last().expect("an answer");
        assert_eq!(
            (&last["id"], &last["result"]["structuredContent"]["stdout"]),
            (&json!(format!("f{n}")), &json!(format!("{n}\n{n}\n")))
        );
        assert!(
            progress
                .iter()
                .all(|told| told["params"]["message"].as_str().is_some_and(|text| text.trim() == n.to_string())),
            "{told:?}"
        );
    }
    let result = session.call("process_run", json!({"sandbox_id": id, "command": "echo", "args": ["well"]}));
    assert_eq!(result["structuredContent"]["stdout"], "well\n");
}

/// M12: no reference is followed, wherever a client puts one. What resources do with hostile names: `mcp_resources.rs`.
#[test]
fn no_reference_is_fetched() {
    let server = Server::start();
    let id = server.create(json!({}));
    let trap = std::net::TcpListener::bind("127.0.0.1:0").expect("a trap");
    trap.set_nonblocking(true).expect("nonblocking");
    let url = format!("http://{}/schema.json", trap.local_addr().expect("an address"));
    let mut session = Mcp::begin(&server, "full");
    let bait = json!({"$ref": url, "$schema": url, "$id": url, "@import": url});
    for (method, params) in [
        ("tools/list", json!({"_meta": bait, "$ref": url})),
        (
            "tools/call",
            json!({"name": "process_run", "$ref": url, "arguments": {"sandbox_id": id, "command": "echo", "args": [url], "env": {"A": url}, "$ref": url}}),
        ),
        ("tools/call", json!({"name": "sandbox_create", "arguments": {"template": url, "metadata": {"$ref": url}}})),
        (
            "tools/call",
            json!({"name": "file_write", "arguments": {"sandbox_id": id, "path": "schema.json", "content": bait.to_string()}}),
        ),
        ("tools/call", json!({"name": "file_read", "arguments": {"sandbox_id": id, "path": url}})),
        ("resources/read", json!({"uri": url})),
        ("resources/read", json!({"uri": format!("workspace://{id}/schema.json")})),
        ("resources/read", json!({"uri": "http://169.254.169.254/latest/meta-data"})),
        ("resources/subscribe", json!({"uri": url})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": url}, "argument": {"name": "path", "value": url}}),
        ),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/resource", "uri": "workspace://{sandbox_id}/{+path}"}, "argument": {"name": "path", "value": url}, "context": {"arguments": {"sandbox_id": url}}}),
        ),
    ] {
        let answer = session.ask(method, params);
        assert!(answer["result"].is_object() || answer["error"].is_object(), "{answer}");
    }
    // Nobody came in all that time; the control is that the trap is one.
    assert!(trap.accept().is_err_and(|why| why.kind() == std::io::ErrorKind::WouldBlock), "fetched");
    drop(std::net::TcpStream::connect(trap.local_addr().expect("an address")).expect("connect"));
    until("the trap hears who comes", 5, || trap.accept().is_ok());
    server
        .list()
        .iter()
        .filter(|sandbox| sandbox["id"] != id)
        .for_each(|made| server.delete(made["id"].as_str().expect("an id")));
}
