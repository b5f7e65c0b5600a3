//! N25: bombs burst inside. Whatever a command does to its own limits, everybody else goes on.

use crate::case::{self, Case, Starter};
use crate::program::{Lines, Program, nonce, program};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const BOMBS: Program = program!("bombs");
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Limits that are reached soon.
fn small() -> Value {
    json!({"resources": {"pids": 100, "memory_bytes": 128 << 20}})
}

/// Runs a bomb and, while it burns, asks the same sandbox for a command: any answer counts, if it comes in time.
fn burn(case: &Case, args: &[&str]) -> (Value, Lines) {
    let (program, nonce) = (case.build(BOMBS), nonce());
    let mut all = vec![nonce.as_str()];
    all.extend(args);
    let body = json!({"command": program, "args": all, "timeout": 20_000, "partial": true});
    let path = format!("/api/v1/sandboxes/{}/process/run", case.id);
    let post =
        |body: &Value| case.server.try_request("POST", &path, &[("x-api-key", &case.key)], body.to_string().as_bytes());
    let answer = std::thread::scope(|scope| {
        let bomb = scope.spawn(|| post(&body));
        while !bomb.is_finished() {
            let started = Instant::now();
            let during = post(&json!({"command": "/bin/true", "timeout": 1000}));
            assert!(during.is_ok() && started.elapsed() < ANSWER_MAX, "a run took {:?}: {during:?}", started.elapsed());
            std::thread::sleep(Duration::from_millis(200));
        }
        bomb.join().expect("the bomb").expect("an answer").expect(200).json()
    });
    let lines = Lines::parse(BOMBS, &nonce, answer["stdout"].as_str().expect("stdout"));
    (answer, lines)
}

/// After it, the sandbox is as usable as before.
fn usable(case: &Case) {
    crate::kit::until("the sandbox runs commands again", 10, || {
        let answer = case.run_in(&case.id, &json!({"command": "echo", "args": ["alive"]}));
        answer.status == 200 && answer.json()["stdout"] == "alive\n"
    });
}

#[test]
fn n25_fork_bombs() {
    let _turn = crate::kit::turn::heavy();
    case::one(Starter::Root, small(), |case| {
        if case.api("GET", &format!("/{}", case.id), None).json()["resources"]["enforced"]["pids"] != "hard" {
            println!("skipped: this host gives no limit of processes");
            return;
        }
        for kind in ["forks", "daemons"] {
            let agent = case.agent();
            let (answer, lines) = burn(case, &[kind, "3"]);
            assert!(lines.find("limit") == Some("EAGAIN") || answer["exit_code"] != 0, "{answer:#}");
            assert!(agent.is_alive(), "the agent has died");
            // What was daemonized lives on by contract; its owner ends it, even where no process more is given.
            crate::kit::until("what is left of the bomb is ended", 10, || {
                let body = json!({"command": "/bin/sh", "args": ["-c", "kill -KILL -1"], "timeout": 2000});
                case.run_in(&case.id, &body).status == 200
            });
            usable(case);
            let left = case.processes().len();
            assert!(left < 20, "{left} processes are left after {kind}");
        }
    });
}

#[test]
fn n25_a_delete_during_a_fork_bomb() {
    let _turn = crate::kit::turn::heavy();
    case::one(Starter::Root, json!({}), |case| {
        let id = case.create(small());
        let body = json!({"command": "cc", "args": crate::program::compiler_args("/tmp/bomb"), "stdin": BOMBS.source});
        assert_eq!(case.run_in(&id, &body).expect(200).json()["exit_code"], 0);
        let path = format!("/api/v1/sandboxes/{id}/process/run");
        let body = json!({"command": "/tmp/bomb", "args": [nonce(), "daemons", "30"]}).to_string();
        std::thread::scope(|scope| {
            let bomb =
                scope.spawn(|| case.server.try_request("POST", &path, &[("x-api-key", &case.key)], body.as_bytes()));
            std::thread::sleep(Duration::from_millis(700));
            let started = Instant::now();
            case.api("DELETE", &format!("/{id}?force=true"), None).expect(200);
            assert!(started.elapsed() < ANSWER_MAX, "DELETE took {:?}", started.elapsed());
            let answer = bomb.join().expect("the bomb").expect("an answer");
            assert_ne!(answer.status, 500, "{}", answer.text());
        });
    });
}

#[test]
fn n25_a_hog_of_memory_dies_alone() {
    let _turn = crate::kit::turn::heavy();
    case::one(Starter::Root, small(), |case| {
        if case.api("GET", &format!("/{}", case.id), None).json()["resources"]["enforced"]["memory"] != "hard" {
            println!("skipped: this host gives no limit of memory");
            return;
        }
        let agent = case.agent();
        let (answer, lines) = burn(case, &["memory"]);
        lines.expect("began", &["ok"]);
        assert_eq!(lines.find("survived"), None, "4 GiB of 128 MiB: {answer:#}");
        assert_eq!((&answer["signal"], &answer["exit_code"]), (&json!(9), &json!(137)), "{answer:#}");
        assert_eq!(answer["exit_reason"], "oom_killed", "{answer:#}");
        assert!(agent.is_alive(), "the agent has died");
        usable(case);
    });
}

#[test]
fn n25_busy_threads_and_short_lives() {
    let _turn = crate::kit::turn::heavy();
    case::each(|case| {
        let (_, lines) = burn(case, &["threads", "3"]);
        lines.complete().expect("threads", &["64"]);
        let (_, lines) = burn(case, &["short", "20000"]);
        lines.complete().expect("born", &["20000"]);
        usable(case);
    });
}
