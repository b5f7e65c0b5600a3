//! Who can a command become by `user`? Attack T08: a sandbox writes its own passwd file, and a caller names odd users.
//!
//! `user` is one of two words, never looked up: what stands in a sandbox's files changes nobody's id. Where a template's
//! /etc is read-only the file cannot even be written, by root neither.

use crate::case::{self, Case, Starter};
use crate::kit::Process;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// What root inside would make of /etc/passwd.
const PASSWD: &[(&str, &str)] = &[
    ("a name for another id", "printf 'user:x:0:0::/:/bin/sh\\nroot:x:65534:65534::/:/bin/sh\\n' > passwd"),
    ("a numeric name", "printf '1001:x:0:0::/:/bin/sh\\n4294967295:x:0:0::/:/bin/sh\\n' > passwd"),
    ("negative ids", "printf 'user:x:-1:-1::/:/bin/sh\\nevil:x:-2:-2::/:/bin/sh\\n' > passwd"),
    ("10 MiB", "head -c 10485760 /dev/zero | tr '\\0' x > passwd"),
    ("a FIFO", "mkfifo fifo && mv fifo passwd"),
    ("the agent's memory", "ln -s /proc/1/mem link && mv link passwd"),
    ("a loop", "ln -s passwd loop && mv loop passwd"),
    ("nothing", "rm passwd"),
];
const REFUSED: &[&str] =
    &["", "-1", "4294967295", "2147483648", "65534", "1001", "evil", "1000:0", "0:0", "root ", "user\0"];
const SLOW: Duration = Duration::from_secs(5);

/// Uid and gid of a command, all four of each, and its groups.
fn ids(case: &Case, user: &str) -> String {
    let started = Instant::now();
    let body =
        json!({"command": "/bin/grep", "args": ["-E", "^(Uid|Gid|Groups|CapEff):", "/proc/self/status"], "user": user});
    let answer = case.run_in(&case.id, &body).expect(200).json();
    assert!(started.elapsed() < SLOW, "{:?}", started.elapsed());
    answer["stdout"].as_str().expect("stdout").to_owned()
}

/// The same through a stream.
fn streamed_ids(case: &Case, user: &str) -> String {
    let body =
        json!({"command": "/bin/grep", "args": ["-E", "^(Uid|Gid|Groups|CapEff):", "/proc/self/status"], "user": user});
    let path = format!("/api/v1/sandboxes/{}/process/run/stream", case.id);
    let events = case.server.events("POST", &path, &body).rest();
    events.iter().filter_map(|event| event.json().1["data"].as_str().map(str::to_owned)).collect()
}

#[test]
fn t08_a_user_is_one_of_two_whatever_passwd_says() {
    case::each(|case| {
        let before: Vec<String> = case.users().iter().map(|user| ids(case, user)).collect();
        assert!(before[0].contains("Uid:\t1000\t1000\t1000\t1000"), "{before:?}");
        let agent = case.agent().status("Uid");
        for (what, script) in PASSWD {
            let user = case.users().last().expect("a user");
            let wrote = case.run(user, "/bin/sh", &["-c", &format!("cd /etc && {script}")]);
            let read_only = wrote["stderr"].as_str().is_some_and(|why| why.contains("Read-only file system"));
            assert!(wrote["exit_code"] == 0 || read_only, "{what}: {wrote}");
            for (user, before) in case.users().iter().zip(&before) {
                assert_eq!(&ids(case, user), before, "{what}");
                assert_eq!(&streamed_ids(case, user), before, "{what}");
            }
            // With one id for all, the agent's is no other.
            assert!(case.starter == Starter::Plain || uid_on_host(case) != agent, "{what}: the agent's id is its own");
            for refused in REFUSED {
                let body = json!({"command": "id", "user": refused});
                for route in ["run", "run/stream", "start"] {
                    let answer = case.api("POST", &format!("/{}/process/{route}", case.id), Some(&body));
                    let error = answer.expect_error(400, 1002);
                    assert_eq!(error["details"], Value::from("user"), "{what}: {route} {refused:?}");
                }
            }
            if read_only {
                println!("/etc/passwd of this template cannot be written");
                break;
            }
        }
    });
}

/// The id that a command has on the host.
fn uid_on_host(case: &Case) -> Option<u64> {
    let mut events = case.server.events(
        "POST",
        &format!("/api/v1/sandboxes/{}/process/run/stream", case.id),
        &json!({"command": "sleep", "args": ["9208"]}),
    );
    events.expect("start");
    let found = |process: &Process| process.command_line() == "sleep 9208";
    let sleeper = crate::kit::until_some("it runs", 10, || case.server.own_processes().into_iter().find(found));
    sleeper.status("Uid")
}
