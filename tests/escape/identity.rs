//! N01, N02: nobody inside is anybody on the host, and no program gives rights.

use crate::case::{self, Case, Starter};
use crate::kit::Process;
use crate::program::{Lines, Program, nonce, program};
use crate::weak::{Control, PLAIN_UID, Weak, must_succeed};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;

const IDENTITY: Program = program!("identity");

/// CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE.
const ROOT_CAPABILITIES: u64 = 0x5fb;
/// The first host id that is given to a sandbox.
const FIRST_ID: u64 = 524_288;

#[test]
fn n01_real_root_is_not_inside() {
    case::each_and_pooled(|case| {
        for &user in case.users() {
            let lines = case.attack(IDENTITY, user, &[]);
            lines.expect("core_pattern", &["EACCES", "EROFS", "EPERM"]);
        }
        let neighbours = ids_of(&agent_of(case, &case.neighbour));
        let own = ids_of(&case.agent());
        for process in case.processes() {
            let (uid, gid) = (status(&process, "Uid"), status(&process, "Gid"));
            let groups = status(&process, "Groups");
            let expected = match case.starter {
                Starter::Root | Starter::Pooled | Starter::Ranged => own.clone(),
                Starter::Plain => u64::from(PLAIN_UID)..u64::from(PLAIN_UID) + 1,
            };
            for id in uid.iter().chain(&gid).chain(&groups) {
                assert!(expected.contains(id), "{process:?} has the host id {id}, not of {expected:?}");
            }
        }
        if matches!(case.starter, Starter::Root | Starter::Pooled) {
            assert!(own.start >= FIRST_ID && own.end - own.start <= 65_536, "{own:?}");
            assert!(own.end <= neighbours.start || neighbours.end <= own.start, "{own:?} {neighbours:?}");
        }
    });
    let control = Control::of(IDENTITY).run(Weak::MapZero, &[]);
    must_succeed(control, "core_pattern for a host root", |lines| lines.any_ok(&["core_pattern_written"]));
}

/// The host ids that a process's user namespace maps.
fn ids_of(process: &Process) -> std::ops::Range<u64> {
    let mut range: Option<std::ops::Range<u64>> = None;
    for file in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/{}/{file}", process.pid)).expect("read a map");
        for line in map.lines() {
            let fields: Vec<u64> = line.split_whitespace().map(|f| f.parse().expect("a map's number")).collect();
            let (first, end) = (fields[1], fields[1] + fields[2]);
            assert!(first > 0, "host root is mapped: {map}");
            let so_far = range.take().unwrap_or(first..end);
            range = Some(so_far.start.min(first)..so_far.end.max(end));
        }
    }
    range.expect("a map with a line")
}

fn agent_of(case: &Case, id: &str) -> Process {
    let body = json!({"command": "readlink", "args": ["/proc/self/ns/pid"]});
    let namespace = case.run_in(id, &body).expect(200).json()["stdout"].as_str().expect("stdout").trim().to_owned();
    let all = crate::kit::processes().into_values();
    let inside =
        |p: &Process| fs::read_link(format!("/proc/{}/ns/pid", p.pid)).is_ok_and(|n| n.as_os_str() == &*namespace);
    all.filter(inside).min_by_key(|p| p.start_ticks).expect("an agent")
}

fn status(process: &Process, key: &str) -> Vec<u64> {
    let text = fs::read_to_string(format!("/proc/{}/status", process.pid)).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':').map(str::to_owned)).unwrap_or_default();
    line.split_whitespace().filter_map(|f| f.parse().ok()).collect()
}

#[test]
fn n02_no_program_gives_rights() {
    case::each(|case| {
        for &user in case.users() {
            let path = case.build(IDENTITY);
            // Owned by both users, with both bits, in both trees that commands can write to.
            let copies = ["/workspace/set-by-user", "/workspace/set-by-root"];
            case.sh("user", &format!("cp {path} {0} && chmod 6755 {0}", copies[0]));
            let by_root = json!({"command": "/bin/sh", "args": ["-c", format!("cp {path} {0} && chmod 6755 {0}", copies[1])], "user": "root"});
            let made = case.run_in(&case.id, &by_root);
            let mut programs = vec![path.as_str(), copies[0]];
            match case.starter {
                Starter::Root | Starter::Pooled | Starter::Ranged => {
                    assert_eq!(made.expect(200).json()["exit_code"], 0);
                    programs.push(copies[1]);
                }
                Starter::Plain => assert_eq!(made.expect(400).json()["code"], 1002),
            }
            for program in programs {
                let nonce = nonce();
                let answer = case.run(user, program, &[&nonce]);
                let lines = Lines::parse(IDENTITY, &nonce, answer["stdout"].as_str().unwrap_or_default()).complete();
                lines.expect("real_is_effective", &["1"]);
                rights(&lines, user, case.starter);
            }
            for tool in ["su root -c id", "mount -t tmpfs none /tmp", "newuidmap 1 0 0 1", "sudo -n id"] {
                let answer = case.run(user, "/bin/sh", &["-c", &format!("{tool} </dev/null")]);
                assert!(answer["exit_code"] != 0 || user == "root" && tool.starts_with("su "), "{tool}: {answer:#}");
            }
            let capable = "cp /bin/true /workspace/capable; setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 /workspace/capable 2>&1; \
                python3 -c 'import os; os.setxattr(\"/workspace/capable\", \"security.capability\", bytes.fromhex(\"0100000200200000000000000000000000000000\"))'";
            let answer = case.run(user, "/bin/sh", &["-c", capable]);
            assert_ne!(answer["exit_code"], 0, "a file with a capability was made: {answer:#}");
        }
    });
    // Without no_new_privs a set-uid copy gives its owner's rights.
    if crate::kit::needs_root() {
        return;
    }
    let control = Control::of(IDENTITY);
    fs::set_permissions(control.path("attack"), fs::Permissions::from_mode(0o4755)).expect("chmod");
    let lines = control.run(Weak::Plain, &[]);
    must_succeed(lines, "set-uid programs", |lines| lines.find("real_is_effective") == Some("0"));
}

fn rights(lines: &Lines, user: &str, starter: Starter) {
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        let told = lines.get(set);
        let held = told.trim_start_matches('=').trim().trim_end_matches('|').trim();
        let held = u64::from_str_radix(held, 16).unwrap_or_else(|_| panic!("{set} is {told}"));
        let most = if user == "root" || set == "CapBnd" { ROOT_CAPABILITIES } else { 0 };
        assert_eq!(held & !most, 0, "as {user}: {set} is {held:x}");
        if user == "root" && set == "CapEff" && starter != Starter::Plain {
            assert_eq!(held, ROOT_CAPABILITIES, "root inside has what apt and chown need");
        }
    }
    for (flag, value) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        let told = lines.get(flag);
        assert_eq!(told.trim_matches(['=', '\t', '|', ' ']), value, "as {user}: {flag} is {told}");
    }
}
