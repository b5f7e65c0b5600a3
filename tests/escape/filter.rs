//! N03, N04, N05, N06, N20: what the filter refuses, by every door of the kernel.

use crate::case::{self, Starter};
use crate::program::{Program, program};
use crate::weak::{Control, Weak, must_succeed};
use serde_json::json;
use std::process::Command;

const CALLS: Program = program!("calls");
const NAMESPACES: Program = program!("namespaces");
const MOUNTS: Program = program!("mounts");
const SOCKETS: Program = program!("sockets");

const REFUSED: &[&str] = &["EPERM"];

/// Told by the program, but no refusals.
const WORKS: [&str; 5] = ["core_limit", "personality", "personality_query", "fork", "end"];

#[test]
fn n03_forbidden_calls_are_refused() {
    case::each(|case| {
        for &user in case.users() {
            let lines = case.attack(CALLS, user, &[]);
            let refused: Vec<_> = lines.steps().filter(|(step, _)| !WORKS.contains(step)).collect();
            assert!(refused.len() > 50);
            let wrong: Vec<_> = refused.iter().filter(|(_, told)| *told != "EPERM").collect();
            assert!(wrong.is_empty(), "as {user}: {wrong:?}");
            for (step, told) in [("personality", "ok"), ("personality_query", "ok"), ("fork", "7")] {
                lines.expect(step, &[told]);
            }
            // The limit is said to be set and is not: it stays 1, so that no crash handler of the host is called.
            lines.expect("core_limit", &["0 0"]);
        }
    });
    let control = Control::of(CALLS).run(Weak::Bubblewrap(&[]), &[]);
    let known = ["io_uring_setup", "userfaultfd_user_mode", "add_key", "kcmp", "memfd_secret", "modify_ldt"];
    must_succeed(control, "the calls that the filter refuses", |lines| lines.any_ok(&known));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn n04_other_doors_of_the_kernel_are_closed() {
    const ABI: Program = program!("abi");
    case::each(|case| {
        for &user in case.users() {
            let lines = case.attack(ABI, user, &["/workspace"]);
            lines.expect_all("i386_effect", &["ENOENT"]);
            lines.expect_all("x32_effect", &["ENOENT"]);
            for step in ["i386_mkdir", "i386_getpid", "i386_mount", "i386_ptrace", "i386_keyctl", "i386_socketcall"] {
                lines.expect(step, REFUSED);
            }
            for step in ["x32_mkdir", "x32_getpid", "x32_ioctl", "no_number"] {
                lines.expect(step, REFUSED);
            }
        }
        i386_program_does_nothing(case);
    });
    let control = Control::of(ABI);
    let lines = control.run(Weak::Plain, &[&control.path("")]);
    must_succeed(lines, "calls of i386", |lines| lines.any_ok(&["i386_mkdir"]) && lines.any_ok(&["i386_effect"]));
}

/// mkdir("/workspace/by-i386"), then exit(0), without a library.
#[cfg(target_arch = "x86_64")]
fn i386_program_does_nothing(case: &case::Case) {
    const SOURCE: &str = "\
        .globl _start\n_start: mov $39, %eax\nmov $path, %ebx\nmov $0755, %ecx\nint $0x80\n\
        mov $1, %eax\nxor %ebx, %ebx\nint $0x80\nhlt\n.data\npath: .asciz \"/workspace/by-i386\"\n";
    let script = "as --32 -o /tmp/i386.o - && ld -m elf_i386 -o /tmp/i386 /tmp/i386.o";
    let body = json!({"command": "/bin/sh", "args": ["-c", script], "stdin": SOURCE});
    let answer = case.run_in(&case.id, &body).expect(200).json();
    assert_eq!(answer["exit_code"], 0, "{answer:#}");
    let answer = case.run("user", "/tmp/i386", &[]);
    assert_ne!(answer["exit_code"], 0, "it could leave by its own exit call: {answer:#}");
    assert_eq!(case.sh("user", "ls /workspace | grep -c by-i386 || true"), "0");
}

#[test]
fn n05_no_namespace_is_made_or_entered() {
    case::each(|case| {
        for &user in case.users() {
            let lines = case.attack(NAMESPACES, user, &[]);
            lines.expect_all("unshare_", REFUSED);
            lines.expect_all("clone_", REFUSED);
            lines.expect_all("clone3", &["ENOSYS"]);
            lines.expect("setns", &["tried entered 0 other 0"]);
            lines.expect("setns_pidfd", REFUSED);
            lines.expect("depth", &["0"]);
            lines.expect("thread", &["7"]);
        }
    });
    let control = Control::of(NAMESPACES).run(Weak::Bubblewrap(&[]), &[]);
    must_succeed(control, "user namespaces for everybody", |lines| lines.any_ok(&["unshare_user", "clone3_user"]));
}

#[test]
fn n06_mounts_stay_what_they_are() {
    case::each(|case| {
        let before = case.sh("user", "cut -d' ' -f5- /proc/self/mountinfo");
        for &user in case.users() {
            case.sh(user, "mkdir -p /tmp/mount-here");
            let lines = case.attack(MOUNTS, user, &["/tmp/mount-here"]);
            lines.expect_all("", REFUSED);
        }
        assert_eq!(case.sh("user", "cut -d' ' -f5- /proc/self/mountinfo"), before);
        for &user in case.users() {
            let written = case.run(user, "/bin/sh", &["-c", "touch /usr/escape || touch /usr/bin/escape"]);
            assert_ne!(written["exit_code"], 0, "{written:#}");
        }
    });
    let control = Control::of(MOUNTS);
    let lines = control.run(Weak::Root, &[&control.path("")]);
    must_succeed(lines, "mounts", |lines| lines.any_ok(&["mount_tmpfs"]) && lines.any_ok(&["open_tree", "fsmount"]));
}

/// The host enters the commands' user namespace and a copy of their mounts, with every capability there and no filter.
#[test]
fn n06_mounts_are_locked_even_without_the_filter() {
    case::one(Starter::Root, json!({}), |case| {
        let agent = case.agent();
        let inner = case.processes().into_iter().find(|p| namespace(p.pid, "user") != namespace(agent.pid, "user"));
        let inner = inner.expect("the spawner, in the commands' user namespace").pid;
        let script = "\
            for at in $(cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/$'); do \
              umount $at 2>/dev/null && echo unmounted $at; done; \
            for at in /usr /usr/bin /proc/sys /etc; do mount -o remount,bind,rw $at 2>/dev/null && echo writable $at; done; \
            touch /usr/escape 2>/dev/null && echo written; mkdir -p /tmp/n && mount -t tmpfs none /tmp/n && echo control";
        let output = Command::new("nsenter")
            .args([format!("--mount=/proc/{inner}/ns/mnt"), format!("--user=/proc/{inner}/ns/user")])
            .args([format!("--pid=/proc/{inner}/ns/pid")])
            .args(["--setuid=0", "--setgid=0", "unshare", "--mount", "sh", "-c", script])
            .output()
            .expect("run nsenter");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        // Its own mount succeeds: it did have the capabilities.
        assert_eq!(told.trim(), "control", "{why}");
    });
}

fn namespace(pid: i32, kind: &str) -> Option<std::path::PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()
}

