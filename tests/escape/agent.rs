//! N09, N11 to N14, N16: the agent is out of its commands' reach, and nothing of it leaks to them.

use crate::case::{self, Case, Starter};
use crate::program::{Lines, Program, nonce, program};
use crate::weak::{Control, Weak, must_succeed};
use serde_json::json;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const AGENT: Program = program!("agent");
const BINARIES: Program = program!("binaries");
const DESCRIPTORS: Program = program!("descriptors");
const PIDS: Program = program!("pids");

const DENIED: &[&str] = &["EPERM", "EACCES", "ENOENT"];
const CGROUP_FS: [rustix::fs::FsWord; 2] = [0x0027_e0eb, 0x6367_7270];

#[test]
fn n09_no_descriptor_leaks() {
    case::each_and_pooled(|case| {
        for &user in case.users() {
            only_its_own(&case.attack(DESCRIPTORS, user, &[]));
        }
        for _ in 0..100 {
            assert_eq!(case.run("user", "/bin/true", &[])["exit_code"], 0);
        }
        only_its_own(&case.attack(DESCRIPTORS, "user", &[]));
        let agent = case.agent().pid;
        for entry in fs::read_dir(format!("/proc/{agent}/fd")).expect("the agent's descriptors").flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
            let plain = ["socket:", "pipe:", "anon_inode:", "/dev/null", "/dev/pts/", "user:[", "pidfd:"];
            let is_plain = plain.iter().any(|kind| target.starts_with(kind));
            let in_cgroups = rustix::fs::statfs(entry.path()).is_ok_and(|s| CGROUP_FS.contains(&s.f_type));
            let ours = target.contains(&case.id) || target.starts_with('/') && target.contains("/s/");
            let is_log = fs::metadata(entry.path()).is_ok_and(|m| m.is_file()) && entry.file_name() == "2";
            assert!(
                is_plain || in_cgroups && (ours || target == "/") || is_log,
                "{:?} of the agent is {target}",
                entry.file_name()
            );
        }
    });
    let control = Control::of(DESCRIPTORS);
    let nonce = nonce();
    let script = "exec 7</; exec \"$@\"";
    let output = Command::new("sh").args(["-c", script, "sh", &control.path("attack"), &nonce]).output().expect("run");
    let lines = Lines::parse(DESCRIPTORS, &nonce, &String::from_utf8_lossy(&output.stdout));
    must_succeed(Some(lines), "inherited descriptors", |lines| lines.get("fd7").starts_with("DIRECTORY"));
}

fn only_its_own(lines: &Lines) {
    lines.expect("count", &["3"]);
    for fd in ["fd0", "fd1", "fd2"] {
        let told = lines.get(fd);
        let own = told.starts_with("pipe ") || told == "character /dev/null" || told.starts_with("character /dev/pts/");
        assert!(own, "{fd} is {told}");
    }
}

#[test]
fn n11_the_agents_memory_is_closed() {
    case::each(|case| {
        for &user in case.users() {
            let lines = case.attack(AGENT, user, &["memory"]);
            for step in ["ptrace_seize", "ptrace_attach", "mem", "vm_readv", "vm_writev", "kcmp"] {
                lines.expect(step, DENIED);
            }
            lines.expect("getfd", &["0"]);
        }
    });
    let control = Control::of(AGENT).run(Weak::MapZero, &["memory"]);
    must_succeed(control, "ptrace of a process of the same id", |lines| lines.any_ok(&["ptrace_seize", "mem", "kcmp"]));
}

