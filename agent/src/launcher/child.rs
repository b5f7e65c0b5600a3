//! From clone to exec: how the copy of the launcher becomes PID 1 of a sandbox.
//!
//! Runs in the child, which has one thread and a copy of the launcher's memory: nothing here allocates or takes a
//! lock, everything is prepared in [`Plan`]. Each step has a name; the first that fails is written to a pipe that exec
//! closes. A child whose launcher dies before the release ends by itself, because it gave up its own copy of the
//! release pipe's write end first.
//!
//! ```text
//!  wait for maps -> outer 0 -> mounts -> own proc -> name -> inner user namespace -> descriptors -> no privilege -> exec
//! ```

use super::etc::HOST_NAME;
use super::identity::Mode;
use super::privilege;
use crate::sys::clone::{self, HolderStack, argument_list, execute, exit_now};
use crate::sys::fixed_fds::{self, AtExec};
use crate::sys::sigchld;
use rustix::fs::{AtFlags, CWD, Mode as FileMode, OFlags, chownat, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags,
    UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount, mount_bind, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, WaitOptions, chdir, kill_process, set_dumpable_behavior, setsid, umask, waitpid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

/// Descriptors that the agent starts with, from number 3 on; see `AgentSetup` in launcher.proto.
pub(crate) const KEPT_MAX: usize = 16;
const FIRST_KEPT_FD: RawFd = 3;

/// Everything that the child needs, made before it exists.
pub(crate) struct Plan {
    pub(crate) mode: Mode,
    pub(crate) release_read: OwnedFd,
    pub(crate) release_write: OwnedFd,
    pub(crate) failure: OwnedFd,
    /// Detached mounts of the sandbox's own directories.
    pub(crate) workspace: OwnedFd,
    pub(crate) home: OwnedFd,
    pub(crate) tmp_bytes: CString,
    pub(crate) tmp_inodes: CString,
    /// Numbers 3, 4, 6, 7, ...: what will be where; 5 is made by the child.
    pub(crate) listener: OwnedFd,
    pub(crate) link: OwnedFd,
    pub(crate) setup: OwnedFd,
    pub(crate) groups: Vec<OwnedFd>,
    pub(crate) stack: Box<HolderStack>,
}

/// The steps of the child, by number on the failure pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Step {
    Credentials,
    Private,
    Files,
    Temporary,
    Proc,
    Terminals,
    Name,
    InnerNamespace,
    Descriptors,
    Privileges,
    Execute,
}

/// Their words, in the same order.
const STEP_NAMES: [&str; 11] = [
    "child_credentials",
    "child_private",
    "child_files",
    "child_temporary",
    "child_proc",
    "child_terminals",
    "child_name",
    "child_inner_namespace",
    "child_descriptors",
    "child_privileges",
    "child_execute",
];

/// Bytes of one report on the failure pipe: the step, then the errno.
pub(crate) const REPORT_BYTES: usize = 5;

/// Reads a report of the failure pipe.
pub(crate) fn read_report(report: [u8; REPORT_BYTES]) -> (&'static str, i32) {
    let [step, a, b, c, d] = report;
    (STEP_NAMES.get(usize::from(step)).copied().unwrap_or("child"), i32::from_ne_bytes([a, b, c, d]))
}

/// The child's whole life before it is the agent.
pub(crate) fn become_agent(plan: &mut Plan, program: BorrowedFd<'_>) -> ! {
    fixed_fds::close(plan.release_write.as_raw_fd());
    let mut byte = [0_u8];
    if !matches!(rustix::io::read(&plan.release_read, &mut byte), Ok(1)) {
        exit_now(1);
    }
    let Err((step, errno)) = build(plan, program);
    let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
    // If nobody reads it any more, nobody wants to know.
    let _ = rustix::io::write(&plan.failure, &[step as u8, a, b, c, d]);
    exit_now(1)
}

fn build(plan: &mut Plan, program: BorrowedFd<'_>) -> Result<Infallible, (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    become_outer_root(plan.mode).map_err(at(Step::Credentials))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change(c"/", private).map_err(at(Step::Private))?;
    let attach =
        |mount: &OwnedFd, target: &CStr| move_mount(mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH);
    attach(&plan.workspace, c"/workspace").map_err(at(Step::Files))?;
    attach(&plan.home, c"/home/user").map_err(at(Step::Files))?;
    mount_temporary(plan).map_err(at(Step::Temporary))?;
    mount_proc().map_err(at(Step::Proc))?;
    mount_terminals(plan.mode).map_err(at(Step::Terminals))?;
    rustix::system::sethostname(HOST_NAME.as_bytes()).map_err(at(Step::Name))?;
    let inner = make_inner_namespace(plan.mode, &mut plan.stack).map_err(at(Step::InnerNamespace))?;
    let program = place_descriptors(plan, inner, program).map_err(at(Step::Descriptors))?;
    give_up_privilege().map_err(at(Step::Privileges))?;
    // The failure pipe and the program close at exec.
    Err((Step::Execute, execute(program.as_fd(), &argument_list(c"workspace-agent", c"agent"))))
}