#[test]
fn n20_socket_families_are_an_allow_list() {
    const ALLOWED: [(usize, &str); 4] =
        [(1, "1/0 1/1 2/0 2/1 3/0 3/1 5/0 5/1"), (2, "1/0 1/6 2/0 2/17"), (10, "1/0 1/6 2/0 2/17"), (16, "2/0 3/0")];
    case::each(|case| {
        for &user in case.users() {
            let lines = case.attack(SOCKETS, user, &[]);
            for family in 0..=45 {
                let told = lines.get(&format!("family{family}"));
                match ALLOWED.iter().find(|(allowed, _)| *allowed == family) {
                    // IPv6 may be off in this kernel.
                    Some((10, _)) if told.ends_with("allowed 0") => {}
                    Some((_, sockets)) => {
                        let opened = told.split_once("allowed ").and_then(|(_, list)| list.split_once(' '));
                        assert_eq!(opened.map(|(_, list)| list), Some(*sockets), "family {family}: {told}");
                    }
                    None => assert!(told.ends_with("other 0 allowed 0"), "family {family}: {told}"),
                }
                let pair = if family == 1 { "ok" } else { "EPERM" };
                lines.expect(&format!("pair{family}"), &[pair]);
            }
            for step in ["raw_icmp", "packet", "ping", "udp_encap", "tcp_ulp"] {
                lines.expect(step, REFUSED);
            }
            lines.expect("tcp_nodelay", &["ok"]);
        }
    });
    let control = Control::of(SOCKETS).run(Weak::Bubblewrap(&[]), &[]);
    let more = |family: &str, told: &str| {
        ALLOWED.iter().all(|(f, _)| family != format!("family{f}")) && !told.ends_with("allowed 0")
    };
    must_succeed(control, "other families of sockets", |lines| {
        lines.steps().any(|(step, told)| step.starts_with("family") && more(step, told))
    });
}
