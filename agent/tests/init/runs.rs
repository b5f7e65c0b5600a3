//! What a command sees, and what its caller gets.

use crate::client::{command, shell};
use crate::kit::{Options, with};
use bytes::Bytes;
use workspace_proto::agent::{ExitReason, Variable};

fn number(text: &str, name: &str) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"));
    line.split_once(':').unwrap().1.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn an_echo_comes_back_with_its_exit_code() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        assert!(client.hello.tree_kill);
        let finished = client.shell("echo out; echo err >&2; exit 3").await;
        assert_eq!((finished.text().as_str(), finished.errors().as_str()), ("out\n", "err\n"));
        assert_eq!((finished.exited.exit_code, finished.exited.signal), (3, 0));
        assert_eq!(finished.exited.reason(), ExitReason::Exited);
        assert!(finished.pid > 1 && !finished.exited.truncated && finished.exited.duration_us > 0);
    });
}

#[test]
fn a_command_is_user_without_any_right() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let script = "cat /proc/self/status; umask; nproc; grep -c 'core file size *1 *1 ' /proc/self/limits; cat /proc/self/oom_score_adj; id -G; pwd; \
                      ls /proc/self/fd | wc -l; cut -d' ' -f5,6 /proc/self/stat; echo $$; head -c1 /proc/self/uid_map";
        let finished = client.shell(script).await;
        let text = finished.text();
        for name in ["Uid", "Gid"] {
            assert_eq!(number(&text, name), "1000 1000 1000 1000");
        }
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(number(&text, name), "0000000000000000", "{name}");
        }
        assert_eq!((number(&text, "NoNewPrivs"), number(&text, "Seccomp")), ("1".into(), "2".into()));
        for name in ["SigBlk", "SigIgn"] {
            assert_eq!(number(&text, name), "0000000000000000", "{name}");
        }
        assert_eq!(number(&text, "Groups"), "");
        let rest: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("00")).collect();
        // 0, 1, 2, and the directory that `ls` itself has open.
        assert_eq!(rest[..7], ["0022", "1", "1", "500", "1000", "/tmp", "4"], "{text} {}", finished.errors());
    });
}

#[test]
fn root_has_exactly_its_nine_rights() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut request = command(&["cat", "/proc/self/status"]);
        request.root = true;
        let text = client.run(&request).await.text();
        assert_eq!(number(&text, "Uid"), "0 0 0 0");
        for (name, value) in [("CapPrm", "5fb"), ("CapEff", "5fb"), ("CapBnd", "5fb"), ("CapInh", "0"), ("CapAmb", "0")]
        {
            assert_eq!(number(&text, name).trim_start_matches('0'), value.trim_start_matches('0'), "{name}");
        }
    });
}

#[test]
fn each_command_has_a_session_of_its_own_and_null_or_its_stdin() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let own =
            client.run(&command(&["sh", "-c", "cut -d' ' -f6 /proc/$$/stat; echo $$; readlink /proc/$$/fd/0"])).await;
        let text = own.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], lines[1]);
        assert_eq!(lines[2], "/dev/null");
        assert_eq!(lines[1], own.pid.to_string());

        let mut request = command(&["md5sum"]);
        request.stdin = Bytes::from(vec![b'x'; 1 << 20]);
        assert_eq!(
            client.run(&request).await.text(),
            "49e8ccfa8cc7ef2fd8b7be9b20ea7a0f  -\n"
                .replace("49e8ccfa8cc7ef2fd8b7be9b20ea7a0f", &md5_of_a_mebibyte_of_x(),)
        );
        // Never read: what was not taken is dropped.
        let mut request = command(&["true"]);
        request.stdin = Bytes::from(vec![b'x'; 1 << 20]);
        assert_eq!(client.run(&request).await.exited.exit_code, 0);
    });
}

fn md5_of_a_mebibyte_of_x() -> String {
    let script = "head -c 1048576 /dev/zero | tr '\\0' x | md5sum";
    let output = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..32].to_owned()
}

#[test]
fn standard_streams_can_be_opened_by_name() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let finished = client.shell("echo a > /dev/stdout; echo b > /dev/stderr; echo c | tee /dev/stderr").await;
        assert_eq!((finished.text().as_str(), finished.errors().as_str()), ("a\nc\n", "b\nc\n"));
    });
}

