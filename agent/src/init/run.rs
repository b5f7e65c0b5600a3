//! How does Run answer? With the events of a command, from its start to its end, as fast as the caller takes them; a
//! caller that goes takes the command along.

use super::Agent;
use super::drive::{Drive, Outcome};
use super::grpc::{self, Unanswered};
use super::launch::{Failed, Launched, launch};
use super::output::{Budget, Stream, room, seal};
use super::tracked::Extra;
use bytes::Bytes;
use h2::server::SendResponse;
use std::rc::Rc;
use workspace_proto::agent::{ExitReason, Exited, RunEvent, RunRequest, Started, run_event};
use workspace_proto::grpc_frame;

/// Runs a command to its end and sends all events.
pub(crate) async fn run(
    agent: &Rc<Agent>,
    request: RunRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    let budget = Budget::new(request.output_bytes_max);
    let mut course = match launch(agent, request, Extra::default(), respond).await? {
        Launched::Runs(course) => course,
        Launched::Failed(failed) => {
            answer_failure(failed, budget, respond).await;
            return Ok(());
        }
    };
    let command = Rc::clone(&course.command);
    let outcome = match grpc::begin(respond) {
        Err(_) => Outcome::Gone,
        Ok(stream) => {
            let mut drive = Drive::new(stream, budget);
            drive.queue(encode(run_event::Event::Started(Started { pid: command.pid as u32 })));
            drive.run(&mut course).await
        }
    };
    if outcome == Outcome::Gone {
        agent.end_and_reap(&command).await;
        if command.end().is_none() {
            let exited = course.exited(false);
            command.set_end(Exited { reason: ExitReason::Canceled as i32, ..exited });
            agent.table.borrow_mut().ended(&command);
        }
    }
    // The last event goes first.
    tokio::task::yield_now().await;
    course.finish();
    Ok(())
}

/// One message of the stream.
pub(crate) fn encode(event: run_event::Event) -> Bytes {
    grpc_frame::encode(&RunEvent { event: Some(event) })
}

/// The three events of a command that never ran.
async fn answer_failure(failed: Failed, mut budget: Budget, respond: &mut SendResponse<Bytes>) {
    let text = failed.why;
    let mut buffer = room(text.len());
    let kept = budget.piece(text.len());
    buffer.extend_from_slice(&text[..kept]);
    budget.drop(text.len() - kept);
    let exited = Exited {
        exit_code: failed.exit_code,
        signal: 0,
        reason: ExitReason::Exited as i32,
        truncated: budget.truncated(),
        duration_us: 0,
    };
    let Ok(mut stream) = grpc::begin(respond) else { return };
    let started = encode(run_event::Event::Started(Started { pid: failed.pid as u32 }));
    for bytes in [started, seal(Stream::Stderr, buffer), encode(run_event::Event::Exited(exited))] {
        if grpc::send(&mut stream, bytes).await.is_none() {
            return;
        }
    }
    grpc::finish(&mut stream);
}
