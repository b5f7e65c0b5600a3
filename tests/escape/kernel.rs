//! N21 to N24: devices, control groups, kernel files and later mounts of the host are out of reach.

use crate::case;
use crate::program::{Program, program};
use crate::weak::{Control, Weak, must_succeed};
use serde_json::json;
use std::fs;
use std::process::Command;

const DEVICES: Program = program!("devices");
const CGROUPS: Program = program!("cgroups");
const OPENS: Program = program!("opens");

const DEV: [&str; 13] =
    ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd", "stdin", "stdout", "stderr"];
const DENIED: &[&str] = &["EPERM", "EACCES", "ENOENT", "EROFS", "ENXIO", "ENODEV"];

#[test]
fn n21_devices_are_a_short_list() {
    case::each(|case| {
        for &user in case.users() {
            let dir = format!("/tmp/devices-{user}");
            case.sh(user, &format!("mkdir {dir}"));
            let lines = case.attack(DEVICES, user, &[&dir]);
            let there: Vec<&str> = lines.get("dev").trim_start_matches('=').split_whitespace().collect();
            let more: Vec<_> = there.iter().filter(|name| !DEV.contains(name) && **name != "mqueue").collect();
            assert!(more.is_empty(), "/dev has {more:?}");
            for name in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm", "fd"] {
                assert!(there.contains(&name), "/dev has no {name}");
            }
            let nodes: Vec<_> = lines
                .steps()
                .filter(|(s, t)| s.starts_with("mknod_") && *s != "mknod_whiteout" && *t != "EPERM")
                .collect();
            assert!(nodes.is_empty(), "{nodes:?}");
            lines.expect_all("open_", DENIED);
            lines.expect("terminals", &["0"]);
            lines.expect("own_terminal", &["ok"]);
            lines.expect("own_number", &["0"]);
            for request in ["TIOCSTI", "TIOCLINUX", "TIOCCONS", "TIOCSETD"] {
                lines.expect(request, &["EPERM"]);
                lines.expect(&format!("{request}_high"), &["EPERM"]);
            }
        }
    });
    let control = Control::of(DEVICES);
    let lines = control.run(Weak::Bubblewrap(&["--dev-bind", "/dev", "/dev"]), &[&control.path("")]);
    must_succeed(lines, "the host's devices", |lines| lines.get("dev").split_whitespace().count() > DEV.len() + 2);
}

#[test]
fn n22_control_groups_are_closed() {
    case::each(|case| {
        for &user in case.users() {
            case.sh(user, "mkdir -p /tmp/cgroups");
            let lines = case.attack(CGROUPS, user, &["/tmp/cgroups"]);
            lines.expect("mount_cgroup", &["EPERM"]);
            lines.expect("mount_cgroup2", &["EPERM"]);
            lines.expect("changed", &["0"]);
            lines.expect("sys", &["ENOENT"]);
            let own = lines.get("own");
            assert!(!own.contains(&case.id) && !own.contains("workspace-"), "the place on the host shows: {own}");
        }
    });
    let control = Control::of(CGROUPS);
    let lines = control.run(Weak::MapZero, &[&control.path("")]);
    must_succeed(lines, "control groups of the host", |lines| lines.find("changed").is_some_and(|n| n != "0"));
}

const WRITES: [&str; 22] = [
    "/proc/sysrq-trigger",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/randomize_va_space",
    "/proc/sys/kernel/sysrq",
    "/proc/sys/vm/drop_caches",
    "/proc/sys/vm/overcommit_memory",
    "/proc/sys/fs/file-max",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/net/ipv4/ip_forward",
    "/proc/sys/net/core/somaxconn",
    "/proc/sys/kernel/shmmax",
    "/proc/irq/default_smp_affinity",
    "/proc/mtrr",
    "/proc/acpi/wakeup",
    "/proc/bus/pci/00/00.0",
    "/proc/fs/nfsd/exports",
    "/sys/kernel/uevent_helper",
    "/sys/power/state",
];
const READS: [&str; 22] = [
    "/proc/kcore",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/kpagecgroup",
    "/proc/kmsg",
    "/proc/config.gz",
    "/proc/latency_stats",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
    "/proc/scsi/scsi",
    "/proc/acpi/wakeup",
    "/sys/firmware/dmi",
    "/sys/kernel/debug",
    "/sys/kernel/tracing",
    "/sys/kernel/security",
    "/sys/fs/bpf",
    "/sys/module",
    "/sys/class/net",
];
const PROC_FS: &str = "9fa0";

