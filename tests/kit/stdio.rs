//! MCP over stdio by hand: the program at a client's pipes, on a data directory that only such programs use.

use super::process::{Process, processes};
use super::turn::{self, Turn};
use super::{cgroup, until, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio as Pipe};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const ANSWER_S_MAX: u64 = 60;
const END_S_MAX: u64 = 30;
const LINES_MAX: usize = 100_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A data directory. Dropped, nothing of its servers may be left.
pub(crate) struct Place {
    root: PathBuf,
    env: Vec<(String, String)>,
    cgroups: Mutex<BTreeSet<String>>,
    _turn: Turn,
}

impl Place {
    /// A new one.
    pub(crate) fn new() -> Place {
        let turn = turn::shared();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("workspace-stdio-{}-{number}", std::process::id()));
        fs::create_dir(&root).expect("make the test's directory");
        Place { root, env: Vec::new(), cgroups: Mutex::default(), _turn: turn }
    }

    /// Sets a variable of all programs that are started from here on.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Place {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The directory that holds the data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where servers keep their files.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.root.join("data")
    }

    /// What an MCP client's configuration says: the program and its variables.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_workspace-server"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WORKSPACE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.env("WORKSPACE_MCP_MODE", "stdio").env("WORKSPACE_DATA_DIR", self.data_dir());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Starts the program at pipes of ours.
    #[track_caller]
    pub(crate) fn start(&self) -> Stdio {
        Stdio::of(self.command())
    }

    /// Starts it and shakes hands.
    #[track_caller]
    pub(crate) fn begin(&self) -> Stdio {
        let mut stdio = self.start();
        stdio.shake_hands("2025-11-25");
        self.remember();
        stdio
    }

    /// All processes that have to do with this directory: its name is in what they were started with, or in what they
    /// have mounted.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let name = self.root.file_name().expect("a name").to_string_lossy().into_owned();
        let says = |process: &Process, file: &str| {
            let text = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
            String::from_utf8_lossy(&text).contains(&name)
        };
        let all = processes().into_values().filter(|process| process.state != 'Z');
        all.filter(|process| says(process, "environ") || says(process, "mountinfo")).collect()
    }

    /// Those of a server that a client started.
    pub(crate) fn servers(&self) -> Vec<Process> {
        self.processes().into_iter().filter(|process| process.command_line().contains("--while-used")).collect()
    }

    /// Agents: one for each sandbox, blanks counted.
    pub(crate) fn agents(&self) -> Vec<Process> {
        self.processes().into_iter().filter(Process::is_init).collect()
    }

    /// Directories of sandboxes.
    pub(crate) fn sandboxes(&self) -> Vec<String> {
        let entries = fs::read_dir(self.data_dir().join("sandboxes")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// Notes the control groups that servers have now.
    pub(crate) fn remember(&self) {
        let mut cgroups = self.cgroups.lock().expect("cgroups");
        for process in self.processes() {
            let text = process.cgroups();
            let names = text.split(['/', '\n']).filter(|part| part.starts_with("workspace-"));
            cgroups.extend(names.map(str::to_owned));
        }
    }

    /// What is left of servers and sandboxes, a line each.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left: Vec<String> =
            self.processes().iter().map(|process| format!("{process:?} {}", process.command_line())).collect();
        left.extend(self.sandboxes().iter().map(|name| format!("sandboxes/{name}")));
        let names = |folder: &str| fs::read_dir(self.data_dir().join(folder)).into_iter().flatten().flatten();
        left.extend(
            ["run", "trash"].iter().flat_map(|folder| names(folder)).map(|entry| format!("{:?}", entry.path())),
        );
        let name = self.root.to_string_lossy().into_owned();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        left.extend(mounts.lines().filter(|line| line.contains(&name)).map(|line| format!("mount: {line}")));
        for name in self.cgroups.lock().expect("cgroups").iter() {
            let mut found = Vec::new();
            cgroup::walk(Path::new("/sys/fs/cgroup"), name, 6, &mut found);
            left.extend(found.iter().map(|cgroup| format!("cgroup: {}", cgroup.display())));
        }
        left.extend(self.data_dir().join("mcp.sock").exists().then(|| "mcp.sock".to_owned()));
        left
    }

    /// Panics where something is left that should not be.
    #[track_caller]
    pub(crate) fn assert_nothing_left(&self) {
        let left = self.left();
        assert!(left.is_empty(), "left behind:\n{}\n{}", left.join("\n"), self.log());
    }

    /// What the server that was started says.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.data_dir().join("stdio.log")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let clean = wait::within(END_S_MAX, || self.left().is_empty());
        let (left, log) = (self.left(), self.log());
        for process in self.processes() {
            process.signal(Signal::KILL);
        }
        let removed = fs::remove_dir_all(&self.root);
        if !std::thread::panicking() {
            assert!(clean, "left behind:\n{}\n{log}", left.join("\n"));
            removed.expect("remove the test's directory");
        }
    }
}

