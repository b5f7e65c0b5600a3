//! What exists on this machine for this data directory: run/ and our cgroup directories, compared with what lives.

use super::cgroup::SANDBOXES_MAX;
use super::process;
use super::record::{Record, SandboxId};
use super::setup::Ground;
use super::small_file;
use rustix::fs::AtFlags;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::{BTreeSet, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use workspace_proto::launcher::{Entry, Identity, Listed};

/// Entries of one answer.
const ENTRIES_MAX: usize = 256;

/// Sandboxes that have a directory in run/.
pub(crate) fn recorded_ids(ground: &Ground) -> Vec<SandboxId> {
    let names = small_file::directories(ground.run.as_fd(), SANDBOXES_MAX).unwrap_or_default();
    names.iter().filter_map(|name| SandboxId::parse(name)).collect()
}

/// One page after `after`; None is the start.
pub(crate) fn list(ground: &Ground, after: Option<SandboxId>) -> Listed {
    let mut ids: BTreeSet<SandboxId> = recorded_ids(ground).into_iter().chain(ground.cgroups.ids()).collect();
    if let Some(after) = after {
        ids = ids.split_off(&after);
        ids.remove(&after);
    }
    let entries = ids.iter().take(ENTRIES_MAX).map(|&id| entry(ground, id)).collect();
    Listed { entries, more: ids.len() > ENTRIES_MAX }
}

/// The living agent of a sandbox that an earlier launcher made: recorded in this boot and still the same process.
pub(crate) fn living(ground: &Ground, id: SandboxId) -> Option<(Identity, OwnedFd)> {
    let record = Record::read(ground.run.as_fd(), id)?;
    let identity = record.identity.filter(|_| record.boot == ground.boot)?;
    process::reopen(ground.proc.as_fd(), &identity).map(|pidfd| (identity, pidfd))
}

/// Ends agents that no record names. Only at start, when nothing is being made: a record comes before a release, so
/// such an agent belongs to a data directory that was emptied under it, and nobody can ever reach it again.
pub(crate) fn end_strays(ground: &Ground) -> usize {
    let known: HashSet<u32> = recorded_ids(ground)
        .into_iter()
        .filter_map(|id| Record::read(ground.run.as_fd(), id)?.identity)
        .map(|identity| identity.pid)
        .collect();
    let mut ended = 0;
    for pid in ground.cgroups.agent_pids() {
        let first = !known.contains(&pid) && process::is_first_in_its_namespace(ground.proc.as_fd(), pid);
        if let Some(pid) = Pid::from_raw(pid as i32).filter(|_| first) {
            ended += usize::from(kill_process(pid, Signal::KILL).is_ok());
        }
    }
    ended
}

fn entry(ground: &Ground, id: SandboxId) -> Entry {
    let record = Record::read(ground.run.as_fd(), id).unwrap_or_default();
    let identity = living(ground, id).map(|(identity, _)| identity);
    Entry {
        id: id.as_str().to_owned(),
        block: record.block,
        alive: identity.is_some(),
        enforced: identity.map(|_| record.enforced),
        identity,
        files: rustix::fs::statat(&ground.sandboxes, id.as_str(), AtFlags::SYMLINK_NOFOLLOW).is_ok(),
    }
}
