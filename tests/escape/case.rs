//! One attack's world: a server, a sandbox to attack from, a neighbour that must not notice, both kinds of server.

use crate::invariants::Before;
use crate::kit::{self, Builder, Process, Response, Server};
use crate::program::{Lines, Program, compiler_args, nonce};
use crate::weak::PLAIN_UID;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Asked of neighbour and /health each second of an attack.
const ANSWER_MS_MAX: u128 = 2000;
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Sandboxes made ahead: both of a case's are.
const BLANKS: usize = 2;
/// Far above the blocks that servers of root take first.
const FIRST_RANGE: u32 = 20_000 * RANGE_IDS;
const RANGE_IDS: u32 = 65_536;

/// Who started the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Starter {
    /// Real root: own ids for each sandbox.
    Root,
    /// Real root, and the sandboxes were made before they were asked for.
    Pooled,
    /// A user with a range of subordinate ids: one range for all, the agents on an id of their own.
    Ranged,
    /// A user without subordinate ids: one id for all.
    Plain,
}

/// A server with a sandbox and its neighbour.
pub(crate) struct Case {
    pub(crate) server: Server,
    pub(crate) starter: Starter,
    /// The sandbox that attacks.
    pub(crate) id: String,
    pub(crate) neighbour: String,
    pub(crate) key: String,
    built: Mutex<BTreeSet<&'static str>>,
    outputs: Mutex<String>,
}

/// Runs an attack under each kind of server, and checks the invariants after each.
#[track_caller]
pub(crate) fn each(attack: impl Fn(&Case)) {
    for starter in [Starter::Root, Starter::Ranged, Starter::Plain] {
        one(starter, json!({}), &attack);
    }
}

/// The same, and in a sandbox that was made ahead.
#[track_caller]
pub(crate) fn each_and_pooled(attack: impl Fn(&Case)) {
    one(Starter::Pooled, json!({}), &attack);
    each(attack);
}

/// The same against servers that serve NFS too, set up further by `with`.
#[track_caller]
pub(crate) fn each_with_nfs(with: impl Fn(Builder) -> Builder, attack: impl Fn(&Case)) {
    for starter in [Starter::Root, Starter::Ranged, Starter::Plain] {
        one_with(starter, json!({}), |builder| with(builder.nfs()), &attack);
    }
}

/// The same against servers that are set up further by `with`.
#[track_caller]
pub(crate) fn each_with(with: impl Fn(Builder) -> Builder, attack: impl Fn(&Case)) {
    for starter in [Starter::Root, Starter::Ranged, Starter::Plain] {
        one_with(starter, json!({}), &with, &attack);
    }
}

/// The same for one kind of server, with fields for the sandbox.
#[track_caller]
pub(crate) fn one(starter: Starter, sandbox: Value, attack: impl Fn(&Case)) {
    one_with(starter, sandbox, |builder| builder, attack);
}

#[track_caller]
fn one_with(starter: Starter, sandbox: Value, with: impl Fn(Builder) -> Builder, attack: impl Fn(&Case)) {
    if kit::needs_root() {
        return;
    }
    let key = nonce();
    if starter == Starter::Ranged && !Path::new("/usr/bin/newuidmap").exists() {
        println!("skipped: this machine has no newuidmap");
        return;
    }
    let builder = Server::builder().env("WORKSPACE_API_KEYS", &key);
    let builder = match starter {
        Starter::Root => builder,
        Starter::Pooled => builder.env("WORKSPACE_POOL_BLANKS", &BLANKS.to_string()),
        Starter::Ranged => builder.user(PLAIN_UID).subordinate_ids(free_range(), RANGE_IDS),
        Starter::Plain => builder.user(PLAIN_UID),
    };
    println!("a server of {starter:?}");
    let mut case = Case {
        server: with(builder).start(),
        starter,
        id: String::new(),
        neighbour: String::new(),
        key,
        built: Mutex::default(),
        outputs: Mutex::default(),
    };
    if starter == Starter::Pooled {
        let ahead = || case.server.own_processes().iter().filter(|process| process.is_init()).count();
        kit::until("sandboxes are made ahead", 20, || ahead() >= BLANKS);
    }
    case.neighbour = case.create(json!({}));
    let before = Before::look(&case);
    case.id = case.create(sandbox);
    let done = AtomicBool::new(false);
    let (server, key, neighbour) = (&case.server, &case.key, &case.neighbour);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch(server, key, neighbour, &done));
        let attacked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| attack(&case)));
        done.store(true, Ordering::Relaxed);
        let slow = watch.join().expect("the watch");
        if let Err(panic) = attacked {
            std::panic::resume_unwind(panic);
        }
        assert!(slow.is_empty(), "during the attack:\n{}", slow.join("\n"));
    });
    case.api("DELETE", &format!("/{}?force=true", case.id), None).expect(200);
    before.holds(&case);
}

/// A block of ids that no other test's server has: what is found on the host is told apart by it.
fn free_range() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    FIRST_RANGE + NEXT.fetch_add(1, Ordering::Relaxed) * RANGE_IDS
}

