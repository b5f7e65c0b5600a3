//! How is a command run, from the request to its last event? Checked, given pipes, started, driven, cleaned up after.
//!
//! A command that can't be found or executed is an answer, as a shell gives it: 127 or 126 and the reason on stderr.

use super::Agent;
use super::drive::{Drive, Ending, Outcome, Surroundings};
use super::grpc::{self, Code, Status};
use super::leaf::Leaf;
use super::output::{Budget, Stream, room, seal};
use super::start::{Command, Job, Started};
use crate::spawner::frame::STRINGS_MAX;
use crate::sys::spawn::{Failure, Step, above_stdio};
use bytes::Bytes;
use h2::server::SendResponse;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use tokio::sync::oneshot;
use tokio::time::Instant;
use workspace_proto::agent::{ExitReason, Exited, RunEvent, RunRequest, Started as StartedEvent, Variable, run_event};
use workspace_proto::grpc_frame;

const COMMAND_BYTES_MAX: usize = 4096;
const CWD_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 4096;
const VALUE_BYTES_MAX: usize = 128 << 10;
const STDIN_BYTES_MAX: usize = 1 << 20;
/// Of the command, in List.
const LISTED_BYTES_MAX: usize = 256;
/// Output after which the heap is given back, once nothing runs: 300 KB stay otherwise, in each of thousands of agents.
const TRIM_BYTES: u64 = 1 << 20;
const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Our ends of a command's pipes.
pub(crate) struct Pipes {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Runs a command to its end and sends all events. An error has sent nothing.
pub(crate) async fn run(
    agent: &Rc<Agent>,
    request: RunRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Status> {
    let deadline = match request.timeout_ms {
        0 => None,
        ms => Instant::now().checked_add(std::time::Duration::from_millis(ms)),
    };
    let strings = request.args.len().saturating_add(request.env.len());
    let command = Rc::new(check(agent, &request)?);
    if agent.runs.get() >= super::COMMANDS_MAX {
        return Err(Status(Code::ResourceExhausted, "1024 commands are alive in this sandbox"));
    }
    let _counted = Counted::new(agent);
    let budget = Budget::new(request.output_bytes_max);
    if strings >= STRINGS_MAX {
        return answer_failure(&command, 0, Failure { step: Step::Exec, errno: libc::E2BIG }, budget, respond).await;
    }
    let no_pipe = |_| Status(Code::ResourceExhausted, "no descriptor or memory for a pipe");
    let (pipes, stdio) = make_pipes(agent, request.stdin.is_empty()).map_err(no_pipe)?;
    let oom_kills = agent.oom_kills();
    let started = match start(agent, &command, stdio, respond).await {
        Some(result) => result?,
        None => return Ok(()),
    };
    let Started { pid, ended, failure, leaf, at } = started;
    let (Some(ended), None) = (ended, failure) else {
        if let Some(leaf) = leaf {
            agent.leaves.borrow_mut().give_back(leaf);
        }
        let failure = failure.unwrap_or(Failure { step: Step::Exec, errno: libc::EINVAL });
        return answer_failure(&command, pid, failure, budget, respond).await;
    };
    agent.alive.borrow_mut().insert(pid, listed(&command));
    let here = Here { agent, pid, leaf: leaf.as_ref(), at, oom_kills };
    let (outcome, carried_bytes) = match grpc::begin(respond) {
        Err(_) => (Outcome::gone(ended), 0),
        Ok(stream) => {
            let mut drive = Drive::new(stream, pipes, request.stdin, budget, deadline, ended);
            drive.queue(encode(run_event::Event::Started(StartedEvent { pid: pid as u32 })));
            drive.run(&here).await
        }
    };
    agent.carried_bytes.set(agent.carried_bytes.get().saturating_add(carried_bytes));
    if let Outcome::Gone(ended) = outcome {
        agent.end_and_reap(pid, leaf.as_ref(), ended).await;
    }
    agent.alive.borrow_mut().remove(&pid);
    if let Some(leaf) = leaf {
        // The last event goes first.
        tokio::task::yield_now().await;
        agent.leaves.borrow_mut().give_back(leaf);
    }
    Ok(())
}

/// A command that runs, where it runs.
struct Here<'a> {
    agent: &'a Agent,
    pid: i32,
    leaf: Option<&'a Leaf>,
    at: Instant,
    /// As counted before it was started.
    oom_kills: u64,
}

impl Surroundings for Here<'_> {
    fn kill(&self) {
        self.agent.end_tree(self.pid, self.leaf);
    }

