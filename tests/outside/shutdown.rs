//! Stopping: drained within ten seconds, sandboxes left running unless `--ephemeral`, found again by the next start.

use crate::kit::{Process, Server, turn, until, until_some};
use rustix::process::Signal;
use serde_json::json;
use std::time::{Duration, Instant};

fn sleeper(server: &Server, id: &str, seconds: u32) -> Process {
    server.sh(id, &format!("setsid sleep {seconds} </dev/null >/dev/null 2>&1 & exit 0"));
    until_some("the background process runs", 10, || {
        server.own_processes().into_iter().find(|p| p.command_line() == format!("sleep {seconds}"))
    })
}

#[test]
fn a_stop_leaves_sandboxes_running_and_a_start_adopts_them() {
    for (signal, seconds) in [(Signal::TERM, 6001), (Signal::INT, 6002)] {
        let mut server = Server::start();
        let ids = [server.create(json!({"name": "a"})), server.create(json!({"name": "b"}))];
        let sleeper = sleeper(&server, &ids[0], seconds);
        let before = server.list();
        let started = Instant::now();
        server.signal(signal);
        let status = server.wait_end();
        assert!(status.success(), "{status:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "nothing to drain: {:?}", started.elapsed());
        let log = server.log();
        let said: Vec<&str> = log.lines().filter(|l| l.contains("keep running")).collect();
        assert!(
            matches!(said[..], [line] if line.contains("\"sandboxes\":2") && line.contains("--ephemeral")),
            "{log}"
        );
        assert!(sleeper.is_alive(), "{signal:?} leaves sandboxes alone");
        server.restart();
        assert!(sleeper.is_alive());
        assert_eq!(server.list(), before, "the same list, times and all");
        for id in &ids {
            assert_eq!(server.sh(id, "echo again"), "again");
        }
        server.delete(&ids[0]);
        until("DELETE reaches an adopted sandbox", 5, || !sleeper.is_alive());
    }
}

#[test]
fn an_ephemeral_server_takes_its_sandboxes_along() {
    let mut server = Server::builder().arg("--ephemeral").start();
    let id = server.create(json!({}));
    let sleeper = sleeper(&server, &id, 6003);
    assert!(server.stop().success());
    assert!(!sleeper.is_alive());
    until("no process is left", 5, || server.own_processes().is_empty());
    server.restart();
    assert!(server.list().is_empty());
    let files = std::fs::read_dir(server.data_dir().join("sandboxes")).expect("sandboxes").count();
    assert_eq!(files, 0);
}

#[test]
fn what_runs_is_drained_or_cut_within_ten_seconds() {
    let _turn = turn::heavy();
    let mut server = Server::start();
    // Of several sandboxes one is on another core than its callers.
    let ids: Vec<String> = (0..4).map(|_| server.create(json!({}))).collect();
    let id = ids[0].clone();
    let run = format!("/api/v1/sandboxes/{id}/process/run");
    std::thread::scope(|scope| {
        let others: Vec<_> =
            ids[1..].iter().map(|id| scope.spawn(|| server.sh(id, "sleep 1.5; echo drained"))).collect();
        let (quick, quick_id) = (server.client(), &id);
        let quick = scope.spawn(|| {
            let mut client = quick;
            let body = json!({"command": "sh", "args": ["-c", "sleep 1.5; echo drained"]}).to_string();
            client.request("POST", &run, &[], body.as_bytes())
        });
        let endless = server.client();
        let endless = scope.spawn(|| {
            let mut client = endless;
            client.request("POST", &run, &[], br#"{"command":"sleep","args":["6004"]}"#)
        });
        until("both run", 20, || {
            server.own_processes().iter().any(|p| p.command_line() == "sleep 6004")
                && server.own_processes().iter().filter(|p| p.command_line() == "sleep 1.5").count() == 4
        });
        let started = Instant::now();
        server.signal(Signal::TERM);
        let answer = quick.join().expect("join").expect("a short command is answered while draining");
        assert_eq!(answer.expect(200).json()["stdout"], "drained\n", "{quick_id}");
        for other in others {
            assert_eq!(other.join().expect("join"), "drained");
        }
        let cut = endless.join().expect("join");
        assert!(cut.is_err() || cut.is_ok_and(|r| r.status != 200 || r.json()["exit_reason"] != "exited"));
        assert!(started.elapsed() < Duration::from_secs(13), "{:?}", started.elapsed());
    });
    assert!(server.wait_end().success());
    server.restart();
    assert_eq!(server.sh(&id, "echo well"), "well");
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut server = Server::start();
    let id = server.create(json!({}));
    let run = format!("/api/v1/sandboxes/{id}/process/run");
    std::thread::scope(|scope| {
        let mut client = server.client();
        let endless = scope.spawn(move || client.request("POST", &run, &[], br#"{"command":"sleep","args":["6005"]}"#));
        until("it runs", 20, || server.own_processes().iter().any(|p| p.command_line() == "sleep 6005"));
        server.signal(Signal::TERM);
        until("draining has begun: no new connection is taken", 10, || {
            server.try_request("GET", "/api/v1/health", &[], b"").is_err()
        });
        let started = Instant::now();
        server.signal(Signal::TERM);
        let _ = endless.join().expect("join");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    });
    server.wait_end();
    server.restart();
    assert_eq!(server.sh(&id, "echo well"), "well");
}
