//! How a hostile tree is removed: by descriptors, following nothing, however deep, however odd its modes, while others
//! still write into it.
//!
//! ```text
//!  doomed/a/b/c/…   a directory that lies deeper than DEPTH_MAX is moved up into `doomed` under a new name
//!  doomed/hoisted   and removed from there: neither descriptors nor stack grow with the depth of a tree
//! ```
//! Source: unlinkat(2), CVE-2022-21658 for what a check by name costs.

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};

/// Directories that are open at once.
const DEPTH_MAX: usize = 32;
/// How often one directory is begun again because others put new entries into it.
const ROUNDS_MAX: u32 = 1000;

/// One directory that is being emptied.
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    entries: Dir,
    rounds: u32,
}

impl Level {
    fn open(at: impl AsFd, name: &[u8]) -> rustix::io::Result<Level> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&at, name, flags, Mode::empty())?;
        let entries = Dir::read_from(&fd)?;
        Ok(Level { name: name.to_vec(), fd, entries, rounds: 0 })
    }
}

/// Removes `name` in `at`, whatever it is. `NOENT` where there was nothing; `NOTEMPTY` where somebody filled it
/// faster than it could be emptied.
pub fn tree(at: impl AsFd, name: &[u8]) -> rustix::io::Result<()> {
    match unlinkat(&at, name, AtFlags::empty()) {
        // EPERM is POSIX's way to say that it is a directory.
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let mut levels = vec![Level::open(&at, name)?];
    let mut hoisted = 0_u64;
    while let Some(level) = levels.last_mut() {
        match level.entries.read() {
            Some(entry) => {
                let entry = entry?;
                let below = entry.file_name().to_bytes();
                if below == b"." || below == b".." {
                    continue;
                }
                if entry.file_type() != FileType::Directory {
                    match unlinkat(&level.fd, below, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => continue,
                        // The file system tells no types, or it is another thing by now.
                        Err(Errno::ISDIR | Errno::PERM) => {}
                        Err(errno) => return Err(errno),
                    }
                }
                let below = below.to_vec();
                descend(&mut levels, below, &mut hoisted)?;
            }
            None => {
                let Some(done) = levels.pop() else { break };
                finish(&at, &mut levels, done)?;
            }
        }
    }
    Ok(())
}

/// Goes into a directory, or puts it aside where it lies too deep.
fn descend(levels: &mut Vec<Level>, name: Vec<u8>, hoisted: &mut u64) -> rustix::io::Result<()> {
    let depth = levels.len();
    let Some(level) = levels.last() else { return Ok(()) };
    if depth < DEPTH_MAX {
        match unlinkat(&level.fd, &name[..], AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(_) => {}
        }
        match Level::open(&level.fd, &name) {
            Ok(below) => levels.push(below),
            // It has gone, or is another thing by now: the next round sees what it is.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno),
        }
        return Ok(());
    }
    let top = &levels[0].fd;
    for _ in 0..ROUNDS_MAX {
        *hoisted += 1;
        let new_name = format!("hoisted-{hoisted}");
        match renameat_with(&level.fd, &name[..], top, new_name.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::NOTEMPTY)
}

/// Removes a directory that had no more entries; begins it again where there are new ones.
fn finish(at: &impl AsFd, levels: &mut Vec<Level>, mut done: Level) -> rustix::io::Result<()> {
    let removed = match levels.last() {
        Some(above) => unlinkat(&above.fd, &done.name[..], AtFlags::REMOVEDIR),
        None => unlinkat(at, &done.name[..], AtFlags::REMOVEDIR),
    };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::NOTEMPTY | Errno::EXIST) if done.rounds < ROUNDS_MAX => {
            done.rounds += 1;
            done.entries = Dir::read_from(&done.fd)?;
            levels.push(done);
            Ok(())
        }
        // Another thing has its name by now; what we emptied was moved elsewhere beneath, and is met there.
        Err(Errno::NOTDIR) if !levels.is_empty() => Ok(()),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{mkdirat, symlinkat};
    use std::os::unix::ffi::OsStrExt;
    use std::path::PathBuf;

    fn place(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("workspace-remove-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        path
    }

    fn open(path: &std::path::Path) -> OwnedFd {
        openat(rustix::fs::CWD, path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    #[test]
    fn deeper_than_any_path_goes() {
        let root = place("deep");
        let mut at = open(&root);
        mkdirat(&at, "doomed", Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, "doomed", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        for _ in 0..300 {
            mkdirat(&at, "a", Mode::from_raw_mode(0o755)).unwrap();
            mkdirat(&at, "hoisted-1", Mode::from_raw_mode(0o755)).unwrap();
            at = openat(&at, "a", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
        }
        tree(open(&root), b"doomed").unwrap();
        assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0);
        std::fs::remove_dir(&root).unwrap();
    }

    #[test]
    fn nothing_is_followed_and_every_name_goes() {
        let (root, outside) = (place("links"), place("outside"));
        std::fs::write(outside.join("canary"), "x").unwrap();
        let doomed = root.join("doomed");
        std::fs::create_dir_all(doomed.join("d")).unwrap();
        std::os::unix::fs::symlink(&outside, doomed.join("link")).unwrap();
        symlinkat("/nowhere", open(&doomed), "dangling").unwrap();
        std::fs::write(doomed.join(std::ffi::OsStr::from_bytes(b"\xff\n ")), "y").unwrap();
        tree(open(&root), b"doomed").unwrap();
        assert!(outside.join("canary").exists() && !doomed.exists());
        assert_eq!(tree(open(&root), b"doomed"), Err(Errno::NOENT));
        std::os::unix::fs::symlink(&outside, &doomed).unwrap();
        tree(open(&root), b"doomed").unwrap();
        assert!(outside.join("canary").exists());
        std::fs::remove_dir_all(&outside).unwrap();
        std::fs::remove_dir(&root).unwrap();
    }
}
