//! Which commands are there? By pid: those that live, and those of Start that have ended, for a while.
//!
//! A pid that the kernel gives out again replaces an ended command. Pure but for the time, which it is given.

use super::tracked::Tracked;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;
use workspace_proto::agent::ListReply;
use workspace_proto::{ENDED_KEPT_MAX, ENDED_KEPT_S, MESSAGE_BYTES_MAX, Message};

/// How long an ended command is kept.
const ENDED_KEPT: Duration = Duration::from_secs(ENDED_KEPT_S);
const LIST_MAX: usize = 4096;
/// What is left of a message for anything but the entries of a list.
const LIST_REST_BYTES: usize = 64;
/// A list entry's key and length.
const ENTRY_BYTES: usize = 6;

/// All commands of callers.
#[derive(Debug, Default)]
pub(crate) struct Table {
    by_pid: BTreeMap<i32, Rc<Tracked>>,
    /// Those that have ended, the oldest first.
    ended: VecDeque<Rc<Tracked>>,
    alive: usize,
    /// Somebody waits for the oldest to be old enough.
    sweeping: bool,
}

impl Table {
    /// The newest command with this pid.
    pub(crate) fn get(&self, pid: u32) -> Option<Rc<Tracked>> {
        self.by_pid.get(&i32::try_from(pid).ok()?).cloned()
    }

    /// How many have not ended.
    pub(crate) fn alive(&self) -> usize {
        self.alive
    }

    /// Takes a command that lives, in place of what had its pid before.
    pub(crate) fn insert(&mut self, command: &Rc<Tracked>) {
        self.alive += 1;
        if let Some(before) = self.by_pid.insert(command.pid, Rc::clone(command)) {
            self.ended.retain(|ended| !Rc::ptr_eq(ended, &before));
        }
    }

    /// Takes a command that has ended as soon as it began. Its pid is hearsay: it replaces none that lives.
    pub(crate) fn insert_ended(&mut self, command: &Rc<Tracked>) {
        if self.by_pid.get(&command.pid).is_none_or(|other| other.end().is_some()) {
            self.insert(command);
            self.ended(command);
        }
    }

    /// A command that was alive has ended; one of Start is kept.
    pub(crate) fn ended(&mut self, command: &Rc<Tracked>) {
        self.alive = self.alive.saturating_sub(1);
        let is_newest = self.by_pid.get(&command.pid).is_some_and(|newest| Rc::ptr_eq(newest, command));
        match (is_newest, command.kept.is_some()) {
            (true, true) => self.ended.push_back(Rc::clone(command)),
            (true, false) => drop(self.by_pid.remove(&command.pid)),
            (false, _) => {}
        }
        while self.ended.len() > ENDED_KEPT_MAX {
            self.forget_oldest();
        }
    }

    /// Whether somebody has to start to [`Table::forget_old`]; true once until it has said that nothing is left.
    pub(crate) fn starts_sweeping(&mut self) -> bool {
        !self.ended.is_empty() && !std::mem::replace(&mut self.sweeping, true)
    }

    /// Forgets what ended long ago. Returns when to come again; `None`: nothing is left.
    pub(crate) fn forget_old(&mut self, now: Instant) -> Option<Instant> {
        while let Some(oldest) = self.ended.front() {
            let due = oldest.end().map_or(now, |end| end.at + ENDED_KEPT);
            if due > now {
                return Some(due);
            }
            self.forget_oldest();
        }
        self.sweeping = false;
        None
    }

    /// As many as one message holds, ascending by pid.
    pub(crate) fn list(&self) -> ListReply {
        let mut reply = ListReply { alive: self.alive as u64, more: false, processes: Vec::new() };
        let mut bytes = LIST_REST_BYTES;
        for command in self.by_pid.values() {
            let process = command.message();
            bytes += ENTRY_BYTES + process.encoded_len();
            if bytes > MESSAGE_BYTES_MAX || reply.processes.len() == LIST_MAX {
                reply.more = true;
                break;
            }
            reply.processes.push(process);
        }
        reply
    }

