//! Control groups of sandboxes: who is limited where, in v1 hierarchies, in v2, in both, or nowhere.
//!
//! ```text
//!  <hierarchy>/workspace-<hash>/agents   the launcher and all agents: nothing is limited here
//!                              /s/<id>   spawner and commands of one sandbox, with its limits
//! ```
//! The launcher lives in `agents` itself, so a cloned agent is there from birth: no v1 attach on the path of a create,
//! which stalls for 10-20 ms on an idle host. In v2 the directory `s/<id>` and its cgroup.procs belong to the agent,
//! which makes a leaf for each command there. Everything is optional: what is missing is a note, never a failed start.
//! Source: cgroups(7), Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst.

use super::hierarchy::{Controller, Hierarchy, Version, find};
use super::record::SandboxId;
use super::small_file::{self, gone_is_fine};
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use workspace_proto::launcher::Enforced;

/// Sandboxes that one data directory can have.
pub(crate) const SANDBOXES_MAX: usize = 65_536;
/// Process ids read from one cgroup.procs.
const PIDS_MAX: usize = 65_536;
/// Directories below `s/<id>` that a tear-down removes, and how deep.
const LEAVES_MAX: usize = 8192;
const LEAF_DEPTH_MAX: u32 = 4;
/// Period of a CPU quota, in microseconds.
const CPU_PERIOD_US: u32 = 100_000;

/// What a sandbox may use; 0 is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) pids_max: u64,
    pub(crate) cpu_quota_us: u32,
}

/// The groups of one sandbox, as its agent inherits them.
#[derive(Default)]
pub(crate) struct SandboxGroups {
    /// cgroup.procs of each `s/<id>`, opened by us: whoever writes "0" enters.
    pub(crate) procs: Vec<OwnedFd>,
    /// The v2 directory, for leaves.
    pub(crate) leaf_dir: Option<OwnedFd>,
    /// Where OOM kills are counted.
    pub(crate) oom: Option<OwnedFd>,
    pub(crate) enforced: Enforced,
}

/// Whether a removal is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    Done,
    /// Something is still in it: try again soon.
    Busy,
}

/// Name of our directory in each hierarchy.
pub(crate) fn parent_name(hash: &str) -> String {
    format!("workspace-{hash}")
}

