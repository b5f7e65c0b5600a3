//! The same server as an ordinary user, without one right more than any user has.

use crate::kit::{Host, Server, needs_root, until_some};
use serde_json::json;

/// A numeric id that no passwd file names.
const THROW_AWAY_UID: u32 = 54_321;

#[test]
fn an_ordinary_user_can_serve_sandboxes() {
    if needs_root() {
        return;
    }
    let mut server = match Server::builder().user(THROW_AWAY_UID).try_start() {
        Ok(server) => server,
        Err(ended) => {
            let said = ended.stderr.to_lowercase();
            assert!(said.contains("user namespace"), "a machine that forbids it is told how to mend it: {ended:?}");
            println!("skipped: this machine forbids user namespaces to ordinary users");
            return;
        }
    };
    for process in server.own_processes() {
        assert_ne!(process.status("Uid"), Some(0), "nothing of it has real root: {process:?}");
    }
    let before = Host::of(&server);
    let id = server.create(json!({"resources": {"memory_bytes": 134_217_728}}));
    let sandbox = server.get(&format!("/api/v1/sandboxes/{id}")).expect(200).json();
    for limit in ["memory", "cpu", "pids", "disk"] {
        let enforced = sandbox["resources"]["enforced"][limit].as_str().unwrap_or_default();
        assert!(["hard", "soft", "none"].contains(&enforced), "{limit}: {sandbox:#}");
    }
    assert_ne!(sandbox["resources"]["enforced"]["memory"], "hard", "without a cgroup of its own it can't hold memory");
    let log = server.log();
    assert!(log.contains("cgroup"), "what does not hold is said in the log: {log}");
    assert_eq!(server.sh(&id, "echo Hello; id -u; pwd"), "Hello\n1000\n/workspace");
    assert_eq!(
        server.sh(&id, "for d in /workspace /tmp \"$HOME\" /dev/shm; do echo x >\"$d/f\" && cat \"$d/f\"; done"),
        "x\nx\nx\nx"
    );
    assert_eq!(
        server.sh(
            &id,
            "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; ls -A /home; cat /etc/shadow 2>/dev/null || echo no"
        ),
        "lo\nuser\nno"
    );
    let path = format!("/api/v1/sandboxes/{id}/process/run");
    let error = server.post(&path, &json!({"command": "id", "user": "root"})).expect_error(400, 1002);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("/etc/subuid")), "it names the way: {error}");
    let timed = server.run(
        &id,
        json!({"command": "sh", "args": ["-c", "setsid sleep 9001 & sleep 9001"], "timeout": 300, "partial": true}),
    );
    assert_eq!(timed["timed_out"], true);
    crate::kit::until("setsid children die too", 5, || {
        !server.own_processes().iter().any(|p| p.command_line().contains("sleep 9001"))
    });
    server.sh(&id, "echo kept >/workspace/k; setsid sleep 9002 </dev/null >/dev/null 2>&1 & exit 0");
    let sleeper = until_some("the process runs", 10, || {
        server.own_processes().into_iter().find(|p| p.command_line() == "sleep 9002")
    });
    server.kill9_all();
    server.restart();
    assert!(sleeper.is_alive(), "sandboxes live on");
    assert_eq!(server.sh(&id, "cat /workspace/k"), "kept");
    server.delete(&id);
    Host::assert_back(&server, &before, 10);
}

#[test]
fn with_a_subordinate_range_root_inside_is_whole() {
    if needs_root() {
        return;
    }
    if !["/usr/bin/newuidmap", "/bin/newuidmap"].iter().any(|p| std::path::Path::new(p).exists()) {
        println!("skipped: this machine has no newuidmap");
        return;
    }
    let mut server = Server::builder().user(THROW_AWAY_UID).subordinate_ids(1_600_000, 65_536).start();
    let id = server.create(json!({}));
    let root = json!({"command": "sh", "args": ["-c", "id -u; touch /workspace/r && chown 33:33 /workspace/r && stat -c %u /workspace/r"], "user": "root"});
    let answer = server.run(&id, root);
    assert_eq!(answer["stdout"], "0\n33\n", "{answer}");
    assert_eq!(server.sh(&id, "id -u; cat /workspace/r"), "1000");
    let enforced = &server.get(&format!("/api/v1/sandboxes/{id}")).expect(200).json()["resources"]["enforced"];
    assert!(enforced["pids"].is_string(), "{enforced}");
    server.sh(&id, "setsid sleep 9003 </dev/null >/dev/null 2>&1 & exit 0");
    let sleeper = until_some("the process runs", 10, || {
        server.own_processes().into_iter().find(|p| p.command_line() == "sleep 9003")
    });
    server.kill9_all();
    server.restart();
    assert!(sleeper.is_alive());
    assert_eq!(server.sh(&id, "echo again"), "again");
    server.delete(&id);
    assert!(!sleeper.is_alive(), "a new service has power over what an old one left");
}
