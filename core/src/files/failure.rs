//! What the kernel's refusals mean to a caller: the one errno table of file work.

use super::path::SandboxPath;
use crate::error::{Error, Reason};
use rustix::io::Errno;

/// A system call on `path` failed.
pub(super) fn of(errno: Errno, path: &SandboxPath) -> Error {
    let (reason, what) = told(errno);
    logged(Error::new(reason, format!("{}: {what}", path.brief())), errno)
}

/// What stands at `path` has no bytes to read or write.
pub(super) fn special(path: &SandboxPath) -> Error {
    Error::new(
        Reason::InvalidPath,
        format!("{}: is no regular file (a FIFO, socket, device or link), so it is never opened", path.brief()),
    )
}

/// A system call on something without a path of its own failed.
pub(super) fn anywhere(errno: Errno) -> Error {
    let (reason, what) = told(errno);
    logged(Error::new(reason, what), errno)
}

/// What a caller does wrong is no matter of the log.
fn logged(error: Error, errno: Errno) -> Error {
    match error.reason {
        Reason::Internal | Reason::NoSpace | Reason::Overloaded => error.source(errno),
        _ => error,
    }
}

fn told(errno: Errno) -> (Reason, &'static str) {
    match errno {
        Errno::NOENT => (Reason::FileNotFound, "there is no such file or directory"),
        Errno::EXIST => (Reason::FileAlreadyExists, "exists already; set `overwrite`, or name another place"),
        Errno::ACCESS | Errno::PERM | Errno::ROFS => (Reason::PermissionDenied, "this is not permitted"),
        Errno::NOTDIR => (Reason::NotADirectory, "a part of the path is no directory"),
        Errno::NOTEMPTY => (Reason::DirectoryNotEmpty, "the directory is not empty"),
        Errno::ISDIR => (Reason::IsADirectory, "is a directory"),
        Errno::NOSPC | Errno::DQUOT => (Reason::NoSpace, "no space is left; remove files first"),
        Errno::FBIG => (Reason::NoSpace, "the file is larger than the disk takes"),
        Errno::NAMETOOLONG => (Reason::InvalidPath, "a name or the path is too long"),
        Errno::LOOP => (Reason::InvalidPath, "has too many symbolic links on its way"),
        Errno::XDEV => (Reason::InvalidPath, "leads out of the sandbox's files"),
        Errno::INVAL => (Reason::InvalidPath, "this cannot be done with this path"),
        Errno::BUSY | Errno::TXTBSY => (Reason::PermissionDenied, "is in use"),
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => (Reason::Overloaded, "the server has too much open; try again"),
        _ => (Reason::Internal, "the file system failed at this; the log says how"),
    }
}
