//! Can this data directory's files be shown to each sandbox through a map of ids?
//!
//! Where they can (ext4, xfs, btrfs, tmpfs), all files lie as BASE + id and the server needs power over one block. Where
//! they cannot (the overlay of a container, network file systems), a sandbox's files lie with the ids of its own block,
//! and the server, which must be able to delete them, gets power over all blocks. Sources: mount_setattr(2), Linux 5.12.

use crate::sys::fork::{self, Fork};
use crate::sys::idmap::set_idmap;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

/// Tries it, with a user namespace of a child that lives as long as the attempt.
pub(super) fn can_be_idmapped(data_dir: BorrowedFd<'_>, base_id: u32) -> bool {
    with_namespace(data_dir, base_id).is_ok()
}

fn with_namespace(data_dir: BorrowedFd<'_>, base_id: u32) -> io::Result<()> {
    let (mut ready, mut say_ready) = io::pipe()?;
    let (mut done, say_done) = io::pipe()?;
    let child = match fork::fork()? {
        Fork::Child => {
            drop((ready, say_done));
            let unshared = fork::unshare_namespaces(libc::CLONE_NEWUSER).and_then(|()| say_ready.write_all(b"."));
            if unshared.is_ok() {
                // Ends when the parent has closed its end.
                drop(done.read(&mut [0u8; 1]));
            }
            std::process::exit(0)
        }
        Fork::Parent(pid) => pid,
    };
    drop((say_ready, done));
    let mut word = [0u8; 1];
    let tried = ready.read_exact(&mut word).and_then(|()| map_and_try(child, data_dir, base_id));
    drop(say_done);
    while fork::reap().is_none_or(|(pid, _)| pid != child) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    tried
}

fn map_and_try(child: i32, data_dir: BorrowedFd<'_>, base_id: u32) -> io::Result<()> {
    let line = format!("0 {base_id} 65536");
    std::fs::write(format!("/proc/{child}/uid_map"), &line)?;
    std::fs::write(format!("/proc/{child}/gid_map"), &line)?;
    let namespace = open(format!("/proc/{child}/ns/user"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let clone = open_tree(data_dir, "", flags)?;
    Ok(set_idmap(clone.as_fd(), namespace.as_fd())?)
}
