//! The main job: a sandbox is created, found, listed, used and deleted.

use crate::kit::{Host, Server};
use serde_json::{Value, json};

#[test]
fn a_sandbox_runs_echo_and_goes() {
    let server = Server::start();
    let before = Host::of(&server);
    let id = server.create(json!({}));
    let answer = server.run(&id, json!({"command": "echo", "args": ["Hello"]}));
    assert_eq!(answer["stdout"], "Hello\n", "{answer}");
    assert_eq!(answer["stderr"], "", "{answer}");
    assert_eq!(answer["exit_code"], 0, "{answer}");
    server.delete(&id);
    server.get(&format!("/api/v1/sandboxes/{id}")).expect_error(404, 2001);
    let run = format!("/api/v1/sandboxes/{id}/process/run");
    server.post(&run, &json!({"command": "true"})).expect_error(404, 2001);
    server.request("DELETE", &format!("/api/v1/sandboxes/{id}"), &[], b"").expect_error(404, 2001);
    assert_eq!(server.list(), Vec::<Value>::new());
    Host::assert_back(&server, &before, 10);
}

#[test]
fn health_says_the_version() {
    let server = Server::start();
    let health = server.get("/api/v1/health").expect(200).json();
    assert_eq!(health, json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}));
}

#[test]
fn a_sandbox_has_every_field_of_the_contract() {
    let server = Server::start();
    let made = server.post("/api/v1/sandboxes", &json!({})).expect(201).json();
    for key in ["id", "name", "template", "state", "nfs_url", "created_at", "updated_at", "runtime", "network"] {
        assert!(made[key].as_str().is_some_and(|s| !s.is_empty()), "{key}: {made:#}");
    }
    for key in ["env", "metadata", "resources"] {
        assert!(made[key].is_object(), "{key}: {made:#}");
    }
    for key in ["error_message", "workspace_id", "expires_at"] {
        assert!(made[key].is_null(), "{key}: {made:#}");
    }
    let id = made["id"].as_str().expect("id");
    assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7')), "{id}");
    assert_eq!(made["state"], "running");
    assert_eq!(made["template"], "workspace-base:latest");
    assert_eq!(made["runtime"], "namespace");
    assert_eq!(made["network"], "none");
    assert_eq!(made["timeout"], json!(0), "an integer, never a float");
    assert_eq!(made["resources"]["memory_bytes"], json!(1_u64 << 30));
    assert_eq!(made["resources"]["pids"], json!(2048));
    assert_eq!(made["resources"]["disk_bytes"], json!(4_u64 << 30));
    for limit in ["memory", "cpu", "pids", "disk"] {
        let enforced = made["resources"]["enforced"][limit].as_str().unwrap_or_default();
        assert!(["hard", "soft", "none"].contains(&enforced), "{limit}: {made:#}");
    }
    assert!(made["nfs_url"].as_str().is_some_and(|u| u.starts_with("nfs://") && u.ends_with(id)), "{made:#}");
    for time in ["created_at", "updated_at"] {
        let text = made[time].as_str().expect("time");
        assert!(text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T'), "RFC 3339 in UTC: {text}");
    }
    let found = server.get(&format!("/api/v1/sandboxes/{id}")).expect(200).json();
    assert_eq!(found, made);
    assert_eq!(server.list(), [made]);
}

#[test]
fn what_a_caller_gives_comes_back() {
    let server = Server::start();
    let asked = json!({
        "template": "workspace-test:latest", "name": "a name with é and 日本", "timeout": 3600,
        "env": {"GREETING": "hé \"quoted\" \\ $HOME", "EMPTY": ""}, "metadata": {"team": "a b&c=d", "Ünï": "✓"},
        "resources": {"memory_bytes": 268_435_456, "cpus": 1.5, "pids": 100, "disk_bytes": 1_073_741_824},
    });
    let id = server.create(asked.clone());
    let found = server.get(&format!("/api/v1/sandboxes/{id}")).expect(200).json();
    for key in ["template", "name", "timeout", "env", "metadata"] {
        assert_eq!(found[key], asked[key], "{key}");
    }
    for key in ["memory_bytes", "cpus", "pids", "disk_bytes"] {
        assert_eq!(found["resources"][key], asked["resources"][key], "{key}");
    }
    assert!(found["expires_at"].as_str() > found["created_at"].as_str(), "{found:#}");
    assert_eq!(server.sh(&id, "printf %s \"$GREETING\""), "hé \"quoted\" \\ $HOME");
    let same_name = server.create(json!({"name": asked["name"]}));
    assert_ne!(same_name, id, "names need not be unique");
}

#[test]
fn a_template_that_is_not_there_is_2003_and_another_network_1002() {
    let server = Server::start();
    let error = server.post("/api/v1/sandboxes", &json!({"template": "no-such-template"})).expect_error(404, 2003);
    assert_eq!(error["reason"], "template_not_found");
    server.post("/api/v1/sandboxes", &json!({"network": "internet"})).expect_error(400, 1002);
    server.create(json!({"network": "none", "template": "workspace-base:latest"}));
}

#[test]
fn list_filters_and_pages() {
    let server = Server::start();
    let team = |n: usize| if n.is_multiple_of(2) { "even" } else { "odd" };
    let ids: Vec<String> = (0..5)
        .map(|n| server.create(json!({"name": format!("n{n}"), "metadata": {"team": team(n), "n": n.to_string()}})))
        .collect();
    let page = |query: &str| server.get(&format!("/api/v1/sandboxes{query}")).expect(200).json();
    let found = |page: &Value| -> Vec<String> {
        let sandboxes = page["sandboxes"].as_array().expect("sandboxes");
        sandboxes.iter().map(|s| s["id"].as_str().expect("id").to_owned()).collect()
    };
    let all = page("");
    assert_eq!(all["total"], json!(5));
    assert!(all["next_cursor"].is_null(), "{all}");
    let mut sorted = (found(&all), ids.clone());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
    let even = page("?metadata.team=even");
    assert_eq!((found(&even).len(), &even["total"]), (3, &json!(3)));
    assert_eq!(found(&page("?metadata.team=even&metadata.n=2")), [ids[2].clone()]);
    assert_eq!(found(&page("?metadata.team=none")), Vec::<String>::new());
    assert_eq!(page("?state=running")["total"], json!(5));
    assert_eq!(page("?state=stopped")["total"], json!(0));
    let (mut paged, mut query, mut pages) = (Vec::new(), "?limit=2".to_owned(), 0);
    loop {
        let part = page(&query);
        assert!(found(&part).len() <= 2, "{part}");
        paged.extend(found(&part));
        pages += 1;
        match part["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((paged, pages), (found(&all), 3), "the pages are the whole list, in order");
    for wrong in ["?state=bogus", "?limit=0", "?limit=-1", "?limit=x", "?limit=1.5", "?cursor=nonsense"] {
        let answer = server.get(&format!("/api/v1/sandboxes{wrong}"));
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.text());
        answer.assert_error_form();
    }
    server.get("/api/v1/sandboxes?state=bogus").expect_error(400, 1002);
}

#[test]
fn delete_without_force_spares_a_busy_sandbox() {
    let server = Server::start();
    let id = server.create(json!({}));
    let path = format!("/api/v1/sandboxes/{id}");
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            let script = "echo up >/workspace/up; while ! test -e /workspace/stop; do sleep 0.02; done";
            server.sh(&id, script)
        });
        crate::kit::until("the command runs", 20, || {
            let look = json!({"command": "test", "args": ["-e", "/workspace/up"]});
            server.run(&id, look)["exit_code"] == 0
        });
        let refused = server.request("DELETE", &path, &[], b"").expect_error(409, 2004);
        assert_eq!(refused["reason"], "invalid_sandbox_state");
        server.sh(&id, "touch /workspace/stop");
        run.join().expect("the command ends well");
    });
    server.sh(&id, "setsid sleep 1000 </dev/null >/dev/null 2>&1 & exit 0");
    let answer = server.request("DELETE", &path, &[], b"");
    assert_eq!(answer.expect(200).json(), json!({"success": true}), "a daemonized leftover does not count");
}

