//! Who else has a command's descriptors? Attack T10: daemons that keep them, flags set on what is shared, input that
//! nobody reads. The answer comes at the command's end, and nothing of it is kept behind it.

use crate::kit::{Process, Server, turn, until};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CREATE: &str = "/api/v1/sandboxes";
/// A daemon lives for hours: an answer that waits for its end of file does not come in this time.
const AT_ONCE: Duration = Duration::from_secs(5);
/// Cgroups that an agent keeps for the next commands.
const IDLE_MAX: usize = 16;
const MIB: usize = 1 << 20;

/// Each leaves somebody behind who holds stdout and stderr, says x and ends.
const KEEPERS: &[(&str, &str)] = &[
    ("a background job", "sleep 9301 & echo x"),
    ("a session of its own", "setsid sleep 9301 & echo x"),
    ("a daemon", "(setsid sleep 9301 &); echo x"),
    ("a job that would print later", "(sleep 9301; echo late) & echo x"),
    ("a reader of stdin as well", "(cat >/dev/null; sleep 9301) & exec 0<&-; echo x"),
    ("a stopped one", "sleep 9301 & kill -STOP $!; echo x"),
    ("one that was passed the descriptor", PASSED_ON),
];

/// The parent sends its stdout over a socket and ends; the child, which had closed its own, keeps what it gets.
const PASSED_ON: &str = r#"exec python3 -c '
import array, os, socket
ours, theirs = socket.socketpair()
if os.fork() == 0:
    os.setsid()
    for fd in (0, 1, 2): os.close(fd)
    theirs.recvmsg(1, socket.CMSG_SPACE(8))
    os.execlp("sleep", "sleep", "9301")
ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1, 2]))])
print("x")
'"#;

#[test]
fn a_descriptor_that_a_daemon_keeps_holds_no_answer_up() {
    let server = Server::start();
    let id = server.create(json!({}));
    server.sh(&id, "true");
    let agent = server.agent();
    let (before, cgroups) = (agent.descriptors().saturating_sub(cgroup_files(&agent)), cgroup_files(&agent));
    for (what, script) in KEEPERS {
        let body = json!({"command": "sh", "args": ["-c", script]});
        let started = Instant::now();
        let ran = server.run(&id, body.clone());
        assert_eq!((&ran["stdout"], &ran["exit_code"]), (&json!("x\n"), &json!(0)), "{what}: {ran}");
        let events = server.events("POST", &format!("{CREATE}/{id}/process/run/stream"), &body).rest();
        let kinds: Vec<(String, Value)> = events.iter().map(|event| event.json()).collect();
        assert_eq!((&kinds[1].1["data"], &kinds[2].1["code"]), (&json!("x\n"), &json!(0)), "{what}: {events:#?}");
        let pid = server.launch(&id, body);
        assert_eq!(server.ended(&id, pid)["exit_code"], 0, "{what}");
        let last = server.follow(&id, pid).rest().pop().expect("an exit").json();
        assert_eq!((last.0.as_str(), &last.1["code"]), ("exit", &json!(0)), "{what}");
        assert!(started.elapsed() < AT_ONCE, "{what}: {:?}", started.elapsed());
    }
    // The control: they are there and hold what they were given.
    let holders = server.own_processes();
    let holds = |process: &Process| {
        let links = (1..=9).filter_map(|fd| std::fs::read_link(format!("/proc/{}/fd/{fd}", process.pid)).ok());
        links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count() >= 2
    };
    let holders = holders.iter().filter(|p| p.command_line().contains("sleep 9301")).filter(|p| holds(p)).count();
    assert!(holders >= KEEPERS.len() * 3, "{holders} hold a command's pipes");
    // A command's cgroup is held while somebody lives in it; pipes and pidfds are not.
    until("the agent keeps nothing per call", 5, || agent.descriptors().saturating_sub(cgroup_files(&agent)) <= before);
    server.run(&id, json!({"command": "pkill", "args": ["-9", "-f", "9301"]}));
    until("nor a cgroup for those that have gone", 30, || {
        server.sh(&id, "true");
        cgroup_files(&agent) <= cgroups + IDLE_MAX
    });
    server.delete(&id);
    until("they end with their sandbox", 5, || server.count_of("sleep 9301") == 0);
}

fn cgroup_files(agent: &Process) -> usize {
    let Ok(all) = std::fs::read_dir(format!("/proc/{}/fd", agent.pid)) else { return 0 };
    let links = all.flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.starts_with("/sys/fs/cgroup")).count()
}