    fn forget_oldest(&mut self) {
        if let Some(oldest) = self.ended.pop_front() {
            self.by_pid.remove(&oldest.pid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::kept::Kept;
    use super::super::request::Listed;
    use super::super::tracked::{Birth, Extra};
    use super::*;
    use bytes::Bytes;
    use workspace_proto::agent::Exited;

    fn command(pid: i32, is_kept: bool, name: &[u8]) -> Rc<Tracked> {
        let listed = Listed { command: Bytes::copy_from_slice(name), args: vec![Bytes::from(vec![b'x'; 4096])] };
        let birth = Birth { pid, listed, at: Instant::now(), oom_kills: 0, life: None, leaf: None };
        let kept = is_kept.then(|| Kept::new(4096, Duration::ZERO, &Rc::default()));
        Rc::new(Tracked::new(birth, Extra { kept, ..Extra::default() }))
    }

    fn end(table: &mut Table, command: &Rc<Tracked>) {
        command.set_end(Exited::default());
        table.ended(command);
    }

    #[test]
    fn ended_commands_of_start_are_kept_for_their_time() {
        let mut table = Table::default();
        let (run, started) = (command(5, false, b"run"), command(6, true, b"start"));
        table.insert(&run);
        table.insert(&started);
        assert_eq!(table.alive(), 2);
        assert!(!table.starts_sweeping());
        end(&mut table, &run);
        end(&mut table, &started);
        assert_eq!((table.alive(), table.list().processes.len()), (0, 1));
        assert!(table.starts_sweeping() && !table.starts_sweeping());
        let ended_at = started.end().unwrap().at;
        assert_eq!(table.forget_old(ended_at), Some(ended_at + ENDED_KEPT));
        assert_eq!(table.forget_old(ended_at + ENDED_KEPT), None);
        assert!(table.get(6).is_none());
        assert_eq!(Rc::strong_count(&started), 1);
        assert!(!table.starts_sweeping());
    }

    #[test]
    fn the_oldest_goes_first_beyond_the_bound() {
        let mut table = Table::default();
        for pid in 2..ENDED_KEPT_MAX as i32 + 12 {
            let command = command(pid, true, b"a");
            table.insert(&command);
            end(&mut table, &command);
        }
        assert_eq!(table.list().processes.len(), ENDED_KEPT_MAX);
        assert!(table.get(11).is_none() && table.get(12).is_some());
    }

    #[test]
    fn a_pid_that_comes_again_replaces_the_ended_command() {
        let mut table = Table::default();
        let (first, second) = (command(7, true, b"first"), command(7, true, b"second"));
        table.insert(&first);
        // The kernel may give the pid out before we have looked at the end.
        table.insert(&second);
        assert_eq!(table.alive(), 2);
        end(&mut table, &first);
        assert_eq!((table.alive(), Rc::strong_count(&first)), (1, 1));
        let third = command(7, true, b"third");
        end(&mut table, &second);
        table.insert(&third);
        assert_eq!((Rc::strong_count(&second), table.list().processes.len()), (1, 1));
        assert_eq!(table.get(7).unwrap().message().command, "third");
        table.insert_ended(&command(7, true, b"hearsay"));
        assert_eq!(table.get(7).unwrap().message().command, "third");
        assert_eq!(table.alive(), 1);
        assert!(table.forget_old(Instant::now() + 2 * ENDED_KEPT).is_none());
        assert!(table.get(7).is_some(), "one that lives is never too old");
    }

    #[test]
    fn a_list_is_one_message() {
        let mut table = Table::default();
        for pid in 2..2000 {
            table.insert(&command(pid, true, &[b'c'; 4096]));
        }
        let list = table.list();
        assert!(list.more && list.encoded_len() <= MESSAGE_BYTES_MAX);
        assert!(list.encoded_len() > MESSAGE_BYTES_MAX - 10_000);
        assert_eq!((list.alive, list.processes[0].pid), (1998, 2));
        for pid in [0, 1, u32::MAX, i32::MAX as u32 + 1] {
            assert!(table.get(pid).is_none());
        }
    }
}
