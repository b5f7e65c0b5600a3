//! Who subscribes to a resource is told of its changes, whoever makes them: on a session's stream, and on the answer to
//! `subscriptions/listen`. What ends a subscription, and that nothing is left of it.

use crate::kit::{
    Mcp, Server, Told, modern, needs_root,
    nfs_guest::{self, Guest},
    turn, until,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn uri(id: &str, path: &str) -> String {
    format!("workspace://{id}/{path}")
}

#[track_caller]
fn subscribe(session: &mut Mcp<'_>, uri: &str) {
    let answer = session.ask("resources/subscribe", json!({"uri": uri}));
    assert_eq!(answer["result"], json!({}), "{uri}: {answer}");
}

fn listen(server: &Server, uris: &[String]) -> (Told, Value) {
    let (told, agreed) = Told::modern(server, "full", json!({"resourceSubscriptions": uris}));
    (told, agreed["resourceSubscriptions"].clone())
}

fn put(server: &Server, id: &str, path: &str, text: &str) {
    let path = format!("/api/v1/sandboxes/{id}/files?path={path}");
    server.request("PUT", &path, &[], json!({"content": text}).to_string().as_bytes()).expect(200);
}

#[test]
fn a_session_is_told_of_what_it_subscribed_to() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "mkdir d; echo x >d/f; echo x >d/g; ln -s d link");
    let mut session = Mcp::begin(&server, "full");
    let (file, made, directory) = (uri(&id, "d/f"), uri(&id, "made"), uri(&id, "link"));
    for uri in [&file, &file, &made, &directory] {
        subscribe(&mut session, uri);
    }
    let all = [file.as_str(), &made, &directory];
    // What is told before anybody listens waits.
    server.sh(&id, "echo y >>d/f");
    let mut told = session.listen();
    told.until_updated(&file, &all);
    put(&server, &id, "d/f", "by HTTP, with another file in its place");
    told.until_updated(&file, &all);
    server.sh(&id, "echo x >made");
    told.until_updated(&made, &all);
    server.sh(&id, "rm d/g");
    told.until_updated(&directory, &all);
    server.sh(&id, "mv made gone");
    told.until_updated(&made, &all);
    for bad in [json!({}), json!({"uri": 7})] {
        assert_eq!(session.ask("resources/subscribe", bad)["error"]["code"], -32602);
    }
    for bad in [uri(&id, "none/at/all"), uri(&"a".repeat(32), "x"), "x:y".to_owned()] {
        assert_eq!(session.ask("resources/subscribe", json!({"uri": bad}))["error"]["code"], -32002, "{bad}");
    }
    assert_eq!(session.end().status, 204);
    while let Some(message) = told.next() {
        assert_eq!(message["method"], "notifications/resources/updated");
    }
}

#[test]
fn neighbours_and_what_was_given_back_are_not_told() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "mkdir -p d/below d/f.d; echo x | tee d/f d/ff d/below/f >last");
    let mut session = Mcp::begin(&server, "full");
    let (file, last) = (uri(&id, "d/f"), uri(&id, "last"));
    subscribe(&mut session, &file);
    subscribe(&mut session, &last);
    let mut told = session.listen();
    server.sh(&id, "cat d/f; echo y | tee d/ff d/g d/below/f; mv d/ff f; rm d/g; rmdir d/f.d; echo y >>last");
    told.until_updated(&last, &[]);
    for uri in [&file, &file, &uri(&id, "never")] {
        assert_eq!(session.ask("resources/unsubscribe", json!({"uri": uri}))["result"], json!({}), "{uri}");
    }
    server.sh(&id, "echo z >>d/f; rm d/f; echo z >>last");
    told.until_updated(&last, &[]);
    subscribe(&mut session, &file);
    server.sh(&id, "echo z >>d/f");
    told.until_updated(&file, &[&last]);
}

/// Reads what is told of these two until the second; whether the first was among it.
fn is_told(told: &mut Told, first: &str, second: &str) -> bool {
    let mut seen = false;
    loop {
        let uri = told.updated();
        if uri == second {
            return seen;
        }
        // What was on its way when it was given back may still come.
        seen |= uri == first;
    }
}

