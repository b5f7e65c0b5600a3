//! MCP's resources: which there are, how they read, how their names are completed; in both eras. What hostile names do.

use crate::kit::{Mcp, Response, Server, encode, modern, needs_root, turn, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const TEMPLATE: &str = "workspace://{sandbox_id}/{+path}";

fn ask_modern(server: &Server, set: &str, method: &str, params: Value) -> Value {
    let (message, fields) = modern(method, params);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    server.request("POST", &format!("/mcp/{set}"), &fields, message.to_string().as_bytes()).expect(200).json()
}

/// The contents of a resource.
#[track_caller]
fn read(session: &mut Mcp<'_>, uri: &str) -> Vec<Value> {
    let message = session.ask("resources/read", json!({"uri": uri}));
    let contents = message["result"]["contents"].as_array().unwrap_or_else(|| panic!("{uri}: {message}")).clone();
    assert!(!contents.is_empty() && contents.iter().all(|content| content["uri"] == uri), "{message}");
    contents
}

#[track_caller]
fn refused(session: &mut Mcp<'_>, uri: &str) -> (i64, String) {
    let message = session.ask("resources/read", json!({"uri": uri}));
    let code = message["error"]["code"].as_i64().unwrap_or_else(|| panic!("{uri}: {message}"));
    (code, message["error"]["message"].as_str().expect("a message").to_owned())
}

fn uris(list: &Value) -> Vec<String> {
    let uri = |resource: &Value| resource["uri"].as_str().expect("uri").to_owned();
    list["resources"].as_array().expect("resources").iter().map(uri).collect()
}

#[test]
fn files_are_read_as_what_they_are() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(
        &id,
        "mkdir -p 'd/e f'; echo hi >d/n.md; printf '\\211PNG\\0' >p.png; : >empty; echo p >100%; echo q >'a?b#c'",
    );
    server.sh(&id, "echo ü >d/ü; printf x >\"$(printf 'caf\\351')\"; head -c 2097151 /dev/zero | tr '\\0' a >long; printf 'é.' >>long");
    let mut session = Mcp::begin(&server, "executor");
    let uri = |rest: &str| format!("workspace://{id}/{rest}");
    for (rest, mime, text) in [
        ("d/n.md", "text/markdown", "hi\n"),
        ("empty", "text/plain", ""),
        ("100%25", "text/plain", "p\n"),
        ("a?b#c", "text/plain", "q\n"),
        ("a%3Fb%23c", "text/plain", "q\n"),
        ("d/%C3%BC", "text/plain", "ü\n"),
        ("d%2Fn.md", "text/markdown", "hi\n"),
        ("/workspace/d/n.md", "text/markdown", "hi\n"),
        ("/etc/hostname", "text/plain", "workspace\n"),
        ("caf%E9", "text/plain", "x"),
        ("caf%F4%8E%BF%A9", "text/plain", "x"),
    ] {
        let expected = json!({"uri": uri(rest), "mimeType": mime, "text": text});
        assert_eq!(read(&mut session, &uri(rest)), [expected], "{rest}");
    }
    let image = json!({"uri": uri("p.png"), "mimeType": "image/png", "blob": "iVBORwA="});
    assert_eq!(read(&mut session, &uri("p.png")), [image]);
    // A directory lists, and each URI that it gives leads on.
    let listed = read(&mut session, &uri("")).remove(0);
    let listed: Value = serde_json::from_str(listed["text"].as_str().expect("text")).expect("JSON");
    let entries = listed["entries"].as_array().expect("entries");
    let entry = |name: &str| entries.iter().find(|entry| entry["name"] == name).unwrap_or_else(|| panic!("{listed}"));
    assert_eq!((entries.len(), &entry("100%")["uri"]), (7, &json!(uri("100%25"))));
    let cafe = entry("caf\u{10efe9}")["uri"].as_str().expect("uri");
    assert_eq!(read(&mut session, cafe)[0]["text"], "x");
    assert_eq!(read(&mut session, &uri("d/e%20f"))[0]["text"], r#"{"entries":[]}"#);
    // What is too long is cut between characters, and says how to go on.
    let long = read(&mut session, &uri("long"));
    assert_eq!(long[0]["text"].as_str().map(str::len), Some(2_097_151));
    assert!(long[1]["text"].as_str().is_some_and(|note| note.contains("`offset` 2097151")), "{:?}", long[1]);
    // The same without a handshake, and nobody may keep it.
    let answer = ask_modern(&server, "full", "resources/read", json!({"uri": uri("d/n.md")}))["result"].clone();
    assert_eq!((&answer["ttlMs"], &answer["cacheScope"]), (&json!(0), &json!("private")), "{answer}");
    assert_eq!((&answer["contents"][0]["text"], &answer["resultType"]), (&json!("hi\n"), &json!("complete")));
}

#[test]
fn what_is_not_there_has_each_eras_code() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "full");
    for uri in [
        format!("workspace://{id}/none"),
        format!("workspace://{}/a", "a".repeat(32)),
        "workspace://".to_owned(),
        "file:///etc/passwd".to_owned(),
        String::new(),
    ] {
        assert_eq!(refused(&mut session, &uri).0, -32002, "{uri}");
        let answer = ask_modern(&server, "full", "resources/read", json!({"uri": uri}));
        let error = &answer["error"];
        assert_eq!((&error["code"], &error["data"]["uri"]), (&json!(-32602), &json!(uri)), "{answer}");
    }
    for params in [json!({}), json!({"uri": 1}), json!({"uri": null})] {
        assert_eq!(session.ask("resources/read", params)["error"]["code"], -32602);
    }
}

