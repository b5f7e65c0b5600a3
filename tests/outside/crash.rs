//! `kill -9` in the middle of everything: what was answered is there, and nothing is left that no sandbox owns.

use crate::kit::{Host, Process, Server, needs_root, turn, until, until_some};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const CREATE: &str = "/api/v1/sandboxes";
const CALLERS: usize = 200;
/// The kill comes when this many creates are answered.
const ANSWERED_AT_KILL: usize = 60;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    Server,
    Launcher,
    All,
}

/// What a caller does with its sandbox in the end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Keep,
    Delete,
}

/// What the callers were told.
#[derive(Default)]
pub(crate) struct Told {
    created: Mutex<BTreeSet<String>>,
    delete_asked: Mutex<BTreeSet<String>>,
    deleted: Mutex<BTreeSet<String>>,
    pub(crate) answered: AtomicUsize,
}

#[test]
fn killing_the_server_loses_nothing() {
    crash(Victim::Server);
}

#[test]
fn killing_the_launcher_loses_nothing() {
    crash(Victim::Launcher);
}

#[test]
fn killing_everything_loses_nothing() {
    crash(Victim::All);
}

fn crash(victim: Victim) {
    let _turn = turn::alone();
    let mut server = Server::start();
    let clean = Host::of(&server);
    let veteran = server.create(json!({"name": "veteran", "env": {"KEPT": "yes"}}));
    server.sh(&veteran, "echo kept >/workspace/file; setsid sleep 8001 </dev/null >/dev/null 2>&1 & exit 0");
    let sleeper = until_some("the background process runs", 10, || with_command(&server, "sleep 8001").pop());
    let record = server.get(&format!("{CREATE}/{veteran}")).expect(200).json();

    let told = Told::default();
    let unit_before = server.server_process();
    std::thread::scope(|scope| {
        for n in 0..CALLERS {
            let (told, server) = (&told, &server);
            let then = if n.is_multiple_of(3) { Then::Delete } else { Then::Keep };
            scope.spawn(move || call(server, told, &format!("caller-{n}"), then));
        }
        until("enough creates are answered", 60, || told.answered.load(Ordering::Relaxed) >= ANSWERED_AT_KILL);
        match victim {
            Victim::Server => server.kill9_server(),
            Victim::Launcher => server.kill9_launcher(),
            Victim::All => server.kill9_unit(),
        }
    });
    if victim == Victim::All {
        server.restart();
    } else {
        until("the unit comes back by itself", 30, || {
            server.server_process().is_some_and(|now| Some(now) != unit_before)
        });
        server.wait_ready();
    }

    let listed = by_id(&server);
    answered_is_true(&server, &told, &listed);
    let again = &listed[&veteran];
    for key in ["id", "name", "env", "metadata", "template", "created_at", "resources", "timeout"] {
        assert_eq!(again[key], record[key], "{key}");
    }
    assert_eq!(again["state"], "running", "{again:#}");
    assert!(sleeper.is_alive(), "its process was never interrupted");
    assert_eq!(server.sh(&veteran, "cat /workspace/file; echo $KEPT"), "kept\nyes");
    nothing_without_owner(&server, &listed);

    for id in listed.keys() {
        server.delete(id);
    }
    assert!(server.list().is_empty());
    Host::assert_back(&server, &clean, 20);
    let id = server.create(json!({}));
    assert_eq!(server.sh(&id, "echo well"), "well");
}

/// One caller: creates, runs, and deletes where asked; stops at the first failure of the connection.
pub(crate) fn call(server: &Server, told: &Told, name: &str, then: Then) {
    let add = |set: &Mutex<BTreeSet<String>>, id: &str| set.lock().expect("set").insert(id.to_owned());
    let body = json!({"name": name}).to_string();
    let Ok(made) = server.try_request("POST", CREATE, &[], body.as_bytes()) else { return };
    if made.status != 201 {
        return;
    }
    let id = made.json()["id"].as_str().expect("id").to_owned();
    add(&told.created, &id);
    told.answered.fetch_add(1, Ordering::Relaxed);
    let run = json!({"command": "sh", "args": ["-c", "sleep 0.2; echo ran"]}).to_string();
    if let Ok(ran) = server.try_request("POST", &format!("{CREATE}/{id}/process/run"), &[], run.as_bytes()) {
        assert!(
            ran.status != 200 || ran.json()["stdout"] == "ran\n" || ran.json()["exit_reason"] != "exited",
            "{}",
            ran.text()
        );
    }
    if then == Then::Delete {
        add(&told.delete_asked, &id);
        let answer = server.try_request("DELETE", &format!("{CREATE}/{id}?force=true"), &[], b"");
        if answer.is_ok_and(|r| r.status == 200) {
            add(&told.deleted, &id);
        }
    }
}

/// The list, by id.
pub(crate) fn by_id(server: &Server) -> BTreeMap<String, Value> {
    server.list().into_iter().map(|s| (s["id"].as_str().expect("id").to_owned(), s)).collect()
}

