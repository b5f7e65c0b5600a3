//! How does a command end with all its descendants? Each lives in a leaf of its own, a v2 cgroup below the sandbox's:
//! one write to `cgroup.kill` reaches whatever has forked, detached or changed its session.
//!
//! ```text
//! take ──► spawner inside ──► command inside, spawner leaves ──► give_back ──► populated 0 ──► idle ──► rmdir beyond IDLE_MAX
//!                                                                    └── leftovers live on ──► parked ──► looked at later
//! ```
//! A command is born in its leaf because the spawner stands there. Entering one on the way to a command costs 10-20 ms
//! on an idle host (the kernel waits for all its CPUs); so the spawner goes to the next leaf after it has answered.
//! Until it has gone, a signal to the leaf would reach it too, and waits.
//!
//! cgroup v2 guide; `cgroup.kill` is of kernel 5.14, before it the members are killed one by one. No controller needed.

use crate::sys::kill::{SIGKILL, send};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Empty leaves kept for the next commands.
const IDLE_MAX: usize = 16;
/// Leaves at once. Beyond it a command runs without one.
const LEAVES_MAX: usize = 4096;
/// Parked leaves looked at per leaf taken or given back.
const LOOK_MAX: usize = 2;
/// Rounds of killing one by one, for a tree that forks meanwhile.
const KILL_ROUNDS_MAX: usize = 64;
/// Looks for processes that were forked while their leaf was signalled.
const SIGNAL_ROUNDS_MAX: usize = 8;
/// Names tried when one exists already.
const NAMES_MAX: u32 = 64;

/// One cgroup for one command at a time.
#[derive(Debug)]
pub(crate) struct Leaf {
    number: u32,
    procs: OwnedFd,
}

impl Leaf {
    /// `cgroup.procs`, open for writing: the child writes "0" to it.
    pub(crate) fn procs(&self) -> BorrowedFd<'_> {
        self.procs.as_fd()
    }
}

/// All leaves of the sandbox.
pub(crate) struct Leaves {
    dir: Option<OwnedFd>,
    usable: bool,
    /// The leaf that a command has been given and the spawner has not left yet.
    occupied: Option<u32>,
    /// Signals for that leaf as soon as the spawner has left it: signal N is bit N - 1.
    when_left: u64,
    idle: Vec<Leaf>,
    parked: VecDeque<Leaf>,
    count: usize,
    next: u32,
}

impl Leaves {
    /// Without a directory there are no leaves.
    pub(crate) fn new(dir: Option<OwnedFd>) -> Leaves {
        Leaves {
            usable: dir.is_some(),
            dir,
            occupied: None,
            when_left: 0,
            idle: Vec::new(),
            parked: VecDeque::new(),
            count: 0,
            next: 0,
        }
    }

    /// Whether a command's descendants end with it, as far as is known.
    pub(crate) fn work(&self) -> bool {
        self.usable
    }

    /// A command was born in `leaf`, and the spawner is still there.
    pub(crate) fn shared(&mut self, leaf: &Leaf) {
        self.occupied = Some(leaf.number);
        self.when_left = 0;
    }

    /// The spawner has left the leaf that it shared.
    pub(crate) fn left(&mut self) {
        let Some(number) = self.occupied.take() else { return };
        let signals = std::mem::take(&mut self.when_left);
        for signal in (1..=64).filter(|signal| signals & bit(*signal) != 0 && *signal != SIGKILL) {
            self.signal_number(number, signal, BTreeSet::new());
        }
        if signals & bit(SIGKILL) != 0 {
            self.kill_number(number);
        }
    }

    /// No process could enter a leaf: don't try again.
    pub(crate) fn give_up(&mut self) {
        self.usable = false;
        self.idle.clear();
    }

    /// An empty leaf, or `None` where there can be none.
    pub(crate) fn take(&mut self) -> Option<Leaf> {
        self.look_at_parked();
        if !self.usable {
            return None;
        }
        if let Some(leaf) = self.idle.pop() {
            return Some(leaf);
        }
        if self.count >= LEAVES_MAX {
            return None;
        }
        let dir = self.dir.as_ref()?;
        for _ in 0..NAMES_MAX {
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            match rustix::fs::mkdirat(dir, name(number, ""), Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                Err(_) => {
                    self.usable = self.count > 0;
                    return None;
                }
                Ok(()) => {}
            }
            let file = name(number, "/cgroup.procs");
            let procs = rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
            self.count += 1;
            return Some(Leaf { number, procs });
        }
        None
    }

    /// The command of this leaf has ended.
    pub(crate) fn give_back(&mut self, leaf: Leaf) {
        if self.populated(&leaf) {
            self.parked.push_back(leaf);
        } else {
            self.keep_or_remove(leaf);
        }
        self.look_at_parked();
    }

