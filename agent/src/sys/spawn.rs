//! How does a command come into being? Cloned by the spawner as a sibling (the agent is its parent) that borrows the
//! spawner's memory until it execs, or, as a rescue, forked by the agent itself.
//!
//! ```text
//! spawner ── clone(CLONE_PARENT | CLONE_VM | CLONE_VFORK) ──► child: leaf, session, stdio, identity, terminal, cwd, exec
//!    ▲ sleeps until exec or exit                                │ a failed step is written to the shared report
//!    └──────────────────────────────────────────────────────────┘
//! ```
//! Everything that runs between clone and exec is in `child` and below: system calls without the C library's locks,
//! no allocation, no panic. `clone3` is not used: the command filter answers it with ENOSYS.
//!
//! clone(2), execve(2), path lookup as in execvp(3).
#![allow(unsafe_code)]

use super::disposition::{last_errno, set_mask};
use super::newest::Newest;
use super::pty::{self, Size};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};
use rustix::thread::CapabilitySet;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

/// What root of a sandbox may do: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP, NET_BIND_SERVICE.
pub(crate) const ROOT_CAPABILITIES: u64 = 0x5fb;
/// The id of `user`, and of its group.
const USER_ID: u32 = 1000;
const STACK_BYTES: usize = 64 << 10;
const PATH_BYTES_MAX: usize = 4096;
/// Where execvp(3) looks without a PATH.
const PATH_DEFAULT: &[u8] = b"/usr/local/bin:/usr/bin:/bin";

/// Where the way to a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Step {
    /// The command runs.
    Done = 0,
    /// The process could not be made.
    Clone = 1,
    /// It could not enter its cgroup leaf.
    Leaf = 2,
    /// Session, stdio, descriptors.
    Stdio = 3,
    /// User, group, capabilities.
    Identity = 4,
    /// The working directory could not be entered.
    Cwd = 5,
    /// The working directory is not beneath the sandbox's root.
    CwdOutside = 6,
    /// The command was not found or could not be executed.
    Exec = 7,
    /// The command was found, but the interpreter that it names was not.
    Interpreter = 8,
    /// No terminal could be made, or its master could not be sent.
    Terminal = 9,
}

impl Step {
    /// The step of a number that came from another process.
    pub(crate) fn from_number(number: i32) -> Option<Step> {
        [
            Step::Done,
            Step::Clone,
            Step::Leaf,
            Step::Stdio,
            Step::Identity,
            Step::Cwd,
            Step::CwdOutside,
            Step::Exec,
            Step::Interpreter,
            Step::Terminal,
        ]
        .into_iter()
        .find(|step| *step as i32 == number)
    }
}

/// Which step failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Never `Done`.
    pub(crate) step: Step,
    /// The kernel's answer.
    pub(crate) errno: i32,
}

/// Who a command becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identity {
    /// Id 1000 without any capability.
    User,
    /// Id 0 of the inner user namespace with [`ROOT_CAPABILITIES`].
    Root,
    /// Who the spawner is: there is one id only.
    Same,
}

/// All that a command needs, borrowed: nothing is copied between clone and exec.
pub(crate) struct Order<'a> {
    /// argv; the first is the command, looked up in PATH of `env` when it holds no `/`. Not empty.
    pub(crate) argv: &'a [&'a CStr],
    /// The whole environment.
    pub(crate) env: &'a [&'a CStr],
    /// Absolute.
    pub(crate) cwd: &'a CStr,
    /// stdin, stdout, stderr; each number is above 2. With a terminal: three times the socket to which its master goes.
    pub(crate) stdio: [BorrowedFd<'a>; 3],
    /// The command works on a terminal of its own, which it makes itself so that it belongs to it.
    pub(crate) terminal: Option<Size>,
    /// `cgroup.procs` of the leaf, open for writing.
    pub(crate) leaf: Option<BorrowedFd<'a>>,
    /// Who it becomes.
    pub(crate) identity: Identity,
    /// Orphans among its descendants become its children: they can be found without a cgroup.
    pub(crate) subreaper: bool,
}

/// Memory on which a vforked child runs. One is enough: the spawner sleeps until the child has left it.
pub(crate) struct Stack {
    base: *mut c_void,
}

impl Stack {
    /// Maps a stack with a page below it that faults.
    pub(crate) fn new() -> Result<Stack, Errno> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let base = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
            libc::mmap(ptr::null_mut(), STACK_BYTES, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(last_errno());
        }
        // SAFETY: the first page of the mapping made above, which nothing uses yet.
        unsafe { libc::mprotect(base, 4096, libc::PROT_NONE) };
        Ok(Stack { base })
    }
}

struct Prepared<'a> {
    order: &'a Order<'a>,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    path: &'a [u8],
    /// The first descriptor that the child closes.
    close_from: i32,
    newest: Option<&'a Newest>,
    step: AtomicI32,
    errno: AtomicI32,
}