#[test]
fn the_list_is_of_sandboxes_and_in_pages() {
    let _turn = turn::heavy();
    let server = Server::start();
    let made: Vec<String> = (0..51).map(|_| server.create(json!({}))).collect();
    let expected: Vec<String> = made.iter().map(|id| format!("workspace://{id}/")).collect();
    let mut session = Mcp::begin(&server, "full");
    let first = session.ask("resources/list", json!({}))["result"].clone();
    assert_eq!(uris(&first), expected[..50]);
    let cursor = first["nextCursor"].as_str().expect("a next page");
    // Its place stays where it was when those before it are gone.
    server.delete(&made[49]);
    let second = session.ask("resources/list", json!({"cursor": cursor}))["result"].clone();
    assert_eq!((uris(&second).as_slice(), &second["nextCursor"]), (&expected[50..], &Value::Null));
    let modern = ask_modern(&server, "full", "resources/list", json!({"cursor": cursor}))["result"].clone();
    assert_eq!((uris(&modern).as_slice(), &modern["ttlMs"]), (&expected[50..], &json!(0)), "{modern}");
    for method in ["resources/list", "resources/templates/list", "tools/list", "prompts/list"] {
        for bad in [json!("x"), json!(""), json!(format!("{cursor}x")), json!(1), json!("é".repeat(9000))] {
            assert_eq!(session.ask(method, json!({"cursor": bad}))["error"]["code"], -32602, "{method} {bad}");
        }
    }
    let templates = session.ask("resources/templates/list", json!({}))["result"]["resourceTemplates"].clone();
    assert_eq!((templates.as_array().map(Vec::len), &templates[0]["uriTemplate"]), (Some(1), &json!(TEMPLATE)));
    // A set without sandbox_list shows no sandbox but the session's own.
    let mut plain = Mcp::begin(&server, "developer");
    assert_eq!(plain.ask("resources/list", json!({}))["result"]["resources"], json!([]));
    let mut own = Mcp::begin_as(&server, "developer", "2025-11-25", &[("x-workspace-auto-sandbox", "true")]);
    assert_eq!(own.ask("resources/list", json!({}))["result"]["resources"], json!([]), "none is made by looking");
    own.call("file_write", json!({"path": "a", "content": "kept"}));
    let listed = own.ask("resources/list", json!({}))["result"].clone();
    let root = uris(&listed).pop().expect("its own");
    assert_eq!((uris(&listed).len(), expected.contains(&root)), (1, false));
    assert_eq!(read(&mut own, &format!("{root}a"))[0]["text"], "kept");
}