fn become_outer_root(mode: Mode) -> Result<(), Errno> {
    let (user, group) = (Uid::ROOT, Gid::ROOT);
    set_thread_res_gid(group, group, group)?;
    if mode != Mode::Single {
        set_thread_groups(&[])?;
    }
    set_thread_res_uid(user, user, user)?;
    setsid()?;
    umask(FileMode::empty());
    chdir(c"/")
}

/// Subdirectories of the one tmpfs: name in it, where it is seen, mode. One superblock, because each memory cgroup
/// carries memory for every superblock that ever existed.
const TEMPORARY: [(&CStr, &CStr, u32); 5] = [
    (c"tmp", c"/tmp", 0o1777),
    (c"shm", c"/dev/shm", 0o1777),
    (c"var-tmp", c"/var/tmp", 0o1777),
    (c"root", c"/root", 0o700),
    (c"run", c"/run", 0o755),
];

fn mount_temporary(plan: &Plan) -> Result<(), Errno> {
    let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"size", plan.tmp_bytes.as_c_str())?;
    fsconfig_set_string(&context, c"nr_inodes", plan.tmp_inodes.as_c_str())?;
    fsconfig_set_string(&context, c"mode", c"0755")?;
    fsconfig_create(&context)?;
    let unarmed = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let whole = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, unarmed)?;
    // Clones of a part can be taken of an attached mount only (before Linux 6.15), so it stands on /run for a moment.
    move_mount(&whole, c"", CWD, c"/run", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let clone = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mut run = None;
    for (name, target, mode) in TEMPORARY {
        mkdirat(&whole, name, FileMode::from_raw_mode(mode))?;
        if plan.mode != Mode::Single {
            // Outer 1 is the inner root; outer 0, which made it, does not exist inside.
            chownat(&whole, name, Some(Uid::from_raw(1)), Some(Gid::from_raw(1)), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let part = open_tree(&whole, name, clone)?;
        if name == c"run" {
            run = Some(part);
        } else {
            move_mount(&part, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
    }
    unmount(c"/run", UnmountFlags::DETACH)?;
    let run = run.ok_or(Errno::NOENT)?;
    move_mount(&run, c"", CWD, c"/run", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Files that tell about the host; a null device lies over each.
const HIDDEN_FILES: [&CStr; 10] = [
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/key-users",
    c"/proc/kallsyms",
    c"/proc/timer_list",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/config.gz",
    c"/proc/cmdline",
    c"/proc/interrupts",
];
const HIDDEN_DIRECTORIES: [&CStr; 3] = [c"/proc/acpi", c"/proc/scsi", c"/proc/asound"];
const READ_ONLY_PATHS: [&CStr; 5] = [c"/proc/sys", c"/proc/sysrq-trigger", c"/proc/bus", c"/proc/fs", c"/proc/irq"];

fn mount_proc() -> Result<(), Errno> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"/proc", c"proc", flags, None::<&CStr>)?;
    let masks = HIDDEN_FILES.iter().map(|path| (c"/dev/null", path));
    for (source, path) in masks.chain(HIDDEN_DIRECTORIES.iter().map(|path| (c"/var/empty", path))) {
        absent_is_fine(mount_bind(source, *path))?;
    }
    for path in READ_ONLY_PATHS {
        match mount_bind(path, path) {
            Ok(()) => mount_remount(path, flags | MountFlags::BIND | MountFlags::RDONLY, c"")?,
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn absent_is_fine(result: Result<(), Errno>) -> Result<(), Errno> {
    if result == Err(Errno::NOENT) { Ok(()) } else { result }
}

fn mount_terminals(mode: Mode) -> Result<(), Errno> {
    // gid 6 is the inner group tty (5). One id has no such group: a terminal then has its opener's.
    let options = match mode {
        Mode::Root | Mode::Ranged => c"newinstance,ptmxmode=0666,mode=620,gid=6,max=64",
        Mode::Single => c"newinstance,ptmxmode=0666,mode=620,max=64",
    };
    mount(c"devpts", c"/dev/pts", c"devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
}

/// Makes the user namespace of spawner and commands; it belongs to us, so the agent may enter it without privilege.
fn make_inner_namespace(mode: Mode, stack: &mut HolderStack) -> Result<OwnedFd, Errno> {
    // Changing ids made us undumpable, and then our own /proc files belong to the host's root.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let holder = clone::hold_user_namespace(stack)?;
    let mut path = PidPath::new(holder.as_raw_nonzero().get());
    let namespace = write_map(path.with(b"/gid_map"), mode.inner_map())
        .and_then(|()| write_map(path.with(b"/uid_map"), mode.inner_map()))
        .and_then(|()| {
            let path = path.with(b"/ns/user").ok_or(Errno::NAMETOOLONG)?;
            openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty())
        });
    kill_process(holder, Signal::KILL)?;
    waitpid(Some(holder), WaitOptions::empty())?;
    namespace
}

fn write_map(path: Option<&CStr>, map: &[u8]) -> Result<(), Errno> {
    let path = path.ok_or(Errno::NAMETOOLONG)?;
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, FileMode::empty())?;
    if rustix::io::write(&file, map)? == map.len() { Ok(()) } else { Err(Errno::IO) }
}

/// `/proc/<pid>/<name>` without the heap.
struct PidPath {
    bytes: [u8; 48],
    stem: usize,
}

impl PidPath {
    fn new(pid: i32) -> Self {
        let mut bytes = [0; 48];
        bytes[..6].copy_from_slice(b"/proc/");
        let mut digits = [0_u8; 10];
        let (mut rest, mut first) = (pid.unsigned_abs(), digits.len());
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let stem = 6 + digits.len() - first;
        bytes[6..stem].copy_from_slice(&digits[first..]);
        PidPath { bytes, stem }
    }

    fn with(&mut self, name: &[u8]) -> Option<&CStr> {
        let end = self.stem + name.len();
        self.bytes.get_mut(self.stem..end)?.copy_from_slice(name);
        *self.bytes.get_mut(end)? = 0;
        CStr::from_bytes_until_nul(&self.bytes).ok()
    }
}

/// Puts every descriptor where the agent looks for it and closes the rest; gives the program's new place.
fn place_descriptors(plan: &mut Plan, inner: OwnedFd, program: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // From here on numbers only: a value dropped after its number was filled anew would close the wrong descriptor.
    let null = openat(CWD, c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, FileMode::empty())?.into_raw_fd();
    let inner = inner.into_raw_fd();
    let (listener, link, setup) = (plan.listener.as_raw_fd(), plan.link.as_raw_fd(), plan.setup.as_raw_fd());
    let fixed = [listener, link, inner, setup];
    let count = fixed.len() + plan.groups.len();
    let mut wanted = [-1; KEPT_MAX];
    if count > KEPT_MAX {
        return Err(Errno::MFILE);
    }
    let groups = plan.groups.iter().map(OwnedFd::as_raw_fd);
    for (slot, number) in wanted.iter_mut().zip(fixed.into_iter().chain(groups)) {
        *slot = number;
    }
    // First out of the way of all numbers that will be filled, then each to its own.
    let after = FIRST_KEPT_FD + count as RawFd;
    let (program_fd, failure_fd) = (after, after + 1);
    let least = failure_fd + 1;
    let program = fixed_fds::lift(program.as_raw_fd(), least)?;
    let failure = fixed_fds::lift(plan.failure.as_raw_fd(), least)?;
    let null = fixed_fds::lift(null, least)?;
    for slot in &mut wanted[..count] {
        *slot = fixed_fds::lift(*slot, least)?;
    }
    fixed_fds::place(null, 0, AtExec::Keep)?;
    fixed_fds::place(null, 1, AtExec::Keep)?;
    for (number, slot) in (FIRST_KEPT_FD..).zip(&wanted[..count]) {
        fixed_fds::place(*slot, number, AtExec::Keep)?;
    }
    fixed_fds::place(program, program_fd, AtExec::Close)?;
    fixed_fds::place(failure, failure_fd, AtExec::Close)?;
    let old = std::mem::replace(&mut plan.failure, fixed_fds::take(failure_fd)?);
    let _ = old.into_raw_fd();
    fixed_fds::close_from(least)?;
    fixed_fds::take(program_fd)
}

fn give_up_privilege() -> Result<(), Errno> {
    sigchld::start_afresh();
    umask(FileMode::from_raw_mode(0o022));
    // Commands get theirs by entering the inner namespace, which starts with a full bounding set of its own.
    privilege::bound_to(CapabilitySet::empty())?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_paths_of_every_length() {
        for pid in [2, 10, 32_767, i32::MAX] {
            let mut path = PidPath::new(pid);
            assert_eq!(path.with(b"/uid_map").unwrap().to_str().unwrap(), format!("/proc/{pid}/uid_map"));
            assert_eq!(path.with(b"/ns/user").unwrap().to_str().unwrap(), format!("/proc/{pid}/ns/user"));
        }
    }

    #[test]
    fn reports_name_their_step() {
        assert_eq!(STEP_NAMES[Step::Execute as usize], "child_execute");
        assert_eq!(read_report([Step::Proc as u8, 1, 0, 0, 0]), ("child_proc", i32::from_ne_bytes([1, 0, 0, 0])));
        assert_eq!(read_report([200, 0, 0, 0, 0]).0, "child");
    }

    #[test]
    fn any_report_names_a_step() {
        crate::fuzz::run(
            |input| {
                let Ok(report) = <[u8; REPORT_BYTES]>::try_from(input) else { return };
                let (step, errno) = read_report(report);
                assert_eq!(step == "child", usize::from(report[0]) >= STEP_NAMES.len());
                assert_eq!(errno.to_ne_bytes(), report[1..]);
            },
            &[&[Step::Proc as u8, 1, 0, 0, 0], &[11, 255, 255, 255, 255]],
        );
    }
}
