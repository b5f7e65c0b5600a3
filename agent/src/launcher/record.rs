//! What a crash leaves to read: `run/<id>/state`, written before the clone and again before the child is released.
//!
//! So every agent that was ever released has its identity on disk; a child that was not ends with the launcher.

use super::small_file;
use rustix::fs::{Mode, OFlags, openat, renameat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd};
use workspace_proto::launcher::{Enforced, Identity};

/// Characters of an id.
pub(crate) const ID_CHARS: usize = 32;

/// A sandbox's name: 32 characters of a-z2-7, so it is safe as a file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct SandboxId([u8; ID_CHARS]);

impl SandboxId {
    /// Checks the grammar.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; ID_CHARS] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7')).then_some(SandboxId(bytes))
    }

    /// The id as text.
    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// What is known about one sandbox of this data directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Record {
    pub(crate) block: u32,
    pub(crate) boot: String,
    pub(crate) enforced: Enforced,
    /// None until the child exists.
    pub(crate) identity: Option<Identity>,
}

impl Record {
    /// Writes the record whole or not at all (rename): a crash never leaves half a line.
    pub(crate) fn write(&self, run: BorrowedFd<'_>) -> Result<(), Errno> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(run, "state.new", flags, Mode::from_raw_mode(0o600))?;
        small_file::write_once(file.as_fd(), self.encode().as_bytes())?;
        renameat(run, "state.new", run, "state")
    }

    /// Reads a record; None where there is none or it was not written by us.
    pub(crate) fn read(run: BorrowedFd<'_>, id: SandboxId) -> Option<Self> {
        Self::decode(&small_file::read(run, &format!("{}/state", id.as_str())).ok()?)
    }

    fn encode(&self) -> String {
        let Enforced { memory, pids, cpu, tree_kill } = self.enforced;
        let bit = |on: bool| u8::from(on);
        let mut text = format!("block {}\nboot {}\n", self.block, self.boot);
        text += &format!("enforced {} {} {} {}\n", bit(memory), bit(pids), bit(cpu), bit(tree_kill));
        if let Some(Identity { pid, start_time_ticks, pidfd_inode }) = self.identity {
            text += &format!("agent {pid} {start_time_ticks} {pidfd_inode}\n");
        }
        text
    }

    fn decode(text: &str) -> Option<Self> {
        let mut record = Record::default();
        let mut complete = false;
        for line in text.lines() {
            let (key, rest) = line.split_once(' ')?;
            let numbers: Vec<u64> = rest.split(' ').map_while(|word| word.parse().ok()).collect();
            match (key, numbers.as_slice()) {
                ("block", &[block]) => record.block = u32::try_from(block).ok()?,
                ("boot", _) => record.boot = rest.to_owned(),
                ("enforced", &[memory, pids, cpu, tree_kill]) => {
                    let on = |bit| bit == 1;
                    record.enforced =
                        Enforced { memory: on(memory), pids: on(pids), cpu: on(cpu), tree_kill: on(tree_kill) };
                    complete = true;
                }
                ("agent", &[pid, start_time_ticks, pidfd_inode]) => {
                    let pid = u32::try_from(pid).ok()?;
                    record.identity = Some(Identity { pid, start_time_ticks, pidfd_inode });
                }
                _ => return None,
            }
        }
        complete.then_some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back() {
        let mut record = Record { block: 17, boot: "b-1".into(), ..Record::default() };
        assert_eq!(Record::decode(&record.encode()), Some(record.clone()));
        record.enforced.pids = true;
        record.identity = Some(Identity { pid: 5, start_time_ticks: 6, pidfd_inode: 7 });
        assert_eq!(Record::decode(&record.encode()), Some(record));
    }

    #[test]
    fn half_a_record_is_none() {
        assert_eq!(Record::decode("block 17\nboot b\n"), None);
        assert_eq!(Record::decode("block x\n"), None);
        assert_eq!(Record::decode(""), None);
    }

    #[test]
    fn ids_are_safe_file_names() {
        assert!(SandboxId::parse(&"a2".repeat(16)).is_some());
        for bad in ["", "../../../../../../../../../etc/pa", &"A".repeat(32), &"a".repeat(33), &"1".repeat(32)] {
            assert_eq!(SandboxId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        let corpus: [&[u8]; 1] = [b"block 4106\nboot dcc28a04-fbf0\nenforced 1 1 0 1\nagent 5904 276864 70814\n"];
        crate::fuzz::run(
            |input| {
                let Some(record) = std::str::from_utf8(input).ok().and_then(Record::decode) else { return };
                assert_eq!(Record::decode(&record.encode()), Some(record));
            },
            &corpus,
        );
    }

    #[test]
    fn any_text_is_an_id_or_none() {
        crate::fuzz::run(
            |input| {
                let Some(id) = std::str::from_utf8(input).ok().and_then(SandboxId::parse) else { return };
                assert_eq!(id.as_str().as_bytes(), input);
                assert!(input.len() == ID_CHARS && !input.iter().any(|byte| matches!(byte, b'/' | b'.' | 0)));
            },
            &[b"aaq2wk57mzn4xcbdefghijklmnop3562", b"../../../../../../../../../etc/pa"],
        );
    }
}
