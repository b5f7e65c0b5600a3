//! Can a process really enter the namespaces of a sandbox, and mount what a sandbox needs?
//!
//! The parent starts this program again as `__probe sandbox`. That child makes a user namespace and waits; the parent
//! writes the id maps as the launcher would, and tries an idmapped mount with that namespace; then the child goes on,
//! step by step, and prints `STEP ERRNO` for each. Everything lives in namespaces that end with the child.

use super::facts::Outcome;
use super::ids::IdPlan;
use crate::sys::{idmap, namespaces};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, OpenTreeFlags, mount, mount_change, open_tree};
use rustix::thread::UnshareFlags;
use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

const SELF: &str = "/proc/self/exe";
/// More than all steps print together.
const ANSWER_BYTES_MAX: u64 = 4096;

/// What the child and the parent found, by step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Steps {
    steps: Vec<(String, i32)>,
}

impl Steps {
    /// Reads the child's lines; what is not a step is left out.
    pub(super) fn parse(text: &str) -> Steps {
        let step = |line: &str| {
            let (name, errno) = line.split_once(' ')?;
            Some((name.to_owned(), errno.trim().parse().ok()?))
        };
        Steps { steps: text.lines().filter_map(step).collect() }
    }

    /// The outcome of one step.
    pub(super) fn outcome(&self, step: &str) -> Outcome {
        match self.steps.iter().find(|(name, _)| name == step) {
            None => Outcome::NotTried,
            Some((_, 0)) => Outcome::Works,
            Some((_, errno)) => Outcome::Fails(*errno),
        }
    }

    /// The first step that failed, of those that every sandbox needs.
    pub(super) fn first_failure(&self) -> Option<(&str, i32)> {
        let needed = ["start", "unshare", "map", "ids", "namespaces", "private", "tmpfs"];
        let failed = |(name, errno): &&(String, i32)| *errno != 0 && needed.contains(&name.as_str());
        self.steps.iter().find(failed).map(|(name, errno)| (name.as_str(), *errno))
    }

    fn push(&mut self, step: &str, result: Result<(), Errno>) {
        self.steps.push((step.to_owned(), result.err().map_or(0, Errno::raw_os_error)));
    }
}