/// All hierarchies that this data directory's sandboxes use.
#[derive(Default)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    /// Finds and prepares every usable hierarchy; says in `notes` what is missing.
    pub(crate) fn prepare(proc: BorrowedFd<'_>, hash: &str, real_root: RealRoot, notes: &mut Vec<String>) -> Self {
        let cgroups = Cgroups { hierarchies: find(proc, &parent_name(hash), real_root, notes) };
        for (controller, name) in [(Controller::Memory, "memory"), (Controller::Pids, "pids"), (Controller::Cpu, "cpu")]
        {
            if !cgroups.hierarchies.iter().any(|hierarchy| hierarchy.has(controller)) {
                notes.push(format!("no {name} limit: no writable {name} cgroup; run as root or with Delegate=yes"));
            }
        }
        if cgroups.unified().is_none() {
            notes.push("no cgroup v2 directory: a command's descendants are not ended by cgroup.kill".to_owned());
        }
        cgroups
    }

    /// What a create will give when asked.
    pub(crate) fn enforceable(&self) -> Enforced {
        let has = |controller| self.hierarchies.iter().any(|hierarchy| hierarchy.has(controller));
        Enforced {
            memory: has(Controller::Memory),
            pids: has(Controller::Pids),
            cpu: has(Controller::Cpu),
            tree_kill: self.unified().is_some(),
        }
    }

    /// Makes `s/<id>` everywhere with its limits; `agent_id` becomes the owner of the v2 directory.
    pub(crate) fn make(&self, id: SandboxId, limits: Limits, agent_id: u32) -> Result<SandboxGroups, Errno> {
        let mut groups = SandboxGroups::default();
        for hierarchy in &self.hierarchies {
            let dir = small_file::make_place_at(hierarchy.sandboxes.as_fd(), id.as_str(), 0o755)?;
            hierarchy.limit(dir.as_fd(), limits, &mut groups.enforced)?;
            groups.procs.push(openat(&dir, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?);
            if hierarchy.has(Controller::Memory) {
                let name = if hierarchy.version == Version::Two { "memory.events" } else { "memory.oom_control" };
                groups.oom = openat(&dir, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
            }
            if hierarchy.version == Version::Two {
                delegate(hierarchy.sandboxes.as_fd(), id, dir.as_fd(), agent_id)?;
                groups.enforced.tree_kill = true;
                groups.leaf_dir = Some(dir);
            }
        }
        Ok(groups)
    }

    /// Kills everything in the sandbox's groups: by cgroup.kill, else one by one.
    pub(crate) fn kill(&self, id: SandboxId) {
        for hierarchy in &self.hierarchies {
            let Ok(dir) = small_file::place_at(hierarchy.sandboxes.as_fd(), id.as_str()) else { continue };
            if small_file::write(dir.as_fd(), "cgroup.kill", "1").is_ok() {
                continue;
            }
            for pid in pids(dir.as_fd()) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
                    // One that has ended meanwhile is what we want.
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
    }

    /// Removes `s/<id>` with its leaves everywhere. Gone already is done.
    pub(crate) fn remove(&self, id: SandboxId) -> Result<Removal, Errno> {
        let mut removal = Removal::Done;
        for hierarchy in &self.hierarchies {
            let mut left = LEAVES_MAX;
            match remove_tree(hierarchy.sandboxes.as_fd(), id.as_str(), LEAF_DEPTH_MAX, &mut left) {
                Ok(()) => {}
                Err(Errno::BUSY | Errno::NOTEMPTY | Errno::AGAIN) => removal = Removal::Busy,
                Err(errno) => return Err(errno),
            }
        }
        Ok(removal)
    }

    /// Ids that have a directory in any hierarchy.
    pub(crate) fn ids(&self) -> impl Iterator<Item = SandboxId> + '_ {
        self.hierarchies.iter().flat_map(|hierarchy| {
            let names = small_file::directories(hierarchy.sandboxes.as_fd(), SANDBOXES_MAX).unwrap_or_default();
            names.into_iter().filter_map(|name| SandboxId::parse(&name))
        })
    }

    /// Everything in the `agents` groups: the launcher, agents, and what a crash left.
    pub(crate) fn agent_pids(&self) -> Vec<u32> {
        let mut all: Vec<u32> = self.hierarchies.iter().flat_map(|hierarchy| pids(hierarchy.agents.as_fd())).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Moves this process back to where it came from and removes the parents that are empty.
    pub(crate) fn leave(&self) {
        for hierarchy in &self.hierarchies {
            hierarchy.leave();
        }
    }

    fn unified(&self) -> Option<&Hierarchy> {
        self.hierarchies.iter().find(|hierarchy| hierarchy.version == Version::Two)
    }
}

/// Whether the launcher has real root or root of a user namespace only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RealRoot {
    Yes,
    No,
}

impl Hierarchy {
    fn limit(&self, dir: BorrowedFd<'_>, limits: Limits, enforced: &mut Enforced) -> Result<(), Errno> {
        let one = self.version == Version::One;
        if limits.memory_bytes > 0 && self.has(Controller::Memory) {
            let bytes = limits.memory_bytes.to_string();
            small_file::write(dir, if one { "memory.limit_in_bytes" } else { "memory.max" }, &bytes)?;
            // Swap is not counted on every kernel; where it is, none is given.
            let (swap, bytes) = if one { ("memory.memsw.limit_in_bytes", &*bytes) } else { ("memory.swap.max", "0") };
            gone_is_fine(small_file::write(dir, swap, bytes))?;
            enforced.memory = true;
        }
        if limits.pids_max > 0 && self.has(Controller::Pids) {
            small_file::write(dir, "pids.max", &limits.pids_max.to_string())?;
            enforced.pids = true;
        }
        // Without a quota the group's weight divides the CPUs.
        enforced.cpu |= self.has(Controller::Cpu);
        if limits.cpu_quota_us > 0 && self.has(Controller::Cpu) {
            let quota = limits.cpu_quota_us;
            if one {
                small_file::write(dir, "cpu.cfs_period_us", &CPU_PERIOD_US.to_string())?;
                small_file::write(dir, "cpu.cfs_quota_us", &quota.to_string())?;
            } else {
                small_file::write(dir, "cpu.max", &format!("{quota} {CPU_PERIOD_US}"))?;
            }
        }
        Ok(())
    }
}

/// Gives the directory and its cgroup.procs to the agent: without the second it may not move a process between leaves.
/// Our group keeps write permission, because the launcher removes leaves without CAP_DAC_OVERRIDE.
fn delegate(parent: BorrowedFd<'_>, id: SandboxId, dir: BorrowedFd<'_>, agent_id: u32) -> Result<(), Errno> {
    if agent_id == 0 {
        return Ok(());
    }
    let (owner, group) = (Some(Uid::from_raw(agent_id)), Some(Gid::ROOT));
    rustix::fs::chmodat(parent, id.as_str(), Mode::from_raw_mode(0o775), AtFlags::empty())?;
    rustix::fs::chownat(dir, "cgroup.procs", owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::chownat(parent, id.as_str(), owner, group, AtFlags::SYMLINK_NOFOLLOW)
}

fn remove_tree(parent: BorrowedFd<'_>, name: &str, depth_max: u32, left: &mut usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) if depth_max > 0 => {}
        Err(errno) => return Err(errno),
    }
    let dir = match small_file::place_at(parent, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for leaf in small_file::directories(dir.as_fd(), *left)? {
        *left = left.saturating_sub(1);
        remove_tree(dir.as_fd(), &leaf, depth_max - 1, left)?;
    }
    gone_is_fine(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR))
}

/// The file is opened anew each time: v1 gives a stale list to a second read of one descriptor.
fn pids(dir: BorrowedFd<'_>) -> Vec<u32> {
    pids_in(&small_file::read(dir, "cgroup.procs").unwrap_or_default())
}

/// Only what can be a pid: kill(2) takes 0 and what is negative as an `i32` for whole groups.
fn pids_in(text: &str) -> Vec<u32> {
    let pid = |line: &str| line.parse::<i32>().ok().filter(|&pid| pid > 0).map(i32::cast_unsigned);
    text.lines().take(PIDS_MAX).filter_map(pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_list(input: &[u8]) {
        let pids = pids_in(&String::from_utf8_lossy(input));
        assert!(pids.iter().all(|pid| (1..=i32::MAX as u32).contains(pid)), "{pids:?}");
    }

    #[test]
    fn a_list_of_pids_holds_no_group() {
        // The last was one, and would have killed a process group.
        crate::fuzz::run(any_list, &[b"1\n27\n4194304\n", b"0\n-1\n", b"12\nx\n\n 3\n", b"4294967295\n"]);
    }
}