#[test]
fn n12_the_agent_is_not_steered() {
    case::each(|case| {
        let agent = case.agent();
        let state = || {
            let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", agent.pid)).unwrap_or_default();
            let status = read("status").lines().filter(|l| l.starts_with("Cpus_allowed:")).collect::<String>();
            format!("{status} {} {}", read("limits"), read("coredump_filter"))
        };
        let before = state();
        for &user in case.users() {
            let lines = case.attack(AGENT, user, &["steer"]);
            for step in ["prlimit", "affinity", "priority", "ioprio", "scheduler"] {
                lines.expect(step, DENIED);
            }
            if case.starter != Starter::Plain {
                lines.expect("signals", &["sent 0 refused 62"]);
                for step in ["kill", "stop", "pidfd_signal", "sigqueue"] {
                    lines.expect(step, DENIED);
                }
                lines.expect_all("write_", &["EPERM", "EACCES", "ENOENT", "EINVAL"]);
            }
            answers_soon(case);
            case.attack_unfinished(AGENT, user, &["all_signals"]);
            answers_soon(case);
            let bodies = ["kill -TERM -1", "kill -KILL -1", "kill -9 1; kill -STOP 1"];
            for body in bodies {
                case.run(user, "/bin/sh", &["-c", body]);
                answers_soon(case);
            }
        }
        assert!(agent.is_alive(), "the agent was replaced");
        if case.starter != Starter::Plain {
            assert_eq!(state(), before);
        }
    });
    let control = Control::of(AGENT).run(Weak::MapZero, &["steer"]);
    must_succeed(control, "limits set from outside", |lines| lines.any_ok(&["prlimit", "affinity"]));
}

fn answers_soon(case: &Case) {
    let started = Instant::now();
    assert_eq!(case.sh("user", "echo still"), "still");
    assert!(started.elapsed() < Duration::from_secs(1), "the agent took {:?}", started.elapsed());
}

#[test]
fn n13_the_agents_secrets_are_closed() {
    case::each_and_pooled(|case| {
        let data = case.server.data_dir().to_string_lossy().into_owned();
        for &user in case.users() {
            let lines = case.attack(AGENT, user, &["secrets"]);
            for file in ["environ", "auxv"] {
                let told = lines.get(file);
                assert!(DENIED.contains(&told) || told.trim() == "=", "{file}: {told}");
            }
            let told = lines.get("cmdline");
            assert!(!told.contains(&data) && !told.contains("WORKSPACE_") && !told.contains(&case.key), "{told}");
            let script = "env; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | tr '\\0' '\\n'; grep -rIs . /tmp /run /var /etc 2>/dev/null; ls -laR /tmp /run /workspace /home 2>/dev/null";
            let all = case.run(user, "/bin/sh", &["-c", script]);
            let all = all["stdout"].as_str().expect("stdout");
            for (what, secret) in
                [("the API key", &case.key), ("a host path", &data), ("the neighbour", &case.neighbour)]
            {
                assert!(!all.contains(secret.as_str()), "as {user}: {what} is there");
            }
            let own = case.sh(user, "env | cut -d= -f1 | grep -vE '^(PWD|OLDPWD|SHLVL|_)$' | sort | tr '\\n' ' '");
            let allowed = ["HOME", "LANG", "PATH", "USER", "WORKSPACE_MEMORY_BYTES"];
            let more: Vec<&str> = own.split_whitespace().filter(|name| !allowed.contains(name)).collect();
            assert!(more.is_empty(), "the environment holds {more:?}");
        }
    });
    let control = Control::of(AGENT).run(Weak::MapZero, &["secrets"]);
    must_succeed(control, "another's environment", |lines| lines.get("environ").len() > 5);
}

