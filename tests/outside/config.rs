//! How it starts, and how it refuses to: variables, arguments, a taken port, a taken data directory, no io_uring.

use crate::kit::{Ended, Server, needs_root};
use serde_json::json;
use std::net::TcpListener;
use std::process::Command;

/// The last line that was printed; a refusal is one line.
fn one_line(ended: &Ended) -> String {
    assert!(!ended.status.success() && ended.status.code().is_some(), "{ended:?}");
    let lines: Vec<&str> = ended.stderr.lines().filter(|l| !l.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "one line, nothing else: {ended:?}");
    lines[0].to_owned()
}

#[test]
fn a_wrong_variable_stops_the_start_with_one_line() {
    let wrong = [
        ("WORKSPACE_HTTP_PORT", "99999", "65535"),
        ("WORKSPACE_HTTP_PORT", "web", "65535"),
        ("WORKSPACE_HTTP_HOST", "not a host", ""),
        ("WORKSPACE_GRPC_PORT", "-1", ""),
        ("WORKSPACE_RUNTIME", "chroot", "namespace"),
        ("WORKSPACE_RUNTIME", "docker", "namespace"),
        ("WORKSPACE_DATABASE_URL", "sqlite://data/x.db", "lmdb://"),
        ("WORKSPACE_DATABASE_URL", "postgres://x", "lmdb://"),
        ("WORKSPACE_POOL_BLANKS", "many", ""),
        ("WORKSPACE_NFS_MODE", "kernel", "embedded"),
        ("WORKSPACE_NFS_PORT", "x", ""),
        ("WORKSPACE_NFS_ALLOW", "127.0.0.1/99", ""),
        ("WORKSPACE_MCP_MODE", "sse", "stdio"),
        ("WORKSPACE_MCP_PROFILE", "everything", "executor"),
        ("WORKSPACE_MAX_IDLE_TIME", "1h", ""),
        ("WORKSPACE_AGENT_TIMEOUT", "0x10", ""),
        ("WORKSPACE_ALLOW_ANONYMOUS", "perhaps", "true"),
    ];
    for (name, value, allowed) in wrong {
        let line = one_line(&Server::builder().env(name, value).start_fails());
        for part in [name, value, allowed] {
            assert!(line.contains(part), "{name}={value}: {part:?} is missing in {line:?}");
        }
    }
}

#[test]
fn a_wrong_key_is_refused_without_being_shown() {
    let line =
        one_line(&Server::builder().env("WORKSPACE_API_KEYS", "good-key,bad key with spaces\u{e9}").start_fails());
    assert!(line.contains("WORKSPACE_API_KEYS"), "{line}");
    assert!(!line.contains("good-key") && !line.contains("bad key"), "{line}");
}

#[test]
fn old_variables_are_named_in_a_warning() {
    let server = Server::builder().env("WORKSPACE_NFS_ENABLED", "true").env("MCP_ENABLED", "true").start();
    let log = server.log();
    for name in ["WORKSPACE_NFS_ENABLED", "MCP_ENABLED"] {
        assert!(log.contains(name), "{name}: {log}");
    }
    assert!(log.contains("WORKSPACE_API_KEYS") || log.contains("anonymous"), "no key set is said: {log}");
}

#[test]
fn without_keys_it_listens_on_loopback_alone() {
    let ended_or_loopback = |builder: crate::kit::Builder| match builder.try_start() {
        Ok(server) => assert!(server.address().ip().is_loopback(), "{}", server.address()),
        Err(ended) => assert!(one_line(&ended).contains("WORKSPACE_API_KEYS"), "{ended:?}"),
    };
    ended_or_loopback(Server::builder().env("WORKSPACE_HTTP_HOST", "0.0.0.0"));
    let open =
        Server::builder().env("WORKSPACE_HTTP_HOST", "0.0.0.0").env("WORKSPACE_API_KEYS", "a-long-enough-key").start();
    assert!(open.address().ip().is_unspecified() || !open.address().ip().is_loopback(), "{}", open.address());
}

