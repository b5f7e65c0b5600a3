//! How is a file written, whole or not at all? Into a file without a name, synced, given its name, its directory synced.
//!
//! ```text
//!  begin ─► data, data, … ─► commit: mode, fsync ─► conditions, link or rename ─► fsync of the directory
//!    └─ ended anywhere before: the kernel drops what has no name
//! ```
//! Where a file system knows no files without names, it has a hidden one, which goes with the worker unless that is killed.
//! Two writers with conditions never both win: they hold a lock on the directory while they look and act. Processes
//! inside can hold it too, and make only their own sandbox wait.

use super::Fault;
use super::link::Link;
use super::place::{self, Entry, Last, hidden_name, kind, node, reopen};
use rustix::fs::{AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;
use workspace_proto::agent::{FileCommit, FileNode};

/// Mode of a new file.
const MODE: u32 = 0o644;
const MODE_MASK: u32 = 0o777;
const COPY_BYTES: usize = 64 << 10;
/// Where an append is kept before it is made, when its own directory takes no files.
const ELSEWHERE: &[u8] = b"/tmp";
/// For the lock of a directory.
const LOCK_TRIES_MAX: u32 = 2000;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

/// A file on its way. Dropping it leaves nothing.
pub(super) struct Draft {
    path: Vec<u8>,
    file: Nameless,
    append: bool,
    failed: Option<Errno>,
}

impl Draft {
    /// Begins, and tells what is there now. `None`: no file can be put where that is.
    pub(super) fn begin(path: Vec<u8>, append: bool) -> Result<(FileNode, Option<Draft>), Errno> {
        let (there, above) = match Entry::find(&path, Last::Follow) {
            Ok(entry) => (entry.stat()?, entry.directory),
            // Parents are made at the end: a caller that leaves in the middle leaves none behind.
            Err(Errno::NOENT) => {
                let (above, _) = place::split(&path).ok_or(Errno::INVAL)?;
                (None, place::deepest(above)?)
            }
            // `/`, or a link to a directory that says so.
            Err(Errno::INVAL | Errno::ISDIR) => (Some(place::look(&path, Last::Follow)?.1), place::deepest(b"/")?),
            Err(errno) => return Err(errno),
        };
        let seen = there.as_ref().map(node).unwrap_or_default();
        if there.as_ref().is_some_and(|stat| kind(stat) != FileType::RegularFile) {
            return Ok((seen, None));
        }
        let file = match Nameless::make(above) {
            Err(Errno::ACCESS | Errno::ROFS) if append && there.is_some() => {
                Nameless::make(rustix::fs::open(ELSEWHERE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?
            }
            file => file?,
        };
        Ok((seen, Some(Draft { path, file, append, failed: None })))
    }

    /// Takes the next bytes. What fails is told at the end.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = write_all(&self.file.fd, bytes).err();
        }
    }

    /// Puts it in its place.
    pub(super) fn commit(self, commit: &FileCommit, link: &mut Link) -> Result<FileNode, Fault> {
        if let Some(errno) = self.failed {
            return Err(errno.into());
        }
        let entry = Entry::find_or_make(&self.path, Last::Follow)?;
        let _alone = if commit.only_new || commit.same.is_some() { Some(lock(&entry.directory, link)?) } else { None };
        let there = entry.stat()?;
        if let Some(same) = &commit.same
            && there.as_ref().map(node).as_ref() != Some(same)
        {
            return Err(Errno::STALE.into());
        }
        match &there {
            Some(_) if commit.only_new => return Err(Errno::EXIST.into()),
            Some(stat) if kind(stat) == FileType::Directory => return Err(Errno::ISDIR.into()),
            Some(stat) if kind(stat) != FileType::RegularFile => return Err(Errno::INVAL.into()),
            Some(_) if self.append => return self.append(&entry, commit, link),
            _ => {}
        }
        let before = there.as_ref().map_or(MODE, |stat| stat.st_mode);
        let mode = if commit.has_mode { commit.mode } else { before } & MODE_MASK;
        rustix::fs::fchmod(&self.file.fd, Mode::from_raw_mode(mode))?;
        rustix::fs::fsync(&self.file.fd)?;
        let file = self.file.place(&entry, there.is_none(), commit.only_new)?;
        entry.sync()?;
        Ok(node(&rustix::fs::fstat(file)?))
    }

    /// Copies what was received behind what is there; takes it back where there is no room.
    fn append(&self, entry: &Entry, commit: &FileCommit, link: &mut Link) -> Result<FileNode, Fault> {
        let there = entry.open()?;
        let stat = rustix::fs::fstat(&there)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(Errno::INVAL.into());
        }
        let file = reopen(&there, &stat, OFlags::WRONLY | OFlags::APPEND)?;
        let before = rustix::fs::fstat(&file)?.st_size as u64;
        let (mut copied, mut buffer) = (0, vec![0; COPY_BYTES]);
        loop {
            let step = rustix::io::pread(&self.file.fd, &mut buffer[..], copied)
                .and_then(|read| write_all(&file, &buffer[..read]).map(|()| read));
            match step {
                Ok(0) => break,
                Ok(read) => copied += read as u64,
                Err(Errno::INTR) => {}
                Err(errno) => {
                    // What a half of a piece has left is taken back too, where nobody else has written meanwhile.
                    let now = rustix::fs::fstat(&file)?.st_size as u64;
                    if now >= before + copied && now < before + copied + COPY_BYTES as u64 {
                        rustix::fs::ftruncate(&file, before)?;
                    }
                    return Err(errno.into());
                }
            }
            link.look()?;
        }
        if commit.has_mode {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(commit.mode & MODE_MASK))?;
        }
        rustix::fs::fsync(&file)?;
        Ok(node(&rustix::fs::fstat(&file)?))
    }
}