    /// Ends every process in the leaf but the spawner: now, or as soon as that has left.
    pub(crate) fn kill(&mut self, leaf: &Leaf) {
        if self.occupied == Some(leaf.number) {
            self.when_left |= bit(SIGKILL);
        } else {
            self.kill_number(leaf.number);
        }
    }

    /// Sends `signal` to the command `pid`, which is not reaped yet, and to every process in its leaf but the spawner:
    /// now, or as soon as that has left.
    pub(crate) fn signal(&mut self, leaf: &Leaf, pid: i32, signal: i32) {
        if self.occupied == Some(leaf.number) {
            self.when_left |= bit(signal);
        } else {
            send(pid, signal);
            self.signal_number(leaf.number, signal, BTreeSet::from([pid]));
        }
    }

    /// Each process once, those too that are forked meanwhile.
    fn signal_number(&self, number: u32, signal: i32, mut signalled: BTreeSet<i32>) {
        for _ in 0..SIGNAL_ROUNDS_MAX {
            let before = signalled.len();
            for pid in self.members(number) {
                if signalled.insert(pid) {
                    send(pid, signal);
                }
            }
            if signalled.len() == before {
                return;
            }
        }
    }

    fn kill_number(&self, number: u32) {
        let Some(dir) = &self.dir else { return };
        let file = name(number, "/cgroup.kill");
        match rustix::fs::openat(dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => drop(rustix::io::write(file, b"1")),
            Err(_) => self.kill_one_by_one(number),
        }
    }

    fn kill_one_by_one(&self, number: u32) {
        for _ in 0..KILL_ROUNDS_MAX {
            let mut any = false;
            for pid in self.members(number) {
                any |= send(pid, SIGKILL);
            }
            if !any {
                return;
            }
        }
    }

    fn members(&self, number: u32) -> Vec<i32> {
        members(&self.read(number, "/cgroup.procs").unwrap_or_default()).collect()
    }

    fn look_at_parked(&mut self) {
        for _ in 0..LOOK_MAX.min(self.parked.len()) {
            if let Some(leaf) = self.parked.pop_front() {
                if self.populated(&leaf) {
                    self.parked.push_back(leaf);
                } else {
                    self.keep_or_remove(leaf);
                }
            }
        }
    }

    fn keep_or_remove(&mut self, leaf: Leaf) {
        if self.usable && self.idle.len() < IDLE_MAX {
            self.idle.push(leaf);
            return;
        }
        if let Some(dir) = &self.dir {
            let _ = rustix::fs::unlinkat(dir, name(leaf.number, ""), AtFlags::REMOVEDIR);
        }
        self.count = self.count.saturating_sub(1);
    }

    fn populated(&self, leaf: &Leaf) -> bool {
        // Unknown counts as populated: a leaf with a stranger in it must not get a new command.
        self.read(leaf.number, "/cgroup.events").is_none_or(|events| !contains_line(&events, b"populated 0"))
    }

    fn read(&self, number: u32, file: &str) -> Option<Vec<u8>> {
        let file = name(number, file);
        let file =
            rustix::fs::openat(self.dir.as_ref()?, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut bytes = vec![0; 4096];
        let mut length = 0;
        loop {
            match rustix::io::read(&file, &mut bytes[length..]).ok()? {
                0 => break,
                read => length += read,
            }
            if length == bytes.len() {
                bytes.resize(2 * length, 0);
            }
        }
        bytes.truncate(length);
        Some(bytes)
    }
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

fn name(number: u32, file: &str) -> String {
    format!("c{number}{file}")
}

/// The processes that a cgroup.procs names, without ourselves, and without 0, which stands for a process of another pid
/// namespace and to kill() for ourselves. What was read may end within a line, and half a number is another process.
fn members(list: &[u8]) -> impl Iterator<Item = i32> {
    let whole = list.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let lines = list[..whole].split(|byte| *byte == b'\n');
    lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok()).filter(|pid| *pid > 1)
}

fn contains_line(text: &[u8], line: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|found| found == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut anywhere, a list names only what the whole names, in the same order.
    fn any_list(input: &[u8]) {
        let whole: Vec<i32> = members(input).collect();
        assert!(whole.iter().all(|pid| *pid > 1));
        for cut in 0..input.len().min(64) {
            let part: Vec<i32> = members(&input[..cut]).collect();
            assert!(whole.starts_with(&part), "{part:?} of {whole:?}");
        }
        assert_eq!(
            contains_line(input, b"populated 0"),
            input.split(|b| *b == b'\n').any(|line| line == b"populated 0")
        );
    }

    #[test]
    fn half_a_number_is_no_member() {
        // The first was read as 2, 3 and 41 where the buffer ended behind "41".
        let corpus: [&[u8]; 4] = [b"2\n3\n4194\n", b"0\n1\n-5\n+7\n", b"\n\n12", b"populated 0\nfrozen 0\n"];
        crate::fuzz::run(any_list, &corpus);
        assert_eq!(members(b"2\n3\n41").collect::<Vec<_>>(), [2, 3]);
    }
}
