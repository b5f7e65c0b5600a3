//! What the host can see of one server at one moment, and what is there now that was not there before.

use super::process::processes;
use super::server::Server;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Names in the data directory that stand there for the server's whole life.
const LASTING_FILES: &[&str] = &["run", "sandboxes", "trash", "http.address", "server.pid", "lock", "mcp.sock"];
/// Descriptors that server and launcher may have more or fewer than before.
const DESCRIPTORS_SLACK: usize = 2;
const TRASH_S_MAX: u64 = 60;

/// A snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Sandbox processes and the like: all of ours but supervisor, server and launcher. `pid name start`.
    pub(crate) processes: BTreeSet<String>,
    /// Cgroup directories below `workspace-HASH/{agents,s}`.
    pub(crate) cgroups: BTreeSet<String>,
    /// The test's own mount table and those of server and launcher, `who: line`; the volatile mount ids left out.
    pub(crate) mounts: BTreeSet<String>,
    /// Namespaces of our processes but those of supervisor, server and launcher.
    pub(crate) namespaces: BTreeSet<String>,
    /// Unix sockets that listen, of paths in the data directory or of abstract names that say `workspace`.
    pub(crate) listeners: BTreeSet<String>,
    /// Files in the data directory, relative.
    pub(crate) files: BTreeSet<String>,
    /// Supervisor, server and launcher.
    pub(crate) unit: BTreeMap<&'static str, Usage>,
    /// `nr_dying_descendants` is of the whole host; only for long runs.
    pub(crate) dying_cgroups: u64,
}

/// What one process of the unit uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) descriptors: usize,
    pub(crate) rss_kib: u64,
    pub(crate) threads: u64,
    pub(crate) zombies: usize,
}

impl Host {
    /// Looks now.
    pub(crate) fn of(server: &Server) -> Host {
        let unit_processes =
            [("supervisor", server.supervisor()), ("server", server.server_process()), ("launcher", server.launcher())];
        let unit_pids: BTreeSet<i32> = unit_processes.iter().flat_map(|(_, p)| p).map(|p| p.pid).collect();
        let all = processes();
        let mut mounts = mounts_of("test", "self", Some(server.data_dir()));
        let mut unit = BTreeMap::new();
        let mut unit_namespaces: BTreeSet<String> = BTreeSet::new();
        for (name, process) in unit_processes.iter().filter_map(|(n, p)| Some((*n, p.as_ref()?))) {
            mounts.extend(mounts_of(name, &process.pid.to_string(), None));
            unit_namespaces.extend(process.namespaces());
            let zombies = all.values().filter(|p| p.parent == process.pid && p.state == 'Z').count();
            let (rss_kib, threads) = (process.status("VmRSS"), process.status("Threads"));
            let descriptors = process.descriptors();
            unit.insert(
                name,
                Usage { descriptors, zombies, rss_kib: rss_kib.unwrap_or(0), threads: threads.unwrap_or(0) },
            );
        }
        let host_namespaces = all.get(&1).map(|p| p.namespaces()).unwrap_or_default();
        let own: Vec<_> = server.own_processes().into_iter().filter(|p| !unit_pids.contains(&p.pid)).collect();
        let namespaces = own.iter().flat_map(|p| p.namespaces());
        Host {
            namespaces: namespaces.filter(|n| !unit_namespaces.contains(n) && !host_namespaces.contains(n)).collect(),
            processes: own.iter().map(|p| format!("{} {} {}", p.pid, p.name, p.start_ticks)).collect(),
            cgroups: own_cgroups(server),
            mounts,
            listeners: listeners(server.data_dir()),
            files: files(server.data_dir()),
            unit,
            dying_cgroups: dying_cgroups(),
        }
    }

