//! fork(2), execveat(2) and namespaces for the supervisor, which has one thread and no ring.
//!
//! Sources: fork(2), execveat(2), unshare(2), waitpid(2). Linux 5.9 and later (close_range).
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Which side of a fork this is.
pub enum Fork {
    /// The new process.
    Child,
    /// The old one, with the new one's pid.
    Parent(i32),
}

/// Forks. The caller must be the only thread of its process: checked, since a lock held by another thread would
/// never be released in the child.
pub fn fork() -> io::Result<Fork> {
    if thread_count() != 1 {
        return Err(io::Error::other("fork of a process with more than one thread"));
    }
    // SAFETY: single-threaded as checked above, so the child's memory, locks and allocator are in a usable state.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

fn thread_count() -> usize {
    std::fs::read_dir("/proc/self/task").map(Iterator::count).unwrap_or(1)
}

/// Replaces this process by the program in `program`, with an empty environment. Returns only on failure.
pub fn exec_fd(program: BorrowedFd<'_>, argv: &[&CStr]) -> io::Error {
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let env = [std::ptr::null::<libc::c_char>()];
    // SAFETY: argv and env are arrays of pointers to NUL-terminated strings that live until the call returns, each
    // ended by a null pointer; the descriptor is open for the call.
    unsafe { libc::fexecve(program.as_raw_fd(), pointers.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Puts `from` at the descriptors `at..`, without close-on-exec, and closes all others above 2. Call in a child that
/// will exec: descriptors that Rust objects own are closed under them.
pub fn arrange_fds(from: &[BorrowedFd<'_>], at: i32) -> io::Result<()> {
    let above = at + from.len() as i32;
    let mut moved = Vec::with_capacity(from.len());
    for fd in from {
        // SAFETY: duplicates an open descriptor to a number at or above `above`; no memory is touched.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, above) };
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        moved.push(copy);
    }
    for (to, from) in (at..).zip(&moved) {
        // SAFETY: both numbers are valid; whatever was at `to` is meant to be replaced in this child.
        if unsafe { libc::dup2(*from, to) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: closes descriptors only; this child uses none of them any more.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, 0) };
    if closed < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// unshare(2) with `CLONE_NEW*` flags only.
pub fn unshare_namespaces(flags: i32) -> io::Result<()> {
    let allowed = libc::CLONE_NEWUSER | libc::CLONE_NEWNS;
    if flags & !allowed != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: the flags are checked to be namespaces only: no memory or descriptor table is unshared.
    if unsafe { libc::unshare(flags) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// setns(2) into a user namespace.
pub fn join_user_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: changes this single-threaded process's namespace and nothing in memory.
    let done = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWUSER) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `NS_GET_PARENT` of ioctl_nsfs(2): the parent of a user namespace.
pub fn parent_namespace(namespace: BorrowedFd<'_>) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    // SAFETY: the ioctl takes no argument and returns a new descriptor or -1.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Sets all user and group ids of this process and clears its supplementary groups where that is allowed.
pub fn become_id(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the calls take numbers and an empty list only; the process has one thread, so glibc's broadcast to
    // other threads finds none.
    unsafe {
        if libc::setgroups(0, std::ptr::null()) < 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EPERM) {
                return Err(error); // EPERM: setgroups is denied in a namespace of one id
            }
        }
        if libc::setresgid(gid, gid, gid) < 0 || libc::setresuid(uid, uid, uid) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// A child that has ended: its pid and wait status. `None`: none has.
pub fn reap() -> Option<(i32, i32)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) } {
        pid if pid > 0 => Some((pid, status)),
        _ => None,
    }
}

/// kill(2) of a child of ours that was not reaped yet, so that its pid is still its own.
pub fn kill(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: takes numbers only; pid > 1 excludes groups, everybody and init.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Closes all descriptors from `first` on. Call before anything is opened: those that Rust objects own are closed under
/// them.
pub fn close_from(first: u32) {
    // SAFETY: closes descriptors only; the caller owns none of them. Refused (before Linux 5.9), they stay open.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
}
