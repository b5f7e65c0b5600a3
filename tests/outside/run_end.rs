//! How a command ends: by itself, by a signal, at its timeout, for memory, because its caller or its sandbox went.

use crate::kit::{Server, turn, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn run_path(id: &str) -> String {
    format!("/api/v1/sandboxes/{id}/process/run")
}

/// Our processes on the host whose command line has this text.
fn alive(server: &Server, text: &str) -> usize {
    server.own_processes().iter().filter(|p| p.command_line().contains(text)).count()
}

#[test]
fn exit_codes_and_signals() {
    let server = Server::start();
    let id = server.create(json!({}));
    for code in [0, 1, 42, 125, 255] {
        let answer = server.run(&id, json!({"command": "sh", "args": ["-c", format!("exit {code}")]}));
        assert_eq!((&answer["exit_code"], &answer["exit_reason"]), (&json!(code), &json!("exited")));
        assert!(answer["signal"].is_null());
    }
    for signal in [1, 6, 9, 11, 15, 34] {
        let answer = server.run(&id, json!({"command": "sh", "args": ["-c", format!("kill -{signal} $$")]}));
        assert_eq!(answer["exit_code"], json!(128 + signal), "{answer}");
        assert_eq!((&answer["exit_reason"], &answer["signal"]), (&json!("signaled"), &json!(signal)), "{answer}");
    }
}

#[test]
fn a_timeout_acts_at_the_deadline_and_ends_the_tree() {
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "trap '' TERM INT HUP; setsid sh -c 'sleep 7001; :' & (setsid sleep 7001 &) ; echo started; \
        sleep 7001 & wait; sleep 7001";
    let started = Instant::now();
    let mut body = json!({"command": "sh", "args": ["-c", script], "timeout": 700});
    let error = server.post(&run_path(&id), &body).expect_error(504, 4002);
    assert_eq!(error["reason"], "process_timeout");
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
    until("setsid children die with the command", 5, || alive(&server, "sleep 7001") == 0);
    body["partial"] = json!(true);
    let partial = server.run(&id, body);
    assert_eq!((&partial["stdout"], &partial["timed_out"]), (&json!("started\n"), &json!(true)), "{partial}");
    assert_eq!(partial["exit_reason"], "timed_out", "{partial}");
    until("setsid children die with the command", 5, || alive(&server, "sleep 7001") == 0);
    assert_eq!(server.sh(&id, "echo well"), "well", "the sandbox lives on");
    let quick = server.run(&id, json!({"command": "echo", "args": ["quick"], "timeout": 60_000}));
    assert_eq!((&quick["stdout"], &quick["timed_out"]), (&json!("quick\n"), &json!(false)));
    let none = server.run(&id, json!({"command": "sleep", "args": ["0.3"], "timeout": 0}));
    assert_eq!(none["exit_code"], 0, "0 is no timeout");
}

#[test]
fn a_daemon_that_holds_the_pipe_does_not_hold_the_answer() {
    let server = Server::start();
    let id = server.create(json!({}));
    for script in ["sleep 7002 & echo x", "setsid sleep 7002 & echo x", "(sleep 7002; echo late) & echo x"] {
        let started = Instant::now();
        let answer = server.run(&id, json!({"command": "sh", "args": ["-c", script]}));
        assert_eq!((&answer["stdout"], &answer["exit_code"]), (&json!("x\n"), &json!(0)), "{script}");
        assert!(started.elapsed() < Duration::from_secs(3), "{script}: {:?}", started.elapsed());
    }
    server.delete(&id);
    until("leftovers die with the sandbox", 5, || alive(&server, "sleep 7002") == 0);
}

#[test]
fn a_client_that_goes_ends_its_command() {
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "setsid sleep 7003 & sleep 7003";
    let body = json!({"command": "sh", "args": ["-c", script]}).to_string();
    let mut client = server.client();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        run_path(&id),
        server.address(),
        body.len()
    );
    client.send(head.as_bytes()).expect("send");
    until("the command runs", 20, || alive(&server, "sleep 7003") >= 2);
    drop(client);
    until("the command ends with its caller", 10, || alive(&server, "sleep 7003") == 0);
    assert_eq!(server.sh(&id, "echo well"), "well");
    let free = server.request("DELETE", &format!("/api/v1/sandboxes/{id}"), &[], b"");
    assert_eq!(free.status, 200, "nothing of it counts as alive: {}", free.text());
}

#[test]
fn a_sandbox_deleted_under_a_command_is_said() {
    let server = Server::start();
    let id = server.create(json!({}));
    std::thread::scope(|scope| {
        let run = scope.spawn(|| server.post(&run_path(&id), &json!({"command": "sleep", "args": ["7004"]})));
        until("the command runs", 20, || alive(&server, "sleep 7004") == 1);
        let started = Instant::now();
        server.delete(&id);
        let answer = run.join().expect("an answer comes");
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        if answer.status == 200 {
            assert_eq!(answer.json()["exit_reason"], "sandbox_lost", "{}", answer.text());
        } else {
            answer.assert_error_form();
            assert!(matches!(answer.status, 404 | 409 | 503), "{}", answer.text());
        }
    });
}

