//! What the server process may see and do: a root that holds the data directory and /proc, a user namespace that maps
//! the ids of sandboxes' files and nothing else, and no capability outside of it.
//!
//! Runs in the forked child before any request is read. Sources: mount_namespaces(7), user_namespaces(7), open_tree(2).

use super::data_dir::DataDir;
use super::identity::Identities;
use crate::sys::fork;
use rustix::fs::{CWD, Mode as Permissions, OFlags, mkdirat, open};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change, move_mount,
    open_tree, unmount,
};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use workspace_proto::launcher::Mode;

/// Where the server process finds the data directory.
pub const DATA_DIR: &str = "/data";

/// File work on the sandboxes' files, and nothing else.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID);

/// The parent's half of the handshake that maps the server's ids.
pub(super) struct Mapper {
    unshared: io::PipeReader,
    mapped: io::PipeWriter,
}

/// The child's half.
pub(super) struct Confined {
    unshared: io::PipeWriter,
    mapped: io::PipeReader,
}

/// Two pipes, one each way.
pub(super) fn handshake() -> io::Result<(Mapper, Confined)> {
    let (unshared, say) = io::pipe()?;
    let (heard, mapped) = io::pipe()?;
    Ok((Mapper { unshared, mapped }, Confined { unshared: say, mapped: heard }))
}

impl Mapper {
    /// Waits for the child's namespace and maps its ids. Only a privileged parent can.
    pub(super) fn map(mut self, pid: i32, ids: &Identities) -> io::Result<()> {
        let mut word = [0u8; 1];
        self.unshared.read_exact(&mut word)?;
        if ids.mode == Mode::Root {
            let map = ids.server_map();
            std::fs::write(format!("/proc/{pid}/uid_map"), &map)?;
            std::fs::write(format!("/proc/{pid}/gid_map"), &map)?;
        }
        self.mapped.write_all(b".")
    }
}

impl Confined {
    /// Confines this process. On failure nothing was served yet: the caller ends the process.
    pub(super) fn enter(mut self, data_dir: &DataDir, ids: &Identities) -> io::Result<()> {
        let step = |what: &'static str| move |error: rustix::io::Errno| io::Error::other(format!("{what}: {error}"));
        enter_root(data_dir).map_err(step("the server's root"))?;
        if ids.mode == Mode::Root {
            fork::unshare_namespaces(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)?;
        }
        self.unshared.write_all(b".")?;
        let mut word = [0u8; 1];
        self.mapped.read_exact(&mut word)?;
        if ids.mode == Mode::Root {
            fork::become_id(0, 0)?;
        }
        drop_capabilities().map_err(step("capabilities"))?;
        set_no_new_privs(true).map_err(step("no_new_privs"))?;
        // Cleared by each change of ids above.
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(step("parent death signal"))?;
        Ok(())
    }
}

/// A private mount namespace whose root is a small tmpfs with `data` and `proc`.
fn enter_root(data_dir: &DataDir) -> rustix::io::Result<()> {
    fork::unshare_namespaces(libc::CLONE_NEWNS)
        .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::PERM))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let path = &data_dir.path;
    // Opened again: the held descriptor is of the old mount namespace.
    let here = open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Permissions::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let data = open_tree(here.as_fd(), "", flags)?;
    mount(
        "workspace",
        path,
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
        Some(c"size=64k,mode=755"),
    )?;
    let root = open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Permissions::empty())?;
    for name in ["data", "proc"] {
        mkdirat(&root, name, Permissions::from_raw_mode(0o755))?;
    }
    move_mount(&data, "", &root, "data", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let proc = open_tree(
        CWD,
        "/proc",
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE,
    )?;
    move_mount(&proc, "", &root, "proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&root)?;
    rustix::process::pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let clean = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // In a user namespace the flags of the mount below may be locked and not be left out: then they hold already.
    let _ = rustix::mount::mount_remount(DATA_DIR, clean, "");
    Ok(())
}

fn drop_capabilities() -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter().filter(|capability| !KEPT.contains(*capability)) {
        // EINVAL: this kernel does not know it.
        match remove_capability_from_bounding_set(capability) {
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    set_capabilities(None, CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() })
}
