//! What if there is no spawner to be had? Then the agent forks the command itself: slower (523 us against 244), but
//! it works while the sandbox is at its process limit, because entering a cgroup is not counted against the limit.
//!
//! The child goes through the same gate and takes the same steps; what fails comes back by a pipe that exec closes.

use super::Agent;
use super::reap::Ended;
use super::start::Command;
use crate::spawner::enter::{self, Gate};
use crate::spawner::frame::{LENGTH_BYTES, Request};
use crate::spawner::identity;
use crate::sys::disposition;
use crate::sys::fixed_fds::{self, AtExec};
use crate::sys::spawn::{Failure, Order, Step, exec_here, exit, fork};
use crate::sys::watched::watch;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Where the report lies in the child.
const REPORT: i32 = 3;
const REPORT_BYTES: usize = 8;
/// Until the child has exec'd or said why not.
const REPORT_WAIT: Duration = Duration::from_secs(5);

type Rescued = (i32, oneshot::Receiver<Ended>, Option<Failure>);

/// Forks and waits until the child has become the command or has failed.
pub(crate) async fn start(
    agent: &Agent,
    gate: &Gate,
    command: &Command,
    stdio: [BorrowedFd<'_>; 3],
    leaf: Option<BorrowedFd<'_>>,
) -> Result<Rescued, &'static str> {
    let bytes = command.encode(leaf.is_some());
    let Ok(request) = Request::parse(&bytes[LENGTH_BYTES..]) else { return Err("a request that can't be read") };
    let Ok((reader, writer)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else { return Err("no pipe") };
    let pid = match fork() {
        Ok(None) => become_command(gate, &request, stdio, leaf, &writer),
        Ok(Some(pid)) => pid,
        Err(_) => return Err("the agent could not fork"),
    };
    drop(writer);
    let ended = agent.reaper.borrow_mut().watch(pid);
    let report = match read_report(reader).await {
        Ok(report) => report,
        Err(_) => {
            // It hangs, stopped by somebody inside. It is ours and unreaped: the pid is its own.
            if let Some(pid) = Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            return Err("the command did not start in time");
        }
    };
    Ok((pid, ended, report))
}

fn become_command(
    gate: &Gate,
    request: &Request<'_>,
    stdio: [BorrowedFd<'_>; 3],
    leaf: Option<BorrowedFd<'_>>,
    report: &OwnedFd,
) -> ! {
    disposition::reset_handlers();
    let failure = match prepare(gate, report) {
        Err(errno) => Failure { step: Step::Identity, errno: errno.raw_os_error() },
        Ok(()) => exec_here(&Order {
            argv: &request.argv,
            env: &request.env,
            cwd: request.cwd,
            stdio,
            terminal: request.terminal,
            leaf,
            identity: identity(request.root),
            subreaper: request.subreaper,
        }),
    };
    let mut bytes = [0; REPORT_BYTES];
    bytes[..4].copy_from_slice(&(failure.step as i32).to_le_bytes());
    bytes[4..].copy_from_slice(&failure.errno.to_le_bytes());
    let report = crate::sys::spawn::placed(REPORT);
    let _ = rustix::io::write(&report, &bytes);
    exit(127)
}

fn prepare(gate: &Gate, report: &OwnedFd) -> Result<(), Errno> {
    disposition::set_mask(u64::MAX)?;
    enter::enter(gate)?;
    // Over our copy of the listener, which the child has no use for.
    fixed_fds::place(report.as_raw_fd(), REPORT, AtExec::Close)
}

/// `None`: the command runs.
async fn read_report(reader: OwnedFd) -> Result<Option<Failure>, Errno> {
    let io = |error: std::io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    rustix::io::ioctl_fionbio(&reader, true)?;
    let reader = watch(reader, Interest::READABLE).map_err(io)?;
    let mut bytes = [0u8; REPORT_BYTES];
    let read = reader.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut bytes)?));
    let length = timeout(REPORT_WAIT, read).await.map_err(|_| Errno::TIMEDOUT)?.map_err(io)?;
    if length == 0 {
        return Ok(None);
    }
    let number = |at: usize| i32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let step = Step::from_number(number(0)).filter(|step| *step != Step::Done && length == REPORT_BYTES);
    Ok(Some(Failure { step: step.unwrap_or(Step::Exec), errno: number(4) }))
}
