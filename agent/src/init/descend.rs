//! Which processes are a command's where there is no cgroup? Those below it in /proc, and those of its group.
//!
//! Such a command is a subreaper: what its descendants orphan stays below it as long as it lives, so the walk finds
//! daemons too. It does not hold against a tree that forks faster than it is walked, and leaves what a command that
//! ended by itself has left behind. The agent may kill because it owns the inner user namespace.

use crate::sys::kill::{SIGKILL, send};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Walks per kill: each finds what the one before was too slow for.
const ROUNDS_MAX: usize = 32;
/// Walks per other signal.
const SIGNAL_ROUNDS_MAX: usize = 4;
/// Processes that are held to be killed later.
const HELD_MAX: usize = 256;

/// Kills all below `root`, then `root`. The caller holds `root` unreaped, so that its pid is still its own.
pub(crate) fn kill_tree(root: i32) {
    // It must not fork or collect while it is walked.
    send(root, libc::SIGSTOP);
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let new: Vec<i32> = tree(root).into_iter().filter(|pid| *pid != root && !killed.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            killed.insert(pid);
            send(pid, SIGKILL);
        }
    }
    if let Some(top) = Pid::from_raw(root).filter(|_| root > 1) {
        let _ = rustix::process::kill_process_group(top, Signal::KILL);
    }
    send(root, SIGKILL);
}

/// Sends `signal` to `root`, all below it and its group, to each once. The caller holds `root` unreaped.
pub(crate) fn signal_tree(root: i32, signal: i32) {
    let mut signalled = BTreeSet::new();
    for _ in 0..SIGNAL_ROUNDS_MAX {
        let before = signalled.len();
        for pid in tree(root) {
            if signalled.insert(pid) {
                send(pid, signal);
            }
        }
        if signalled.len() == before {
            return;
        }
    }
}

/// Processes that can be killed when their pids may be others' by now.
#[derive(Default)]
pub(crate) struct Held(Vec<OwnedFd>);

impl Held {
    /// All of the tree but `root`. The caller holds `root` unreaped.
    pub(crate) fn below(root: i32) -> Held {
        let pids = tree(root).into_iter().filter(|pid| *pid != root).take(HELD_MAX).filter_map(Pid::from_raw);
        Held(pids.filter_map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()).collect())
    }

    /// Ends those that are left.
    pub(crate) fn kill(self) {
        for process in self.0 {
            let _ = rustix::process::pidfd_send_signal(process, Signal::KILL);
        }
    }
}

/// From whom a process comes, and its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kin {
    parent: i32,
    group: i32,
}

/// `root`, all below it, and its group.
fn tree(root: i32) -> BTreeSet<i32> {
    if root <= 1 {
        return BTreeSet::new();
    }
    family(root, &all())
}

/// Every process that can be seen.
fn all() -> BTreeMap<i32, Kin> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let kin = |pid: i32| kin_of(&std::fs::read(format!("/proc/{pid}/stat")).ok()?);
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, kin(pid)?))).collect()
}

/// The fourth and fifth field of /proc/PID/stat. The second is a name in parentheses and may hold anything.
fn kin_of(stat: &[u8]) -> Option<Kin> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1);
    Some(Kin { parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
}

fn family(root: i32, all: &BTreeMap<i32, Kin>) -> BTreeSet<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let is_new = |(pid, kin): &(&i32, &Kin)| {
            **pid > 1 && !found.contains(pid) && (found.contains(&kin.parent) || kin.group == root)
        };
        let more: Vec<i32> = all.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(parent: i32, group: i32) -> Kin {
        Kin { parent, group }
    }

    #[test]
    fn the_parent_is_read_behind_any_name() {
        assert_eq!(kin_of(b"12 (a) b) S 1) (x) S 7 12 12 0"), Some(kin(7, 12)));
        assert_eq!(kin_of(b"12 (sh) S 7 1"), Some(kin(7, 1)));
    }

    /// Whatever stands in the name, and before it, the parent and the group are the same.
    fn any_stat(input: &[u8]) {
        let kin = kin_of(input);
        let Some(end) = input.iter().rposition(|byte| *byte == b')') else { return assert_eq!(kin, None) };
        assert_eq!(kin_of(&[b"1 (a) R 9 (", &input[end..]].concat()), kin);
        assert_eq!(kin_of(&[b"1 (\xff) Z 3 4", input].concat()), kin);
    }

    #[test]
    fn no_name_changes_the_kin() {
        let corpus: [&[u8]; 4] = [b"12 (a) b) S 1) (x) S 7 12 12 0", b"12 (sh) S 7 1", b"12 (sh", b"1 (\xff\n) R 0 1"];
        crate::fuzz::run(any_stat, &corpus);
    }

    #[test]
    fn all_generations_and_the_group_are_found_and_no_others() {
        let all =
            [(1, 0, 1), (10, 1, 10), (11, 10, 10), (12, 11, 12), (13, 12, 12), (20, 1, 20), (21, 20, 20), (30, 1, 10)];
        let all: BTreeMap<i32, Kin> = all.into_iter().map(|(pid, parent, group)| (pid, kin(parent, group))).collect();
        assert_eq!(family(10, &all).into_iter().collect::<Vec<_>>(), [10, 11, 12, 13, 30]);
        assert_eq!(family(99, &all).into_iter().collect::<Vec<_>>(), [99]);
        assert_eq!(tree(1), BTreeSet::new());
    }
}
