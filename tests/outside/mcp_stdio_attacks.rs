//! Attack M10 and what stdio adds to L16: no sandbox, agent or launcher has a client's pipes, no output comes between its
//! messages, and nobody but the owner reaches the socket. Each has its control.

use crate::kit::{Place, Process, needs_root, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

/// What a process has open, as the kernel names it: pipes by their number.
fn open_files(process: &Process) -> BTreeSet<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", process.pid)).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned()).collect()
}

#[test]
fn m10_nobody_else_holds_a_clients_pipes() {
    let place = Place::new();
    let (mut first, mut second) = (place.begin(), place.begin());
    for stdio in [&mut first, &mut second] {
        stdio.sh("true");
        stdio.send(&json!({"jsonrpc": "2.0", "id": "slow", "method": "tools/call",
            "params": {"name": "process_run", "arguments": {"command": "sh", "args": ["-c", "touch began; sleep 7431"]}}}));
    }
    until("they run", 20, || {
        place.processes().iter().filter(|process| process.command_line() == "sleep 7431").count() == 2
    });
    for stdio in [&first, &second] {
        let relay = stdio.process();
        let pipes: BTreeSet<String> = (0..3)
            .map(|fd| fs::read_link(format!("/proc/{}/fd/{fd}", relay.pid)).expect("a link"))
            .map(|link| link.to_string_lossy().into_owned())
            .collect();
        assert!(pipes.iter().all(|pipe| pipe.starts_with("pipe:")), "{pipes:?}");
        assert!(pipes.is_subset(&open_files(&relay)), "the control: the program at the pipes has them");
        let others: Vec<Process> = place.processes().into_iter().filter(|other| other.pid != relay.pid).collect();
        assert!(others.len() >= 8, "supervisor, server, launcher, agents, commands, the other: {others:?}");
        for other in others {
            let held: Vec<String> = open_files(&other).intersection(&pipes).cloned().collect();
            assert!(held.is_empty(), "{} has {held:?}", other.command_line());
        }
    }
}

