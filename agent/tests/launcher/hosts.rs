//! Does a sandbox start on hosts that lack something: real root, ids, cgroups, merged top directories?

use crate::assert_nothing_is_left;
use crate::kit::{BASE_ID, DataDir, Launcher, OWNER_ID, Program, Start, is_root, names, plan};
use workspace_proto::launcher::{Create, Mode};

#[test]
fn without_writable_cgroups_sandboxes_start_and_the_notes_say_so() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let shut =
        r#"for at in /sys/fs/cgroup/* /sys/fs/cgroup; do mount -o remount,bind,ro "$at" 2>/dev/null; done; exec "$@""#;
    let wrapper = ["unshare", "--mount", "bash", "-c", shut, "bash"].map(str::to_owned);
    let start = Start { mode: Mode::Root, base_id: BASE_ID, wrapper: &wrapper, program: Program::Built };
    let mut launcher = Launcher::start_as(&data, &start);
    let notes = launcher.ready.notes.join("\n");
    for limit in ["memory", "pids", "cpu"] {
        assert!(notes.contains(&format!("no {limit} limit")), "{notes}");
    }
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    assert!(!sandbox.enforced.memory && !sandbox.enforced.pids);
    launcher.destroy(&sandbox.id);
    launcher.stop();
    assert_nothing_is_left(&data);
}

#[test]
fn a_host_with_real_top_directories() {
    if !is_root() {
        return;
    }
    let data = DataDir::new(OWNER_ID);
    let split = r#"set -e; mount -t tmpfs split /mnt; cd /mnt; mkdir usr bin sbin lib lib64 proc dev sys tmp etc old
        for at in usr proc dev sys tmp etc; do mount --rbind /$at $at; done
        for at in bin sbin lib lib64; do mount --bind /usr/$at $at; done
        pivot_root . old; umount -l /old; exec "$@""#;
    let wrapper = ["unshare", "--mount", "bash", "-c", split, "bash"].map(str::to_owned);
    let start = Start { mode: Mode::Root, base_id: BASE_ID, wrapper: &wrapper, program: Program::Built };
    let mut launcher = Launcher::start_as(&data, &start);
    let sandbox = launcher.create(plan(0));
    sandbox.wait_for_listen(&data);
    let mounts = sandbox.proc("mountinfo");
    for point in [" /bin ro,nosuid,nodev", " /lib ro,nosuid,nodev", " /lib64 ro,nosuid,nodev"] {
        assert!(mounts.contains(point), "{point} is not in {mounts}");
    }
    assert_eq!(sandbox.inside("test -d /bin && test ! -L /bin && echo real"), "real\n");
    launcher.destroy(&sandbox.id);
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
    let mut launcher =
        Launcher::start_as(&owned, &Start { mode, base_id: 1, wrapper: &wrapper, program: Program::Built });
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
