//! What belongs to one server, so that a test counts its own and not a neighbour's.
//!
//! A process is ours when it descends from the supervisor or from one that was seen to be ours (an agent that outlives
//! its launcher, which inherits all orphans of its sandbox), sits in our cgroups (`workspace-HASH`), or has an id of a
//! block that one of ours had: a block belongs to one data directory as long as that exists. Inodes of namespaces are
//! no mark: the kernel gives a freed one to the next.

use super::process::{Process, descendants, processes};
use super::server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// Host ids from here on are given to sandboxes, in blocks of 65,536.
const FIRST_BLOCK_ID: u64 = 524_288;
const BLOCK_IDS: u64 = 65_536;
/// The last id of a block is a server's own, never a sandbox's.
const SERVER_ID: u64 = 65_535;
const DEPTH_MAX: usize = 6;
const ANCESTORS_MAX: usize = 64;

/// Marks of what is ours.
#[derive(Debug, Default, Clone)]
pub(crate) struct Seen {
    /// `workspace-HASH`, once a process was seen in it.
    pub(crate) cgroup: Option<String>,
    processes: BTreeMap<i32, u64>,
    blocks: BTreeSet<u64>,
}

impl Server {
    /// Notes what belongs to this server now.
    pub(crate) fn remember(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // A pid that was waited for may be a stranger's by now.
        if self.supervisor().is_none_or(|p| p.parent != std::process::id().cast_signed()) {
            return;
        }
        // An ordinary user's servers share the user's ids: these are no mark.
        let ids_are_own = self.builder.uid.is_none();
        for process in descendants(self.child.id().cast_signed()) {
            seen.note(&process, ids_are_own);
        }
    }

    /// All processes of this server that live now, zombies left out.
    pub(crate) fn own_processes(&self) -> Vec<Process> {
        self.remember();
        let seen = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
        let all = processes();
        let marked: BTreeSet<i32> = all.values().filter(|p| seen.owns(p)).map(|p| p.pid).collect();
        let ours = |process: &Process| {
            let mut at = Some(process);
            std::iter::from_fn(|| {
                let here = at?;
                at = all.get(&here.parent);
                Some(here.pid)
            })
            .take(ANCESTORS_MAX)
            .any(|pid| marked.contains(&pid))
        };
        all.values().filter(|p| p.state != 'Z' && ours(p)).cloned().collect()
    }

    /// How many of them have this text in their command line.
    pub(crate) fn count_of(&self, text: &str) -> usize {
        self.own_processes().iter().filter(|p| p.command_line().contains(text)).count()
    }

    /// Our cgroup directories in every hierarchy, `workspace-HASH` itself included.
    pub(crate) fn cgroup_dirs(&self) -> Vec<PathBuf> {
        self.remember();
        let name = self.seen.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).cgroup.clone();
        let mut found = Vec::new();
        if let Some(name) = name {
            walk(Path::new("/sys/fs/cgroup"), &name, DEPTH_MAX, &mut found);
        }
        found
    }
}

impl Seen {
    fn note(&mut self, process: &Process, ids_are_own: bool) {
        self.processes.insert(process.pid, process.start_ticks);
        let uid = process.status("Uid").filter(|uid| *uid >= FIRST_BLOCK_ID && uid % BLOCK_IDS != SERVER_ID);
        if let Some(uid) = uid.filter(|_| ids_are_own) {
            self.blocks.insert(uid / BLOCK_IDS);
        }
        let cgroups = process.cgroups();
        let name = cgroups.split(['/', '\n']).find(|part| part.starts_with("workspace-"));
        if let Some(name) = name {
            self.cgroup.get_or_insert_with(|| name.to_owned());
        }
    }

    fn owns(&self, process: &Process) -> bool {
        self.processes.get(&process.pid) == Some(&process.start_ticks)
            || self.cgroup.as_ref().is_some_and(|name| process.cgroups().split(['/', '\n']).any(|part| part == name))
            || process
                .status("Uid")
                .is_some_and(|uid| uid % BLOCK_IDS != SERVER_ID && self.blocks.contains(&(uid / BLOCK_IDS)))
    }
}

/// Finds directories called `name` and all that is below them, parents first.
pub(super) fn walk(dir: &Path, name: &str, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if !entry.file_type().is_ok_and(|t| t.is_dir()) {
            continue;
        }
        let path = entry.path();
        if path.components().any(|c| c.as_os_str() == name) {
            found.push(path.clone());
        }
        if depth > 0 {
            walk(&path, name, depth - 1, found);
        }
    }
}

/// Removes empty cgroup directories, children first; the first that stays is the error.
pub(crate) fn remove(mut dirs: Vec<PathBuf>) -> io::Result<()> {
    dirs.sort_by_key(|d| std::cmp::Reverse(d.components().count()));
    dirs.iter().try_for_each(fs::remove_dir)
}
