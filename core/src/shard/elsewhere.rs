//! How a caller on any core comes to a worker inside a sandbox: the owner's core holds its stream, and keeps it in step.
//!
//! ```text
//!   caller's core                      owner's core
//!   Worker.requests ──► bounded channel ──► one request ─► FileWork (the agent's stream)
//!   Worker.replies  ◄── bounded channel ◄── its answers ◄─┘ the last one, before the next request
//!     dropped ───────────────────────────► the stream is dropped, which ends the worker
//! ```
//! Patience is the stream's: a worker that is stopped is an error, a caller that does not take is none.

use super::{Shard, spawn};
use crate::agent::FileWork;
use crate::error::{Error, Reason};
use crate::files::Worker;
use crate::id::SandboxId;
use crate::sandbox::State;
use futures_util::future::{Either, select};
use std::pin::pin;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;

/// Pieces of at most 64 KiB between two cores, each way.
const PIECES_MAX: usize = 4;

impl Shard {
    /// Starts a worker in a sandbox. 2004 where it does not run: places other than its two trees are its mounts'.
    pub(super) async fn inside(&self, id: SandboxId) -> Result<Worker, Error> {
        self.on_owner(id, move |shard| async move {
            let slot = shard.slot(id)?;
            let (running, shown) = {
                let machine = slot.machine.borrow();
                (machine.is_running(), machine.shown())
            };
            if !running {
                return Err(not_running(shown));
            }
            let (slot, agent) = shard.running(id).await?;
            let mut work = agent.files().await?;
            let (requests, asked) = flume::bounded(PIECES_MAX);
            let (say, replies) = flume::bounded(PIECES_MAX);
            // Never sent to: disconnected when the last clone of the worker is dropped.
            let (here, gone) = flume::bounded::<()>(1);
            spawn(async move {
                let carried = shard.within_disk(&slot, carry(&mut *work, &asked, &say));
                if let Either::Left((Err(error), _)) = select(pin!(carried), pin!(gone.recv_async())).await {
                    let _ = say.send_async(Err(error)).await;
                }
            });
            Ok(Worker { requests, replies, _here: here })
        })
        .await
    }
}

/// Asks one thing after the other until nobody asks any more.
async fn carry(
    work: &mut dyn FileWork,
    asked: &flume::Receiver<Request>,
    say: &flume::Sender<Result<Reply, Error>>,
) -> Result<(), Error> {
    while let Ok(request) = asked.recv_async().await {
        let is_answered = !matches!(request, Request::Data(_) | Request::Part(_));
        work.ask(request).await?;
        let mut is_open = is_answered;
        while is_open {
            let reply = work.next().await?;
            is_open = matches!(reply, Reply::Data(_) | Reply::Part(_) | Reply::Matches(_) | Reply::Working(_));
            if say.send_async(Ok(reply)).await.is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn not_running(state: State) -> Error {
    let next = match state {
        State::Starting => "wait until it is running",
        State::Paused => "POST …/resume first",
        State::Stopping | State::Stopped => "POST …/start first",
        State::Running | State::Error => {
            "GET …/sandboxes/{id} says why it has failed; /workspace and /home/user can be read still"
        }
    };
    let message = format!("the sandbox is {}, and this place is there only while it runs; {next}", state.name());
    Error::new(Reason::InvalidSandboxState, message)
}
