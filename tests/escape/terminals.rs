//! Can a program type into a terminal, take one, or change what one does? Attack T17, from a command and from inside a
//! terminal: on its own and on those of others in its sandbox, root's among them.

use crate::case::{self, Case};
use crate::kit::{WebSocket, until, until_some};
use crate::program::{Lines, Program, nonce, program};
use crate::weak::Control;
use serde_json::{Value, json};
use std::process::{Command, Stdio};

const TERMINALS: Program = program!("terminals");
const REQUESTS: [&str; 4] = ["TIOCSTI", "TIOCLINUX", "TIOCCONS", "TIOCSETD"];

/// Opens a terminal; gives its path below `/api/v1/sandboxes`.
#[track_caller]
fn open(case: &Case, user: &str, script: &str) -> String {
    let body = json!({"command": "sh", "args": ["-c", script], "user": user});
    let opened = case.api("POST", &format!("/{}/pty", case.id), Some(&body)).expect(200).json();
    format!("/{}/pty/{}", case.id, opened["id"].as_str().expect("id"))
}

/// What must hold of the attacks on one terminal.
#[track_caller]
fn refused(lines: &Lines, whose: &str) {
    for request in REQUESTS {
        lines.expect_all(&format!("{whose}_{request}"), &["EPERM"]);
    }
}

/// What must hold of the attacks on the terminals of others.
#[track_caller]
fn others_refused(lines: &Lines, others: &str) {
    lines.expect("others", &[others]);
    // Those of the same user can be opened, as anywhere; root's cannot.
    lines.expect_all("other_open", &["ok", "EACCES"]);
    refused(lines, "other");
    for step in ["other_steal", "other_take", "other_hangup"] {
        lines.expect_all(step, &["EPERM"]);
    }
    lines.expect_all("other_foreground", &["ENOTTY", "EPERM"]);
}

#[test]
fn t17_nobody_types_into_a_terminal_or_takes_it() {
    case::each(|case| {
        let path = case.build(TERMINALS);
        // A program that reads: whatever is put into its terminal comes out.
        let victims: Vec<(String, &str)> = case
            .users()
            .iter()
            .map(|user| {
                (open(case, user, "stty -echo; echo up; while read -r line; do echo \"got:$line:\"; done"), *user)
            })
            .collect();
        let count = victims.len().to_string();
        for &user in case.users() {
            let lines = case.attack(TERMINALS, user, &[]);
            lines.expect("leads_session", &["yes"]);
            lines.expect("tty", &["ENXIO"]);
            others_refused(&lines, &count);
            let (nonce, out) = (nonce(), format!("/tmp/terminals-{user}"));
            let terminal =
                open(case, user, &format!("{path} {nonce} > {out} 2>&1; echo done >> {out}; exec sleep 9702"));
            let told = until_some("the attack has run in its terminal", 30, || {
                let text = case.run(user, "cat", &[&out])["stdout"].as_str()?.to_owned();
                text.ends_with("done\n").then_some(text)
            });
            let lines = Lines::parse(TERMINALS, &nonce, &told).complete();
            lines.expect("leads_session", &["yes"]);
            lines.expect("tty", &["ok"]);
            refused(&lines, "own");
            others_refused(&lines, &count);
            case.api("DELETE", &terminal, None).expect(200);
        }
        for (victim, user) in &victims {
            let path = format!("/api/v1/sandboxes{victim}");
            let mut viewer = WebSocket::connect(&case.server, &path, &[("x-api-key", &case.key)]);
            viewer.see("up\r\n");
            viewer.send("ok\r");
            let seen = viewer.see_until("an answer", |seen| seen.contains("got:ok:\r\n"));
            assert!(!seen.contains("\u{6}") && seen.matches("got:").count() == 1, "{user}: {seen:?}");
            case.api("DELETE", victim, None).expect(200);
        }
        until("no terminal is left", 5, || {
            case.api("GET", &format!("/{}/pty", case.id), None).json()["ptys"] == Value::Array(Vec::new())
        });
        assert_eq!(case.sh("user", "ls /dev/pts"), "ptmx");
    });
    control();
}

/// Without our filter the kernel answers otherwise: typing works, or is EIO where a setting forbids it to everybody.
fn control() {
    let control = Control::of(TERMINALS);
    let (nonce, out) = (nonce(), control.path("out"));
    let command = format!("{} {nonce} own > {out}", control.path("attack"));
    let ran = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status();
    let Ok(true) = ran.map(|status| status.success()) else {
        return println!("skipped: the control needs `script`");
    };
    let told = std::fs::read_to_string(&out).expect("what it told");
    let lines = Lines::parse(TERMINALS, &nonce, &told).complete();
    lines.expect("own_TIOCSTI", &["ok", "EIO"]);
    lines.expect("own_TIOCSTI_high", &["ok", "EIO"]);
}
