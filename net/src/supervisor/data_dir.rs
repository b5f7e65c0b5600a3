//! The data directory: made, checked, owned by the server's id, and held by one service at a time.

use super::identity::Identities;
use rustix::fs::{
    AtFlags, FlockOperation, Gid, IFlags, Mode, OFlags, Uid, chmod, chownat, flock, ioctl_getflags, ioctl_setflags,
    mkdirat, open, openat, statat,
};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the last service may take to end once its supervisor is gone, in milliseconds.
const DYING_MS_MAX: u64 = 5_000;

/// Why a data directory is not held.
#[derive(Debug)]
pub enum Unheld {
    /// Another service holds it.
    InUse(String),
    /// It cannot be used.
    Unusable(String),
}

impl Unheld {
    /// One line for the user.
    pub fn line(self) -> String {
        match self {
            Unheld::InUse(line) | Unheld::Unusable(line) => line,
        }
    }
}

/// A data directory that this process holds. Released when dropped.
pub struct DataDir {
    /// Absolute, without symlinks.
    pub path: PathBuf,
    /// The directory itself.
    pub fd: OwnedFd,
    _lock: File,
}

impl DataDir {
    /// Makes the directory where it is missing and takes its lock. One line on failure.
    pub fn open(path: &Path) -> Result<DataDir, Unheld> {
        let failed = |what: &str, error: std::io::Error| {
            Unheld::Unusable(format!(
                "the data directory {} {what}: {error}; set WORKSPACE_DATA_DIR to one that this user may write",
                path.display()
            ))
        };
        std::fs::create_dir_all(path).map_err(|e| failed("could not be made", e))?;
        let path = path.canonicalize().map_err(|e| failed("could not be found", e))?;
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = open(&path, flags, Mode::empty()).map_err(|e| failed("could not be opened", e.into()))?;
        let lock = lock(&fd, &path)?;
        Ok(DataDir { path, fd, _lock: lock })
    }

    /// 16 hex digits that name this directory in cgroups.
    pub fn hash(&self) -> String {
        let bytes = self.path.as_os_str().as_encoded_bytes();
        let hash =
            bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
        format!("{hash:016x}")
    }

    /// The id that the sandboxes' id 0 has on disk, where this directory was used before.
    pub fn base_id(&self) -> Option<u32> {
        let owner = rustix::fs::fstat(&self.fd).ok()?.st_uid;
        (owner >= 0x8_0000 && owner & 0xffff == 0xffff).then_some(owner & !0xffff)
    }

    /// Makes what lies inside, with its owners. Repeatable.
    pub fn prepare(&self, ids: &Identities) -> Result<(), String> {
        let failed = |name: &str, error: rustix::io::Errno| format!("{}/{name}: {error}", self.path.display());
        let owner = Uid::from_raw(ids.owner_id);
        let group = Gid::from_raw(ids.owner_id);
        // The launcher has no power over files: it makes and moves a sandbox's directory as a member of the group.
        // The server reaches agents' sockets in run/ but can change nothing there.
        let root = (Uid::ROOT, Gid::ROOT);
        for (name, (uid, gid), mode) in
            [("run", root, 0o755), ("sandboxes", (owner, group), 0o770), ("trash", (owner, group), 0o770)]
        {
            match mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(failed(name, error)),
            }
            let is_dir =
                statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(name, e))?.st_mode & libc::S_IFMT;
            if is_dir != libc::S_IFDIR {
                return Err(failed(name, rustix::io::Errno::NOTDIR));
            }
            chownat(&self.fd, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(|e| failed(name, e))?;
            chmod(self.path.join(name), Mode::from_raw_mode(mode)).map_err(|e| failed(name, e))?;
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            spread_subdirectories(&openat(&self.fd, name, flags, Mode::empty()).map_err(|e| failed(name, e))?);
        }
        rustix::fs::fchown(&self.fd, Some(owner), Some(Gid::from_raw(ids.owner_id))).map_err(|e| failed("", e))?;
        rustix::fs::fchmod(&self.fd, Mode::from_raw_mode(0o700)).map_err(|e| failed("", e))
    }

    /// Writes a small file for people and scripts, whole or not at all.
    pub fn publish(&self, name: &str, text: &str, ids: &Identities) -> Result<(), String> {
        let failed = |error: rustix::io::Errno| format!("{}/{name}: {error}", self.path.display());
        let new = format!("{name}.new");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = openat(&self.fd, &new, flags, Mode::from_raw_mode(0o644)).map_err(failed)?;
        rustix::fs::fchown(&file, Some(Uid::from_raw(ids.owner_id)), None).map_err(failed)?;
        File::from(file).write_all(text.as_bytes()).map_err(|e| format!("{}/{name}: {e}", self.path.display()))?;
        rustix::fs::renameat(&self.fd, &new, &self.fd, name).map_err(failed)
    }

    /// Removes such a file of an earlier start.
    pub fn withdraw(&self, name: &str) -> Result<(), String> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(format!("{}/{name}: {error}", self.path.display())),
        }
    }
}

