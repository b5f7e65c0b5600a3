//! What must be as before, after every attack and its DELETE: I1 to I12 of the list of attacks.
//!
//! Other tests and programs run on the same host, so what is counted is this server's own (see `kit::Host`), and of the
//! kernel's global state what no other test changes.

use crate::case::{Case, Starter};
use crate::kit::{self, Host, Server};
use crate::program::nonce;
use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

const GONE_S_MAX: u64 = 2;
const LOG_LINE_BYTES_MAX: usize = 8 << 10;
const LOG_BYTES_MAX: usize = 1 << 20;
/// Longer than the launcher's pause between two things that it makes ahead.
const REST: Duration = Duration::from_millis(400);
const REST_S_MAX: u64 = 20;
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// Kernel state of the whole machine.
const KERNEL_FILES: [&str; 10] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/sys/kernel/uevent_helper",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/tainted",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/swaps",
    "/proc/net/route",
];

/// A look at the host before the attack.
pub(crate) struct Before {
    host: Host,
    canary_text: String,
    canaries: BTreeMap<PathBuf, String>,
    neighbour: String,
    kernel: BTreeMap<String, String>,
    clock: (Instant, SystemTime),
    process: Child,
    log_bytes: usize,
}

impl Before {
    /// Plants the canaries and looks; call it when the neighbour is there and the attacker not yet.
    pub(crate) fn look(case: &Case) -> Before {
        let canary_text = format!("canary-{}", nonce());
        let secret = case.server.data_dir().parent().expect("the test's directory").join("secret");
        let sibling = case.server.data_dir().join("sandboxes/canary");
        for path in [&secret, &sibling] {
            fs::write(path, &canary_text).expect("plant a canary");
            fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("chmod");
        }
        let script = format!("echo {canary_text} > /workspace/canary");
        let body = serde_json::json!({"command": "/bin/sh", "args": ["-c", script]});
        assert_eq!(case.run_in(&case.neighbour, &body).expect(200).json()["exit_code"], 0);
        let server = PathBuf::from(env!("CARGO_BIN_EXE_workspace-server"));
        let watched = [secret, sibling, server, PathBuf::from("/usr/bin/env")];
        let process = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().expect("start a canary process");
        Before {
            host: at_rest(&case.server),
            canaries: watched.map(|path| (path.clone(), look_at(&path))).into(),
            neighbour: neighbour(case),
            canary_text,
            kernel: kernel(),
            clock: (Instant::now(), SystemTime::now()),
            process,
            log_bytes: unasked_bytes(&case.server.log()),
        }
    }