#[test]
fn names_are_completed_while_they_are_typed() {
    let server = Server::start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    server
        .sh(&id, "mkdir -p src/sub; touch src/a src/b '100%' 'é'; mkdir many; cd many; seq -f f%03g 150 | xargs touch");
    let mut session = Mcp::begin(&server, "full");
    let mut complete = |name: &str, value: &str| {
        let params = json!({"ref": {"type": "ref/resource", "uri": TEMPLATE}, "argument": {"name": name, "value": value},
            "context": {"arguments": {"sandbox_id": id}}});
        let completion = session.ask("completion/complete", params)["result"]["completion"].clone();
        assert!(completion["hasMore"].is_boolean(), "{completion}");
        let values = completion["values"].as_array().expect("values").iter();
        let values: Vec<String> = values.map(|value| value.as_str().expect("a text").to_owned()).collect();
        (values, completion["hasMore"] == true)
    };
    let (ids, _) = complete("sandbox_id", "");
    assert_eq!(ids, [id.clone(), other.clone()]);
    assert_eq!(complete("sandbox_id", &other[..12]), (vec![other.clone()], false));
    for (typed, expected) in [
        ("s", vec!["src/"]),
        ("src", vec!["src/"]),
        ("src/", vec!["src/a", "src/b", "src/sub/"]),
        ("/workspace/src/a", vec!["/workspace/src/a"]),
        ("%C3", vec![]),
        ("%C3%A9", vec!["é"]),
        ("1", vec!["100%25"]),
        ("100%2", vec![]),
        ("none/", vec![]),
        ("src/a/", vec![]),
        ("\0", vec![]),
        ("/etc/hostn", vec!["/etc/hostname"]),
    ] {
        assert_eq!(
            complete("path", typed),
            (expected.iter().map(|&value| value.to_owned()).collect(), false),
            "{typed}"
        );
    }
    let (many, has_more) = complete("path", "many/f");
    assert_eq!((many.len(), many[99].as_str(), has_more), (100, "many/f100", true));
    let params = |reference: Value, name: &str| json!({"ref": reference, "argument": {"name": name, "value": ""}});
    let ours = json!({"type": "ref/resource", "uri": TEMPLATE});
    assert_eq!(
        session.ask("completion/complete", params(ours.clone(), "path"))["result"]["completion"]["values"],
        json!([]),
        "of no sandbox"
    );
    for bad in [
        params(json!({"type": "ref/resource", "uri": "file:///{path}"}), "path"),
        params(json!({"type": "ref/prompt", "name": "p"}), "path"),
        params(json!({"type": "ref/tool", "name": "p"}), "path"),
        params(ours.clone(), "other"),
        json!({"ref": ours, "argument": {"name": "path", "value": "a".repeat(1 << 20)}}),
        json!({}),
    ] {
        assert_eq!(session.ask("completion/complete", bad)["error"]["code"], -32602);
    }
    let ids =
        json!({"ref": {"type": "ref/resource", "uri": TEMPLATE}, "argument": {"name": "sandbox_id", "value": ""}});
    let modern = ask_modern(&server, "full", "completion/complete", ids.clone())["result"].clone();
    assert_eq!((&modern["completion"]["total"], &modern["resultType"]), (&json!(2), &json!("complete")));
    let hidden = ask_modern(&server, "developer", "completion/complete", ids)["result"].clone();
    assert_eq!(hidden["completion"]["values"], json!([]), "this set lists no sandboxes");
}

