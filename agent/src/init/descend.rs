//! How is a command's tree ended where there is no cgroup? By walking /proc from the command down.
//!
//! Such a command is a subreaper: what its descendants orphan stays below it as long as it lives, so the walk finds
//! daemons too. It does not hold against a tree that forks faster than it is walked, and leaves what a command that
//! ended by itself has left behind. The agent may kill because it owns the inner user namespace.

use rustix::process::{Pid, Signal};
use std::collections::{BTreeMap, BTreeSet};

/// Walks per kill: each finds what the one before was too slow for.
const ROUNDS_MAX: usize = 32;

/// Kills all below `root`, then `root`. The caller holds `root` unreaped, so that its pid is still its own.
pub(crate) fn kill_tree(root: i32) {
    let Some(top) = Pid::from_raw(root).filter(|_| root > 1) else { return };
    // It must not fork or collect while it is walked.
    let _ = rustix::process::kill_process(top, Signal::STOP);
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let new: Vec<i32> = below(root, &parents()).into_iter().filter(|pid| !killed.contains(pid)).collect();
        if new.is_empty() {
            break;
        }
        for pid in new {
            killed.insert(pid);
            kill_one(pid);
        }
    }
    let _ = rustix::process::kill_process_group(top, Signal::KILL);
    kill_one(root);
}

/// Kills `pid` alone. The caller holds it unreaped.
pub(crate) fn kill_one(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid).filter(|_| pid > 1) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
}

/// pid -> parent, of every process that can be seen.
fn parents() -> BTreeMap<i32, i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return BTreeMap::new() };
    let parent = |pid: i32| parent_of(&std::fs::read(format!("/proc/{pid}/stat")).ok()?);
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The fourth field of /proc/PID/stat. The second is a name in parentheses and may hold anything.
fn parent_of(stat: &[u8]) -> Option<i32> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after_name..)?).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn below(root: i32, parents: &BTreeMap<i32, i32>) -> Vec<i32> {
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<i32> = parents
            .iter()
            .filter(|(pid, parent)| **pid > 1 && found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            found.remove(&root);
            return found.into_iter().collect();
        }
        found.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_behind_any_name() {
        assert_eq!(parent_of(b"12 (a) b) S 1) (x) S 7 12 12 0"), Some(7));
        assert_eq!(parent_of(b"12 (sh) S 7 1"), Some(7));
    }

    /// Whatever stands in the name, and before it, the parent is the same.
    fn any_stat(input: &[u8]) {
        let parent = parent_of(input);
        let Some(end) = input.iter().rposition(|byte| *byte == b')') else { return assert_eq!(parent, None) };
        assert_eq!(parent_of(&[b"1 (a) R 9 (", &input[end..]].concat()), parent);
        assert_eq!(parent_of(&[b"1 (\xff) Z 3", input].concat()), parent);
    }

    #[test]
    fn no_name_changes_the_parent() {
        let corpus: [&[u8]; 4] = [b"12 (a) b) S 1) (x) S 7 12 12 0", b"12 (sh) S 7 1", b"12 (sh", b"1 (\xff\n) R 0 1"];
        crate::fuzz::run(any_stat, &corpus);
    }

    #[test]
    fn all_generations_are_found_and_no_others() {
        let parents = BTreeMap::from([(1, 0), (10, 1), (11, 10), (12, 11), (13, 12), (20, 1), (21, 20)]);
        assert_eq!(below(10, &parents), [11, 12, 13]);
        assert_eq!(below(99, &parents), []);
    }
}
