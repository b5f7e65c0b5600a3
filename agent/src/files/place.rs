//! Where does a path's last name stand, and what is there? The way to it is the kernel's; only a link in the last place is
//! followed here, where something may be made at its end.

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use workspace_proto::agent::FileNode;

/// As the kernel's own bound, path_resolution(7).
const LINKS_MAX: u32 = 40;
const MODE_OF_PARENTS: Mode = Mode::from_raw_mode(0o755);

/// What becomes of a link in the last place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Last {
    Follow,
    Keep,
}

/// An entry of a directory, which may not be there.
pub(super) struct Entry {
    pub(super) directory: OwnedFd,
    pub(super) name: Vec<u8>,
}

impl Entry {
    /// Walks to it. EINVAL where the path names no entry: `/`, or an end in `.` or `..`.
    pub(super) fn find(path: &[u8], last: Last) -> Result<Entry, Errno> {
        let (above, name) = split(path).ok_or(Errno::INVAL)?;
        let mut at = Entry { directory: directory(CWD, above)?, name: name.to_vec() };
        if last == Last::Keep {
            return Ok(at);
        }
        for _ in 0..LINKS_MAX {
            let target = match rustix::fs::readlinkat(&at.directory, &at.name[..], Vec::new()) {
                Ok(target) => target.into_bytes(),
                // It is no link, or nothing yet.
                Err(Errno::INVAL | Errno::NOENT) => return Ok(at),
                Err(errno) => return Err(errno),
            };
            // What ends in `/`, `.` or `..` is a directory.
            let (above, name) = split(&target).filter(|_| !target.ends_with(b"/")).ok_or(Errno::ISDIR)?;
            at = Entry { directory: directory(&at.directory, above)?, name: name.to_vec() };
        }
        Err(Errno::LOOP)
    }

    /// As [`Entry::find`], after what is missing above it was made.
    pub(super) fn find_or_make(path: &[u8], last: Last) -> Result<Entry, Errno> {
        match Entry::find(path, last) {
            Err(Errno::NOENT) => {}
            found => return found,
        }
        let (above, _) = split(path).ok_or(Errno::INVAL)?;
        make_all(above)?;
        Entry::find(path, last)
    }

    /// What stands there, without touching it.
    pub(super) fn stat(&self) -> Result<Option<Stat>, Errno> {
        match rustix::fs::statat(&self.directory, &self.name[..], AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens what stands there, without touching it.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.directory, &self.name[..], flags, Mode::empty())
    }

    /// Makes a change of its directory durable.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, ".", flags, Mode::empty()) {
            Ok(directory) => rustix::fs::fsync(directory),
            // One that may be written but not read: the sticky drop boxes of old.
            Err(Errno::ACCESS) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// What is above a path's last name, and that name; `None` where it has none.
pub(super) fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
    let name = &path[start..end];
    (name != b"." && name != b"..").then_some((&path[..start], name))
}

/// Opens a directory; an empty path is the one that it is looked from.
fn directory(at: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    rustix::fs::openat(at, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory and those above it.
fn make_all(path: &[u8]) -> Result<(), Errno> {
    for (at, byte) in path.iter().enumerate() {
        if *byte != b'/' || at == 0 {
            continue;
        }
        match rustix::fs::mkdir(&path[..at], MODE_OF_PARENTS) {
            Ok(()) | Err(Errno::EXIST) => {}
            // What is there already may stand where nothing may be made.
            Err(errno) => match rustix::fs::stat(&path[..at]) {
                Ok(_) => {}
                Err(_) => return Err(errno),
            },
        }
    }
    Ok(())
}

/// The deepest directory of a path that exists, the path itself included.
pub(super) fn deepest(path: &[u8]) -> Result<OwnedFd, Errno> {
    let mut rest = path;
    loop {
        match directory(CWD, if rest.is_empty() { b"/" } else { rest }) {
            Err(Errno::NOENT) => match split(rest) {
                Some((above, _)) => rest = above,
                None => return Err(Errno::NOENT),
            },
            opened => return opened,
        }
    }
}

/// Opens a path without touching what is there.
pub(super) fn look(path: &[u8], last: Last) -> Result<(OwnedFd, Stat), Errno> {
    let flags = match last {
        Last::Follow => OFlags::PATH | OFlags::CLOEXEC,
        Last::Keep => OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW,
    };
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&fd)?;
    Ok((fd, stat))
}

/// Opens a regular file or a directory for work: the same inode, whatever its name leads to by now. Nothing else is
/// ever opened: a FIFO would wait, a device would act.
pub(super) fn reopen(fd: &OwnedFd, stat: &Stat, flags: OFlags) -> Result<OwnedFd, Errno> {
    if !matches!(kind(stat), FileType::RegularFile | FileType::Directory) {
        return Err(Errno::INVAL);
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty())
}

/// What a node is.
pub(super) fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// As the server is told of it.
pub(super) fn node(stat: &Stat) -> FileNode {
    let ns = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    FileNode {
        mode: stat.st_mode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        inode: stat.st_ino,
        uid: stat.st_uid,
        gid: stat.st_gid,
        changed_ns: ns(stat.st_ctime, stat.st_ctime_nsec as i64),
        modified_ns: ns(stat.st_mtime, stat.st_mtime_nsec as i64),
        target: Default::default(),
    }
}

/// A hidden name that is free, as good as surely.
pub(super) fn hidden_name() -> Vec<u8> {
    let mut random = [0u8; 12];
    // Never fails once the machine has booted (getrandom(2)). A name that is taken would fail the making.
    let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
    let letters = random.iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]);
    b".workspace-".iter().copied().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A last name stands behind what is above it, and is one name.
    fn any_path(input: &[u8]) {
        let Some((above, name)) = split(input) else { return };
        assert!(input.starts_with(&[above, name].concat()) && !name.is_empty() && !name.contains(&b'/'));
        assert!(above.is_empty() || above.ends_with(b"/"));
        assert!(input[above.len() + name.len()..].iter().all(|byte| *byte == b'/'));
    }

    #[test]
    fn a_path_ends_in_a_name_or_in_none() {
        assert_eq!(split(b"/tmp/a"), Some((&b"/tmp/"[..], &b"a"[..])));
        assert_eq!(split(b"a//"), Some((&b""[..], &b"a"[..])));
        for none in [&b""[..], b"/", b"/tmp/..", b"a/.", b"///"] {
            assert_eq!(split(none), None);
        }
        crate::fuzz::run(any_path, &[b"/tmp/a", b"a//b///", b"..", b"/", b"\0/."]);
    }
}