/// The program at a client's pipes.
pub(crate) struct Stdio {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Arc<Mutex<String>>,
    errors_end: JoinHandle<()>,
    next: u64,
}

impl Stdio {
    /// Starts a command that speaks MCP.
    #[track_caller]
    pub(crate) fn of(mut command: Command) -> Stdio {
        command.stdin(Pipe::piped()).stdout(Pipe::piped()).stderr(Pipe::piped());
        let mut child = command.spawn().expect("start the program");
        let output = child.stdout.take().expect("stdout");
        let mut errors_of = child.stderr.take().expect("stderr");
        let (tell, lines) = sync_channel(LINES_MAX);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if line.is_err() || tell.send(line.unwrap_or_default()).is_err() {
                    return;
                }
            }
        });
        let errors = Arc::new(Mutex::new(String::new()));
        let kept = errors.clone();
        let errors_end = std::thread::spawn(move || {
            let mut text = [0; 4096];
            while let Ok(bytes @ 1..) = errors_of.read(&mut text) {
                kept.lock().expect("errors").push_str(&String::from_utf8_lossy(&text[..bytes]));
            }
        });
        let input = child.stdin.take();
        Stdio { child, input, lines, errors, errors_end, next: 0 }
    }

    /// Its process.
    pub(crate) fn process(&self) -> Process {
        Process::read(self.child.id().cast_signed()).expect("the program runs")
    }

    /// What it printed on standard error.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().expect("errors").clone()
    }

    /// Writes bytes as they are.
    #[track_caller]
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(bytes).and_then(|()| input.flush()).expect("write");
    }

    /// Sends a message.
    #[track_caller]
    pub(crate) fn send(&mut self, message: &Value) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// The next line, which must be JSON.
    #[track_caller]
    pub(crate) fn next(&self) -> Value {
        let Ok(line) = self.lines.recv_timeout(Duration::from_secs(ANSWER_S_MAX)) else {
            panic!("no line within {ANSWER_S_MAX} s:\n{}", self.errors())
        };
        serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}"))
    }

    /// All lines until its output ends.
    #[track_caller]
    pub(crate) fn rest(&self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(ANSWER_S_MAX)) {
            all.push(serde_json::from_str(&line).unwrap_or_else(|why| panic!("{why}: {line}")));
        }
        all
    }

    /// Asks, and gives the message with the answer; notifications before it are dropped.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.next();
            if message["id"] == id {
                return message;
            }
            assert!(message["id"].is_null(), "an answer to something else: {message}");
        }
    }

    /// Asks as a client without a handshake does.
    #[track_caller]
    pub(crate) fn ask_modern(&mut self, method: &str, params: Value) -> Value {
        let (message, _) = super::modern(method, params);
        self.ask(method, message["params"].clone())
    }

    /// Shakes hands.
    #[track_caller]
    pub(crate) fn shake_hands(&mut self, version: &str) -> Value {
        let params =
            json!({"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}});
        let answer = self.ask("initialize", params);
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        answer["result"].clone()
    }

    /// Calls a tool; gives its result.
    #[track_caller]
    pub(crate) fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let message = self.ask("tools/call", json!({"name": tool, "arguments": arguments}));
        assert!(message["result"].is_object(), "{message}");
        message["result"].clone()
    }

    /// Runs a shell script that must succeed; gives its stdout without the last newline.
    #[track_caller]
    pub(crate) fn sh(&mut self, script: &str) -> String {
        let result = self.call("process_run", json!({"command": "sh", "args": ["-c", script]}));
        let outcome = &result["structuredContent"];
        assert_eq!(outcome["exit_code"], 0, "{script}\n{result:#}");
        outcome["stdout"].as_str().expect("stdout").trim_end_matches('\n').to_owned()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a pid");
        kill_process(pid, signal).expect("kill");
    }

    /// Ends its input.
    pub(crate) fn end_input(&mut self) {
        self.input = None;
    }

    /// Ends its input, and waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        self.end_input();
        self.wait()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the program ends", END_S_MAX, || self.child.try_wait().expect("wait").is_some());
        until("nobody else holds its standard error", END_S_MAX, || self.errors_end.is_finished());
        self.child.wait().expect("wait")
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        self.input = None;
        if !wait::within(END_S_MAX, || self.child.try_wait().is_ok_and(|status| status.is_some())) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