#[test]
fn a_name_is_followed_through_all_that_has_it() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "mkdir -p a/b; echo x >a/b/f; : >end");
    let mut session = Mcp::begin(&server, "full");
    let (file, later, end) = (uri(&id, "a/b/f"), uri(&id, "later"), uri(&id, "end"));
    for uri in [&file, &later, &end] {
        subscribe(&mut session, uri);
    }
    let mut told = session.listen();
    // What one change may leave to be told later is little: who is told again and again is followed.
    let mut followed = |name: &str, uri: &str, change: &str| {
        let mut times = 0;
        until(name, 20, || {
            server.sh(&id, &format!("{change}; echo x >>end"));
            times += u32::from(is_told(&mut told, uri, &end));
            times >= 8
        });
    };
    followed("a file", &file, "echo y >>a/b/f");
    server.sh(&id, "rm -r a; mkdir -p a/b; echo z >a/b/f");
    followed("a file in another tree", &file, "echo y >>a/b/f");
    assert_eq!(session.ask("resources/unsubscribe", json!({"uri": file}))["result"], json!({}));
    server.sh(&id, "mkdir later");
    followed("a directory that was none", &later, "echo y >later/$$");
    server.sh(&id, "rm -r later; echo x >later");
    followed("a file that was a directory", &later, "echo y >>later");
}

#[test]
fn the_newest_stream_carries_what_is_told() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "full");
    let file = uri(&id, "f");
    subscribe(&mut session, &file);
    let mut old = session.listen();
    let mut new = session.listen();
    assert_eq!(old.next(), None, "it has ended");
    server.sh(&id, "echo x >f");
    new.until_updated(&file, &[]);
    drop(new);
    server.sh(&id, "echo y >>f");
    session.listen().until_updated(&file, &[]);
    let refused = |fields: &[(&str, &str)]| server.request("GET", "/mcp/full", fields, b"");
    let named = ("mcp-session-id", session.id.as_str());
    assert_eq!(refused(&[named, ("accept", "application/json")]).status, 406);
    assert_eq!(refused(&[named, ("mcp-protocol-version", "2026-07-28")]).status, 405);
    assert_eq!(refused(&[("mcp-session-id", "x"), ("accept", "text/event-stream")]).status, 404);
    assert_eq!(server.request("HEAD", "/mcp/full", &[named], b"").status, 405);
    let head = session.try_listen();
    assert_eq!(session.end().status, 204);
    assert!(head.is_ok_and(|mut told| std::iter::from_fn(|| told.next()).count() < 3), "it ends with its session");
    assert_eq!(session.try_listen().err().map(|answer| answer.status), Some(404));
}

#[test]
fn a_modern_client_is_told_on_its_answer_until_all_is_lost() {
    let server = Server::start();
    let (id, other) = (server.create(json!({})), server.create(json!({})));
    server.sh(&id, "mkdir d; echo x >d/f");
    let (file, root) = (uri(&id, "d/f"), uri(&other, ""));
    let wanted = [file.clone(), root.clone(), file.clone(), uri(&id, "none/x"), "x:y".to_owned(), uri("x", "y")];
    let (mut told, agreed) = listen(&server, &wanted);
    assert_eq!(agreed, json!([file, root]), "what can't be followed is left out");
    server.sh(&id, "echo y >d/f");
    let message = told.next().expect("a message");
    let expected = json!({"uri": file, "_meta": {"io.modelcontextprotocol/subscriptionId": 7}});
    assert_eq!((&message["method"], &message["params"]), (&json!("notifications/resources/updated"), &expected));
    put(&server, &other, "new", "x");
    told.until_updated(&root, &[&file]);
    // A directory that is moved away is told of, and looked for in vain.
    server.sh(&id, "mv d e");
    told.until_updated(&file, &[&root]);
    server.delete(&other);
    let mut last = Value::Null;
    while let Some(message) = told.next() {
        last = message;
    }
    assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")), "{last}");
    assert_eq!(last["result"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 7, "{last}");
    let (message, fields) = modern("resources/subscribe", json!({"uri": file}));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let answer = server.request("POST", "/mcp/full", &fields, message.to_string().as_bytes());
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(-32601)), "not of this version");
}

#[test]
fn clients_of_nfs_are_seen() {
    if nfs_guest::has_no_guest() {
        return;
    }
    let _turn = turn::heavy();
    let (builder, port) = nfs_guest::server();
    let server = builder.start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "developer");
    let file = uri(&id, "by-nfs");
    subscribe(&mut session, &file);
    let mut told = session.listen();
    let (mut listening, _) = listen(&server, std::slice::from_ref(&file));
    let script = format!("nfs-mount {port} /{id} /mnt/a && cd /mnt/a && echo x >by-nfs");
    Guest::start(&server, port, &script).finish();
    told.until_updated(&file, &[]);
    listening.until_updated(&file, &[]);
    assert_eq!(session.ask("resources/read", json!({"uri": file}))["result"]["contents"][0]["text"], "x\n");
}