    /// What is here and was not before, a line each; nothing is an empty list.
    pub(crate) fn left_since(&self, before: &Host) -> Vec<String> {
        let sets: [(&str, &BTreeSet<String>, &BTreeSet<String>); 6] = [
            ("process", &self.processes, &before.processes),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("mount", &self.mounts, &before.mounts),
            ("namespace", &self.namespaces, &before.namespaces),
            ("listener", &self.listeners, &before.listeners),
            ("file", &self.files, &before.files),
        ];
        let mut left: Vec<String> = Vec::new();
        for (kind, now, then) in sets {
            left.extend(now.difference(then).map(|what| format!("{kind} left: {what}")));
        }
        for (name, usage) in &self.unit {
            if usage.zombies > 0 {
                left.push(format!("{name} has {} zombies", usage.zombies));
            }
        }
        left
    }

    /// Descriptors that server and launcher have now beyond those before, for the same processes only.
    pub(crate) fn descriptors_grown(&self, before: &Host) -> Vec<String> {
        let grown = self.unit.iter().filter_map(|(name, now)| {
            let then = before.unit.get(name)?;
            let grew = now.descriptors > then.descriptors + DESCRIPTORS_SLACK;
            grew.then(|| format!("{name}: {} descriptors, before {}", now.descriptors, then.descriptors))
        });
        grown.collect()
    }

    /// Waits until nothing is left since `before`; panics with the list after `seconds_max`. Files in the trash are
    /// removed at a disk's leisure.
    #[track_caller]
    pub(crate) fn assert_back(server: &Server, before: &Host, seconds_max: u64) {
        let back = |seconds_max, may_stay: fn(&str) -> bool| {
            let mut left = Vec::new();
            let clean = super::wait::within(seconds_max, || {
                left = Host::of(server).left_since(before);
                left.retain(|what| !may_stay(what));
                left.is_empty()
            });
            assert!(clean, "after {seconds_max} s:\n{}", left.join("\n"));
        };
        back(seconds_max, |what| what.starts_with("file left: trash/"));
        back(TRASH_S_MAX, |_| false);
    }
}

/// Mount ids and peer groups change with every look at a fork; the rest of a line says what is mounted where.
fn mounts_of(who: &str, pid: &str, only_below: Option<&Path>) -> BTreeSet<String> {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let below = only_below.map(|p| p.to_string_lossy().into_owned());
    let lines = table.lines().filter(|l| below.as_ref().is_none_or(|b| l.contains(b.as_str())));
    lines.map(|l| format!("{who}: {}", l.split(' ').skip(3).collect::<Vec<_>>().join(" "))).collect()
}

fn own_cgroups(server: &Server) -> BTreeSet<String> {
    let dirs = server.cgroup_dirs();
    let text = dirs.iter().map(|d| d.to_string_lossy().into_owned());
    text.filter(|d| !d.rsplit('/').next().is_some_and(|last| last.starts_with("workspace-")))
        .filter(|d| !d.ends_with("/agents") && !d.ends_with("/s"))
        .collect()
}

fn listeners(data_dir: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let dir = data_dir.to_string_lossy();
    // Flags 00010000 is __SO_ACCEPTCON: a socket that listens.
    let names = table.lines().filter(|l| l.contains(" 00010000 ")).filter_map(|l| l.split_whitespace().nth(7));
    names.filter(|n| n.contains(&*dir) || n.contains("workspace")).map(str::to_owned).collect()
}

fn files(data_dir: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in [data_dir.to_path_buf(), data_dir.join("run"), data_dir.join("sandboxes"), data_dir.join("trash")] {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for path in entries.flatten().map(|e| e.path()) {
            let name = path.strip_prefix(data_dir).unwrap_or(&path).to_string_lossy().into_owned();
            if !LASTING_FILES.contains(&name.as_str()) && !name.starts_with("workspace.mdb") {
                found.insert(name);
            }
        }
    }
    found
}

fn dying_cgroups() -> u64 {
    let v2 = ["/sys/fs/cgroup/unified/cgroup.stat", "/sys/fs/cgroup/cgroup.stat"];
    let text = v2.iter().find_map(|p| fs::read_to_string(p).ok()).unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("nr_dying_descendants "));
    line.and_then(|n| n.trim().parse().ok()).unwrap_or(0)
}
