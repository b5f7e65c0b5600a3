//! What a worker says of a file, checked: a kind that exists, a name that is one, times that can be shown.

use super::forged;
use crate::clock;
use crate::error::Error;
use crate::files::FileInfo;
use crate::files::info::{self, Kind, Shown};
use rustix::fs::FileType;
use workspace_proto::agent::FileNode;

const TARGET_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 255;

/// A node inside.
pub(super) struct Seen(pub(super) FileNode);

impl Seen {
    /// `None`: it says that there is nothing.
    pub(super) fn check(node: FileNode) -> Result<Option<Seen>, Error> {
        if node.mode == 0 {
            return Ok(None);
        }
        let is_link = FileType::from_raw_mode(node.mode) == FileType::Symlink;
        if FileType::from_raw_mode(node.mode) == FileType::Unknown || node.mode > 0o177_777 {
            return Err(forged("a node of no kind"));
        }
        if node.target.len() > TARGET_BYTES_MAX || node.target.contains(&0) || (!is_link && !node.target.is_empty()) {
            return Err(forged("a link that can't be"));
        }
        Ok(Some(Seen(node)))
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::of(self.0.mode)
    }

    /// In bytes; a number that it says, and no more.
    pub(super) fn size(&self) -> u64 {
        self.0.size
    }

    /// As of a file on the host.
    pub(super) fn tag(&self) -> String {
        let node = &self.0;
        format!("{:x}-{:x}-{:x}-{:x}", node.inode, node.size, node.changed_ns, node.modified_ns)
    }

    /// As conditions look at it.
    pub(super) fn judged(&self) -> info::Seen {
        info::Seen { tag: self.tag(), modified_us: self.modified_us() }
    }

    pub(super) fn modified_us(&self) -> u64 {
        u64::try_from(self.0.modified_ns / 1000).unwrap_or(0).min(clock::WALL_US_MAX)
    }

    /// As every protocol shows it.
    pub(super) fn info(&self, path: &[u8]) -> FileInfo {
        let target = (self.kind() == Kind::Symlink).then_some(&self.0.target[..]);
        FileInfo::of(
            path,
            Shown {
                mode: self.0.mode,
                size: self.0.size,
                modified_us: self.modified_us(),
                owner: self.0.uid,
                group: self.0.gid,
            },
            target,
        )
    }
}

/// Whether bytes are the name of an entry.
pub(super) fn is_name(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::Message;

    /// Whatever is said: nothing, a node that can be shown, or a refusal.
    fn any_node(input: &[u8]) {
        let Ok(node) = FileNode::decode(input) else { return };
        if let Ok(Some(seen)) = Seen::check(node) {
            let info = seen.info(b"/tmp/x");
            assert_eq!(info.symlink_target.is_some(), info.kind == Kind::Symlink);
            assert!(info.modified_at.len() <= 32 && info.mode.len() == 4);
        }
    }

    #[test]
    fn no_node_is_more_than_a_node() {
        let node = FileNode { mode: 0o120_777, size: u64::MAX, modified_ns: i64::MIN, ..FileNode::default() };
        let link = FileNode { target: "a".into(), ..node.clone() };
        let odd = FileNode { mode: 0o100_644, target: "a".into(), ..node.clone() };
        assert!(Seen::check(odd.clone()).is_err());
        let corpus = [node, link, odd, FileNode { mode: u32::MAX, ..FileNode::default() }].map(|n| n.encode_to_vec());
        crate::fuzz::run(any_node, &corpus.each_ref().map(Vec::as_slice));
    }
}
