//! The host's processes as /proc shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    /// Field 22 of its stat: with the pid, the same for its whole life.
    pub(crate) start_ticks: u64,
    pub(crate) name: String,
    /// `Z` is a zombie.
    pub(crate) state: char,
}

impl Process {
    /// Reads one; `None` when it is gone.
    pub(crate) fn read(pid: i32) -> Option<Process> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (open, close) = (stat.find('(')?, stat.rfind(')')?);
        let fields: Vec<&str> = stat[close + 2..].split(' ').collect();
        Some(Process {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            name: stat[open + 1..close].to_owned(),
            state: fields.first()?.chars().next()?,
        })
    }

    /// Whether this very process, not another with its pid, still runs. A zombie does not, unless it is only the first
    /// thread that has ended: then the others still hold its files and locks.
    pub(crate) fn is_alive(&self) -> bool {
        let now = Process::read(self.pid).filter(|now| now.start_ticks == self.start_ticks);
        now.is_some_and(|now| now.state != 'Z' || self.status("Threads").is_some_and(|threads| threads > 1))
    }

    /// What its command line says, arguments split by spaces.
    pub(crate) fn command_line(&self) -> String {
        let raw = fs::read(format!("/proc/{}/cmdline", self.pid)).unwrap_or_default();
        String::from_utf8_lossy(&raw).replace('\0', " ").trim_end().to_owned()
    }

    /// The program it runs, as the kernel names it.
    pub(crate) fn program(&self) -> Option<std::path::PathBuf> {
        fs::read_link(format!("/proc/{}/exe", self.pid)).ok()
    }

    /// Its cgroup file.
    pub(crate) fn cgroups(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cgroup", self.pid)).unwrap_or_default()
    }

    /// A number from its status file, for instance `VmRSS` in KiB or `Threads`.
    pub(crate) fn status(&self, key: &str) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = text.lines().find(|l| l.split(':').next() == Some(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether it is PID 1 of its innermost pid namespace.
    pub(crate) fn is_init(&self) -> bool {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        text.lines().any(|l| l.starts_with("NSpid:") && l.ends_with("\t1"))
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Its namespaces as `kind:[inode]`.
    pub(crate) fn namespaces(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/ns", self.pid)) else { return BTreeSet::new() };
        let links = entries.flatten().filter(|e| !e.file_name().to_string_lossy().ends_with("_for_children"));
        links.filter_map(|e| fs::read_link(e.path()).ok()).map(|l| l.to_string_lossy().into_owned()).collect()
    }

    /// Sends a signal to this very process, if it is still there.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        if self.is_alive()
            && let Some(pid) = rustix::process::Pid::from_raw(self.pid)
        {
            // It may end between the look and the signal; that is what is wanted.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// SIGKILL, and waits until it is gone or a zombie.
    #[track_caller]
    pub(crate) fn kill9(&self) {
        self.signal(rustix::process::Signal::KILL);
        super::until(&format!("{self:?} dies by SIGKILL"), 10, || !self.is_alive());
    }
}

/// User and system time that a process has used, in ticks of 10 ms.
#[track_caller]
pub(crate) fn cpu_ticks(process: &Process) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.pid)).expect("stat");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("utime") + fields[12].parse::<u64>().expect("stime")
}

/// All processes of the host, by pid.
pub(crate) fn processes() -> BTreeMap<i32, Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, Process::read(pid)?))).collect()
}

/// A process's children, their children and so on; parents come before their children.
pub(crate) fn descendants(of: i32) -> Vec<Process> {
    let all = processes();
    let mut found: Vec<Process> = Vec::new();
    let mut parents = vec![of];
    while let Some(parent) = parents.pop() {
        for child in all.values().filter(|p| p.parent == parent && p.pid != parent) {
            parents.push(child.pid);
            found.push(child.clone());
        }
    }
    found
}