    fn reaped(&self) {
        self.agent.alive.borrow_mut().remove(&self.pid);
    }

    fn exited(&self, ending: Ending) -> Bytes {
        let signal = ending.ended.status.terminating_signal().unwrap_or(0);
        let reason = match signal {
            _ if ending.timed_out => ExitReason::TimedOut,
            0 => ExitReason::Exited,
            libc::SIGKILL if self.agent.oom_kills() > self.oom_kills => ExitReason::OomKilled,
            _ => ExitReason::Signaled,
        };
        encode(run_event::Event::Exited(Exited {
            exit_code: ending.ended.status.exit_status().unwrap_or(128 + signal),
            signal: signal as u32,
            reason: reason as i32,
            truncated: ending.truncated,
            duration_us: u64::try_from((ending.ended.at - self.at).as_micros()).unwrap_or(u64::MAX),
        }))
    }
}

/// One run in progress.
struct Counted<'a>(&'a Agent);

impl<'a> Counted<'a> {
    fn new(agent: &'a Agent) -> Counted<'a> {
        agent.runs.set(agent.runs.get() + 1);
        Counted(agent)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.runs.set(self.0.runs.get().saturating_sub(1));
        if self.0.runs.get() == 0 && self.0.carried_bytes.get() > TRIM_BYTES {
            self.0.carried_bytes.set(0);
            crate::sys::heap::give_back();
        }
    }
}

/// `None`: the caller has gone; what was started will be ended.
async fn start(
    agent: &Agent,
    command: &Rc<Command>,
    stdio: [Rc<OwnedFd>; 3],
    respond: &mut SendResponse<Bytes>,
) -> Option<Result<Started, Status>> {
    let (reply, answer) = oneshot::channel();
    if agent.jobs.try_send(Job { command: Rc::clone(command), stdio, reply }).is_err() {
        return Some(Err(Status(Code::ResourceExhausted, "too many commands wait to be started")));
    }
    let mut answer = pin!(answer);
    poll_fn(|cx| {
        if let Poll::Ready(result) = answer.as_mut().poll(cx) {
            let unavailable = |why| Status(Code::Unavailable, why);
            let result = result.map_err(|_| unavailable("the agent starts no commands"));
            return Poll::Ready(Some(result.and_then(|result| result.map_err(|why| unavailable(why.0)))));
        }
        respond.poll_reset(cx).map(|_| None)
    })
    .await
}

fn check(agent: &Agent, request: &RunRequest) -> Result<Command, Status> {
    let invalid = |what| Err(Status(Code::InvalidArgument, what));
    let nul = |bytes: &Bytes| bytes.contains(&0);
    if request.command.is_empty() || request.command.len() > COMMAND_BYTES_MAX || nul(&request.command) {
        return invalid("command: 1 to 4096 bytes without NUL");
    }
    if request.args.iter().any(nul) {
        return invalid("args: no NUL");
    }
    if !request.cwd.starts_with(b"/") || request.cwd.len() > CWD_BYTES_MAX || nul(&request.cwd) {
        return invalid("cwd: an absolute path of at most 4095 bytes without NUL");
    }
    if request.stdin.len() > STDIN_BYTES_MAX {
        return invalid("stdin: at most 1 MiB");
    }
    let bad_name = |name: &Bytes| name.is_empty() || name.len() > NAME_BYTES_MAX || nul(name) || name.contains(&b'=');
    if request.env.iter().any(|v| bad_name(&v.name) || v.value.len() > VALUE_BYTES_MAX || nul(&v.value)) {
        return invalid("env: names of 1 to 4096 bytes without NUL and =, values of at most 128 KiB without NUL");
    }
    if request.root && agent.single_id {
        return Err(Status(Code::FailedPrecondition, "there is one id only: no command can be root"));
    }
    let pair = |v: &Variable| [v.name.as_ref(), b"=", v.value.as_ref()].concat();
    Ok(Command {
        argv: [&request.command].into_iter().chain(&request.args).cloned().collect(),
        env: request.env.iter().map(pair).collect(),
        cwd: request.cwd.clone(),
        root: request.root,
    })
}

fn make_pipes(agent: &Agent, no_stdin: bool) -> Result<(Pipes, [Rc<OwnedFd>; 3]), Errno> {
    let (stdout, out) = pipe(Ours::Reads)?;
    let (stderr, err) = pipe(Ours::Reads)?;
    let (stdin, input) = match &agent.null {
        Some(null) if no_stdin => (None, Rc::clone(null)),
        _ => {
            let (ours, theirs) = pipe(Ours::Writes)?;
            (Some(ours).filter(|_| !no_stdin), Rc::new(theirs))
        }
    };
    Ok((Pipes { stdin, stdout, stderr }, [input, Rc::new(out), Rc::new(err)]))
}

#[derive(PartialEq, Eq)]
enum Ours {
    Reads,
    Writes,
}

/// (our end, non-blocking; the command's end)
fn pipe(ours: Ours) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    // The pipe belongs to the agent's id: without this `echo > /dev/stderr` is refused to a command.
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(0o666))?;
    let (ours, theirs) = if ours == Ours::Reads { (reader, writer) } else { (writer, reader) };
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((ours, above_stdio(theirs)?))
}

