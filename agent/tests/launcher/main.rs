//! The built program as a launcher, looked at from the host: what a sandbox is made of, and that nothing is left.
//!
//! Needs root; without it each test says so and passes.

mod kit;

use kit::{BASE_ID, BLOCKS, DataDir, FIRST_BLOCK, Launcher, Sandbox, Start, id, is_root, names, plan, processes_of};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use workspace_proto::launcher::{Adopt, Create, Destroy, Inventory, Mode, reply, request};

const OWNER_ID: u32 = BASE_ID + 65_535;

/// Nothing of a data directory is left on the machine but its own empty directories.
fn assert_nothing_is_left(data: &DataDir) {
    assert_eq!(names(&data.path.join("run")), [""; 0]);
    assert_eq!(names(&data.path.join("sandboxes")), [""; 0]);
    assert_eq!(processes_of(data), [0_u32; 0]);
    Launcher::sweep(data);
    assert_eq!(data.cgroups(), [Path::new(""); 0]);
}

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
    let path = data.path.to_str().unwrap();
    let shown = mounts.lines().filter(|line| line.contains(path)).count();
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
fn what_breaks_a_rule_is_refused_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    let bad = [
        Create { id: "../../../../../../../../../../etc".into(), ..plan(1) },
        Create { id: String::new(), ..plan(1) },
        Create { block: 0, ..plan(1) },
        Create { block: FIRST_BLOCK + BLOCKS, ..plan(1) },
        Create { block: u32::MAX, ..plan(1) },
        Create { block: FIRST_BLOCK, ..plan(1) },
        Create { template: "../host".into(), ..plan(1) },
        Create { block: FIRST_BLOCK + 1, ..plan(0) },
    ];
    for create in bad {
        let (op, descriptors) = launcher.ask(request::Op::Create(create.clone()));
        assert!(matches!(op, reply::Op::Failed(_)) && descriptors.is_empty(), "{create:?}: {op:?}");
    }
    launcher.send_bytes(b"\xff\xff not a request");
    let listed = launcher.inventory();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].alive && listed[0].files && listed[0].block == FIRST_BLOCK);
    let (op, _) = launcher.ask(request::Op::Destroy(Destroy { id: "x/y".into(), keep_files: false }));
    assert!(matches!(op, reply::Op::Failed(_)));
    let (op, _) = launcher.ask(request::Op::Inventory(Inventory { after_id: "/".into() }));
    assert!(matches!(op, reply::Op::Failed(_)));
    launcher.destroy(&sandbox.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn the_end_of_an_agent_is_told_once_and_files_can_stay() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    Command::new("kill").args(["-9", &sandbox.pid.to_string()]).status().unwrap();
    let ended = launcher.ended();
    assert_eq!((ended.id.as_str(), ended.step.as_str(), ended.wait_status), (sandbox.id.as_str(), "", 9));
    let (op, _) = launcher.ask(request::Op::Destroy(Destroy { id: id(0), keep_files: true }));
    assert!(matches!(op, reply::Op::Destroyed(_)));
    assert_eq!(names(&data.path.join("sandboxes")), [id(0)]);
    // The same files, another block: a stopped sandbox starts again.
    let again = launcher.create(Create { block: FIRST_BLOCK + 1, ..plan(0) });
    again.wait_for_listen(&data);
    launcher.destroy(&again.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn fifty_creates_at_once_survive_the_launcher_and_are_found() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let numbers: Vec<u64> = (0..50).map(|number| launcher.send(request::Op::Create(plan(number)))).collect();
    for seq in &numbers[..30] {
        let (op, _) = launcher.answer(*seq);
        assert!(matches!(op, reply::Op::Created(_)), "{op:?}");
    }
    // Somewhere in the remaining twenty.
    launcher.kill();

    let mut launcher = Launcher::start(&data);
    let listed = launcher.inventory();
    assert!((30..=50).contains(&listed.len()), "{}", listed.len());
    let alive = listed.iter().filter(|entry| entry.alive).count();
    assert!(alive >= 30 && listed.len() - alive <= 1, "{alive} of {} live", listed.len());
    for entry in &listed {
        if entry.alive {
            let (op, descriptors) = launcher.ask(request::Op::Adopt(Adopt { id: entry.id.clone() }));
            assert!(matches!(op, reply::Op::Adopted(adopted) if adopted.identity == entry.identity));
            assert_eq!(descriptors.len(), 1);
        }
    }
    let adopted = &listed[0];
    Command::new("kill").args(["-9", &adopted.identity.unwrap().pid.to_string()]).status().unwrap();
    let ended = launcher.ended();
    assert_eq!((ended.id.as_str(), ended.wait_status), (adopted.id.as_str(), -1));
    let numbers: Vec<u64> = listed
        .iter()
        .map(|entry| launcher.send(request::Op::Destroy(Destroy { id: entry.id.clone(), keep_files: false })))
        .collect();
    let mut answered = BTreeSet::new();
    for _ in &numbers {
        let (reply, _) = launcher.receive().unwrap();
        assert!(matches!(reply.op, Some(reply::Op::Destroyed(_))), "{reply:?}");
        answered.insert(reply.seq);
    }
    assert_eq!(answered, numbers.into_iter().collect());
    assert_eq!(launcher.inventory(), []);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn an_agent_without_a_record_is_ended_at_start() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let mut launcher = Launcher::start(&data);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    launcher.kill();
    fs::remove_dir_all(data.path.join("run").join(&sandbox.id)).unwrap();
    let mut launcher = Launcher::start(&data);
    let listed = launcher.inventory();
    if !data.cgroups().is_empty() {
        assert_eq!(listed.iter().map(|entry| (entry.id.as_str(), entry.alive)).collect::<Vec<_>>(), [(&*id(0), false)]);
    }
    launcher.destroy(&id(0));
    launcher.stop();
    assert_nothing_is_left(&data);
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

#[test]
fn one_range_without_real_root() {
    if !is_root() {
        return;
    }
    rootless(Mode::Ranged, "0 300000 65537", 65_536);
}

#[test]
fn one_id_without_real_root() {
    if !is_root() {
        return;
    }
    rootless(Mode::Single, "0 300000 1", 0);
}

/// The launcher as root of a user namespace with the given map, as the supervisor starts it when it is not root.
fn rootless(mode: Mode, map: &str, owner_id: u32) {
    let data = DataDir::new(300_000);
    for name in ["", "run", "sandboxes", "trash"] {
        std::os::unix::fs::chown(data.path.join(name), Some(300_000), Some(300_000)).unwrap();
    }
    let deny = if mode == Mode::Single { "echo deny > /proc/$child/setgroups;" } else { "" };
    let enter = format!(
        r#"unshare --user --keep-caps bash -c 'kill -STOP $$; exec "$@"' bash "$@" & child=$!
           until grep -q '^State:.T' /proc/$child/status; do sleep 0.01; done
           {deny} echo '{map}' > /proc/$child/gid_map; echo '{map}' > /proc/$child/uid_map; kill -CONT $child; wait $child"#
    );
    let groups = if mode == Mode::Single { "--keep-groups" } else { "--clear-groups" };
    let wrapper = ["bash", "-c", &enter, "bash", "setpriv", "--reuid=0", "--regid=0", groups].map(str::to_owned);
    let owned = DataDir { owner_id, path: data.path.clone(), hash: data.hash.clone() };
    let mut launcher = Launcher::start_as(&owned, &Start { mode, base_id: 1, wrapper: &wrapper });
    std::mem::forget(owned);
    println!("{:?}: {:?}", mode, launcher.ready.notes);
    assert!(!launcher.ready.idmapped);
    let sandbox = launcher.create(Create { block: 0, ..plan(0) });
    sandbox.wait_for_listen(&data);
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(sandbox.status(set), "0000000000000000", "{set}");
    }
    let listed = launcher.inventory();
    assert!(listed.len() == 1 && listed[0].alive, "{listed:?}");
    launcher.destroy(&sandbox.id);
    assert_eq!(launcher.inventory(), []);
    launcher.stop();
    assert_eq!(names(&data.path.join("run")), [""; 0]);
}
