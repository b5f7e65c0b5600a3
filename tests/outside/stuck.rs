//! A part that hangs must not make the rest hang: a stopped agent, a stopped launcher, a busy neighbour, no descriptors.

use crate::kit::{Process, Server, turn, until, until_some};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CREATE: &str = "/api/v1/sandboxes";

/// PID 1 of the sandbox in which this command runs.
fn agent_of(server: &Server, command: &str) -> Process {
    let found =
        until_some("the command runs", 10, || server.own_processes().into_iter().find(|p| p.command_line() == command));
    let pid_namespace = |p: &Process| p.namespaces().into_iter().find(|n| n.starts_with("pid:"));
    let mut agent = found.clone();
    while let Some(parent) = Process::read(agent.parent).filter(|p| pid_namespace(p) == pid_namespace(&found)) {
        agent = parent;
    }
    agent
}

#[track_caller]
fn quick<T>(what: &str, seconds: u64, ask: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let answer = ask();
    assert!(started.elapsed() < Duration::from_secs(seconds), "{what} took {:?}", started.elapsed());
    answer
}

#[test]
fn a_stopped_agent_stops_nobody_else() {
    let _turn = turn::heavy();
    let server = Server::builder().env("WORKSPACE_AGENT_TIMEOUT", "2").start();
    let (stuck, other) = (server.create(json!({})), server.create(json!({})));
    server.sh(&stuck, "setsid sleep 5001 </dev/null >/dev/null 2>&1 & exit 0");
    let agent = agent_of(&server, "sleep 5001");
    agent.signal(Signal::STOP);
    let body = json!({"command": "true", "timeout": 500});
    let answer = quick("a run in it", 15, || server.post(&format!("{CREATE}/{stuck}/process/run"), &body));
    answer.assert_error_form();
    assert!(matches!(answer.status, 503 | 504), "{}", answer.text());
    quick("list", 1, || assert_eq!(server.list().len(), 2));
    quick("get", 1, || server.get(&format!("{CREATE}/{stuck}")).expect(200));
    quick("a run in another", 2, || assert_eq!(server.sh(&other, "echo well"), "well"));
    quick("a create", 3, || server.create(json!({})));
    quick("DELETE of the stuck one", 6, || server.delete(&stuck));
    until("its processes are gone", 5, || !agent.is_alive());
}

#[test]
fn a_restart_with_a_stopped_agent_serves_the_others() {
    let _turn = turn::heavy();
    let mut server = Server::builder().env("WORKSPACE_AGENT_TIMEOUT", "2").start();
    let (stuck, other) = (server.create(json!({})), server.create(json!({})));
    server.sh(&stuck, "setsid sleep 5002 </dev/null >/dev/null 2>&1 & exit 0");
    agent_of(&server, "sleep 5002").signal(Signal::STOP);
    server.kill9_all();
    quick("the start", 20, || server.restart());
    assert_eq!(server.sh(&other, "echo well"), "well");
    quick("DELETE of the stuck one", 6, || server.delete(&stuck));
    assert_eq!(server.list().len(), 1);
}

#[test]
fn a_stopped_launcher_holds_creates_only() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let launcher = server.launcher().expect("the launcher");
    launcher.signal(Signal::STOP);
    std::thread::scope(|scope| {
        let create = scope.spawn(|| server.post(CREATE, &json!({"name": "patient"})));
        std::thread::sleep(Duration::from_millis(200));
        quick("a run", 2, || assert_eq!(server.sh(&id, "echo well"), "well"));
        quick("list", 1, || server.list());
        quick("health", 1, || server.get("/api/v1/health").expect(200));
        launcher.signal(Signal::CONT);
        let answer = create.join().expect("an answer comes");
        assert_eq!(answer.status, 201, "{}", answer.text());
    });
}

/// What held all programs of this machine up until now, of which a test can say how much fell into an answer.
#[derive(Clone, Copy)]
struct HeldUp {
    /// What whoever runs this machine took from its CPUs, in 1/100 s: `steal` of proc_stat(5).
    stolen_ticks: u64,
    /// Pages of programs and files that had to be read from the disk again.
    major_faults: u64,
    /// How long somebody waited for the disk. 0 where the kernel does not count it.
    disk_us: u64,
}