/// Writes where a terminal or a pipe of somebody else might be.
const SHOUT: &str = r#"
    for to in /proc/[0-9]*/fd/[0-9]* /dev/stdout /dev/stderr /dev/fd/1 /dev/tty /dev/console /dev/pts/* /proc/1/fd/1; do
        echo '{"jsonrpc":"2.0","id":"m","result":"forged"}' 2>/dev/null >>"$to"
    done 2>/dev/null
    printf '\n{"jsonrpc":"2.0","id":"m","result":"forged"}\n'
    printf '\n{"jsonrpc":"2.0","id":"m","result":"forged"}\n' >&2
    kill -9 $PPID 2>/dev/null; kill -TTIN -1 2>/dev/null; kill -9 1 2>/dev/null
    exit 0
"#;

#[test]
fn m10_what_is_printed_inside_stays_in_its_string() {
    let place = Place::new();
    let mut stdio = place.begin();
    let call = |id: &str, progress: bool| {
        let meta = if progress { json!({"progressToken": "p"}) } else { json!({}) };
        json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": "process_run", "_meta": meta,
            "arguments": {"command": "sh", "args": ["-c", SHOUT]}}})
    };
    for (id, progress) in [("m1", false), ("m2", true)] {
        stdio.send(&call(id, progress));
        let answer = loop {
            // Each line is one message of ours: `next` refuses what is no JSON.
            let message = stdio.next();
            assert_ne!((&message["id"], &message["result"]), (&json!("m"), &json!("forged")), "a forged answer");
            if message["id"] == id {
                break message;
            }
            assert_eq!(message["method"], "notifications/progress");
        };
        let printed = answer["result"]["structuredContent"].to_string();
        assert!(printed.contains("forged"), "the control: it was printed: {answer}");
    }
    assert_eq!(stdio.sh("echo well"), "well", "the sandbox answers");
    assert!(stdio.end().success());
    assert_eq!((stdio.rest(), stdio.errors().as_str()), (Vec::<Value>::new(), ""));
}

/// Asks at a socket; prints what came of it.
const ASK: &str = r#"
import os, socket, sys
def ask(path):
    try:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.settimeout(10)
        here = os.open(os.path.dirname(path), os.O_PATH)
        s.connect(f"/proc/self/fd/{here}/" + os.path.basename(path))
        s.send(b'H{"protocol":1,"tools":"full"}')
        return s.recv(100)[:1].decode()
    except OSError as why:
        return type(why).__name__
for path in sys.argv[1:]:
    print(path, ask(path))
"#;

#[test]
fn l16_no_sandbox_reaches_the_socket() {
    let place = Place::new();
    let mut stdio = place.begin();
    let socket = place.data_dir().join("mcp.sock").to_string_lossy().into_owned();
    let outside = Command::new("/usr/bin/python3").args(["-c", ASK, &socket]).output().expect("python3");
    assert_eq!(
        String::from_utf8_lossy(&outside.stdout).trim(),
        format!("{socket} H"),
        "the control: its owner is let in"
    );
    let relative = "../".repeat(20) + socket.trim_start_matches('/');
    let mut paths = vec![socket.clone(), relative, "/data/mcp.sock".to_owned(), "/workspace/../mcp.sock".to_owned()];
    for pid in ["1", "2", "self", "thread-self"] {
        for link in ["root", "cwd"] {
            paths.push(format!("/proc/{pid}/{link}{socket}"));
            paths.push(format!("/proc/{pid}/{link}/data/mcp.sock"));
            paths.push(format!("/proc/{pid}/{link}/../../mcp.sock"));
        }
    }
    for user in ["user", "root"] {
        let args: Vec<&str> = ["-c", ASK].into_iter().chain(paths.iter().map(String::as_str)).collect();
        let tried = stdio.call("process_run", json!({"command": "python3", "args": args, "user": user}));
        let printed = tried["structuredContent"]["stdout"].as_str().unwrap_or_default().to_owned();
        if user == "root" && printed.is_empty() {
            println!("skipped: no root inside, this server has a single id");
            continue;
        }
        assert_eq!(printed.lines().count(), paths.len(), "{tried}");
        assert!(printed.lines().all(|line| line.ends_with("Error")), "reached:\n{printed}");
    }
    // What lies in the sandbox's own place is its own: a socket there is nobody's but its own.
    let seen = stdio.sh("cat /proc/net/unix | grep -c mcp.sock || true");
    assert_eq!(seen, "0", "not even its name");
}

#[test]
fn l16_no_other_user_reaches_the_socket() {
    if needs_root() {
        return;
    }
    let place = Place::new();
    let _stdio = place.begin();
    fs::set_permissions(place.root(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let socket = place.data_dir().join("mcp.sock");
    let about = fs::metadata(&socket).expect("a socket");
    assert_eq!((about.mode() & 0o777, about.uid()), (0o600, 0));
    assert_eq!(fs::metadata(place.data_dir()).expect("a directory").mode() & 0o777, 0o700);
    let as_other = |script: &str, path: &str| {
        let ask = ["--reuid", "54322", "--regid", "54322", "--clear-groups", "/usr/bin/python3", "-c", script, path];
        let output = Command::new("setpriv").args(ask).output().expect("setpriv");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let path = socket.to_string_lossy().into_owned();
    assert_eq!(as_other(ASK, &path), format!("{path} PermissionError"));
    // Even with the directory open to all, its mode keeps it.
    fs::set_permissions(place.data_dir(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let open = as_other(ASK, &path);
    fs::set_permissions(place.data_dir(), fs::Permissions::from_mode(0o700)).expect("chmod");
    assert_eq!(open, format!("{path} PermissionError"));
}

/// The program refuses a socket that is not its own user's: whoever listens there would read all that a client sends.
#[test]
fn l16_a_socket_of_another_user_is_not_trusted() {
    if needs_root() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.data_dir()).expect("mkdir");
    std::os::unix::fs::chown(place.data_dir(), Some(54_322), Some(54_322)).expect("chown");
    fs::set_permissions(place.root(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let listen = "import socket, sys, time\ns = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\ns.bind(sys.argv[1])\ns.listen(5)\n\
                  print('listens', flush=True)\nc, _ = s.accept()\nprint('got', len(c.recv(1000)), flush=True)";
    let path = place.data_dir().join("mcp.sock");
    let mut other = Command::new("setpriv");
    other.args(["--reuid", "54322", "--regid", "54322", "--clear-groups", "/usr/bin/python3", "-c", listen]).arg(&path);
    let mut other = other.stdout(std::process::Stdio::piped()).spawn().expect("setpriv");
    until("it listens", 20, || path.exists());
    let mut stdio = place.start();
    let status = stdio.wait();
    assert_eq!((status.code(), stdio.rest()), (Some(1), vec![]));
    assert!(stdio.errors().contains("another user"), "{}", stdio.errors());
    until("it ends", 20, || other.try_wait().expect("wait").is_some());
    let mut output = String::new();
    other.stdout.take().expect("stdout").read_to_string(&mut output).expect("read");
    assert_eq!(output, "listens\ngot 0\n", "it was told nothing");
    fs::remove_file(path).expect("remove the socket");
}