/// Every create that was answered is listed and usable, or says why not; every delete that was answered is gone.
pub(crate) fn answered_is_true(server: &Server, told: &Told, listed: &BTreeMap<String, Value>) {
    let created = told.created.lock().expect("set");
    let (asked, deleted) = (told.delete_asked.lock().expect("set"), told.deleted.lock().expect("set"));
    assert!(created.len() >= ANSWERED_AT_KILL);
    for id in deleted.iter() {
        assert!(!listed.contains_key(id), "{id} was deleted and is back");
    }
    for id in created.iter().filter(|id| !asked.contains(*id)) {
        assert!(listed.contains_key(id), "{id} was answered and is lost");
    }
    let mut well = 0;
    for (id, sandbox) in listed {
        match sandbox["state"].as_str() {
            Some("running") => {
                assert_eq!(server.sh(id, "echo usable"), "usable", "{id}");
                well += 1;
            }
            Some("error") => {
                assert!(sandbox["error_message"].as_str().is_some_and(|m| !m.is_empty()), "{sandbox:#}");
            }
            other => panic!("{other:?} is no state after a restart: {sandbox:#}"),
        }
    }
    let kept = created.iter().filter(|id| !asked.contains(*id)).count();
    assert!(well >= kept, "the kill hit no sandbox: {well} of {kept} answered ones are usable");
}

/// Processes, cgroups and directories all belong to a listed sandbox.
pub(crate) fn nothing_without_owner(server: &Server, listed: &BTreeMap<String, Value>) {
    let strays = || -> Vec<String> {
        let host = Host::of(server);
        let named = host.cgroups.iter().chain(&host.files);
        let id_of = |name: &str| name.split('/').find(|part| part.len() == 32).map(str::to_owned);
        let mut strays: Vec<String> =
            named.filter(|n| id_of(n).is_some_and(|id| !listed.contains_key(&id))).cloned().collect();
        strays.extend(host.files.iter().filter(|f| f.starts_with("trash/")).cloned());
        let running = listed.values().filter(|s| s["state"] == "running").count();
        let agents = host.namespaces.iter().filter(|n| n.starts_with("pid:")).count();
        if agents > running {
            strays.push(format!("{agents} pid namespaces, {running} sandboxes run"));
        }
        strays
    };
    let mut left = Vec::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while std::time::Instant::now() < deadline {
        left = strays();
        if left.is_empty() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("no sandbox owns:\n{}", left.join("\n"));
}

pub(crate) fn with_command(server: &Server, text: &str) -> Vec<Process> {
    server.own_processes().into_iter().filter(|p| p.command_line() == text).collect()
}

#[test]
fn a_record_without_its_agent_says_why_and_keeps_its_files() {
    let _turn = turn::heavy();
    let mut server = Server::start();
    let id = server.create(json!({"name": "doomed"}));
    server.sh(&id, "echo precious >/workspace/file");
    let files = server.data_dir().join("sandboxes").join(&id).join("workspace/file");
    let sandbox_processes = |server: &Server| -> Vec<Process> {
        let unit: Vec<i32> =
            [server.supervisor(), server.server_process(), server.launcher()].iter().flatten().map(|p| p.pid).collect();
        server.own_processes().into_iter().filter(|p| !unit.contains(&p.pid)).collect()
    };
    server.kill9_all();
    for process in sandbox_processes(&server) {
        process.kill9();
    }
    server.restart();
    let sandbox = server.get(&format!("{CREATE}/{id}")).expect(200).json();
    assert_eq!(sandbox["state"], "error", "{sandbox:#}");
    assert!(sandbox["error_message"].as_str().is_some_and(|m| !m.is_empty()), "{sandbox:#}");
    assert_eq!(std::fs::read_to_string(&files).expect("the file is kept"), "precious\n");
    let answer = server.post(&format!("{CREATE}/{id}/process/run"), &json!({"command": "true"}));
    answer.expect_error(503, 5001);
    server.delete(&id);
    assert!(server.list().is_empty());
    until("its files go after DELETE", 10, || !files.exists());
}

#[test]
fn what_a_launcher_half_made_is_removed_at_the_next_start() {
    if needs_root() {
        return;
    }
    let mut server = Server::start();
    server.stop();
    // A launcher that died early in a create leaves directories of its own id, with or without a record.
    for (id, inside) in [("b", &["workspace", "home"][..]), ("c", &["workspace"][..]), ("d", &[][..])] {
        let id = id.repeat(32);
        std::fs::create_dir(server.data_dir().join("run").join(&id)).expect("run");
        let files = server.data_dir().join("sandboxes").join(&id);
        std::fs::create_dir(&files).expect("files");
        std::fs::set_permissions(&files, std::fs::Permissions::from_mode(0o770)).expect("chmod");
        for name in inside {
            std::fs::create_dir(files.join(name)).expect("inside");
        }
    }
    server.restart();
    assert!(server.list().is_empty());
    until("all of it goes", 10, || Host::of(&server).files.is_empty());
}

#[test]
fn a_sandbox_whose_first_process_dies_is_in_error() {
    let server = Server::start();
    let id = server.create(json!({}));
    let other = server.create(json!({}));
    server.sh(&id, "setsid sleep 8002 </dev/null >/dev/null 2>&1 & exit 0");
    let sleeper = until_some("the process runs", 10, || with_command(&server, "sleep 8002").pop());
    let mut process = sleeper.clone();
    while let Some(parent) =
        Process::read(process.parent).filter(|p| !p.namespaces().is_disjoint(&pid_namespace(&sleeper)))
    {
        process = parent;
    }
    process.kill9();
    until("the end of PID 1 is told", 10, || server.get(&format!("{CREATE}/{id}")).json()["state"] == "error");
    assert!(!sleeper.is_alive());
    assert_eq!(server.sh(&other, "echo well"), "well");
    server.delete(&id);
}

fn pid_namespace(process: &Process) -> BTreeSet<String> {
    process.namespaces().into_iter().filter(|n| n.starts_with("pid:")).collect()
}
