//! How does a command come to run, for Run and Start alike? Checked, counted, given pipes, started, entered in the table.
//!
//! A command that can't be found or executed is an answer, as a shell gives it: 127 or 126 and the reason on stderr.

use super::Agent;
use super::course::{Counted, Course};
use super::deadline::Deadline;
use super::failure::describe;
use super::grpc::{self, Code, Status, Unanswered};
use super::input::Stdin;
use super::pipes::Pipes;
use super::reap::Life;
use super::request::{Listed, check, has_too_many_strings};
use super::source::Sources;
use super::start::{Command, Job, Started};
use super::tracked::{Birth, Extra, Tracked};
use crate::sys::spawn::{Failure, Step};
use bytes::Bytes;
use h2::server::SendResponse;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;
use workspace_proto::agent::RunRequest;

/// What came of a request.
pub(crate) enum Launched {
    /// It lives, and is in the table.
    Runs(Course),
    /// It could not be found or executed.
    Failed(Failed),
}

/// A command that has never run.
pub(crate) struct Failed {
    /// Of the child that failed; 0: none was made. Hearsay.
    pub(crate) pid: i32,
    pub(crate) listed: Listed,
    pub(crate) exit_code: i32,
    /// The line on stderr.
    pub(crate) why: Vec<u8>,
}

/// Starts what is asked for. `extra` is what Start adds.
pub(crate) async fn launch(
    agent: &Rc<Agent>,
    request: RunRequest,
    extra: Extra,
    respond: &mut SendResponse<Bytes>,
) -> Result<Launched, Unanswered> {
    let deadline = match request.timeout_ms {
        0 => None,
        ms => Instant::now().checked_add(Duration::from_millis(ms)),
    };
    let command = Rc::new(check(agent.single_id, &request)?);
    let too_many = Status(Code::ResourceExhausted, "1024 commands are alive in this sandbox");
    let counted = Counted::new(agent).ok_or(too_many)?;
    if has_too_many_strings(&request) {
        return Ok(failed(&command, 0, Some(Failure { step: Step::Exec, errno: libc::E2BIG })));
    }
    let no_stdin = request.stdin.is_empty() && extra.input.is_none();
    let first = request.stdin;
    let no_pipe = |_| Status(Code::ResourceExhausted, "no descriptor or memory for a pipe");
    let (pipes, stdio) = Pipes::new(agent, no_stdin).map_err(no_pipe)?;
    let oom_kills = agent.oom_kills();
    let Started { pid, ended, failure, leaf, at } = start(agent, &command, stdio, respond).await?;
    let (Some(ended), None) = (ended, failure) else {
        if let Some(leaf) = leaf {
            agent.leaves.borrow_mut().give_back(leaf);
        }
        return Ok(failed(&command, pid, failure));
    };
    let birth = Birth { pid, listed: Listed::new(&command), at, oom_kills, life: Some(Life::new(ended)), leaf };
    let tracked = Rc::new(Tracked::new(birth, extra));
    agent.table.borrow_mut().insert(&tracked);
    let sources = Sources::new(pipes.stdout, pipes.stderr);
    let stdin = Stdin::new(pipes.stdin, first);
    Ok(Launched::Runs(Course::new(tracked, sources, stdin, Deadline::new(deadline), counted)))
}

fn failed(command: &Command, pid: i32, failure: Option<Failure>) -> Launched {
    let failure = failure.unwrap_or(Failure { step: Step::Exec, errno: libc::EINVAL });
    let (exit_code, why) = describe(command, failure);
    Launched::Failed(Failed { pid, listed: Listed::new(command), exit_code, why })
}

/// What was started for a caller that has gone meanwhile will be ended.
pub(crate) async fn start(
    agent: &Agent,
    command: &Rc<Command>,
    stdio: [Rc<OwnedFd>; 3],
    respond: &mut SendResponse<Bytes>,
) -> Result<Started, Unanswered> {
    let (reply, answer) = oneshot::channel();
    if agent.jobs.try_send(Job { command: Rc::clone(command), stdio, reply }).is_err() {
        return Err(Status(Code::ResourceExhausted, "too many commands wait to be started").into());
    }
    let unavailable = |why| Status(Code::Unavailable, why);
    let answer = grpc::while_wanted(respond, answer).await?;
    let started = answer.map_err(|_| unavailable("the agent starts no commands"))?;
    Ok(started.map_err(|why| unavailable(why.0))?)
}