    /// Panics with what is not as before.
    #[track_caller]
    pub(crate) fn holds(mut self, case: &Case) {
        // I1 to I4 and the files: nothing of the deleted sandbox is left. A pool fills up again, so there it can't be told.
        let counted = case.starter != Starter::Pooled;
        if counted {
            Host::assert_back(&case.server, &self.host, GONE_S_MAX);
        }
        assert!(self.process.try_wait().expect("look at the canary process").is_none(), "I1: a host process has ended");
        // I5
        let mut grown = Vec::new();
        let came_back = kit::within(REST_S_MAX, || {
            grown = Host::of(&case.server).descriptors_grown(&self.host);
            grown.is_empty()
        });
        assert!(!counted || came_back, "I5: {grown:?}");
        let log = case.server.log();
        let grown = unasked_bytes(&log).saturating_sub(self.log_bytes);
        assert!(grown < LOG_BYTES_MAX, "I5: the log grew by {grown}");
        assert!(log.lines().all(|line| line.len() < LOG_LINE_BYTES_MAX), "I5: a line without end");
        assert!(!log.contains("panicked at"), "I5: {log}");
        // I6
        for (path, was) in &self.canaries {
            assert_eq!(&look_at(path), was, "I6: {}", path.display());
        }
        assert_eq!(neighbour(case), self.neighbour, "I6 and I8: the neighbour's files and processes");
        // I7
        assert_eq!(kernel(), self.kernel, "I7");
        let (passed, shown) = (self.clock.0.elapsed(), self.clock.1.elapsed().expect("the clock goes on"));
        assert!(passed.abs_diff(shown) < CLOCK_SLACK, "I7: the clock was set");
        // I10
        assert_eq!(listeners_of_sandboxes(), Vec::<String>::new(), "I10");
        // I12
        let outputs = case.outputs();
        for (what, secret) in
            [("the canary", &self.canary_text), ("the API key", &case.key), ("a neighbour's id", &case.neighbour)]
        {
            assert!(!outputs.contains(secret.as_str()), "I12: {what} came out of the sandbox");
        }
        assert!(!log.contains(&case.key) && !log.contains(&self.canary_text), "I12: a secret in the log");
        // I9
        let again = case.create(serde_json::json!({}));
        let body = serde_json::json!({"command": "echo", "args": ["again"]});
        assert_eq!(case.run_in(&again, &body).expect(200).json()["stdout"], "again\n", "I9");
        case.api("DELETE", &format!("/{again}?force=true"), None).expect(200);
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Looks when server and launcher have made ahead what they make ahead: they open no more for a while.
fn at_rest(server: &Server) -> Host {
    let open = || [server.server_process(), server.launcher()].map(|p| p.map_or(0, |p| p.descriptors()));
    let (mut last, mut since) = (open(), Instant::now());
    kit::until("server and launcher come to rest", REST_S_MAX, || {
        let now = open();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        since.elapsed() > REST
    });
    Host::of(server)
}

/// Content and all that a writer would change.
fn look_at(path: &Path) -> String {
    let meta = fs::symlink_metadata(path).expect("look at a canary");
    let mut hash = DefaultHasher::new();
    fs::read(path).expect("read a canary").hash(&mut hash);
    let (mode, owner) = (meta.mode(), (meta.uid(), meta.gid()));
    format!("{:x} {mode:o} {owner:?} {} {}", hash.finish(), meta.mtime(), meta.mtime_nsec())
}

/// The neighbour's file, and how many processes it has.
fn neighbour(case: &Case) -> String {
    let script = "md5sum /workspace/canary; stat -c '%a %u %g %h %Y %s' /workspace/canary; ls -A /workspace; for p in /proc/[0-9]*; do read name < $p/comm && echo process $name; done";
    let body = serde_json::json!({"command": "/bin/sh", "args": ["-c", script]});
    let answer = case.api("POST", &format!("/{}/process/run", case.neighbour), Some(&body)).expect(200).json();
    let mut lines: Vec<&str> = answer["stdout"].as_str().expect("stdout").lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn kernel() -> BTreeMap<String, String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut state: BTreeMap<String, String> = KERNEL_FILES.map(|path| (path.to_owned(), read(path))).into();
    let modules: Vec<String> =
        read("/proc/modules").lines().filter_map(|l| Some(l.split(' ').next()?.to_owned())).collect();
    state.insert("modules".to_owned(), modules.join(" "));
    let binaries = fs::read_dir("/proc/sys/fs/binfmt_misc")
        .map(|d| d.flatten().map(|e| format!("{:?}", e.file_name())).collect::<Vec<_>>());
    state.insert("binfmt_misc".to_owned(), format!("{:?}", binaries.unwrap_or_default()));
    let interfaces =
        fs::read_dir("/sys/class/net").map(|d| d.flatten().map(|e| format!("{:?}", e.file_name())).collect::<Vec<_>>());
    state.insert("interfaces".to_owned(), format!("{:?}", interfaces.unwrap_or_default()));
    let trouble =
        Command::new("dmesg").output().map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let trouble = trouble.lines().filter(|l| ["BUG:", "Oops", "hung task"].iter().any(|word| l.contains(word)));
    state.insert("dmesg".to_owned(), trouble.collect::<Vec<_>>().join("\n"));
    state
}

/// Sockets of the host's network that listen for an id which only sandboxes have.
fn listeners_of_sandboxes() -> Vec<String> {
    const LISTENS: &str = "0A";
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = fields.filter(|f| {
        let id = f.get(7).and_then(|id| id.parse::<u64>().ok()).unwrap_or(0);
        // The last id of a block is a server's own.
        f.get(3) == Some(&LISTENS) && id >= 524_288 && id % 65_536 != 65_535
    });
    ours.map(|f| f.join(" ")).collect()
}

/// Of a log, without the one short line that each request is told by: a race makes as many as the machine can answer.
fn unasked_bytes(log: &str) -> usize {
    log.lines().filter(|line| !line.contains("\"message\":\"request\"")).map(|line| line.len() + 1).sum()
}
