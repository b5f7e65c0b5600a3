//! What a command sees and what comes back: arguments, environment, directory, input, output.

use crate::kit::{Server, turn};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[test]
fn an_answer_has_every_field_of_the_contract() {
    let server = Server::start();
    let id = server.create(json!({}));
    let answer = server.run(&id, json!({"command": "sh", "args": ["-c", "echo out; echo err >&2; exit 7"]}));
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("out\n"), &json!("err\n")), "{answer}");
    assert_eq!((&answer["exit_code"], &answer["exit_reason"]), (&json!(7), &json!("exited")), "{answer}");
    assert_eq!((&answer["timed_out"], &answer["truncated"]), (&json!(false), &json!(false)), "{answer}");
    assert!(answer["signal"].is_null() && answer["duration_ms"].is_number(), "{answer}");
}

#[test]
fn arguments_arrive_as_they_are() {
    let server = Server::start();
    let id = server.create(json!({}));
    let args = ["", " a  b ", "$HOME", "`id`", "\"", "'", "\\", "*", "-n", "é日本🎉", "new\nline", "\t", "\u{7f}"];
    let all: Vec<&str> = ["%s|\\0"].into_iter().chain(args).collect();
    let answer = server.run(&id, json!({"command": "printf", "args": all}));
    let expected: String = args.iter().map(|a| format!("{a}|\0")).collect();
    assert_eq!(answer["stdout"], json!(expected));
}

#[test]
fn the_environment_is_the_defaults_the_sandbox_and_the_request() {
    let server = Server::builder().env("SECRET_OF_THE_HOST", "canary").start();
    let id = server.create(json!({"env": {"FROM_SANDBOX": "1", "BOTH": "sandbox", "LANG": "C"}}));
    let env = |body: Value| -> BTreeMap<String, String> {
        let text = server.run(&id, body)["stdout"].as_str().expect("stdout").to_owned();
        let pairs = text.lines().filter_map(|l| l.split_once('='));
        pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    };
    let seen = env(json!({"command": "env", "env": {"FROM_REQUEST": "2", "BOTH": "request"}}));
    let expected = [
        ("FROM_SANDBOX", "1"),
        ("FROM_REQUEST", "2"),
        ("BOTH", "request"),
        ("LANG", "C"),
        ("HOME", "/home/user"),
        ("USER", "user"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("WORKSPACE_MEMORY_BYTES", "1073741824"),
    ];
    assert_eq!(seen, expected.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
    let plain = env(json!({"command": "env"}));
    assert!(!plain.contains_key("FROM_REQUEST"), "a request's variable is of this request alone: {plain:?}");
    if server.has_root_inside(&id) {
        let root = env(json!({"command": "env", "user": "root"}));
        assert_eq!((root["HOME"].as_str(), root["USER"].as_str()), ("/root", "root"));
    }
}

#[test]
fn the_directory_is_workspace_unless_asked() {
    let server = Server::start();
    let id = server.create(json!({}));
    let pwd = |body: Value| server.run(&id, body)["stdout"].as_str().expect("stdout").trim().to_owned();
    assert_eq!(pwd(json!({"command": "pwd"})), "/workspace");
    assert_eq!(pwd(json!({"command": "pwd", "cwd": "/tmp"})), "/tmp");
    server.sh(&id, "mkdir -p /workspace/a/b");
    assert_eq!(pwd(json!({"command": "pwd", "cwd": "a/b"})), "/workspace/a/b");
    for missing in ["/no/such/dir", "no-such-dir", "/etc/passwd", "~"] {
        let answer = server.run(&id, json!({"command": "pwd", "cwd": missing}));
        let reason = answer["stderr"].as_str().expect("stderr");
        assert_eq!(answer["exit_code"], 126, "{answer}");
        assert!(reason.contains(missing.trim_start_matches('/')), "the reason names the directory: {answer}");
        assert_eq!(answer["stdout"], "");
    }
}

#[test]
fn what_cannot_be_run_is_126_or_127_with_the_reason() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(
        &id,
        "echo 'echo hi' >noexec; printf '#!/no/such/interpreter\\n' >badshebang; printf garbage >garbage; \
        chmod +x badshebang garbage; mkdir -p dir",
    );
    for (command, code) in [
        ("no-such-program", 127),
        ("/no/such/program", 127),
        ("./missing", 127),
        ("echo hello", 127),
        ("./noexec", 126),
        ("/workspace/dir", 126),
        ("./garbage", 126),
        ("/etc/passwd", 126),
    ] {
        let answer = server.run(&id, json!({"command": command}));
        assert_eq!(answer["exit_code"], code, "{command}: {answer}");
        let reason = answer["stderr"].as_str().expect("stderr");
        assert!(reason.contains(command), "the reason names {command}: {answer}");
        assert_eq!((&answer["stdout"], &answer["exit_reason"]), (&json!(""), &json!("exited")), "{answer}");
    }
    let shebang = server.run(&id, json!({"command": "./badshebang"}));
    assert!(matches!(shebang["exit_code"].as_i64(), Some(126 | 127)), "{shebang}");
    let long = "x".repeat(200_000);
    let answer = server.run(&id, json!({"command": "echo", "args": [long]}));
    assert_eq!(answer["exit_code"], 126, "one argument over 128 KiB is E2BIG: {}", answer["stderr"]);
}

#[test]
fn input_is_given_and_ends() {
    let server = Server::start();
    let id = server.create(json!({}));
    assert_eq!(server.run(&id, json!({"command": "cat", "stdin": "line\né\0x"}))["stdout"], "line\né\0x");
    assert_eq!(server.run(&id, json!({"command": "cat"}))["stdout"], "", "without input it is at its end at once");
    let large = "0123456789abcdef".repeat(40_000);
    let answer = server.run(&id, json!({"command": "cat", "stdin": large}));
    assert!(answer["stdout"] == json!(large), "640,000 bytes there and back");
    let unread = server.run(&id, json!({"command": "true", "stdin": large}));
    assert_eq!(unread["exit_code"], 0, "a command need not read its input");
}

#[test]
fn output_is_text_or_exact_bytes() {
    let server = Server::start();
    let id = server.create(json!({}));
    let bytes = json!({"command": "printf", "args": ["a\\377\\000b"]});
    assert_eq!(server.run(&id, bytes.clone())["stdout"], "a\u{fffd}\0b");
    let mut exact = bytes;
    exact["encoding"] = json!("base64");
    let answer = server.run(&id, exact);
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("Yf8AYg=="), &json!("")));
    let split = "printf '\\360\\237'; sleep 0.2; printf '\\216\\211 \\303'; sleep 0.1; printf '\\251'";
    assert_eq!(server.sh(&id, split), "🎉 é", "a character cut by a read is whole again");
    let many = server.sh(&id, "i=0; while [ $i -lt 3000 ]; do printf 'é日本🎉'; i=$((i+1)); done");
    assert_eq!(many, "é日本🎉".repeat(3000));
}