/// Held while a change with conditions looks and acts; closing it ends it.
fn lock(directory: &OwnedFd, link: &mut Link) -> Result<OwnedFd, Fault> {
    let held = openat(directory, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for _ in 0..LOCK_TRIES_MAX {
        match rustix::fs::flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(held),
            Err(Errno::WOULDBLOCK | Errno::INTR) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(errno.into()),
        }
        link.look()?;
    }
    Err(Errno::BUSY.into())
}

/// A file that has no name yet, or a hidden one.
pub(super) struct Nameless {
    pub(super) fd: OwnedFd,
    hidden: Option<Entry>,
}

impl Nameless {
    /// Makes one where it can be given a name in this directory.
    pub(super) fn make(directory: OwnedFd) -> Result<Nameless, Errno> {
        let mode = Mode::from_raw_mode(0o600);
        match openat(&directory, ".", OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC, mode) {
            // What file systems and kernels say that can't.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            opened => return Ok(Nameless { fd: opened?, hidden: None }),
        }
        let name = hidden_name();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(&directory, &name[..], flags, mode)?;
        Ok(Nameless { fd, hidden: Some(Entry { directory, name }) })
    }

    /// Gives it its name, whole, in one step.
    pub(super) fn place(mut self, to: &Entry, is_free: bool, only_new: bool) -> Result<OwnedFd, Errno> {
        let hidden = match self.hidden.take() {
            Some(hidden) => hidden,
            None if is_free => match name(&self.fd, to) {
                Err(Errno::EXIST) if !only_new => self.hide(to)?,
                named => return named.and_then(|()| self.into_file()),
            },
            None => self.hide(to)?,
        };
        let flags = if only_new { RenameFlags::NOREPLACE } else { RenameFlags::empty() };
        let moved = rustix::fs::renameat_with(&hidden.directory, &hidden.name[..], &to.directory, &to.name[..], flags);
        if moved.is_err() {
            self.hidden = Some(hidden);
        }
        moved.and_then(|()| self.into_file())
    }

    /// Gives it a hidden name beside the one that it will have.
    fn hide(&self, to: &Entry) -> Result<Entry, Errno> {
        let directory = rustix::io::fcntl_dupfd_cloexec(&to.directory, 3)?;
        let hidden = Entry { directory, name: hidden_name() };
        name(&self.fd, &hidden)?;
        Ok(hidden)
    }

    fn into_file(self) -> Result<OwnedFd, Errno> {
        rustix::io::fcntl_dupfd_cloexec(&self.fd, 3)
    }
}

impl Drop for Nameless {
    fn drop(&mut self) {
        if let Some(hidden) = &self.hidden {
            let _ = rustix::fs::unlinkat(&hidden.directory, &hidden.name[..], AtFlags::empty());
        }
    }
}

/// linkat(2) of a file that was made with O_TMPFILE.
fn name(file: &OwnedFd, entry: &Entry) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, path, &entry.directory, &entry.name[..], AtFlags::SYMLINK_FOLLOW)
}

/// Writes all of it where the file stands.
pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
