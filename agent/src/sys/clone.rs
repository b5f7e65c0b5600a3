//! How a process with new namespaces is made, and how it becomes another program.
//!
//! clone3(2) (Linux 5.3) copies the calling process like fork(2); the launcher has one thread, so no lock can be held
//! in the copy. clone(2) with CLONE_VM makes the short-lived holder of a user namespace: 34 us against 221 us for a
//! copied process. execveat(2) with AT_EMPTY_PATH runs a sealed memfd that has no path.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::process::Pid;
use rustix::thread::UnshareFlags;
use std::ffi::{CStr, c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// clone3's argument, as in linux/sched.h, size 64 (the first published one).
#[repr(C, align(8))]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Makes a copy of this process in the namespaces named by `flags` (CLONE_NEW*); the copy runs `child` and ends.
/// The caller must have one thread; `child` neither allocates nor takes a lock.
pub(crate) fn clone_process(flags: c_int, child: impl FnOnce()) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    let arguments = CloneArguments {
        flags: (flags | libc::CLONE_PIDFD) as u64,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArguments::default()
    };
    // SAFETY: `arguments` has the layout and the size that clone3 is told; without CLONE_VM the child gets a copy of
    // all memory, so both sides go on as after fork in a program with one thread. The kernel writes one int to `pidfd`.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<CloneArguments>()) };
    match pid {
        0 => {
            child();
            exit_now(1)
        }
        1.. => {
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so `pidfd` is a new descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Pid::from_raw(pid as i32).map(|pid| (pid, pidfd)).ok_or(Errno::SRCH)
        }
        _ => Err(last_errno()),
    }
}

/// Puts this process into a new namespace of each kind named by `flags`.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // SAFETY: the danger that rustix names is CLONE_FILES beside other threads; this program has one thread and its
    // callers name namespaces only.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Memory for the holder of a namespace: it only waits, so little is enough.
#[repr(C, align(16))]
pub(crate) struct HolderStack([u8; HOLDER_STACK_BYTES]);

const HOLDER_STACK_BYTES: usize = 16 << 10;

impl HolderStack {
    /// Made before any clone: the child has no heap.
    pub(crate) fn new() -> Box<Self> {
        Box::new(HolderStack([0; HOLDER_STACK_BYTES]))
    }
}

/// Starts a process that only holds a new user namespace, and ends with its parent. Kill and reap it after use.
pub(crate) fn hold_user_namespace(stack: &mut HolderStack) -> Result<Pid, Errno> {
    let parent = rustix::process::getpid().as_raw_nonzero().get() as usize as *mut c_void;
    let flags = libc::CLONE_VM | libc::CLONE_NEWUSER | libc::SIGCHLD;
    // SAFETY: `wait_for_the_end` only makes system calls, on its own stack, which outlives it: the caller kills and
    // reaps it before it lets the stack go. The stack grows down from its aligned end.
    let pid = unsafe {
        let top = (&raw mut stack.0).cast::<u8>().add(HOLDER_STACK_BYTES);
        libc::clone(wait_for_the_end, top.cast(), flags, parent)
    };
    if pid < 0 { Err(last_errno()) } else { Pid::from_raw(pid).ok_or(Errno::SRCH) }
}

extern "C" fn wait_for_the_end(parent: *mut c_void) -> c_int {
    // SAFETY: prctl, getppid, pause and _exit touch no memory of the parent that it could be using: it waits for us.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
        // A parent that died before the line above would leave us for ever. In a new pid namespace its id is 1.
        if libc::getppid() as usize != parent as usize {
            libc::_exit(1);
        }
        loop {
            libc::pause();
        }
    }
}

/// Runs the program that `program` is open on. `arguments` ends with a null; the environment is empty.
pub(crate) fn execute(program: BorrowedFd<'_>, arguments: &[*const libc::c_char]) -> Errno {
    if !arguments.last().is_some_and(|last| last.is_null()) {
        return Errno::INVAL;
    }
    let environment: [*const libc::c_char; 1] = [std::ptr::null()];
    // SAFETY: path, argument and environment lists are null-terminated and outlive the call, which returns only on error.
    unsafe {
        let (path, empty) = (c"".as_ptr(), libc::AT_EMPTY_PATH);
        libc::syscall(libc::SYS_execveat, program.as_raw_fd(), path, arguments.as_ptr(), environment.as_ptr(), empty);
    }
    last_errno()
}

/// Argument list of [`execute`] from text that lives for the whole program.
pub(crate) const fn argument_list(name: &'static CStr, role: &'static CStr) -> [*const libc::c_char; 3] {
    [name.as_ptr(), role.as_ptr(), std::ptr::null()]
}

/// Ends this process at once: no destructors, no exit handlers of the process it was copied from.
pub(crate) fn exit_now(status: c_int) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(status) }
}

fn last_errno() -> Errno {
    // SAFETY: `__errno_location` gives this thread's errno, always valid to read.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