/// I8 and I9: the neighbour's echo and /health, until done.
fn watch(server: &Server, key: &str, neighbour: &str, done: &AtomicBool) -> Vec<String> {
    let mut slow = Vec::new();
    let path = format!("/api/v1/sandboxes/{neighbour}/process/run");
    let body = json!({"command": "echo", "args": ["here"]}).to_string();
    while !done.load(Ordering::Relaxed) {
        let started = Instant::now();
        let health = server.try_request("GET", "/api/v1/health", &[], b"");
        let echo = server.try_request("POST", &path, &[("x-api-key", key)], body.as_bytes());
        let took = started.elapsed().as_millis();
        if !health.is_ok_and(|answer| answer.status == 200) {
            slow.push("/health does not answer".to_owned());
        }
        if !echo.as_ref().is_ok_and(|answer| answer.status == 200 && answer.json()["stdout"] == "here\n") {
            slow.push(format!("the neighbour does not answer: {echo:?}"));
        }
        if took > ANSWER_MS_MAX {
            slow.push(format!("/health and the neighbour's echo took {took} ms"));
        }
        std::thread::sleep(ASK_EVERY);
    }
    slow
}

impl Case {
    /// Whom commands can run as: with one id for all there is no root inside.
    pub(crate) fn users(&self) -> &'static [&'static str] {
        match self.starter {
            Starter::Root | Starter::Pooled | Starter::Ranged => &["user", "root"],
            Starter::Plain => &["user"],
        }
    }

    /// A request below `/api/v1/sandboxes`, with the key.
    #[track_caller]
    pub(crate) fn api(&self, method: &str, path: &str, body: Option<&Value>) -> Response {
        let text = body.map(Value::to_string).unwrap_or_default();
        let path = format!("/api/v1/sandboxes{path}");
        self.server.request(method, &path, &[("x-api-key", &self.key)], text.as_bytes())
    }

    /// Creates a sandbox; gives its id.
    #[track_caller]
    pub(crate) fn create(&self, body: Value) -> String {
        let id = self.api("POST", "", Some(&body)).expect(201).json()["id"].as_str().expect("id").to_owned();
        self.server.remember();
        id
    }

    /// Runs a command in a sandbox, whatever comes of it.
    #[track_caller]
    pub(crate) fn run_in(&self, id: &str, body: &Value) -> Response {
        let answer = self.api("POST", &format!("/{id}/process/run"), Some(body));
        self.outputs.lock().expect("outputs").push_str(&answer.text());
        answer
    }

    /// Runs a command in the attacking sandbox; gives the answer, which must be 200.
    #[track_caller]
    pub(crate) fn run(&self, user: &str, command: &str, args: &[&str]) -> Value {
        self.run_in(&self.id, &json!({"command": command, "args": args, "user": user})).expect(200).json()
    }

    /// Runs a shell script that must succeed; gives its stdout without the last newline.
    #[track_caller]
    pub(crate) fn sh(&self, user: &str, script: &str) -> String {
        let answer = self.run(user, "/bin/sh", &["-c", script]);
        assert_eq!(answer["exit_code"], 0, "{script}\n{answer:#}");
        answer["stdout"].as_str().expect("stdout").trim_end_matches('\n').to_owned()
    }

    /// Compiles a program inside, once; gives its path.
    #[track_caller]
    pub(crate) fn build(&self, program: Program) -> String {
        let path = format!("/workspace/attack-{}", program.name);
        if self.built.lock().expect("built").insert(program.name) {
            let body = json!({"command": "cc", "args": compiler_args(&path), "stdin": program.source});
            let answer = self.run_in(&self.id, &body).expect(200).json();
            assert_eq!(answer["exit_code"], 0, "{}: {answer:#}", program.name);
        }
        path
    }

    /// Compiles and runs a program inside; it must tell its last step.
    #[track_caller]
    pub(crate) fn attack(&self, program: Program, user: &str, args: &[&str]) -> Lines {
        self.attack_unfinished(program, user, args).complete()
    }

    /// The same for a program that may be killed.
    #[track_caller]
    pub(crate) fn attack_unfinished(&self, program: Program, user: &str, args: &[&str]) -> Lines {
        let (path, nonce) = (self.build(program), nonce());
        let mut all = vec![nonce.as_str()];
        all.extend(args);
        let answer = self.run(user, &path, &all);
        assert_eq!(answer["truncated"], false, "{answer:#}");
        Lines::parse(program, &nonce, answer["stdout"].as_str().expect("stdout"))
    }

    /// The sandbox's processes as the host sees them: those of its pid namespace.
    pub(crate) fn processes(&self) -> Vec<Process> {
        let namespace = self.sh("user", "readlink /proc/self/ns/pid");
        self.server.remember();
        let all = kit::processes().into_values();
        all.filter(|p| fs::read_link(format!("/proc/{}/ns/pid", p.pid)).is_ok_and(|n| n.as_os_str() == &*namespace))
            .collect()
    }

    /// PID 1 of the sandbox as the host sees it.
    #[track_caller]
    pub(crate) fn agent(&self) -> Process {
        self.processes().into_iter().find(Process::is_init).expect("the sandbox's PID 1")
    }

    /// All that commands have printed in this case.
    pub(crate) fn outputs(&self) -> String {
        self.outputs.lock().expect("outputs").clone()
    }
}