impl<'a> Prepared<'a> {
    fn new(order: &'a Order<'a>, close_from: i32) -> Prepared<'a> {
        let pointers = |list: &[&CStr]| list.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect::<Vec<_>>();
        let path = order.env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
        Prepared {
            order,
            argv: pointers(order.argv),
            envp: pointers(order.env),
            path: path.unwrap_or(PATH_DEFAULT),
            close_from,
            newest: None,
            step: AtomicI32::new(0),
            errno: AtomicI32::new(0),
        }
    }
}

/// Starts a command as a sibling of this process. Returns its pid when it runs; when a step failed, the pid of the
/// zombie (0 where none was made) and the failure. Sleeps until the child has exec'd or ended.
pub(crate) fn clone_sibling(order: &Order<'_>, stack: &mut Stack, newest: &Newest) -> (i32, Option<Failure>) {
    let prepared = Prepared { newest: Some(newest), ..Prepared::new(order, 3) };
    let flags = libc::CLONE_PARENT | libc::CLONE_VM | libc::CLONE_VFORK;
    newest.begin();
    // SAFETY: the stack is ours alone (`&mut`), its top is 16-byte aligned, and CLONE_VFORK keeps this process
    // asleep until the child has left it. `prepared` outlives the child's use of it for the same reason. The child
    // calls nothing that allocates, locks or unwinds, and never returns. Memory is shared, signal handlers are not.
    let pid = unsafe {
        let top = stack.base.cast::<u8>().add(STACK_BYTES).cast::<c_void>();
        libc::clone(vfork_child, top, flags, (&raw const prepared).cast_mut().cast::<c_void>())
    };
    if pid <= 0 {
        newest.none();
        return (0, Some(Failure { step: Step::Clone, errno: last_errno().raw_os_error() }));
    }
    let step = Step::from_number(prepared.step.load(Ordering::Acquire)).unwrap_or(Step::Exec);
    match step {
        Step::Done => (pid, None),
        step => (pid, Some(Failure { step, errno: prepared.errno.load(Ordering::Acquire) })),
    }
}

extern "C" fn vfork_child(argument: *mut c_void) -> c_int {
    // SAFETY: the pointer is to the `Prepared` of `clone_sibling`, whose frame sleeps until we exec or exit.
    let prepared = unsafe { &*argument.cast::<Prepared<'_>>() };
    let failure = child(prepared);
    prepared.errno.store(failure.errno, Ordering::Release);
    prepared.step.store(failure.step as i32, Ordering::Release);
    exit(127)
}

/// Forks this process: `None` in the child. Only for a process with one thread.
pub(crate) fn fork() -> Result<Option<i32>, Errno> {
    // SAFETY: one thread, so no lock can be held by another one at this moment.
    match unsafe { libc::fork() } {
        -1 => Err(last_errno()),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// Ends this process at once: no destructors, no exit handlers.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: always sound.
    unsafe { libc::_exit(code) }
}

/// Becomes the command, in a process that was forked for it. `report` must lie at descriptor 3; all above it are
/// closed. Returns only what failed.
pub(crate) fn exec_here(order: &Order<'_>) -> Failure {
    child(&Prepared::new(order, 4))
}

/// Leaves the cgroup namespace of the agent, so that a command sees its own cgroup as `/`.
pub(crate) fn leave_cgroup_namespace() -> Result<(), Errno> {
    // SAFETY: NEWCGROUP shares or unshares no memory and no descriptors.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWCGROUP) }
}

/// From here on: no allocation, no lock, no panic, no C library call but plain system calls.
fn child(prepared: &Prepared<'_>) -> Failure {
    let order = prepared.order;
    if let Some(newest) = prepared.newest {
        newest.tell();
    }
    if let Some(leaf) = order.leaf
        && let Err(errno) = rustix::io::write(leaf, b"0")
    {
        return failed(Step::Leaf, errno);
    }
    if let Err(errno) = stdio(order, prepared.close_from) {
        return failed(Step::Stdio, errno);
    }
    if let Err(errno) = become_identity(order.identity) {
        return failed(Step::Identity, errno);
    }
    if let Some(size) = order.terminal
        && let Err(errno) = pty::adopt(size, rustix::stdio::stdin())
    {
        return failed(Step::Terminal, errno);
    }
    if let Err(failure) = enter_cwd(order.cwd) {
        return failure;
    }
    if let Err(errno) = set_mask(0) {
        return failed(Step::Stdio, errno);
    }
    look_up_and_exec(prepared)
}

fn failed(step: Step, errno: Errno) -> Failure {
    Failure { step, errno: errno.raw_os_error() }
}

fn stdio(order: &Order<'_>, close_from: i32) -> Result<(), Errno> {
    rustix::process::setsid()?;
    if order.subreaper {
        // SAFETY: a prctl that takes numbers. It holds across exec and is not inherited by the command's children.
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    }
    rustix::stdio::dup2_stdin(order.stdio[0])?;
    rustix::stdio::dup2_stdout(order.stdio[1])?;
    rustix::stdio::dup2_stderr(order.stdio[2])?;
    // Closed now, not by exec: the working directory could name one of them by /proc/self/fd.
    super::fixed_fds::close_from(close_from)
}

fn become_identity(identity: Identity) -> Result<(), Errno> {
    if identity != Identity::User {
        return Ok(());
    }
    for bit in 0..u64::BITS {
        if ROOT_CAPABILITIES & (1 << bit) != 0 {
            rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit))?;
        }
    }
    rustix::thread::set_thread_groups(&[])?;
    let (group, user) = (Gid::from_raw(USER_ID), Uid::from_raw(USER_ID));
    rustix::thread::set_thread_res_gid(group, group, group)?;
    rustix::thread::set_thread_res_uid(user, user, user)?;
    // A change of ids sets this to the host's fs.suid_dumpable, for the spawner too: the memory is shared.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

fn enter_cwd(cwd: &CStr) -> Result<(), Failure> {
    rustix::process::chdir(cwd).map_err(|errno| failed(Step::Cwd, errno))?;
    let mut buffer = [0u8; PATH_BYTES_MAX];
    // SAFETY: the buffer is writable for its whole length, which is said.
    let length = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    if length < 0 {
        return Err(failed(Step::Cwd, last_errno()));
    }
    // The kernel writes "(unreachable)" before a directory that is not beneath the root.
    if buffer[0] == b'/' { Ok(()) } else { Err(failed(Step::CwdOutside, Errno::ACCESS)) }
}

/// As execvp(3): the first executable file wins; EACCES is remembered; what is no entry of a directory is passed by.
fn look_up_and_exec(prepared: &Prepared<'_>) -> Failure {
    let Some(command) = prepared.order.argv.first().map(|c| c.to_bytes()) else {
        return failed(Step::Exec, Errno::NOENT);
    };
    if command.is_empty() {
        return failed(Step::Exec, Errno::NOENT);
    }
    let mut buffer = [0u8; PATH_BYTES_MAX];
    if command.contains(&b'/') {
        return match join(&mut buffer, b"", command) {
            Some(path) => exec(prepared, path),
            None => failed(Step::Exec, Errno::NAMETOOLONG),
        };
    }
    let mut denied = false;
    for directory in prepared.path.split(|byte| *byte == b':') {
        let Some(path) = join(&mut buffer, directory, command) else { continue };
        let failure = exec(prepared, path);
        match failure.errno {
            libc::EACCES => denied = true,
            libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::ENAMETOOLONG if failure.step == Step::Exec => {}
            _ => return failure,
        }
    }
    failed(Step::Exec, if denied { Errno::ACCESS } else { Errno::NOENT })
}

/// `directory/command` with its NUL in `buffer`; an empty directory is the current one. `None`: too long.
fn join<'b>(buffer: &'b mut [u8; PATH_BYTES_MAX], directory: &[u8], command: &[u8]) -> Option<&'b CStr> {
    let slash = usize::from(!directory.is_empty());
    let length = directory.len() + slash + command.len();
    let target = buffer.get_mut(..length + 1)?;
    target.get_mut(..directory.len())?.copy_from_slice(directory);
    if slash == 1 {
        *target.get_mut(directory.len())? = b'/';
    }
    target.get_mut(directory.len() + slash..length)?.copy_from_slice(command);
    *target.get_mut(length)? = 0;
    CStr::from_bytes_with_nul(target).ok()
}