#[test]
fn n23_kernel_files_are_closed() {
    case::each(|case| {
        let list = "find /proc/sys -type f -writable 2>/dev/null | head -200 | sed 's/^/w:/'";
        for &user in case.users() {
            let mut args: Vec<String> = WRITES.iter().map(|path| format!("w:{path}")).collect();
            args.extend(READS.iter().map(|path| format!("r:{path}")));
            let found = case.sh(user, list);
            let fixed = args.len();
            args.extend(found.lines().map(str::to_owned));
            args.push("t:/proc".to_owned());
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let lines = case.attack(OPENS, user, &args);
            for path in &args[..fixed] {
                lines.expect(path, &["EROFS", "EACCES", "EPERM", "ENOENT", "EIO", "EMPTY"]);
            }
            let writable: Vec<_> = args[fixed..].iter().filter(|path| lines.find(path) == Some("ok")).collect();
            assert!(writable.is_empty(), "as {user}: {writable:?}");
            lines.expect("t:/proc", &[PROC_FS]);
        }
        // What stands over a hidden file is a real null device or an empty directory of our own.
        let masks = case.sh(
            "user",
            "grep ' /proc/' /proc/self/mountinfo | cut -d' ' -f5 | while read at; do stat -c '%n %F %t:%T' $at; done",
        );
        for mask in masks.lines() {
            let own = mask.ends_with(" character special file 1:3")
                || mask.contains(" directory ")
                || mask.starts_with("/proc/sys")
                || mask.contains("regular");
            assert!(own, "{mask}");
        }
    });
    let wanted = ["r:/proc/keys", "r:/proc/timer_list", "r:/proc/config.gz"];
    let control = Control::of(OPENS).run(Weak::MapZero, &wanted);
    must_succeed(control, "kernel files for a host root", |lines| lines.any_ok(&wanted));
}

/// The server keeps its data in a mount that is shared, as `/` is under systemd.
#[test]
fn n24_mounts_do_not_propagate() {
    if crate::kit::needs_root() {
        return;
    }
    let dir = std::env::temp_dir().join(format!("workspace-shared-{}", std::process::id()));
    fs::create_dir(&dir).expect("mkdir");
    let mount = |args: &[&str]| {
        let status = Command::new("mount").args(args).status().expect("run mount");
        assert!(status.success(), "mount {args:?}");
    };
    let at = dir.to_string_lossy().into_owned();
    mount(&["-t", "tmpfs", "-o", "mode=0755", "none", &at]);
    mount(&["--make-rshared", &at]);
    let attacked = std::panic::catch_unwind(|| {
        let before = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo").lines().count();
        let server = crate::kit::Server::builder().data_dir(dir.join("data")).start();
        let id = server.create(json!({}));
        let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert_eq!(table.lines().count(), before, "the sandbox's mounts show on the host:\n{table}");
        for late in [dir.join("late"), dir.join("data/sandboxes").join(&id).join("workspace/late")] {
            fs::create_dir(&late).expect("mkdir");
            let late = late.to_string_lossy().into_owned();
            mount(&["-t", "tmpfs", "late-mount", &late]);
            let inside = server.sh(&id, "cat /proc/self/mountinfo");
            let launcher = server.launcher().expect("the launcher").pid;
            let launchers = fs::read_to_string(format!("/proc/{launcher}/mountinfo")).expect("mountinfo");
            Command::new("umount").arg(&late).status().expect("run umount");
            assert!(!inside.contains("late-mount"), "a later mount of the host shows inside:\n{inside}");
            assert!(!inside.contains(" shared:") && !inside.contains(" master:"), "{inside}");
            assert!(!launchers.contains("late-mount"), "a later mount of the host shows in the launcher:\n{launchers}");
        }
        server.delete(&id);
    });
    let slave = control_n24(&at);
    Command::new("umount").args(["-R", &at]).status().expect("run umount");
    fs::remove_dir(&dir).expect("clean up");
    if let Err(panic) = attacked {
        std::panic::resume_unwind(panic);
    }
    assert!(slave, "the control: a slave sees later mounts");
}

/// A mount namespace that is a slave sees what is mounted later.
fn control_n24(at: &str) -> bool {
    let script = "mkdir $1/late; unshare --mount --propagation slave sh -c 'touch $1/ready; for i in $(seq 100); do grep -q late-mount /proc/self/mountinfo && echo seen && exit; sleep 0.05; done' sh $1 & \
        while [ ! -e $1/ready ]; do sleep 0.05; done; mount -t tmpfs late-mount $1/late; wait; umount $1/late; rm -r $1/late $1/ready";
    let output = Command::new("sh").args(["-c", script, "sh", at]).output().expect("run the control");
    output.stdout == b"seen\n"
}
