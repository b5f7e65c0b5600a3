//! How does Start answer, and what happens then? With the process, at once; from then on a task of its own reads the
//! command's pipes into its ring, at the pace of its readers (`pace.rs`), until its end is told and it is forgotten.

use super::Agent;
use super::course::Course;
use super::grpc::{Code, Status, Unanswered};
use super::input::Input;
use super::kept::{IntoRing, Kept};
use super::launch::{Failed, Launched, launch};
use super::output::Stream;
use super::request::has_too_many_strings;
use super::tracked::{Birth, Extra, Tracked};
use bytes::Bytes;
use h2::server::SendResponse;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use workspace_proto::agent::{ExitReason, Exited, Process, StartRequest};
use workspace_proto::{RING_BYTES_DEFAULT, RING_BYTES_MAX, RING_BYTES_MIN, RING_HOLD_S};

const TAG_BYTES_MAX: usize = 256;
const HOLD: Duration = Duration::from_secs(RING_HOLD_S);
/// What a ring keeps more at its command's end, so that nothing that lies in two pipes of the usual size pushes out what
/// was not sent.
const OWED_BYTES_MAX: usize = 128 << 10;

/// Starts a command that outlives its caller.
pub(crate) async fn start(
    agent: &Rc<Agent>,
    request: StartRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<Process, Unanswered> {
    let invalid = |what| Status(Code::InvalidArgument, what);
    let run = request.run.ok_or(invalid("run: which command"))?;
    if request.tag.len() > TAG_BYTES_MAX {
        return Err(invalid("tag: at most 256 bytes").into());
    }
    if request.ring_bytes_max > RING_BYTES_MAX {
        return Err(invalid("ring_bytes_max: at most 16 MiB").into());
    }
    if has_too_many_strings(&run) {
        return Err(invalid("args, env: argument list too long").into());
    }
    let ring_bytes = if request.ring_bytes_max == 0 { RING_BYTES_DEFAULT } else { request.ring_bytes_max };
    let extra = Extra {
        tag: request.tag,
        kept: Some(Kept::new(ring_bytes.max(RING_BYTES_MIN) as usize, HOLD, &agent.rings)),
        input: request.keep_stdin.then(|| Box::new(Input::new(&run.stdin))),
    };
    let tag = extra.tag.clone();
    let command = match launch(agent, run, extra, respond).await? {
        Launched::Runs(course) => {
            let command = Rc::clone(&course.command);
            tokio::task::spawn_local(keep(course));
            command
        }
        Launched::Failed(failed) => never_ran(agent, failed, tag)?,
    };
    Ok(command.message())
}

/// A process that has exited already, with the reason in its ring.
fn never_ran(agent: &Rc<Agent>, failed: Failed, tag: String) -> Result<Rc<Tracked>, Status> {
    if failed.pid <= 1 {
        return Err(Status(Code::Unavailable, "no process could be made"));
    }
    let Failed { pid, listed, exit_code, why } = failed;
    let birth = Birth { pid, listed, at: Instant::now(), oom_kills: 0, life: None, leaf: None };
    let kept = Kept::new(RING_BYTES_MIN as usize, HOLD, &agent.rings);
    kept.ring.borrow_mut().append_copy(Stream::Stderr, &why);
    kept.close();
    let command = Rc::new(Tracked::new(birth, Extra { tag, kept: Some(kept), input: None }));
    command.set_end(Exited { exit_code, reason: ExitReason::Exited as i32, ..Exited::default() });
    agent.table.borrow_mut().insert_ended(&command);
    forget_later(agent);
    Ok(command)
}

/// The life of a started command. Nobody waits for this task.
async fn keep(mut course: Course) {
    let (agent, command) = (Rc::clone(&course.agent), Rc::clone(&course.command));
    let Some(kept) = &command.kept else { return };
    let mut hold = None;
    poll_fn(|cx| poll(cx, &mut course, kept, &mut hold)).await;
    kept.close();
    command.set_end(course.exited(false));
    agent.table.borrow_mut().ended(&command);
    course.finish();
    forget_later(&agent);
    agent.give_heap_back();
}

/// Ready: the command has ended, and its output lies in the ring.
fn poll(cx: &mut Context<'_>, course: &mut Course, kept: &Kept, hold: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
    kept.set_pump(cx);
    if let Some(owed) = course.poll_events(cx) {
        kept.ring.borrow_mut().widen(owed.min(OWED_BYTES_MAX));
    }
    let mut ring = IntoRing { kept, hold, has_news: false };
    let result = course.poll_output(cx, &mut ring);
    if ring.has_news {
        course.command.bell.ring();
    }
    // A ring is never gone.
    let _ = ready!(result);
    Poll::Ready(())
}

/// Sees to it that ended commands are forgotten when it is time. One task at most, and none while there are none.
fn forget_later(agent: &Rc<Agent>) {
    if !agent.table.borrow_mut().starts_sweeping() {
        return;
    }
    let agent = Rc::clone(agent);
    tokio::task::spawn_local(async move {
        loop {
            let due = agent.table.borrow_mut().forget_old(Instant::now());
            let Some(due) = due else { break };
            sleep_until(due).await;
        }
        agent.give_heap_back();
    });
}