impl HeldUp {
    fn now() -> HeldUp {
        let text = |path| std::fs::read_to_string(path).unwrap_or_default();
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
        let vmstat = text("/proc/vmstat");
        HeldUp {
            stolen_ticks: number(text("/proc/stat").split_whitespace().nth(8)),
            major_faults: number(vmstat.lines().find_map(|line| line.strip_prefix("pgmajfault "))),
            disk_us: number(
                text("/proc/pressure/io").lines().next().and_then(|line| line.rsplit_once("total=")).map(|t| t.1),
            ),
        }
    }

    fn told_since(self) -> String {
        let now = HeldUp::now();
        format!(
            "{} ticks stolen, {} major faults, {} us of waits for the disk",
            now.stolen_ticks.saturating_sub(self.stolen_ticks),
            now.major_faults.saturating_sub(self.major_faults),
            now.disk_us.saturating_sub(self.disk_us)
        )
    }
}

#[test]
fn a_noisy_neighbour_does_not_delay_others_much() {
    let _turn = turn::alone();
    let server = Server::start();
    let (noisy, quiet) = (server.create(json!({"resources": {"pids": 200}})), server.create(json!({})));
    let script = "for i in $(seq 64); do (while :; do :; done) & done; yes >/dev/null & yes; wait";
    let body =
        json!({"command": "sh", "args": ["-c", script], "timeout": 6000, "partial": true, "max_output_bytes": 1000});
    std::thread::scope(|scope| {
        let noise = scope.spawn(|| server.run(&noisy, body));
        let (mut asked, mut slowest, mut told) = (0, Duration::ZERO, String::new());
        while !noise.is_finished() {
            let (started, before) = (Instant::now(), HeldUp::now());
            let answer = server.run(&quiet, json!({"command": "sh", "args": ["-c", "echo well"]}));
            assert_eq!(answer["stdout"], "well\n", "{answer}");
            asked += 1;
            if started.elapsed() > slowest {
                slowest = started.elapsed();
                // Who held it up: the machine under us, the disk, the command's own cores (its duration), or the server.
                told = format!("answer {asked} took {slowest:?}, {}, {answer}", before.told_since());
            }
        }
        println!("{told}");
        assert!(asked > 3, "{asked} answers");
        // Shared cores: a bound that only a starved neighbour misses.
        assert!(slowest < Duration::from_secs(4), "{told}");
        assert_eq!(noise.join().expect("join")["timed_out"], true);
    });
}

#[test]
fn more_runs_than_a_sandbox_may_have_are_told_to_wait() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let path = format!("{CREATE}/{id}/process/run");
    let answers: Vec<_> = std::thread::scope(|scope| {
        let run = || server.post(&path, &json!({"command": "sleep", "args": ["1"]}));
        let threads: Vec<_> = (0..90).map(|_| scope.spawn(run)).collect();
        threads.into_iter().map(|t| t.join().expect("join")).collect()
    });
    let well = answers.iter().filter(|a| a.status == 200).count();
    assert!(well >= 64, "{well} of 90 ran");
    for refused in answers.iter().filter(|a| a.status != 200) {
        let error = refused.expect_error(429, 1006);
        assert_eq!(error["retryable"], true);
        assert!(refused.header("retry-after").is_some(), "{refused:?}");
    }
    assert_eq!(server.sh(&id, "echo well"), "well");
}

#[test]
fn without_descriptors_it_refuses_and_recovers() {
    let _turn = turn::heavy();
    let server = Server::builder().descriptors_max(96).start();
    let mut ids: Vec<String> = Vec::new();
    let mut refused: Option<Value> = None;
    for _ in 0..120 {
        let answer = server.client().request("POST", CREATE, &[("Connection", "close")], b"{}");
        // A connection that could not be accepted in time is refused by the kernel or closed: no answer.
        let Ok(answer) = answer else { continue };
        if answer.status == 201 {
            ids.push(answer.json()["id"].as_str().expect("id").to_owned());
        } else {
            answer.assert_error_form();
            assert!(matches!(answer.status, 429 | 500 | 503 | 507), "{}", answer.text());
            refused = Some(answer.json());
            break;
        }
    }
    println!("{} sandboxes, then {refused:?}", ids.len());
    assert!(ids.len() > 5, "{refused:?}");
    for id in ids.drain(..ids.len() / 2) {
        server.delete(&id);
    }
    let id = server.create(json!({}));
    assert_eq!(server.sh(&id, "echo well"), "well");
    for id in &ids {
        assert_eq!(server.sh(id, "echo well"), "well");
    }
}