fn exec(prepared: &Prepared<'_>, path: &CStr) -> Failure {
    // SAFETY: all three are NUL-terminated; the lists end with a null pointer and point into memory that lives on.
    unsafe {
        libc::syscall(libc::SYS_execve, path.as_ptr(), prepared.argv.as_ptr(), prepared.envp.as_ptr());
    }
    let errno = last_errno();
    let exists = || rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok();
    if errno == Errno::NOENT && exists() {
        return failed(Step::Interpreter, errno);
    }
    failed(Step::Exec, errno)
}

/// Puts `fd` above the three standard numbers, so that a dup2 onto those can't destroy it.
pub(crate) fn above_stdio(fd: OwnedFd) -> Result<OwnedFd, Errno> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    rustix::io::fcntl_dupfd_cloexec(fd.as_fd(), 3)
}

/// Descriptor `number`, which this process placed itself and keeps for its whole life.
pub(crate) fn placed(number: RawFd) -> OwnedFd {
    // SAFETY: called by a fresh fork for a number it has just placed; no other owner is ever dropped there.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut anywhere into directory and command: the path is both with one slash between, or there is none.
    #[test]
    fn any_two_parts_are_one_path_or_none() {
        let target = |input: &[u8]| {
            let (directory, command) = input.split_at(input.len() / 2);
            let parts = if directory.is_empty() { vec![command] } else { vec![directory, command] };
            let whole = parts.join(&b'/');
            let fits = whole.len() < PATH_BYTES_MAX && !whole.contains(&0);
            let mut buffer = [0xff; PATH_BYTES_MAX];
            let joined = join(&mut buffer, directory, command);
            assert_eq!(joined.map(CStr::to_bytes), fits.then_some(&whole[..]));
        };
        crate::fuzz::run(target, &[b"/usr/bintrue", b"sh", b"", b"a\0b", &[b'x'; 2 * PATH_BYTES_MAX]]);
    }
}