/// Tells ext4 that what lies in this directory has nothing to do with each other, so that each subdirectory gets a part
/// of the disk to itself (chattr(1), attribute T).
///
/// Without it all sandboxes share one block group, and a new inode there is found only behind all that were deleted in
/// the last minutes, which ext4 does not like to use again (fs/ext4/ialloc.c, `recently_deleted`): after some hundred
/// creates and deletes half of a create's time. File systems that know no such flag need none.
fn spread_subdirectories(dir: &OwnedFd) {
    if let Ok(flags) = ioctl_getflags(dir) {
        let _ = ioctl_setflags(dir, flags | IFlags::TOPDIR);
    }
}

/// Whether the process of this pid is there and no zombie.
fn runs(pid: u32) -> bool {
    says_runs(&std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default())
}

/// From the text of /proc/PID/stat, whose second field is a name that may hold anything.
fn says_runs(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.is_empty() && !fields.starts_with(['Z', 'X']))
}

/// The pid in a lock file. The file lies in a directory of the server's, which may write anything there.
fn holder_in(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|pid| *pid > 0)
}

/// One service a directory: the lock lives as long as the file is open, and names its holder.
fn lock(dir: &OwnedFd, path: &Path) -> Result<File, Unheld> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let failed = |error: std::io::Error| Unheld::Unusable(format!("{}/lock: {error}", path.display()));
    let fd = openat(dir.as_fd(), "lock", flags, Mode::from_raw_mode(0o600)).map_err(|e| failed(e.into()))?;
    let mut file = File::from(fd);
    let deadline = Instant::now() + Duration::from_millis(DYING_MS_MAX);
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut text = String::new();
        file.rewind().map_err(failed)?;
        drop(Read::by_ref(&mut file).take(32).read_to_string(&mut text));
        let holder = holder_in(&text);
        // A killed service's server process shares the lock, and ends a moment after it.
        if !holder.is_some_and(runs) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        return Err(Unheld::InUse(format!(
            "the data directory {} is in use by another workspace-server, pid {}; stop that one or set WORKSPACE_DATA_DIR",
            path.display(),
            holder.map_or("unknown".to_owned(), |pid| pid.to_string())
        )));
    }
    let mut write = || {
        file.rewind()?;
        file.set_len(0)?;
        writeln!(file, "{}", std::process::id())
    };
    write().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A holder is a number, so that no path comes of it; a zombie does not run, whatever its name.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        if let Some(pid) = holder_in(&text) {
            assert!(pid > 0 && text.trim().trim_start_matches(['+', '0']) == pid.to_string());
        }
        let runs = says_runs(&text);
        if let Some((_, fields)) = text.rsplit_once(") ") {
            assert_eq!(says_runs(&format!("7 (a) Z (b) {fields}")), runs);
        }
        assert!(!says_runs(&format!("{text}) Z 1")) && says_runs(&format!("{text}) S 1")));
    }

    /// 100 creates at once took twice as long after some hundred were deleted, until the directories were told apart.
    #[test]
    fn subdirectories_are_spread_where_the_file_system_can() {
        let dir = std::env::temp_dir().join(format!("spread-{}", std::process::id()));
        let made = |name: &str| {
            std::fs::create_dir_all(dir.join(name)).unwrap();
            OwnedFd::from(File::open(dir.join(name)).unwrap())
        };
        let (spread, control) = (made("spread"), made("control"));
        spread_subdirectories(&spread);
        let inside = made("spread/inside");
        let can = ioctl_getflags(&control).and_then(|flags| ioctl_setflags(&control, flags | IFlags::TOPDIR)).is_ok();
        let is_set = |dir| ioctl_getflags(dir).is_ok_and(|flags| flags.contains(IFlags::TOPDIR));
        assert_eq!(is_set(&spread), can);
        assert!(!is_set(&inside), "what one sandbox holds belongs together");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_holder_is_a_process_that_runs() {
        // The fourth was read as the path of a file; nothing was read as /proc/stat, which is there.
        let corpus: [&[u8]; 6] = [b"4242\n", b"7 (a) S 1", b"7 (a) S) Z 1", b"/etc/x\n", b"", b"0\n"];
        crate::fuzz::run(any_text, &corpus);
    }
}
