//! Does MCP over stdio work from a client's configuration alone? Both eras, many requests at once, clients that break
//! the rules, and bounds.

use crate::kit::{Place, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const HELLO: [&str; 2] = ["echo", "Hello, World!"];

fn run(id: impl Into<Value>, command: &[&str]) -> Value {
    let arguments = json!({"command": command[0], "args": command[1..]});
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": "process_run", "arguments": arguments}})
}

fn cancel(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id.into()}})
}

fn names(tools: &Value) -> Vec<&str> {
    tools.as_array().expect("tools").iter().map(|tool| tool["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_client_needs_nothing_but_the_program() {
    let place = Place::new();
    let mut stdio = place.start();
    let began = stdio.shake_hands("2025-06-18");
    assert_eq!(
        (&began["protocolVersion"], &began["serverInfo"]["name"]),
        (&json!("2025-06-18"), &json!("elevo-workspace"))
    );
    let tools = stdio.ask("tools/list", json!({}))["result"]["tools"].clone();
    assert_eq!(names(&tools).len(), 6, "developer is the default: {tools}");
    for tool in tools.as_array().expect("tools") {
        let schema = &tool["inputSchema"];
        assert!(schema["properties"]["sandbox_id"].is_object(), "{tool}");
        assert!(!schema["required"].as_array().expect("required").contains(&json!("sandbox_id")), "{tool}");
    }
    let result = stdio.call("process_run", json!({"command": HELLO[0], "args": [HELLO[1]]}));
    assert_eq!(result["structuredContent"]["stdout"], "Hello, World!\n");
    // One sandbox, made at the first call.
    stdio.call("file_write", json!({"path": "a", "content": "x"}));
    assert_eq!(stdio.sh("cat a"), "x");
    assert_eq!(place.sandboxes().len(), 1 + blanks(&place), "one of its own, and blanks");
    assert!(!place.data_dir().join("http.address").exists() && !place.data_dir().join("nfs.address").exists());
    place.remember();
    assert!(stdio.end().success(), "{}", stdio.errors());
    place.assert_nothing_left();
    assert_eq!(stdio.errors(), "");
}

/// Directories of sandboxes that were made ahead: those that no record has.
fn blanks(place: &Place) -> usize {
    place.agents().len().saturating_sub(1).min(place.sandboxes().len() - 1)
}

#[test]
fn the_variable_chooses_the_tools() {
    for (profile, count) in [("executor", 1), ("minimal", 1), ("dev", 6), ("full", 14)] {
        let place = Place::new().env("WORKSPACE_MCP_PROFILE", profile);
        let mut stdio = place.begin();
        let tools = stdio.ask("tools/list", json!({}))["result"]["tools"].clone();
        assert_eq!(names(&tools).len(), count, "{profile}");
        if profile != "full" {
            continue;
        }
        // Who can make sandboxes names the one it means.
        let result = stdio.call("process_run", json!({"command": "true"}));
        assert!(
            result["isError"] == true && result["content"][0]["text"].to_string().contains("sandbox_id"),
            "{result}"
        );
        let id = stdio.call("sandbox_create", json!({}))["structuredContent"]["id"].clone();
        let result = stdio.call("process_run", json!({"sandbox_id": id, "command": "echo", "args": ["x"]}));
        assert_eq!(result["structuredContent"]["stdout"], "x\n");
        assert!(stdio.end().success());
        // What was made by name outlives the client, and the next one finds it.
        let mut next = place.begin();
        let result = next.call("process_run", json!({"sandbox_id": id, "command": "echo", "args": ["y"]}));
        assert_eq!(result["structuredContent"]["stdout"], "y\n");
        next.call("sandbox_delete", json!({"sandbox_id": id, "force": true}));
    }
    let place = Place::new().env("WORKSPACE_MCP_PROFILE", "some");
    let mut stdio = place.start();
    assert_eq!((stdio.wait().code(), stdio.rest()), (Some(1), vec![]));
    assert!(stdio.errors().contains("WORKSPACE_MCP_PROFILE=some") && stdio.errors().lines().count() == 1);
}

#[test]
fn both_eras_on_one_pipe_in_any_order() {
    let place = Place::new();
    let mut stdio = place.start();
    let found = stdio.ask_modern("server/discover", json!({}))["result"].clone();
    assert!(found["supportedVersions"].as_array().expect("versions").contains(&json!("2026-07-28")), "{found}");
    let tools = stdio.ask_modern("tools/list", json!({}))["result"].clone();
    assert_eq!((names(&tools["tools"]).len(), &tools["resultType"]), (6, &json!("complete")));
    let call = json!({"name": "process_run", "arguments": {"command": "sh", "args": ["-c", "echo >>ran"]}});
    assert_eq!(stdio.ask_modern("tools/call", call.clone())["result"]["isError"], false);
    // A client that fell back, or forgot what it had found.
    assert_eq!(stdio.shake_hands("2025-11-25")["protocolVersion"], "2025-11-25");
    assert_eq!(stdio.sh("wc -l <ran"), "1", "the same sandbox");
    assert_eq!(stdio.ask_modern("tools/call", call)["result"]["isError"], false);
    assert_eq!(stdio.shake_hands("2024-11-05")["protocolVersion"], "2025-11-25", "unknown: the newest");
    assert_eq!(stdio.sh("wc -l <ran"), "2", "the same sandbox");
    let unknown = stdio.ask_modern("ping", json!({}));
    assert_eq!(unknown["error"]["code"], -32601);
}

#[test]
fn cancelling_ends_the_command_in_both_eras() {
    let place = Place::new();
    let mut stdio = place.begin();
    stdio.sh("true");
    let sleeps = || place.processes().iter().filter(|process| process.command_line() == "sleep 7411").count();
    for modern in [false, true] {
        let mut slow = run("slow", &["sleep", "7411"]);
        if modern {
            slow["params"]["_meta"] = crate::kit::modern("x", json!({})).0["params"]["_meta"].clone();
        }
        stdio.send(&slow);
        until("it runs", 20, || sleeps() == 1);
        // Its id is taken, whatever is asked by it.
        stdio.send(&json!({"jsonrpc": "2.0", "id": "slow", "method": "ping"}));
        assert_eq!(stdio.next()["error"]["code"], -32600);
        let began = Instant::now();
        stdio.send(&cancel("slow"));
        until("it is gone", 20, || sleeps() == 0);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        // Nothing answers it: the next line is the next answer.
        assert_eq!(stdio.ask("ping", json!({}))["result"], json!({}));
    }
    // A subscription goes on until it is cancelled, and holds up no end.
    for id in ["a", "b"] {
        let mut listen = crate::kit::modern("subscriptions/listen", json!({"notifications": {}})).0;
        listen["id"] = json!(id);
        stdio.send(&listen);
        assert_eq!(stdio.next()["method"], "notifications/subscriptions/acknowledged");
    }
    stdio.send(&cancel("a"));
    assert_eq!(stdio.ask("ping", json!({}))["result"], json!({}));
    let began = Instant::now();
    assert!(stdio.end().success());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn answers_come_when_they_are_there_and_progress_before_its_own() {
    let place = Place::new();
    let mut stdio = place.begin();
    stdio.sh("true");
    stdio.send(&run("slow", &["sh", "-c", "while ! test -e go; do sleep 0.01; done; echo slow"]));
    for n in 0..50 {
        stdio.send(&run(n, &["echo", "fast"]));
    }
    let mut ids: Vec<u64> = (0..50).map(|_| stdio.next()["id"].as_u64().expect("a fast one")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<u64>>());
    stdio.send(&run("go", &["touch", "go"]));
    let mut last: Vec<Value> = (0..2).map(|_| stdio.next()).collect();
    last.sort_by_key(|message| message["id"].to_string());
    assert_eq!(last[1]["result"]["structuredContent"]["stdout"], "slow\n", "{last:?}");
    let mut told = run("told", &["sh", "-c", "echo one; sleep 0.3; echo two"]);
    told["params"]["_meta"] = json!({"progressToken": 7});
    stdio.send(&told);
    let mut text = String::new();
    let answer = loop {
        let message = stdio.next();
        if message["id"] == "told" {
            break message;
        }
        assert_eq!(
            (&message["method"], &message["params"]["progressToken"]),
            (&json!("notifications/progress"), &json!(7))
        );
        text.push_str(message["params"]["message"].as_str().expect("text"));
    };
    assert_eq!((text.as_str(), &answer["result"]["structuredContent"]["stdout"]), ("one\ntwo\n", &json!("one\ntwo\n")));
}

#[test]
fn a_script_that_does_not_wait_gets_all_answers() {
    let place = Place::new();
    let mut stdio = place.start();
    let begin = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let lines = [begin, run("b", &["sh", "-c", "sleep 1; head -c 3000000 /dev/zero | tr '\\0' x"]), run("c", &HELLO)];
    // No line break behind the last.
    stdio.write(lines.map(|line| line.to_string()).join("\n").as_bytes());
    stdio.end_input();
    let mut answers = stdio.rest();
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(
        answers.iter().map(|answer| answer["id"].as_str()).collect::<Vec<_>>(),
        [Some("a"), Some("b"), Some("c")]
    );
    assert_eq!(answers[1]["result"]["structuredContent"]["truncated"], true);
    assert!(stdio.wait().success());
}

#[test]
fn who_breaks_the_rules_is_told_and_served_on() {
    let place = Place::new();
    let mut stdio = place.begin();
    for bad in ["{", "nul", "\u{feff}{}", "{\"a\":1,\"a\":2}", "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"", "}"]
    {
        stdio.write(format!("{bad}\n").as_bytes());
        let answer = stdio.next();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(-32700), &Value::Null), "{bad}");
    }
    stdio.write(b"\xff\xfe\x00\n");
    assert_eq!(stdio.next()["error"]["code"], -32700);
    for bad in [json!({}), json!([]), json!(1), json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}), json!([{}])] {
        stdio.send(&bad);
        assert_eq!(stdio.next()["error"]["code"], -32600, "{bad}");
    }
    assert_eq!(stdio.ask("no/such", json!({}))["error"]["code"], -32601);
    // Blank lines, and what wants no answer, get none.
    stdio.write(b"\n\r\n  \t \n");
    stdio.send(&json!({"jsonrpc": "2.0", "method": "notifications/nobody-knows"}));
    stdio.send(&json!({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "process_run", "arguments": {"command": "true"}}}));
    stdio.send(&cancel("nobody"));
    stdio.send(&cancel(json!({"x": 1})));
    // Windows' line ends, and a character that arrives in two halves.
    stdio.write(b"{\"jsonrpc\":\"2.0\",\"id\":\"\xc3");
    std::thread::sleep(Duration::from_millis(50));
    stdio.write(b"\xa9\",\"method\":\"ping\"}\r\n");
    assert_eq!(stdio.next(), json!({"jsonrpc": "2.0", "id": "é", "result": {}}));
    // Before a handshake, and again after it.
    let mut other = place.start();
    assert!(other.ask("tools/list", json!({}))["error"]["message"].to_string().contains("initialize"));
    other.shake_hands("2025-03-26");
    other.send(&json!([run(1, &HELLO), {"jsonrpc": "2.0", "id": 2, "method": "ping"}]));
    assert_eq!(other.next().as_array().map(Vec::len), Some(2), "an array, as its version has");
}

