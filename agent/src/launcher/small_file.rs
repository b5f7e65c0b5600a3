//! Small files of the kernel and of ours, read and written beneath an open directory, whole and bounded.

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Largest file read here, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 1 << 20;

/// Opens a directory as a place to start from; nothing can be read from the descriptor itself.
pub(crate) fn place(path: &str) -> Result<OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Opens a directory beneath `dir`; a symlink is refused.
pub(crate) fn place_at(dir: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat(dir, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Makes a directory unless it is there, and opens it as a place.
pub(crate) fn make_place_at(dir: BorrowedFd<'_>, name: &str, mode: u32) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(mode)) {
        Ok(()) | Err(Errno::EXIST) => place_at(dir, name),
        Err(errno) => Err(errno),
    }
}

/// The whole text of a file; what is not UTF-8 is replaced.
pub(crate) fn read(dir: BorrowedFd<'_>, name: &str) -> Result<String, Errno> {
    let file = openat(dir, name, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?;
    read_whole(file.as_fd()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Everything that can be read from an open file, at most [`FILE_BYTES_MAX`].
pub(crate) fn read_whole(file: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    let mut piece = [0_u8; 8192];
    loop {
        match rustix::io::read(file, &mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(n) if bytes.len() + n > FILE_BYTES_MAX => return Err(Errno::FBIG),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Writes a kernel's file in one call; a part written is an error, because the kernel takes each write as a whole.
pub(crate) fn write(dir: BorrowedFd<'_>, name: &str, text: &str) -> Result<(), Errno> {
    let file = openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write_once(file.as_fd(), text.as_bytes())
}

/// One write of the whole, or an error.
pub(crate) fn write_once(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    if rustix::io::write(file, bytes)? == bytes.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Names of the directories beneath `dir`, at most `names_max`.
pub(crate) fn directories(dir: BorrowedFd<'_>, names_max: usize) -> Result<Vec<String>, Errno> {
    let listed = openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(listed)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." || names.len() >= names_max {
            continue;
        }
        let directory = match entry.file_type() {
            FileType::Unknown => {
                let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
                FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            }
            kind => kind == FileType::Directory,
        };
        if directory {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Turns "it is gone already" into success.
pub(crate) fn gone_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}