#[test]
fn a_stop_ends_those_who_only_listen_at_once() {
    let mut server = Server::builder().arg("--ephemeral").start();
    let id = server.create(json!({}));
    let session = Mcp::begin(&server, "full");
    let mut told = session.listen();
    let (mut listening, _) = listen(&server, &[uri(&id, "")]);
    let (mut silent, agreed) = Told::modern(&server, "full", json!({"toolsListChanged": true}));
    assert_eq!(agreed, json!({}), "no list of tools ever changes");
    let started = Instant::now();
    assert!(server.stop().success());
    assert!(started.elapsed() < Duration::from_secs(8), "it was not waited for: {:?}", started.elapsed());
    assert_eq!(told.next(), None);
    for one in [&mut listening, &mut silent] {
        let last = std::iter::from_fn(|| one.next()).last().expect("a last message");
        assert_eq!((&last["id"], &last["result"]["resultType"]), (&json!(7), &json!("complete")), "{last}");
    }
}

/// Of a hundred changes a second few are told, and the last one always.
#[test]
fn a_storm_of_changes_is_told_in_few_words() {
    let server = Server::start();
    let id = server.create(json!({}));
    let mut session = Mcp::begin(&server, "full");
    let (file, end) = (uri(&id, "f"), uri(&id, "end"));
    subscribe(&mut session, &file);
    subscribe(&mut session, &end);
    let mut told = session.listen();
    let started = Instant::now();
    server.sh(&id, "n=0; while [ $n -lt 20000 ]; do echo $n >>f; n=$((n+1)); done; echo x >end");
    let mut count = 0;
    while told.updated() != end {
        count += 1;
    }
    let tenths = started.elapsed().as_millis() / 100;
    assert!(count >= 1 && count <= tenths + 2, "{count} in {tenths} tenths of a second");
}

#[test]
fn floods_of_subscriptions_end_at_their_bounds_and_leave_nothing() {
    if needs_root() {
        return;
    }
    let server = Server::start();
    let id = server.create(json!({}));
    let process = server.server_process().expect("the server");
    let held = || {
        let infos = std::fs::read_dir(format!("/proc/{}/fdinfo", process.pid)).expect("fdinfo");
        let text = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        infos.flatten().map(|file| text(file.path()).matches("inotify wd").count()).sum::<usize>()
    };
    server.sh(&id, "for n in $(seq 200); do mkdir $n; done");
    let before = held();
    let mut session = Mcp::begin(&server, "full");
    let told = session.listen();
    let mut refused = 0;
    for n in 1..=70 {
        let answer = session.ask("resources/subscribe", json!({"uri": uri(&id, &format!("{n}"))}));
        if let Some(message) = answer["error"]["message"].as_str() {
            assert!(message.contains("at most 64 subscriptions"), "{message}");
            refused += 1;
        }
    }
    assert_eq!(refused, 6);
    // One sandbox is followed by so many at once on each core; others are refused, and told why.
    let mut sessions = vec![session];
    let mut message = String::new();
    for n in 71..=1100 {
        if !message.is_empty() {
            break;
        }
        let mut next = Mcp::begin(&server, "full");
        let answer = next.ask("resources/subscribe", json!({"uri": uri(&id, &format!("{n}"))}));
        message.push_str(answer["error"]["message"].as_str().unwrap_or_default());
        sessions.push(next);
    }
    assert!(message.contains("rate_limited (1006)"), "{message}");
    let many: Vec<String> = (0..65).map(|n| uri(&id, &format!("x{n}"))).collect();
    let (body, fields) = modern("subscriptions/listen", json!({"notifications": {"resourceSubscriptions": many}}));
    let fields: Vec<(&str, &str)> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let answer = server.request("POST", "/mcp/full", &fields, body.to_string().as_bytes());
    assert_eq!(answer.json()["error"]["code"], -32602, "{}", answer.text());
    assert!(held() >= before + 60, "{} {}", held(), before);
    for session in &sessions {
        assert_eq!(session.end().status, 204);
    }
    drop(told);
    until("their ends give all back", 10, || held() == before);
    let listening: Vec<_> = (0..4).map(|_| listen(&server, &many[..10])).collect();
    assert!(held() > before);
    drop(listening);
    until("whoever leaves gives all back", 10, || held() == before);
    let mut again = Mcp::begin(&server, "full");
    subscribe(&mut again, &uri(&id, "1"));
    assert_eq!(server.sh(&id, "echo on"), "on");
}