#[test]
fn output_beyond_the_limit_is_dropped_and_said() {
    let server = Server::start();
    let id = server.create(json!({}));
    let script = "head -c 100000 /dev/zero | tr '\\0' x; echo done >&2; exit 3";
    let cut = server.run(&id, json!({"command": "sh", "args": ["-c", script], "max_output_bytes": 1000}));
    let (out, err) = (cut["stdout"].as_str().expect("stdout"), cut["stderr"].as_str().expect("stderr"));
    assert!(out.len() + err.len() <= 1000 && out.len() > 900, "{} and {}", out.len(), err.len());
    assert_eq!((&cut["truncated"], &cut["exit_code"]), (&json!(true), &json!(3)), "the command ran to its end");
    let whole = server.run(&id, json!({"command": "sh", "args": ["-c", script], "max_output_bytes": 200_000}));
    assert_eq!(whole["stdout"].as_str().map(str::len), Some(100_000));
    assert_eq!(whole["truncated"], false);
    let none = server.run(&id, json!({"command": "sh", "args": ["-c", "exit 4"], "max_output_bytes": 1}));
    assert_eq!((&none["truncated"], &none["exit_code"]), (&json!(false), &json!(4)));
}

#[test]
fn users_are_user_and_root_of_the_sandbox() {
    let server = Server::start();
    let id = server.create(json!({}));
    let ids = |body: Value| server.run(&id, body)["stdout"].as_str().expect("stdout").trim().to_owned();
    let who = json!(["-c", "echo $(id -u):$(id -g) $(id -un) $(id -G)"]);
    assert_eq!(ids(json!({"command": "sh", "args": who})), "1000:1000 user 1000");
    assert_eq!(ids(json!({"command": "sh", "args": who, "user": "user"})), "1000:1000 user 1000");
    for wrong in ["", "nobody-such", "1001", "-1", "00", "4294967295", "1000:0", "0:0", "root\n"] {
        let answer =
            server.post(&format!("/api/v1/sandboxes/{id}/process/run"), &json!({"command": "id", "user": wrong}));
        assert_eq!(answer.status, 400, "{wrong:?}: {}", answer.text());
        answer.assert_error_form();
        assert!(answer.text().contains("user"), "{}", answer.text());
    }
    if !server.has_root_inside(&id) {
        return;
    }
    assert_eq!(ids(json!({"command": "sh", "args": who, "user": "root"})), "0:0 root 0");
    server.run(
        &id,
        json!({"command": "sh", "args": ["-c", "echo of-root >/workspace/r; chmod 600 /workspace/r"], "user": "root"}),
    );
    let read = server.run(&id, json!({"command": "cat", "args": ["/workspace/r"]}));
    assert_eq!((&read["stdout"], &read["exit_code"]), (&json!(""), &json!(1)), "root's file is not user's");
    let chown = json!({"command": "sh", "args": ["-c", "chown user:user /workspace/r && stat -c %u:%g /workspace/r"], "user": "root"});
    assert_eq!(ids(chown), "1000:1000");
}

#[test]
fn a_command_has_three_descriptors_and_no_privilege() {
    let server = Server::start();
    let id = server.create(json!({}));
    let status = server.sh(&id, "cat /proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{name}: {status}"));
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16), Ok(0), "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:")), ("1".into(), "2".into()));
    for _ in 0..3 {
        // The shell's own look into the directory is closed again before readlink runs.
        let open = server.sh(&id, "for f in /proc/$$/fd/*; do readlink $f >/dev/null && echo ${f##*/}; done; true");
        let open: BTreeSet<&str> = open.lines().collect();
        assert_eq!(open, BTreeSet::from(["0", "1", "2"]));
    }
}

#[test]
fn sixty_four_at_once_get_their_own_output() {
    let _turn = turn::heavy();
    let server = Server::start();
    let ids = [server.create(json!({})), server.create(json!({}))];
    std::thread::scope(|scope| {
        for n in 0..64 {
            let (server, id) = (&server, &ids[n % 2]);
            scope.spawn(move || {
                for round in 0..4 {
                    let script = format!("echo {n}.{round}; echo {n}.{round} >&2; exit {n}");
                    let answer = server.run(id, json!({"command": "sh", "args": ["-c", script]}));
                    let line = json!(format!("{n}.{round}\n"));
                    assert_eq!((&answer["stdout"], &answer["stderr"]), (&line, &line));
                    assert_eq!(answer["exit_code"], json!(n));
                }
            });
        }
    });
}
