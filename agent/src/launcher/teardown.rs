//! Takes a sandbox's traces away, in one order; each step succeeds when its object is gone already.
//!
//! ```text
//!  kill PID 1 -> reaped (serve.rs) -> groups killed and removed, again while busy -> files to trash/ -> run/<id> last
//! ```
//! The record goes last: as long as anything is left, an inventory still names the sandbox.

use super::cgroup::Removal;
use super::fault::{At, Fault};
use super::record::SandboxId;
use super::setup::Ground;
use super::small_file::{gone_is_fine, place_at};
use rustix::fs::{AtFlags, Gid, RenameFlags, Uid, renameat_with, unlinkat};
use rustix::io::Errno;
use std::os::fd::AsFd;

/// Names tried for one sandbox in trash/; the server empties it.
const TRASH_NAMES_MAX: u32 = 4096;

/// What happens to `sandboxes/<id>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilesGo {
    ToTrash,
    Nowhere,
}

/// Removes everything but processes; `Busy` when the groups still hold something: call again soon.
pub(crate) fn remove_traces(ground: &Ground, id: SandboxId, files: FilesGo) -> Result<Removal, Fault> {
    if ground.cgroups.remove(id).at("remove_cgroup")? == Removal::Busy {
        ground.cgroups.kill(id);
        return Ok(Removal::Busy);
    }
    if files == FilesGo::ToTrash {
        move_to_trash(ground, id).at("move_to_trash")?;
    }
    remove_run_directory(ground, id).at("remove_run_directory")?;
    Ok(Removal::Done)
}

/// Takes back what a failed create made. What can't be removed stays for an inventory to name.
pub(crate) fn undo_create(ground: &Ground, id: SandboxId, made_files: bool) {
    if made_files {
        discard_files(ground, id);
    }
    if matches!(ground.cgroups.remove(id), Ok(Removal::Done)) {
        let _ = remove_run_directory(ground, id);
    }
}

/// Removes `sandboxes/<id>` that nobody has used yet.
pub(crate) fn discard_files(ground: &Ground, id: SandboxId) {
    if let Ok(directory) = place_at(ground.sandboxes.as_fd(), id.as_str()) {
        for name in ["workspace", "home"] {
            let _ = unlinkat(&directory, name, AtFlags::REMOVEDIR);
        }
    }
    let _ = unlinkat(&ground.sandboxes, id.as_str(), AtFlags::REMOVEDIR);
}

/// A launcher that died between making a directory and giving it away left it with its own id, which the server,
/// that empties the trash, has no power over.
fn give_to_server(ground: &Ground, id: SandboxId) -> Result<(), Errno> {
    let directory = match place_at(ground.sandboxes.as_fd(), id.as_str()) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let own = rustix::process::geteuid().as_raw();
    let (owner, group) = (Uid::from_raw(ground.owner_id), Gid::from_raw(ground.owner_id));
    // The directory itself last: it may take our own right to look inside away.
    for (name, flags) in
        [("workspace", AtFlags::SYMLINK_NOFOLLOW), ("home", AtFlags::SYMLINK_NOFOLLOW), ("", AtFlags::EMPTY_PATH)]
    {
        match rustix::fs::statat(&directory, name, flags) {
            Ok(stat) if stat.st_uid == own && own != ground.owner_id => {
                gone_is_fine(rustix::fs::chownat(&directory, name, Some(owner), Some(group), flags))?;
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn move_to_trash(ground: &Ground, id: SandboxId) -> Result<(), Errno> {
    give_to_server(ground, id)?;
    for number in 0..TRASH_NAMES_MAX {
        let name = format!("{}.{number}", id.as_str());
        match renameat_with(&ground.sandboxes, id.as_str(), &ground.trash, &name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            other => return gone_is_fine(other),
        }
    }
    Err(Errno::EXIST)
}

fn remove_run_directory(ground: &Ground, id: SandboxId) -> Result<(), Errno> {
    match place_at(ground.run.as_fd(), id.as_str()) {
        Ok(run) => {
            for name in ["sock", "state.new", "state"] {
                gone_is_fine(unlinkat(&run, name, AtFlags::empty()))?;
            }
        }
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    gone_is_fine(unlinkat(&ground.run, id.as_str(), AtFlags::REMOVEDIR))
}
