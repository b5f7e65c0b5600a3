//! Is a sandbox made as designed, seen from the host: ids, mounts, descriptors, cgroups, the launcher's own power?

use crate::assert_nothing_is_left;
use crate::kit::{BASE_ID, DataDir, FIRST_BLOCK, Launcher, OWNER_ID, Sandbox, is_root, names, plan};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

#[test]
fn a_sandbox_is_made_as_designed_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    let first_id = u64::from(FIRST_BLOCK) * 65_536;
    assert_identity(&sandbox, first_id);
    assert_mounts(&sandbox, &data);
    assert_descriptors(&sandbox);
    assert_cgroups(&sandbox, &data);
    let files = data.path.join("sandboxes").join(&sandbox.id);
    for (name, owner) in [("", OWNER_ID), ("workspace", BASE_ID + 1000), ("home", BASE_ID + 1000)] {
        assert_eq!(fs::metadata(files.join(name)).unwrap().uid(), owner, "{name}");
    }
    launcher.destroy(&sandbox.id);
    launcher.destroy(&sandbox.id);
    assert_eq!(names(&data.path.join("trash")), [format!("{}.0", sandbox.id)]);
    launcher.stop();
    assert_nothing_is_left(&data);
}

fn assert_identity(sandbox: &Sandbox, first_id: u64) {
    let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    for map in ["uid_map", "gid_map"] {
        assert_eq!(words(sandbox.proc(map)), ["0", &first_id.to_string(), "65536"]);
    }
    for field in ["Uid", "Gid"] {
        assert_eq!(words(sandbox.status(field)), vec![first_id.to_string(); 4]);
    }
    assert_eq!(sandbox.status("Groups"), "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(sandbox.status(set), "0000000000000000", "{set}");
    }
    assert_eq!(sandbox.status("NoNewPrivs"), "1");
    assert_eq!(sandbox.status("NSpid").split_whitespace().nth(1), Some("1"));
    for namespace in ["user", "mnt", "pid", "ipc", "uts", "net"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(&sandbox.pid.to_string()), of("self"), "{namespace}");
    }
    assert!(sandbox.proc("net/unix").lines().count() <= 4, "no socket of the host is listed");
    assert_eq!(sandbox.inside("cat /proc/sys/net/ipv4/tcp_rmem").split_whitespace().nth(2), Some("32768"));
    assert!(sandbox.proc("net/fib_trie").contains("127.0.0.1"), "lo is up");
}

fn assert_mounts(sandbox: &Sandbox, data: &DataDir) {
    let mounts = sandbox.proc("mountinfo");
    let points: Vec<(&str, &str)> = mounts
        .lines()
        .map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            assert!(!line.contains("shared:") && !line.contains("master:"), "not private: {line}");
            (fields[4], fields[5])
        })
        .collect();
    let seen: BTreeSet<&str> = points.iter().map(|(point, _)| *point).collect();
    for expected in ["/", "/usr", "/workspace", "/home/user", "/tmp", "/dev/shm", "/var/tmp", "/run", "/root", "/proc"]
    {
        assert!(seen.contains(expected), "{expected} is not in {seen:?}");
    }
    let read_only = |point: &str| points.iter().any(|(at, flags)| *at == point && flags.starts_with("ro,nosuid"));
    for point in ["/", "/usr", "/dev/null", "/proc/sys"] {
        assert!(read_only(point), "{point} is writable");
    }
    // By its own name: the kernel tells paths from the root of a file system, which a /tmp of its own changes.
    let name = data.path.file_name().unwrap().to_str().unwrap();
    let shown = mounts.lines().filter(|line| line.contains(name)).count();
    assert_eq!(shown, 2, "only workspace and home come from the data directory");
    let root = sandbox.inside("ls -A /; ls -A /dev; ls -A /etc; ls /home /root /var");
    for absent in
        ["sys", "opt", "boot", "srv", "data", "kmsg", "shadow", "pip.conf", "npmrc", "gitconfig", "machine-id"]
    {
        assert!(!root.lines().any(|line| line == absent), "{absent} is shown");
    }
    let devices: BTreeSet<String> = sandbox.inside("ls -A /dev").lines().map(str::to_owned).collect();
    let expected =
        ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "tty", "urandom", "zero"];
    assert_eq!(devices, expected.map(str::to_owned).into());
}

fn assert_descriptors(sandbox: &Sandbox) {
    let mut targets: Vec<(u32, String)> = fs::read_dir(format!("/proc/{}/fd", sandbox.pid))
        .unwrap()
        .flatten()
        .map(|entry| {
            let target = fs::read_link(entry.path()).unwrap().to_string_lossy().into_owned();
            (entry.file_name().to_str().unwrap().parse().unwrap(), target)
        })
        .collect();
    targets.sort();
    for (number, target) in targets {
        let expected = match number {
            0 | 1 => target == "/dev/null",
            3 | 4 => target.starts_with("socket:"),
            5 => target.starts_with("user:"),
            // The agent may have closed its set-up pipe and opened its own pipes, events and pidfds since.
            _ => {
                ["pipe:", "socket:", "anon_inode:", "/dev/null"].iter().any(|kind| target.starts_with(kind))
                    || target.contains(&format!("/s/{}", sandbox.id))
            }
        };
        assert!(expected || number == 2, "descriptor {number} is {target}");
    }
}

fn assert_cgroups(sandbox: &Sandbox, data: &DataDir) {
    let groups = sandbox.proc("cgroup");
    let ours = format!("/workspace-{}/agents", data.hash);
    for parent in data.cgroups() {
        let own = parent.join("s").join(&sandbox.id);
        assert!(own.is_dir(), "{}", own.display());
        let hierarchy = parent.parent().unwrap().file_name().unwrap().to_str().unwrap();
        match hierarchy {
            "memory" => assert_eq!(fs::read_to_string(own.join("memory.limit_in_bytes")).unwrap().trim(), "268435456"),
            "pids" => assert_eq!(fs::read_to_string(own.join("pids.max")).unwrap().trim(), "64"),
            _ => {}
        }
    }
    assert!(data.cgroups().is_empty() || groups.lines().any(|line| line.ends_with(&ours)), "{groups}");
    assert_eq!(sandbox.enforced.memory, data.cgroups().iter().any(|path| path.starts_with("/sys/fs/cgroup/memory")));
}

#[test]
fn the_launcher_keeps_seven_capabilities() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let launcher = Launcher::start(&data);
    let status = fs::read_to_string(format!("/proc/{}/status", launcher.process.id())).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    // CHOWN 0, DAC_READ_SEARCH 2, SETGID 6, SETUID 7, NET_ADMIN 12, SYS_CHROOT 18, SYS_ADMIN 21.
    let expected = [0, 2, 6, 7, 12, 18, 21].iter().fold(0_u64, |set, bit| set | 1 << bit);
    for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
        assert_eq!(u64::from_str_radix(&field(set), 16).unwrap(), expected, "{set}");
    }
    assert_eq!(field("Groups:"), OWNER_ID.to_string());
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", launcher.process.id())).unwrap();
    assert_eq!(mounts.lines().count(), 2, "only / and /data: {mounts}");
    launcher.stop();
    assert_nothing_is_left(&data);
}