/// Names that would lead outside, wait, act, or be long.
#[test]
fn hostile_names_stay_inside_and_nothing_waits() {
    let server = Server::start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    let secret = server.data_dir().join("canary");
    std::fs::write(&secret, "canary").expect("a canary");
    let outside = secret.to_string_lossy().into_owned();
    server.sh(&other, "echo canary >theirs");
    server.sh(
        &id,
        &format!(
            "mkfifo fifo; ln -s {outside} out; ln -s fifo to-fifo; ln -s loop loop; ln -s / root; echo mine >mine"
        ),
    );
    let mut session = Mcp::begin(&server, "full");
    let up = "../".repeat(40);
    let encoded_up = "%2e%2e%2f".repeat(40);
    for rest in [
        "out".to_owned(),
        format!("root{outside}"),
        format!("{up}{}", &outside[1..]),
        format!("{encoded_up}{}", &outside[1..].replace('/', "%2F")),
        format!("..%2f..%2f{other}/workspace/theirs"),
        format!("../{other}/theirs"),
        outside.clone(),
        "fifo".to_owned(),
        "to-fifo".to_owned(),
        "loop".to_owned(),
        "mine%00".to_owned(),
        "mine%0A".to_owned(),
        "mine/".to_owned(),
        "%25%32%65".to_owned(),
        "a".repeat(5000),
        "/proc/1/root/etc/shadow".to_owned(),
        "/dev/full".to_owned(),
    ] {
        let started = Instant::now();
        let (code, text) = refused(&mut session, &format!("workspace://{id}/{rest}"));
        assert!([-32002, -32602].contains(&code) && !text.contains("canary\n"), "{rest}: {code} {text}");
        assert!(started.elapsed() < Duration::from_secs(10), "{rest}: {:?}", started.elapsed());
    }
    for uri in [
        format!("workspace://{id}@{other}/theirs"),
        format!("workspace://{id}:80/mine"),
        format!("workspace://{id}\n/mine"),
        format!("workspace://{}/mine", id.to_uppercase()),
        format!("workspace://../{id}/mine"),
        format!("WORKSPACE:/{id}/mine"),
        format!("workspace://{id}/{}", "a".repeat(1 << 20)),
        format!("workspace://{}", "/".repeat(1 << 20)),
    ] {
        let (code, text) = refused(&mut session, &uri);
        assert!(code == -32002 && text.len() < 1000, "{code} {text}");
    }
    let long = json!({"uri": "x".repeat(1 << 20)});
    let echo = session.ask("resources/read", long)["error"]["data"]["uri"].as_str().map(str::len);
    assert_eq!(echo, Some(1024), "an error does not repeat a mebibyte");
    assert_eq!(read(&mut session, &format!("workspace://{id}/mine"))[0]["text"], "mine\n", "the control");
    assert_eq!(read(&mut session, &format!("workspace://{other}/theirs"))[0]["text"], "canary\n", "the control");
}

/// Of another caller's session nothing is to be had, and what a session may not read it may not follow either.
#[test]
fn resources_need_the_key_and_the_session() {
    let server = Server::builder().env("WORKSPACE_API_KEYS", "key-one,key-two").start();
    let ask = |key: &str, session: &str, method: &str| {
        let mut client = server.client();
        let fields = [("x-api-key", key), ("mcp-session-id", session), ("accept", "text/event-stream")];
        let fields = if key.is_empty() { &fields[1..] } else { &fields[..] };
        client.send(&encode("localhost", method, "/mcp/full", fields, b"")).expect("send");
        client.head().expect("an answer")
    };
    let params =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
    let initialize = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let begun: Response = server.request("POST", "/mcp/full", &[("x-api-key", "key-one")], initialize.as_bytes());
    let session = begun.header("mcp-session-id").expect("a session").to_owned();
    assert_eq!(ask("", &session, "GET").status, 401);
    assert_eq!(ask("key-two", &session, "GET").status, 404, "another's");
    assert_eq!(ask("key-one", &"0".repeat(32), "GET").status, 404);
    assert_eq!(ask("key-one", &session, "GET").status, 200, "the control");
}

#[test]
fn a_reader_that_leaves_leaves_nothing() {
    if needs_root() {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "head -c 3000000 /dev/urandom >big");
    let process = server.server_process().expect("the server");
    let open = || std::fs::read_dir(format!("/proc/{}/fd", process.pid)).expect("fd").count();
    let before = open();
    let session = Mcp::begin(&server, "full");
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": format!("workspace://{id}/big")}});
    for n in 0..50 {
        let mut message = message.clone();
        message["id"] = json!(n);
        drop(session.begin_request(&message));
    }
    until("all is closed", 10, || open() <= before + 2);
}
