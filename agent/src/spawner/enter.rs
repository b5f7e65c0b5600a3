//! How does a process go from the agent's side to the commands' side? Once, and never back.
//!
//! cgroups of the sandbox → limits and CPUs → inner user namespace → own cgroup namespace → ids → capabilities →
//! undumpable → filter. The spawner walks it once for all commands; a command that the agent forks itself, as a
//! rescue, walks it alone. The agent owns the inner user namespace and so needs no capability of its own.

use crate::sys::newest::Newest;
use crate::sys::spawn::{ROOT_CAPABILITIES, leave_cgroup_namespace};
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets, CpuSet, LinkNameSpaceType};
use std::os::fd::{AsFd, OwnedFd};

/// Descriptors that a command may have open, where the host allows as many.
const FILES_MAX: u64 = 65_536;
/// What a command starts with; it may raise it to [`FILES_MAX`]. Programs that use select(2) break above it.
const FILES_SOFT: u64 = 1_024;
/// The highest capability number that a kernel could know (63: the sets have 64 bits).
const CAPABILITY_BITS: u32 = 64;
/// So that the kernel ends a command before anything else of this sandbox.
const OOM_SCORE_ADJ: &[u8] = b"500";

/// What the way in needs; made once by the agent.
pub(crate) struct Gate {
    /// `cgroup.procs` of the sandbox's own cgroups, open for writing.
    pub(crate) procs: Vec<OwnedFd>,
    /// `cgroup.procs` of the v2 directory in which the leaves are.
    pub(crate) leaf_parent_procs: Option<OwnedFd>,
    /// The inner user namespace.
    pub(crate) user_namespace: OwnedFd,
    /// CPUs for commands; `None`: as the agent.
    pub(crate) cpus: Option<CpuSet>,
    /// There is one id only.
    pub(crate) single_id: bool,
    /// Where the pid of the command that is being started lies.
    pub(crate) newest: Newest,
    /// The commands' filter, compiled once.
    pub(crate) filter: Vec<libc::sock_filter>,
}

/// Goes through. On an error the process must end: it may stand half-way.
pub(crate) fn enter(gate: &Gate) -> Result<(), Errno> {
    for procs in &gate.procs {
        rustix::io::write(procs, b"0")?;
    }
    if let Some(procs) = &gate.leaf_parent_procs {
        // Refused where the launcher has put us there by `procs` already, or gave no right on the common ancestor;
        // the leaves then say whether they can be entered.
        let _ = rustix::io::write(procs, b"0");
    }
    limits(gate);
    rustix::thread::move_into_link_name_space(gate.user_namespace.as_fd(), Some(LinkNameSpaceType::User))?;
    // Without cgroup namespaces in the kernel a command sees the host's path of its cgroup; no more than that.
    let _ = leave_cgroup_namespace();
    if !gate.single_id {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    }
    keep_capabilities(if gate.single_id { 0 } else { ROOT_CAPABILITIES })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    crate::sys::seccomp::install(&gate.filter).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::INVAL))
}

fn limits(gate: &Gate) {
    // The file belongs to the host's root while we are undumpable. Nothing inside can reach us in this moment: our
    // user namespace is still the outer one.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable);
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJ);
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);

    // 1, not 0: a core_pattern that is a pipe ignores 0.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) });
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(FILES_MAX).min(FILES_MAX);
    let files = Rlimit { current: Some(hard.min(FILES_SOFT)), maximum: Some(hard) };
    let _ = rustix::process::setrlimit(Resource::Nofile, files);
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    if let Some(cpus) = &gate.cpus {
        let _ = rustix::thread::sched_setaffinity(None, cpus);
    }
}

/// Exactly these in the bounding, permitted and effective set; none inheritable, none ambient.
fn keep_capabilities(kept: u64) -> Result<(), Errno> {
    for bit in 0..CAPABILITY_BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        if kept & (1 << bit) != 0 {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // Above the last capability that this kernel knows.
            Err(Errno::INVAL) => break,
            result => result?,
        }
    }
    let _ = rustix::thread::clear_ambient_capability_set();
    let set = CapabilitySet::from_bits_retain(kept);
    let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}