#[test]
fn an_idempotency_key_makes_one_sandbox() {
    let server = Server::start();
    let create = |key: &str, body: Value| {
        server.request("POST", "/api/v1/sandboxes", &[("Idempotency-Key", key)], body.to_string().as_bytes())
    };
    let first = create("k-1", json!({"name": "once"})).expect(201).json();
    let again = create("k-1", json!({"name": "once"}));
    assert!(matches!(again.status, 200 | 201), "{}", again.text());
    assert_eq!(again.json()["id"], first["id"]);
    create("k-1", json!({"name": "other"})).expect_error(409, 2002);
    assert_ne!(create("k-2", json!({"name": "once"})).expect(201).json()["id"], first["id"]);
    assert_eq!(server.list().len(), 2);
    let ids: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(|| create("k-3", json!({"name": "race"})))).collect();
        let answers = threads.into_iter().map(|t| t.join().expect("join"));
        answers.map(|a| a.json()["id"].as_str().unwrap_or_else(|| panic!("{}", a.text())).to_owned()).collect()
    });
    assert_eq!(ids.len(), 1, "sixteen at once are one");
    assert_eq!(server.list().len(), 3);
    let long = "k".repeat(256);
    assert_eq!(create(&long, json!({})).status, 400);
}

#[test]
fn a_sandbox_ends_at_its_timeout() {
    let server = Server::start();
    let id = server.create(json!({"timeout": 1}));
    let lasting = server.create(json!({"timeout": 3600}));
    crate::kit::until("the sandbox ends at its timeout", 20, || {
        let answer = server.get(&format!("/api/v1/sandboxes/{id}"));
        answer.status == 404 || matches!(answer.json()["state"].as_str(), Some("stopped" | "stopping" | "error"))
    });
    assert_eq!(server.sh(&lasting, "echo here"), "here");
}

#[test]
fn two_sandboxes_share_nothing() {
    let server = Server::start();
    let (a, b) = (server.create(json!({})), server.create(json!({})));
    server.sh(&a, "for d in /workspace /tmp $HOME /dev/shm; do echo mine >$d/only-in-a; done");
    server.sh(&a, "setsid sleep 4321 </dev/null >/dev/null 2>&1 & exit 0");
    let seen = server.sh(&b, "ls /workspace /tmp $HOME /dev/shm; cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(!seen.contains("only-in-a"), "{seen}");
    assert!(!seen.contains("sleep 4321"), "{seen}");
    server.delete(&a);
    assert_eq!(server.sh(&b, "echo still"), "still");
}
