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
    // Field 22 of stat is the 20th after the name, which may hold anything.
    let began: u64 = stat.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()?;
    (start == began).then_some(pid)
}

fn recorded_agent(text: &str) -> Option<(u32, u64)> {
    let mut fields = text.lines().find_map(|line| line.strip_prefix("agent "))?.split(' ');
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::recorded_agent;

    #[test]
    fn the_launchers_record_is_read() {
        let text =
            "block 8201\nboot dcc28a04-fbf0-4522-942a-d0a53bc6621b\nenforced 1 1 0 1\nagent 11861 375631 174024\n";
        assert_eq!(recorded_agent(text), Some((11861, 375_631)));
        assert_eq!(recorded_agent("block 8201\n"), None);
    }
}
