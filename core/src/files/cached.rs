//! Can a small file be read at once, without a wait for any disk? Where all on its way and all its bytes are in the kernel's
//! memory already it is read on the calling core: the way to a file thread and back costs more than the reading.
//!
//! One openat2(2) beneath the directory of all sandboxes, through no link, mount or magic link, and only by what is cached;
//! then preadv2(2) that does not wait. Whatever is otherwise (a link, `..`, no file, a large one, nothing cached, a kernel
//! before 5.12) is `None`: the walk of `resolve` then says what it is.

use super::path::SandboxPath;
use super::read::{Content, Source};
use super::resolve::{BENEATH, Node};
use super::{Tree, info};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::ReadWriteFlags;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What is copied on a ring's thread.
const CACHED_BYTES_MAX: u64 = 64 << 10;

/// Opens and reads it.
pub(super) fn open(tree: &Tree, path: &SandboxPath) -> Option<Content> {
    let way = way(tree.id().as_str().as_bytes(), path)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = BENEATH.union(ResolveFlags::CACHED);
    let node = Node::new(openat2(&tree.files().sandboxes, &way[..], flags, Mode::empty(), resolve).ok()?).ok()?;
    let size = info::size(&node.stat);
    if node.kind() != FileType::RegularFile || size > CACHED_BYTES_MAX {
        return None;
    }
    let file = node.reopen(OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let whole = read(&file, size as usize)?;
    Some(Content {
        size,
        tag: info::tag(&node.stat),
        modified_us: info::modified_us(&node.stat),
        name: path.components().next_back().unwrap_or_default().to_vec(),
        source: Source::Host(Arc::new(file), tree.pool().clone()),
        whole: Some(whole.into()),
    })
}

/// From the directory of all sandboxes; `None` where the path leaves its tree, or may.
fn way(id: &[u8], path: &SandboxPath) -> Option<Vec<u8>> {
    let mut names = path.components();
    let tree: &[u8] = match names.next()? {
        b"workspace" => b"workspace",
        b"home" if names.next()? == b"user" => b"home",
        _ => return None,
    };
    let mut way = [id, b"/", tree].concat();
    let top = way.len();
    for name in names {
        if name == b".." {
            return None;
        }
        way.push(b'/');
        way.extend_from_slice(name);
    }
    (way.len() > top && !path.wants_directory()).then_some(way)
}

/// All of it, or nothing.
fn read(file: &OwnedFd, size: usize) -> Option<Vec<u8>> {
    let mut whole = vec![0; size];
    if size > 0 {
        let read = rustix::io::preadv2(file, &mut [IoSliceMut::new(&mut whole)], 0, ReadWriteFlags::NOWAIT).ok()?;
        if read < size {
            return None;
        }
    }
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_stays_in_its_tree() {
        let way = |path: &str| way(b"id", &SandboxPath::parse(path).unwrap());
        assert_eq!(way("a//./b").as_deref(), Some(&b"id/workspace/a/b"[..]));
        assert_eq!(way("/home/user/.x").as_deref(), Some(&b"id/home/.x"[..]));
        for none in ["/", "/workspace", "/home/user", "/home/other/x", "/tmp/x", "a/", "a/.", "../x", "a/../../../x"] {
            assert_eq!(way(none), None, "{none}");
        }
    }
}