#[test]
fn n14_programs_are_not_overwritten() {
    case::each(|case| {
        for &user in case.users() {
            let (program, nonce) = (case.build(BINARIES), nonce());
            let body = json!({"command": program, "args": [nonce, "watch", "3"], "user": user});
            let lines = std::thread::scope(|scope| {
                // What it watches: commands of both users, from the moment they are cloned.
                let watcher = scope.spawn(|| {
                    let path = format!("/api/v1/sandboxes/{}/process/run", case.id);
                    case.server.try_request("POST", &path, &[("x-api-key", &case.key)], body.to_string().as_bytes())
                });
                let end = Instant::now() + Duration::from_secs(3);
                while Instant::now() < end {
                    for &other in case.users() {
                        case.run(other, "/bin/true", &[]);
                    }
                }
                let answer = watcher.join().expect("the watcher").expect("an answer").expect(200).json();
                Lines::parse(BINARIES, &nonce, answer["stdout"].as_str().expect("stdout")).complete()
            });
            lines.expect("watched", &["ok"]);
            lines.expect("agent_exe", DENIED);
            lines.expect("foreign", &["0"]);
            lines.expect("reopened", &["0"]);
            lines.expect("self_exe", &["ETXTBSY"]);
            for step in ["usr", "usr_rename", "usr_link"] {
                lines.expect(step, &["EROFS", "EACCES", "EPERM"]);
            }
        }
        case.sh("user", "printf '#!/proc/self/exe\\n' > /workspace/self && chmod 755 /workspace/self");
        let answer = case.run("user", "/workspace/self", &[]);
        assert_ne!(answer["exit_code"], 0, "{answer:#}");
        assert_eq!(case.sh("user", "echo after"), "after");
    });
    overwrite_control();
}

/// With real root inside, a program is overwritten once it has ended.
fn overwrite_control() {
    if crate::kit::needs_root() {
        return;
    }
    let control = Control::of(BINARIES);
    let victim = control.path("victim");
    fs::copy("/bin/sleep", &victim).expect("copy");
    let mut running = Command::new(&victim).arg("1").stdin(Stdio::null()).spawn().expect("start the victim");
    let (exe, nonce) = (format!("/proc/{}/exe", running.id()), nonce());
    let mut attack = Command::new(control.path("attack"));
    let output = attack.args([&nonce, "keep", &exe]).stdout(Stdio::piped()).spawn().expect("start the attack");
    running.wait().expect("wait for the victim");
    let told = output.wait_with_output().expect("wait for the attack");
    let lines = Lines::parse(BINARIES, &nonce, &String::from_utf8_lossy(&told.stdout));
    must_succeed(Some(lines), "a kept /proc/PID/exe", |lines| lines.any_ok(&["overwrite"]));
}

#[test]
fn n16_other_processes_are_not_there() {
    case::each(|case| {
        let mut canary = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().expect("start the canary");
        let neighbour = crate::kit::processes().into_values().map(|p| p.pid).max().unwrap_or(1).to_string();
        for &user in case.users() {
            let host = canary.id().to_string();
            let lines = case.attack(PIDS, user, &[&host, &neighbour]);
            for pid in [&host, &neighbour] {
                for way in ["kill", "pidfd", "ptrace", "proc"] {
                    // The number may be a process of the sandbox's own, which is then no way to the host's.
                    let inside = case.run(user, "/bin/sh", &["-c", &format!("test -d /proc/{pid}")]);
                    if inside["exit_code"] != 0 {
                        lines.expect(&format!("{way}_{pid}"), &["ESRCH", "ENOENT"]);
                    }
                }
            }
            lines.expect("alive", &["some hidden 0 many 0"]);
            let last: u32 = lines.get("last_pid").parse().expect("a number");
            assert!(last < 30_000, "the host's pids are counted: {last}");
        }
        assert!(canary.try_wait().expect("look").is_none(), "the host's process has ended");
        canary.kill().expect("end the canary");
        canary.wait().expect("reap the canary");
    });
    pids_control();
}

fn pids_control() {
    if crate::kit::needs_root() {
        return;
    }
    let mut plain = Command::new("setpriv");
    plain.args([format!("--reuid={}", crate::weak::PLAIN_UID)]).args(["--clear-groups", "sleep", "60"]);
    let mut canary = plain.stdin(Stdio::null()).spawn().expect("start the canary");
    let pid = canary.id().to_string();
    let lines = Control::of(PIDS).run(Weak::Plain, &[&pid]);
    must_succeed(lines, "processes of one's own id", |lines| lines.any_ok(&[&format!("kill_{pid}")]));
    canary.kill().expect("end the canary");
    canary.wait().expect("reap the canary");
}