/// The parent's side.
pub(super) fn sandbox(plan: &IdPlan, data_dir: &Path) -> Steps {
    let mut steps = Steps::default();
    let spawned = Command::new(SELF)
        .args(["__probe", "sandbox"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    match spawned {
        Ok(mut child) => {
            talk(&mut child, plan, data_dir, &mut steps);
            drop(child.stdin.take());
            // The child ends at the end of its input, if it has not ended already.
            let _ = child.wait();
        }
        Err(error) => steps.push("start", Err(Errno::from_io_error(&error).unwrap_or(Errno::IO))),
    }
    steps
}

fn talk(child: &mut Child, plan: &IdPlan, data_dir: &Path, steps: &mut Steps) {
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else { return };
    let mut output = BufReader::new(output.take(ANSWER_BYTES_MAX));
    let mut line = String::new();
    if output.read_line(&mut line).is_err() {
        return;
    }
    steps.steps.extend(Steps::parse(&line).steps);
    if steps.outcome("unshare") != Outcome::Works {
        return;
    }
    let mapped = plan.write(child.id());
    steps.push("map", mapped);
    if mapped.is_err() {
        return;
    }
    if matches!(plan, IdPlan::Root) {
        steps.push("idmap", idmapped_clone(data_dir, child.id()));
    }
    let mut rest = String::new();
    if input.write_all(b"\n").is_ok() && output.read_to_string(&mut rest).is_ok() {
        steps.steps.extend(Steps::parse(&rest).steps);
    }
}

/// A detached clone of the data directory's mount, seen through the child's map; it is gone when this returns.
fn idmapped_clone(data_dir: &Path, pid: u32) -> Result<(), Errno> {
    let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    let user_namespace = File::open(format!("/proc/{pid}/ns/user")).map_err(io)?;
    let clone = open_tree(CWD, data_dir, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    idmap::set_idmap(clone.as_fd(), user_namespace.as_fd())
}

/// The child's side.
pub(super) fn child(name: &OsStr) -> ExitCode {
    match name.to_str() {
        Some("sandbox") => enter(),
        // PID 1 of the namespace that `enter` made; the exit code is the errno, which is below 134.
        Some("proc") => {
            let proc = mount_fs(c"proc", Path::new("/proc"), MountFlags::NOSUID | MountFlags::NODEV, c"");
            ExitCode::from(proc.err().map_or(0, |e| e.raw_os_error().clamp(1, 255) as u8))
        }
        _ => ExitCode::FAILURE,
    }
}

fn enter() -> ExitCode {
    // println! would panic when the parent has gone; then there is nobody to tell.
    let say = |step: &str, result: Result<(), Errno>| {
        let errno = result.err().map_or(0, Errno::raw_os_error);
        let written = writeln!(std::io::stdout(), "{step} {errno}");
        result.is_ok() && written.is_ok()
    };
    let mut released = String::new();
    let _ = say("unshare", namespaces::unshare(UnshareFlags::NEWUSER))
        && std::io::stdin().read_line(&mut released).is_ok_and(|n| n > 0)
        && say("ids", become_root())
        && say(
            "namespaces",
            namespaces::unshare(
                UnshareFlags::NEWNS
                    | UnshareFlags::NEWPID
                    | UnshareFlags::NEWIPC
                    | UnshareFlags::NEWUTS
                    | UnshareFlags::NEWNET,
            ),
        )
        && say("private", mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC))
        && say("tmpfs", mount_fs(c"tmpfs", Path::new("/tmp"), MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755"))
        && {
            say("proc", proc_in_new_pid_namespace());
            say("overlay", overlay(Path::new("/tmp")))
        };
    ExitCode::SUCCESS
}

fn become_root() -> Result<(), Errno> {
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn proc_in_new_pid_namespace() -> Result<(), Errno> {
    let status = Command::new(SELF).args(["__probe", "proc"]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    match status {
        Ok(status) => match status.code() {
            Some(0) => Ok(()),
            Some(errno) => Err(Errno::from_raw_os_error(errno)),
            None => Err(Errno::IO),
        },
        Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    }
}

/// An overlay as image templates need it; opening a lower file for writing makes the copy that fails first.
fn overlay(folder: &Path) -> Result<(), Errno> {
    let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(folder.join(name)).map_err(io)?;
    }
    fs::write(folder.join("lower/file"), "lower").map_err(io)?;
    let options = c"lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work,userxattr";
    mount_fs(c"overlay", &folder.join("merged"), MountFlags::NODEV, options)?;
    fs::write(folder.join("merged/file"), "upper").map_err(io)
}

fn mount_fs(kind: &CStr, target: &Path, flags: MountFlags, options: &CStr) -> Result<(), Errno> {
    mount(kind, target, kind, flags, options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_read_and_nonsense_is_left_out() {
        let steps = Steps::parse("unshare 0\nnamespaces 1\nnoise\nproc x\n");
        assert_eq!(steps.outcome("unshare"), Outcome::Works);
        assert_eq!(steps.outcome("namespaces"), Outcome::Fails(1));
        assert_eq!(steps.outcome("proc"), Outcome::NotTried);
        assert_eq!(steps.first_failure(), Some(("namespaces", 1)));
        assert_eq!(Steps::parse("overlay 22\nproc 1\n").first_failure(), None);
    }

    /// Each step that is told stands in a line of its own; the first failure is one of them.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let steps = Steps::parse(&text);
        assert!(steps.steps.len() <= text.lines().count());
        assert!(steps.steps.iter().all(|(name, _)| !name.contains([' ', '\n'])));
        if let Some((step, errno)) = steps.first_failure() {
            assert!(errno != 0 && text.contains(&format!("{step} ")));
            assert_ne!(steps.outcome(step), Outcome::NotTried);
        }
    }

    #[test]
    fn any_answer_of_the_child_is_steps() {
        let corpus: [&[u8]; 3] = [
            b"unshare 0\nmap 0\nidmap 0\nids 0\nnamespaces 0\nprivate 0\ntmpfs 0\nproc 1\noverlay 0\n",
            b"unshare 0\nunshare 28\nnoise\nproc x\n",
            b"map -2147483648\nstart 2147483648\n",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