#[test]
fn a_line_without_end_costs_no_memory() {
    let place = Place::new();
    let mut stdio = place.begin();
    let server = || place.servers().iter().filter_map(|process| process.status("VmHWM")).max().unwrap_or(0);
    let before = server();
    let mib = vec![b'a'; 1 << 20];
    stdio.write(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"");
    for n in 0..50 {
        stdio.write(&mib);
        if n == 30 {
            let refused = stdio.next();
            assert_eq!(refused["error"]["code"], -32600, "told before its end: {refused}");
        }
    }
    stdio.write(b"\"}\n");
    assert_eq!(stdio.ask("ping", json!({}))["result"], json!({}), "one error, then the next message");
    assert!(server() < before + (40 << 10), "{before} KiB, then {} KiB", server());
    assert!(stdio.process().status("VmHWM").is_some_and(|kib| kib < 40 << 10));
}

#[test]
fn who_does_not_read_holds_back_only_itself() {
    let place = Place::new();
    let mut stdio = place.begin();
    stdio.sh("head -c 100000 /dev/zero | tr '\\0' y >big");
    // The kit reads 100,000 lines; a child of its own does not read at all.
    let mut child = place
        .command()
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("spawn");
    let mut input = child.stdin.take().expect("stdin");
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let begin = json!({"jsonrpc": "2.0", "id": "a", "method": "initialize", "params":
            {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
        let mut sent = 0;
        let _ = writeln!(input, "{begin}");
        while sent < 20_000
            && writeln!(input, "{}", json!({"jsonrpc": "2.0", "id": sent, "method": "tools/list"})).is_ok()
        {
            sent += 1;
        }
        sent
    });
    // 20,000 answers of some 9 KiB: they can't lie anywhere, so that the writer has to wait.
    std::thread::sleep(Duration::from_secs(3));
    assert!(!writer.is_finished(), "it is held back");
    let kib = place.servers().iter().filter_map(|process| process.status("VmRSS")).max().unwrap_or(0);
    assert!(kib < 128 << 10, "{kib} KiB");
    assert_eq!(stdio.sh("wc -c <big"), "100000", "others are served");
    let output = std::io::BufReader::new(child.stdout.take().expect("stdout"));
    let answers = std::io::BufRead::lines(output).map_while(Result::ok).filter(|line| line.starts_with('{')).count();
    assert_eq!(answers, 1 + writer.join().expect("the writer"), "each is answered");
    assert!(child.wait().expect("wait").success());
}

#[test]
fn too_many_at_once_are_refused_and_can_still_be_cancelled() {
    let place = Place::new();
    let mut stdio = place.begin();
    stdio.sh("true");
    // As many as there is room for are a burst that nobody notices.
    stdio.write(
        (0..5000)
            .map(|n| format!("{}\n", json!({"jsonrpc": "2.0", "id": n, "method": "ping"})))
            .collect::<String>()
            .as_bytes(),
    );
    assert!((0..5000).all(|_| stdio.next()["result"] == json!({})));
    let began = Instant::now();
    stdio.write(
        (0..300).map(|n| format!("{}\n", run(format!("s{n}"), &["sleep", "7412"]))).collect::<String>().as_bytes(),
    );
    let refused: Vec<Value> = (0..44).map(|_| stdio.next()).collect();
    assert!(
        refused.iter().all(|answer| answer["error"]["code"] == -32600 && answer["id"].as_str() >= Some("s256")),
        "{refused:?}"
    );
    stdio.write((0..300).map(|n| format!("{}\n", cancel(format!("s{n}")))).collect::<String>().as_bytes());
    assert_eq!(stdio.sh("echo well"), "well");
    let sleeps = || place.processes().iter().filter(|process| process.command_line() == "sleep 7412").count();
    until("all are gone", 20, || sleeps() == 0);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn resources_are_those_of_its_own_and_changes_come_between_answers() {
    let place = Place::new();
    let mut stdio = place.begin();
    let list = |stdio: &mut crate::kit::Stdio| stdio.ask("resources/list", json!({}))["result"]["resources"].clone();
    assert_eq!(list(&mut stdio), json!([]), "none is made to be listed");
    stdio.sh("echo one >note");
    let root = list(&mut stdio)[0]["uri"].as_str().expect("the root of its own").to_owned();
    let modern = stdio.ask_modern("resources/list", json!({}))["result"]["resources"][0]["uri"].clone();
    assert_eq!(modern, root, "without a session too");
    let uri = format!("{root}note");
    let read = stdio.ask("resources/read", json!({"uri": uri}));
    assert_eq!(read["result"]["contents"][0]["text"], "one\n", "{read}");
    // On a session's stream, which is this one; and on a request's own, which is this one too.
    assert!(stdio.ask("resources/subscribe", json!({"uri": uri}))["result"].is_object());
    let mut listen =
        crate::kit::modern("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": [uri]}})).0;
    listen["id"] = json!("heard");
    stdio.send(&listen);
    assert_eq!(stdio.next()["method"], "notifications/subscriptions/acknowledged");
    stdio.send(&run("change", &["sh", "-c", "echo two >note"]));
    let (mut of_session, mut of_request, mut answered) = (0, 0, 0);
    while of_session == 0 || of_request == 0 || answered == 0 {
        let message = stdio.next();
        match message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].as_str() {
            _ if message["id"] == "change" => answered += 1,
            Some("heard") => of_request += 1,
            _ => of_session += 1,
        }
        assert!(message["id"] == "change" || message["params"]["uri"] == *uri, "{message}");
    }
    // What was subscribed to is no reason to stay, and is told that it ends.
    let began = Instant::now();
    assert!(stdio.end().success());
    assert_eq!(
        stdio.rest().iter().filter(|message| message["id"] == "heard" && message["result"].is_object()).count(),
        1
    );
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