/// Flags belong to an open file, which may be shared by many descriptors.
#[test]
fn flags_set_by_one_command_are_not_the_next_ones() {
    let server = Server::start();
    let id = server.create(json!({}));
    let flags =
        "import fcntl, os\nprint([fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_NONBLOCK | os.O_APPEND) for fd in (0, 1, 2)])";
    let set = "import fcntl, os\nfor fd in (0, 1, 2): fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK | os.O_APPEND)\n";
    let python = |script: &str| server.run(&id, json!({"command": "python3", "args": ["-c", script]}));
    assert_eq!(python(flags)["stdout"], "[0, 0, 0]\n");
    let told = python(&format!("{set}{flags}"));
    assert!(told["stdout"] != "[0, 0, 0]\n", "the control: they can be set: {told}");
    assert_eq!(python(flags)["stdout"], "[0, 0, 0]\n", "what is shared between commands was changed");
    // A writer that must wait for itself now; all of it comes, and the agent waits for readiness as before.
    let writer = format!(
        "{set}import select\nleft = b'y' * 3000000\nwhile left:\n  select.select([], [1], [])\n  \
        try: left = left[os.write(1, left):]\n  except BlockingIOError: pass\n"
    );
    let told = python(&writer);
    assert_eq!((told["stdout"].as_str().map(str::len), &told["exit_code"]), (Some(3_000_000), &json!(0)));
    assert_eq!(server.sh(&id, "echo well"), "well");
}

/// Far more is posted than is ever read.
#[test]
fn input_that_nobody_reads_is_refused_and_not_kept() {
    let _turn = turn::heavy();
    let server = Server::start();
    let id = server.create(json!({}));
    let body = json!({"data": "z".repeat(MIB)}).to_string();
    // The control: one that reads gets all of it. (And glibc takes a megabyte from its heap from now on.)
    let pid = server.launch(&id, json!({"command": "wc", "args": ["-c"]}));
    let path = format!("{}/stdin", server.process_path(&id, pid));
    for _ in 0..8 {
        server.request("POST", &path, &[], body.as_bytes()).expect(200);
    }
    server.post(&path, &json!({"eof": true})).expect(200);
    server.ended(&id, pid);
    let events = server.follow(&id, pid).rest();
    assert_eq!(events[1].json().1["data"], format!("{}\n", 8 * MIB));
    let pid = server.launch(&id, json!({"command": "sleep", "args": ["9302"]}));
    let rss = || -> u64 { server.own_processes().iter().filter_map(|p| p.status("VmRSS")).sum() };
    let before = rss();
    let agent = server.agent();
    let agent_before = agent.status("VmRSS").expect("VmRSS");
    let path = format!("{}/stdin", server.process_path(&id, pid));
    let (started, highest) = (Instant::now(), std::sync::atomic::AtomicU64::new(0));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let post = || {
            let answer = server.request("POST", &path, &[], body.as_bytes());
            if answer.status != 200 {
                assert_eq!(answer.expect_error(429, 1006)["retryable"], true);
            }
            highest.fetch_max(rss(), std::sync::atomic::Ordering::Relaxed);
            answer.status
        };
        let threads: Vec<_> = (0..96).map(|_| scope.spawn(post)).collect();
        until("some wait", 10, || agent.status("VmRSS") > Some(agent_before + 12 * 1024));
        // What is made now lies behind them in the agent's heap, and stays: memory before it comes back only when asked for.
        server.launch(&id, json!({"command": "sleep", "args": ["9302"]}));
        threads.into_iter().map(|t| t.join().expect("join")).collect()
    });
    let taken = statuses.iter().filter(|status| **status == 200).count();
    assert!(taken <= 2, "{taken} MiB were taken for a command that reads nothing");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    let grown = highest.into_inner().saturating_sub(before);
    // A call that waits holds its megabyte some four times; 16 may wait on each of two cores.
    assert!(grown < 256 * 1024, "{grown} KiB at most");
    assert_eq!(server.sh(&id, "echo well"), "well", "no other command waits");
    // Once 16 MiB of what was refused stayed in the agent, until something else gave them back.
    until("the agent's memory is given back", 5, || agent.status("VmRSS") < Some(agent_before + 4 * 1024));
    assert_eq!(server.kill(&id, pid, json!("KILL")).status, 200);
    assert_eq!(server.ended(&id, pid)["exit_code"], 137);
    let answer = server.request("POST", &path, &[], br#"{"data":"x"}"#);
    assert!(matches!(answer.status, 400 | 404 | 409), "{}", answer.text());
}
