//! The way back to sandboxes that outlived an ordinary user's service: their outer namespace's parent is ours.
//!
//! A new user namespace with the same map would be a sibling, without power over the old agents. The parent of an
//! agent's user namespace (`NS_GET_PARENT`, ioctl_nsfs(2)) is the one that the earlier service made; this user owns
//! it, so this user may join it.

use crate::sys::fork;
use rustix::fs::{Mode, OFlags, open};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use workspace_proto::launcher::Mode as Ids;

/// Joins the namespace of the first living agent that `run/` names. `None`: there is none, make a new one.
pub(super) fn join_survivors(data_dir: &Path) -> Option<Ids> {
    let states = std::fs::read_dir(data_dir.join("run")).ok()?;
    let pids = states.flatten().filter_map(|entry| agent_pid(&entry.path().join("state")));
    let namespace = pids.filter_map(parent_of).next()?;
    fork::join_user_namespace(namespace.as_fd()).ok()?;
    let map = std::fs::read_to_string("/proc/self/uid_map").ok()?;
    Some(if map.lines().count() > 1 { Ids::Ranged } else { Ids::Single })
}

fn parent_of(pid: u32) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let outer = open(format!("/proc/{pid}/ns/user"), flags, Mode::empty()).ok()?;
    let own = std::fs::read_link("/proc/self/ns/user").ok()?;
    let theirs = std::fs::read_link(format!("/proc/{pid}/ns/user")).ok()?;
    if own == theirs {
        return None; // the pid is another process's by now
    }
    fork::parent_namespace(outer.as_fd()).ok()
}

/// `agent PID START …` in a launcher's state file, when the process that has this pid began then.
fn agent_pid(state: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(state).ok()?;
    let (pid, start) = recorded_agent(&text)?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    (start_time(&stat) == Some(start)).then_some(pid)
}

/// Field 22 of /proc/PID/stat is the 20th after the name, which may hold anything.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

fn recorded_agent(text: &str) -> Option<(u32, u64)> {
    let mut fields = text.lines().find_map(|line| line.strip_prefix("agent "))?.split(' ');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{recorded_agent, start_time};

    #[test]
    fn the_launchers_record_is_read() {
        let text =
            "block 8201\nboot dcc28a04-fbf0-4522-942a-d0a53bc6621b\nenforced 1 1 0 1\nagent 11861 375631 174024\n";
        assert_eq!(recorded_agent(text), Some((11861, 375_631)));
        assert_eq!(recorded_agent("block 8201\n"), None);
    }

    /// No name changes what a process began at, and no other line who the agent is.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let start = start_time(&text);
        if let Some((_, fields)) = text.rsplit_once(") ") {
            assert_eq!(start_time(&format!("7 (a) S 1 (b) {fields}")), start);
        } else {
            assert_eq!(start, None);
        }
        let agent = recorded_agent(&text);
        assert_eq!(recorded_agent(&format!("block 7\nboot agent 1 2\n{text}")), agent);
        assert!(agent.is_none() || text.lines().any(|line| line.starts_with("agent ")));
    }

    #[test]
    fn any_state_and_stat_are_read_or_not() {
        let corpus: [&[u8]; 4] = [
            b"block 8201\nboot dcc28a04-fbf0\nenforced 1 1 0 1\nagent 11861 375631 174024\n",
            b"7 (a) S 1 (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2",
            b"agent 4294967296 1\nagent 1 2\n",
            b"0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
