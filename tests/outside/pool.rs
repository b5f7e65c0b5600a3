//! Sandboxes made ahead: a user never sees one, and none is left by a stop or a crash.

use crate::kit::{Host, Server, turn, until};
use serde_json::json;
use std::collections::BTreeSet;

const CREATE: &str = "/api/v1/sandboxes";
const BLANKS: usize = 6;

/// Agents of this server: PID 1 of a sandbox each, asked for or made ahead.
fn agents(server: &Server) -> usize {
    server.own_processes().iter().filter(|process| process.is_init()).count()
}

fn with_pool() -> Server {
    let server = Server::builder().env("WORKSPACE_POOL_BLANKS", &BLANKS.to_string()).start();
    until("the pool is full", 30, || agents(&server) >= BLANKS);
    server
}

#[test]
fn a_create_takes_a_sandbox_made_ahead() {
    let server = with_pool();
    assert!(server.list().is_empty(), "nobody asked for them");
    let before: Vec<i32> = server.own_processes().iter().filter(|p| p.is_init()).map(|p| p.pid).collect();
    let id = server.create(json!({"env": {"A": "b"}}));
    assert_eq!(server.sh(&id, "echo $A; pwd; id -un"), "b\n/workspace\nuser");
    let after: Vec<i32> = server.own_processes().iter().filter(|p| p.is_init()).map(|p| p.pid).collect();
    assert!(before.iter().all(|pid| after.contains(pid)), "it was there before: {before:?} {after:?}");
    let other = server.create(json!({"resources": {"pids": 50}}));
    assert_eq!(server.sh(&other, "echo launched for itself"), "launched for itself");
    assert_eq!(server.list().len(), 2);
    server.delete(&id);
    server.delete(&other);
    until("the pool is full again, and no fuller", 20, || agents(&server) >= BLANKS);
}

#[test]
fn blanks_are_not_seen_and_go_with_the_server() {
    let mut server = with_pool();
    assert!(server.list().is_empty());
    let hidden: BTreeSet<String> = std::fs::read_dir(server.data_dir().join("sandboxes"))
        .expect("sandboxes")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    for id in &hidden {
        server.get(&format!("{CREATE}/{id}")).expect_error(404, 2001);
        server.post(&format!("{CREATE}/{id}/process/run"), &json!({"command": "true"})).expect_error(404, 2001);
        server.request("DELETE", &format!("{CREATE}/{id}?force=true"), &[], b"").expect_error(404, 2001);
    }
    assert!(server.stop().success());
    until("no process of it is left", 5, || server.own_processes().is_empty());
    let left = Host::of(&server);
    assert!(left.files.is_empty() && left.cgroups.is_empty(), "{left:?}");
    for _ in 0..4 {
        // A stop while the pool is still being filled: also the one that is being made must go.
        server.restart();
        assert!(server.stop().success());
        until("no process of it is left", 5, || server.own_processes().is_empty());
    }
    server.restart();
}

#[test]
fn a_sandbox_from_the_pool_is_like_any_other() {
    let server = with_pool();
    let asked = json!({"name": "pooled", "env": {"A": "1"}, "metadata": {"m": "2"}, "timeout": 3600});
    let pooled = server.create(asked.clone());
    let mut launched_body = asked;
    launched_body["resources"] = json!({"memory_bytes": 1_u64 << 30, "pids": 2048});
    let launched = server.create(launched_body);
    let shown = |id: &str| {
        let mut sandbox = server.get(&format!("{CREATE}/{id}")).expect(200).json();
        for own in ["id", "created_at", "updated_at", "expires_at", "nfs_url"] {
            assert!(sandbox[own].is_string(), "{own}: {sandbox}");
            sandbox[own] = json!(null);
        }
        sandbox
    };
    assert_eq!(shown(&pooled), shown(&launched));
    let look = "id; pwd; env | sort; ls -la /workspace $HOME | wc -l; nproc; hostname; cat /proc/self/mountinfo | wc -l; \
        grep -E 'Cap|Seccomp:|NoNew' /proc/self/status";
    let of = |id: &str| server.sh(id, look).replace(id, "ID");
    assert_eq!(of(&pooled), of(&launched));
}

#[test]
fn a_burst_beyond_the_pool_is_served_and_each_is_new() {
    let _turn = turn::heavy();
    let server = with_pool();
    let ids: Vec<String> = std::thread::scope(|scope| {
        let create = |n: usize| {
            let id = server.create(json!({"env": {"N": n.to_string()}}));
            assert_eq!(
                server.sh(&id, "ls -A /workspace /tmp /dev/shm | grep -v : | wc -w; echo $N"),
                format!("0\n{n}")
            );
            server.sh(&id, "echo mine >/workspace/f");
            id
        };
        let threads: Vec<_> = (0..40).map(|n| scope.spawn(move || create(n))).collect();
        threads.into_iter().map(|t| t.join().expect("join")).collect()
    });
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 40);
    assert_eq!(server.list().len(), 40);
    for id in &ids {
        server.delete(id);
    }
    until("only blanks are left", 20, || {
        let host = Host::of(&server);
        agents(&server) <= BLANKS + 1 && !host.files.iter().any(|f| f.starts_with("trash/"))
    });
}

#[test]
fn a_crash_leaves_no_blank() {
    let _turn = turn::heavy();
    let mut server = with_pool();
    let kept = server.create(json!({"name": "kept"}));
    for _ in 0..2 {
        server.kill9_server();
        server.kill9_all();
        server.restart();
        assert_eq!(server.list().len(), 1);
        assert_eq!(server.sh(&kept, "echo well"), "well");
        // The new pool fills while what the old one had is removed.
        until("old blanks go", 20, || agents(&server) <= 1 + BLANKS + 1);
    }
    assert!(server.stop().success());
    until("only the user's sandbox is left", 10, || agents(&server) == 1);
    server.restart();
    server.delete(&kept);
}