#[test]
fn what_cannot_run_is_an_answer() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let missing = client.run(&command(&["no-such-command"])).await;
        assert_eq!(
            (missing.exited.exit_code, missing.errors().as_str()),
            (127, "no-such-command: command not found\n")
        );
        let missing = client.run(&command(&["/no/such"])).await;
        assert_eq!((missing.exited.exit_code, missing.errors().as_str()), (127, "/no/such: not found\n"));
        let denied = client.run(&command(&["/etc/passwd"])).await;
        assert_eq!((denied.exited.exit_code, denied.errors().as_str()), (126, "/etc/passwd: permission denied\n"));
        let directory = client.run(&command(&["/tmp"])).await;
        assert_eq!(directory.exited.exit_code, 126);
        let mut request = command(&["true"]);
        request.args = vec![Bytes::from(vec![b'x'; 200 << 10])];
        let long = client.run(&request).await;
        assert_eq!((long.exited.exit_code, long.errors().as_str()), (126, "true: argument list too long\n"));
        request.args = vec![Bytes::from_static(b"x"); 300 << 10];
        assert_eq!(client.run(&request).await.exited.exit_code, 126);
        let mut request = shell("exit 0");
        request.env =
            vec![Variable { name: Bytes::from_static(b"PATH"), value: Bytes::from_static(b"/nowhere::/tmp") }];
        assert_eq!(client.run(&request).await.exited.exit_code, 127);
    });
}

#[test]
fn a_working_directory_is_entered_as_the_user_or_named() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let mut request = command(&["pwd"]);
        for (cwd, code) in [("/usr", 0), ("/no/such", 126), ("/root", 126), ("/etc/passwd", 126), ("/proc/1/cwd", 126)]
        {
            request.cwd = Bytes::copy_from_slice(cwd.as_bytes());
            let finished = client.run(&request).await;
            assert_eq!(finished.exited.exit_code, code, "{cwd}: {}", finished.errors());
            assert!(code == 0 || finished.errors().contains(cwd));
        }
        for number in 3..30 {
            request.cwd = Bytes::from(format!("/proc/self/fd/{number}"));
            assert_eq!(client.run(&request).await.exited.exit_code, 126);
        }
        request.cwd = Bytes::from_static(b"relative");
        assert_eq!(client.start(&request).await.err(), Some(3));
    });
}

#[test]
fn bad_requests_are_refused_before_anything_runs() {
    with(Options::default(), async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let good = command(&["true"]);
        let variable = |name: &'static [u8]| vec![Variable { name: Bytes::from_static(name), value: Bytes::new() }];
        let bad = [
            workspace_proto::agent::RunRequest { command: Bytes::new(), ..good.clone() },
            workspace_proto::agent::RunRequest { command: Bytes::from_static(b"a\0b"), ..good.clone() },
            workspace_proto::agent::RunRequest { command: Bytes::from(vec![b'x'; 4097]), ..good.clone() },
            workspace_proto::agent::RunRequest { args: vec![Bytes::from_static(b"\0")], ..good.clone() },
            workspace_proto::agent::RunRequest { env: variable(b""), ..good.clone() },
            workspace_proto::agent::RunRequest { env: variable(b"A=B"), ..good.clone() },
            workspace_proto::agent::RunRequest { env: variable(b"A\0"), ..good.clone() },
            workspace_proto::agent::RunRequest { stdin: Bytes::from(vec![0; (1 << 20) + 1]), ..good.clone() },
        ];
        for request in bad {
            assert_eq!(client.start(&request).await.err(), Some(3));
        }
        assert_eq!(client.run(&good).await.exited.exit_code, 0);
        assert_eq!(client.list().await.processes.len(), 0);
    });
}

#[test]
fn with_one_id_a_command_is_user_and_nobody_is_root() {
    with(Options { single_id: true, ..Options::default() }, async |mut sandbox| {
        let mut client = sandbox.first_link().await;
        let text = client.run(&command(&["cat", "/proc/self/status"])).await.text();
        assert_eq!(
            (number(&text, "Uid"), number(&text, "Gid")),
            ("1000 1000 1000 1000".into(), "1000 1000 1000 1000".into())
        );
        for name in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(number(&text, name), "0000000000000000", "{name}");
        }
        assert_eq!((number(&text, "NoNewPrivs"), number(&text, "Seccomp")), ("1".into(), "2".into()));
        let mut request = command(&["true"]);
        request.root = true;
        assert_eq!(client.start(&request).await.err(), Some(9));
        let text = client
            .shell("kill -9 1; cat /proc/1/environ 2>&1 | grep -vc denied; prlimit --pid 1 --nofile=3:3; echo alive")
            .await
            .text();
        assert_eq!(text, "0\nalive\n");
        assert_eq!(client.shell("echo alive").await.text(), "alive\n");
    });
}