#[test]
fn memory_beyond_the_limit_kills_the_hog_alone() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({"resources": {"memory_bytes": 67_108_864}}));
    if !enforced(&server, &id, "memory") {
        return;
    }
    assert_eq!(server.sh(&id, "echo $WORKSPACE_MEMORY_BYTES"), "67108864");
    let hog = "b = bytearray(300 << 20)\nfor i in range(0, len(b), 4096): b[i] = 1\nprint('survived')";
    for _ in 0..2 {
        let answer = server.run(&id, json!({"command": "python3", "args": ["-c", hog]}));
        assert_eq!((&answer["exit_reason"], &answer["signal"]), (&json!("oom_killed"), &json!(9)), "{answer}");
        assert_eq!((&answer["exit_code"], &answer["stdout"]), (&json!(137), &json!("")), "{answer}");
    }
    // `/tmp` and `/dev/shm` are full at half of it, so that programs can still start: without that, which of them the
    // kernel killed was luck, also of those that made room.
    let fill = "head -c 200000000 /dev/zero >/tmp/full; head -c 200000000 /dev/zero >/dev/shm/full";
    let filled = server.run(&id, json!({"command": "sh", "args": ["-c", fill]}));
    assert_eq!(filled["exit_reason"], "exited", "{filled}");
    assert!(filled["stderr"].as_str().is_some_and(|text| text.contains("No space left")), "{filled}");
    let python = server.run(&id, json!({"command": "python3", "args": ["-c", "print(1)"]}));
    assert_eq!(python["stdout"], "1\n", "{python}");
    assert_eq!(server.sh(&id, "rm /tmp/full /dev/shm/full && echo done"), "done");
    assert_eq!(server.sh(&id, "echo well"), "well", "a full tmpfs does not take the sandbox");
    let killed = server.run(&id, json!({"command": "sh", "args": ["-c", "kill -9 $$"]}));
    assert_eq!(killed["exit_reason"], "signaled", "an own SIGKILL is not called out of memory: {killed}");
}

#[test]
fn processes_beyond_the_limit_are_refused_and_others_live() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({"resources": {"pids": 40}}));
    let neighbour = server.create(json!({}));
    if !enforced(&server, &id, "pids") {
        return;
    }
    let bomb = "import os, time\nn = 0\ntry:\n  while n < 500:\n    if os.fork() == 0:\n      os.setsid(); time.sleep(7005); os._exit(0)\n    n += 1\n\
        except OSError as e: print(e.errno)\nprint(n)";
    let answer =
        server.run(&id, json!({"command": "python3", "args": ["-c", bomb], "timeout": 30_000, "partial": true}));
    let lines: Vec<&str> = answer["stdout"].as_str().expect("stdout").lines().collect();
    assert_eq!(lines.first(), Some(&"11"), "EAGAIN: {answer}");
    assert!(lines[1].parse::<u32>().expect("a count") < 41, "{answer}");
    assert_eq!(server.sh(&neighbour, "echo well"), "well");
    let started = Instant::now();
    server.delete(&id);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    until("the bomb is gone", 5, || alive(&server, "7005") == 0);
}

#[test]
fn endless_output_costs_bounded_memory() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let rss = || -> u64 { server.own_processes().iter().filter_map(|p| p.status("VmRSS")).sum() };
    server.run(&id, json!({"command": "true"}));
    let before = rss();
    let body = json!({"command": "sh", "args": ["-c", "yes 0123456789abcdef & yes 0123456789abcdef >&2"],
        "timeout": 3000, "partial": true, "max_output_bytes": 100_000});
    let mut highest = 0;
    std::thread::scope(|scope| {
        let run = scope.spawn(|| server.run(&id, body));
        while !run.is_finished() {
            highest = highest.max(rss());
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = run.join().expect("an answer");
        assert_eq!((&answer["truncated"], &answer["timed_out"]), (&json!(true), &json!(true)));
        assert!(answer["stdout"].as_str().map_or(0, str::len) <= 100_000);
    });
    assert!(highest < before + 32 * 1024, "{before} KiB before, {highest} KiB at most");
    assert_eq!(server.sh(&id, "echo well"), "well");
}

#[test]
fn delete_is_quick_whatever_runs() {
    let _turn = turn::heavy();
    let server = Server::start();
    let stubborn = [
        "trap '' TERM INT HUP QUIT; (while :; do :; done) & (while :; do :; done) & wait",
        "for i in $(seq 200); do setsid sleep 7006 & done; kill -STOP $(jobs -p); wait",
        "mkfifo /tmp/p; for i in $(seq 50); do (setsid cat /tmp/p &) ; done; sleep 7006",
    ];
    for script in stubborn {
        let id = server.create(json!({}));
        let body = json!({"command": "sh", "args": ["-c", script]});
        std::thread::scope(|scope| {
            let run = scope.spawn(|| server.post(&run_path(&id), &body));
            let commands = ["while :", "sleep 7006", "cat /tmp/p"];
            until("it runs", 20, || commands.iter().map(|text| alive(&server, text)).sum::<usize>() >= 3);
            let started = Instant::now();
            server.delete(&id);
            assert!(started.elapsed() < Duration::from_secs(5), "{script}: {:?}", started.elapsed());
            run.join().expect("the waiting call is answered");
        });
        until("nothing of it is left", 5, || alive(&server, "sleep 7006") == 0 && alive(&server, "cat /tmp/p") == 0);
    }
}

/// Whether the kernel holds this limit here; says so when the test must be skipped.
fn enforced(server: &Server, id: &str, limit: &str) -> bool {
    let sandbox: Value = server.get(&format!("/api/v1/sandboxes/{id}")).expect(200).json();
    let hard = sandbox["resources"]["enforced"][limit] == "hard";
    if !hard {
        println!("skipped: the {limit} limit is not enforced on this machine");
    }
    hard
}