fn listed(command: &Command) -> Bytes {
    let name = command.argv.first().map(|c| c.as_ref()).unwrap_or_default();
    Bytes::copy_from_slice(&name[..name.len().min(LISTED_BYTES_MAX)])
}

fn encode(event: run_event::Event) -> Bytes {
    grpc_frame::encode(&RunEvent { event: Some(event) })
}

/// The three events of a command that never ran.
async fn answer_failure(
    command: &Command,
    pid: i32,
    failure: Failure,
    mut budget: Budget,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Status> {
    let (exit_code, text) = describe(command, failure);
    let mut buffer = room(text.len());
    let kept = budget.piece(text.len());
    buffer.extend_from_slice(&text[..kept]);
    budget.drop(text.len() - kept);
    let exited = Exited {
        exit_code,
        signal: 0,
        reason: ExitReason::Exited as i32,
        truncated: budget.truncated(),
        duration_us: 0,
    };
    let Ok(mut stream) = grpc::begin(respond) else { return Ok(()) };
    let started = encode(run_event::Event::Started(StartedEvent { pid: pid as u32 }));
    for bytes in [started, seal(Stream::Stderr, buffer), encode(run_event::Event::Exited(exited))] {
        if grpc::send(&mut stream, bytes).await.is_none() {
            return Ok(());
        }
    }
    grpc::finish(&mut stream);
    Ok(())
}

/// Exit code and the line on stderr.
fn describe(command: &Command, failure: Failure) -> (i32, Vec<u8>) {
    let name = command.argv.first().map(|c| c.as_ref()).unwrap_or_default();
    let why = reason(failure.errno);
    let (code, subject, text) = match (failure.step, failure.errno) {
        (Step::Cwd, _) => (NOT_EXECUTABLE, command.cwd.as_ref(), format!("cannot be the working directory: {why}")),
        (Step::CwdOutside, _) => {
            (NOT_EXECUTABLE, command.cwd.as_ref(), "cannot be the working directory: outside the sandbox".to_owned())
        }
        (Step::Exec, libc::ENOENT) if !name.contains(&b'/') => (NOT_FOUND, name, "command not found".to_owned()),
        (Step::Exec, libc::ENOENT | libc::ENOTDIR) => (NOT_FOUND, name, "not found".to_owned()),
        (Step::Interpreter, _) => (NOT_EXECUTABLE, name, "the interpreter that it names was not found".to_owned()),
        (Step::Exec, _) => (NOT_EXECUTABLE, name, why),
        (step, _) => (NOT_EXECUTABLE, name, format!("could not be started ({step:?}): {why}")),
    };
    (code, [subject, b": ", text.as_bytes(), b"\n"].concat())
}

fn reason(errno: i32) -> String {
    match errno {
        libc::E2BIG => "argument list too long".to_owned(),
        libc::ENOEXEC => "not an executable format".to_owned(),
        libc::EACCES => "permission denied".to_owned(),
        libc::ENOENT => "no such file or directory".to_owned(),
        libc::ENOTDIR => "not a directory".to_owned(),
        _ => Errno::from_raw_os_error(errno).to_string(),
    }
}