#[test]
fn arguments_do_what_they_say() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace-server"));
        command.args(args).output().expect("run the server")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let help = run(&["--help"]);
    assert!(help.status.success());
    for word in ["serve", "doctor", "--version", "WORKSPACE_HTTP_PORT"] {
        assert!(text(&help.stdout).contains(word), "{word}: {}", text(&help.stdout));
    }
    let version = run(&["--version"]);
    assert!(version.status.success() && text(&version.stdout).contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let doctor = run(&["doctor"]);
    let said = text(&doctor.stdout).to_lowercase();
    for word in ["io_uring", "user namespace", "cgroup", "overlay", "idmap", "docker", "inotify"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for wrong in [&["frobnicate"][..], &["serve", "--no-such"], &["--no-such"]] {
        let refused = run(wrong);
        assert!(!refused.status.success(), "{wrong:?}");
        assert!(text(&refused.stderr).contains(wrong[wrong.len() - 1]), "{wrong:?}: {}", text(&refused.stderr));
    }
}

#[test]
fn a_second_server_on_the_same_data_is_told_who_holds_it() {
    let server = Server::start();
    let ended = Server::builder().data_dir(server.data_dir()).start_fails();
    let line = one_line(&ended);
    let holder = server.supervisor().expect("the supervisor").pid.to_string();
    assert!(line.contains(&holder), "the holder is process {holder}: {line}");
    let id = server.create(json!({}));
    assert_eq!(server.sh(&id, "echo well"), "well", "the first is not harmed");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = taken.local_addr().expect("address").port().to_string();
    let line = one_line(&Server::builder().env("WORKSPACE_HTTP_PORT", &port).start_fails());
    assert!(line.contains(&port), "{line}");
    let server = Server::start();
    let port = server.address().port().to_string();
    let line = one_line(&Server::builder().env("WORKSPACE_HTTP_PORT", &port).start_fails());
    assert!(line.contains(&port), "two servers never share a port: {line}");
}

#[test]
fn a_pool_of_blanks_changes_nothing_a_user_sees() {
    let server = Server::builder().env("WORKSPACE_POOL_BLANKS", "4").start();
    let ids: Vec<String> = (0..8).map(|n| server.create(json!({"env": {"N": n.to_string()}}))).collect();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(server.sh(id, "ls /workspace | wc -l; echo $N"), format!("0\n{n}"));
    }
    assert_eq!(server.list().len(), 8);
}

#[test]
fn it_works_without_io_uring() {
    if needs_root() {
        return;
    }
    let server = Server::builder().refuse_io_uring().start();
    let log = server.log();
    let said = log.lines().filter(|l| l.contains("epoll")).count();
    assert_eq!(said, 1, "one line says that epoll stands in: {log}");
    let ids = [server.create(json!({})), server.create(json!({}))];
    for id in &ids {
        assert_eq!(server.sh(id, "echo $((6*7))"), "42");
        let timed = server.run(id, json!({"command": "sleep", "args": ["60"], "timeout": 200, "partial": true}));
        assert_eq!(timed["timed_out"], true);
    }
    let large = "x".repeat(300_000);
    assert_eq!(
        server.run(&ids[0], json!({"command": "cat", "stdin": large}))["stdout"].as_str().map(str::len),
        Some(300_000)
    );
    server.delete(&ids[0]);
    assert_eq!(server.list().len(), 1);
}

#[test]
fn it_takes_the_descriptors_that_it_may_have() {
    let server = Server::builder().descriptors_on_request(256, 4096).start();
    let id = server.create(json!({}));
    for process in [server.supervisor(), server.server_process(), server.launcher()] {
        let pid = process.expect("a process of the service").pid;
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let files: Vec<&str> = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        assert_eq!(files, ["4096", "4096", "files"], "process {pid}");
    }
    assert_eq!(server.sh(&id, "ulimit -Sn"), "1024");
}

#[test]
fn it_uses_io_uring_where_it_can() {
    let server = Server::start();
    let process = server.server_process().expect("the server process");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", process.pid)).expect("fd");
    let rings = fds.flatten().filter_map(|e| std::fs::read_link(e.path()).ok());
    let rings = rings.filter(|l| l.to_string_lossy().contains("io_uring")).count();
    if rings == 0 {
        assert!(server.log().contains("epoll"), "without a ring it says so");
        println!("skipped: this kernel refuses io_uring");
        return;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    assert!(rings >= cores, "{rings} rings on {cores} cores");
}

#[test]
fn secrets_and_content_stay_out_of_the_log() {
    let server = Server::builder().env("RUST_LOG", "debug").start();
    let id = server.create(json!({"env": {"TOKEN": "canary-env-1"}, "metadata": {"m": "canary-meta-2"}}));
    let body = json!({"command": "cat", "args": ["-"], "stdin": "canary-stdin-3", "env": {"K": "canary-env-4"}});
    assert_eq!(server.run(&id, body)["stdout"], "canary-stdin-3");
    server.get("/api/v1/nowhere/%0a%1b[2Jcanary");
    let log = server.log();
    for canary in ["canary-env-1", "canary-stdin-3", "canary-env-4"] {
        assert!(!log.contains(canary), "{canary} is in the log");
    }
    assert!(log.lines().any(|l| l.contains(&id) && l.contains("process_run")), "one line a request: {log}");
    assert!(!log.contains('\u{1b}'), "no control character in a log that is no terminal");
    assert!(log.lines().filter(|l| l.contains("process_run")).all(|l| l.starts_with('{')), "JSON lines");
}

#[test]
fn a_start_that_cannot_succeed_ends_and_names_the_next_step() {
    if needs_root() {
        return;
    }
    // Sandboxes would see the server's data through their read-only /usr, so the launcher refuses it, at every start.
    let place = format!("/usr/share/workspace-test-{}", std::process::id());
    let ended = Server::builder().data_dir(&place).start_fails();
    std::fs::remove_dir_all(&place).expect("made by the server");
    assert!(!ended.status.success() && ended.status.code().is_some(), "{ended:?}");
    let last = ended.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("workspace-server doctor"), "{ended:?}");
    assert!(ended.stderr.contains("launcher: can't start"), "the reason stands above: {ended:?}");
}
