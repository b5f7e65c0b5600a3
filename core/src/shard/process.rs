//! What a shard does with commands: run them, start them, read what they print, end them.
//!
//! ```text
//!   caller's core                      owner's core
//!   Follow ◄── bounded channel ◄── pump ◄── Follower (the agent's stream)
//!     dropped ─────────────────────► pump ends, the Follower is dropped
//! ```
//! A reader that stops stops the pump, that the agent's window, that the command's pipe: nothing grows.

use super::{Shard, Slot, command, spawn};
use crate::agent::{Agent, Follower};
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::process::{Event, Finished, Process, RunCommand, StartCommand};
use crate::sandbox::State;
use bytes::Bytes;
use futures_util::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use workspace_proto::agent::StartRequest;

/// Events of at most 64 KiB between two cores.
const EVENTS_MAX: usize = 1;

/// A command's events, read on any core. Dropping it ends the reading, and the command where it was run for it.
pub struct Follow {
    events: flume::Receiver<Result<Event, Error>>,
    /// Never sent to: disconnected when this is dropped.
    _here: flume::Sender<()>,
}

impl Follow {
    /// The next event; `None` behind the last. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Event, Error>> {
        self.events.recv_async().await.ok()
    }

    /// The next event, where it has come already.
    pub fn ready(&mut self) -> Option<Result<Event, Error>> {
        self.events.try_recv().ok()
    }
}

impl Shard {
    /// Runs a command to its end. Dropping the future kills the command with all its descendants.
    pub async fn run(&self, id: SandboxId, command: RunCommand) -> Result<Finished, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let request = command::request(&slot.record.borrow(), command);
            shard.within_disk(&slot, agent.run(request)).await
        })
        .await
    }

    /// Runs a command whose output is read as it comes.
    pub async fn stream(&self, id: SandboxId, command: RunCommand) -> Result<Follow, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let request = command::request(&slot.record.borrow(), command);
            let follower = agent.stream(request).await?;
            Ok(shard.pump(follower, Some(slot)))
        })
        .await
    }

    /// Starts a command that outlives its caller.
    pub async fn start(&self, id: SandboxId, command: StartCommand) -> Result<Process, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let (tag, keep_stdin) = (command.tag, command.keep_stdin);
            let run = command::request(&slot.record.borrow(), command.run);
            let ring_bytes_max = run.output_bytes_max;
            let started = agent.start(StartRequest { run: Some(run), tag, keep_stdin, ring_bytes_max }).await?;
            shard.watch_disk(&slot);
            Ok(started)
        })
        .await
    }

    /// Follows a started command's output from a cursor on.
    pub async fn follow(&self, id: SandboxId, pid: u32, cursor: u64) -> Result<Follow, Error> {
        self.on_owner(id, move |shard| async move {
            let follower = shard.running(id).await?.1.attach(pid, cursor).await?;
            Ok(shard.pump(follower, None))
        })
        .await
    }

    /// The commands that are alive, and those that have ended and are kept; ascending by pid.
    pub async fn processes(&self, id: SandboxId) -> Result<Vec<Process>, Error> {
        self.on_owner(id, move |shard| async move { shard.running(id).await?.1.processes().await }).await
    }

    /// One of them.
    pub async fn process(&self, id: SandboxId, pid: u32) -> Result<Process, Error> {
        self.on_owner(id, move |shard| async move { shard.running(id).await?.1.process(pid).await }).await
    }

    /// One of them, once it has ended, or as it is after `timeout_ms`; 0: no such limit.
    pub async fn wait(&self, id: SandboxId, pid: u32, timeout_ms: u64) -> Result<Process, Error> {
        self.on_owner(id, move |shard| async move {
            let (_, agent) = shard.running(id).await?;
            let ended = agent.wait(pid);
            if timeout_ms == 0 {
                return ended.await;
            }
            let timeout = monoio::time::sleep(Duration::from_millis(timeout_ms));
            match select(ended, pin!(timeout)).await {
                Either::Left((ended, _)) => ended,
                Either::Right(_) => agent.process(pid).await,
            }
        })
        .await
    }

    /// Writes to a started command's stdin, and closes it behind that where `eof` is set.
    pub async fn input(&self, id: SandboxId, pid: u32, data: Bytes, eof: bool) -> Result<(), Error> {
        self.on_owner(id, move |shard| async move { shard.running(id).await?.1.input(pid, data, eof).await }).await
    }

    /// Sends a signal, 1..=64, to a command and its descendants.
    pub async fn signal(&self, id: SandboxId, pid: u32, signal: u32) -> Result<(), Error> {
        self.on_owner(id, move |shard| async move { shard.running(id).await?.1.signal(pid, signal).await }).await
    }

    /// A sandbox of this shard that can be asked.
    pub(super) async fn running(&self, id: SandboxId) -> Result<(Rc<Slot>, Rc<dyn Agent>), Error> {
        let slot = self.slot(id)?;
        let (running, shown) = {
            let machine = slot.machine.borrow();
            (machine.is_running(), machine.shown())
        };
        if shown == State::Error {
            let why = slot.record.borrow().error_message.clone().unwrap_or_default();
            let message =
                format!("the sandbox has failed and can't be asked ({why}); its files are kept until it is deleted");
            return Err(Error::new(Reason::AgentNotConnected, message));
        }
        if !running {
            let message = format!("the sandbox is {}; only a running one takes this", shown.name());
            return Err(Error::new(Reason::InvalidSandboxState, message));
        }
        let agent = self.agent(&slot).await?;
        Ok((slot, agent))
    }

    /// Carries events to a reader on any core. Where a sandbox is named, the command counts as running in it, and ends
    /// when its disk is full.
    fn pump(&self, mut follower: Box<dyn Follower>, within: Option<Rc<Slot>>) -> Follow {
        let (sender, events) = flume::bounded(EVENTS_MAX);
        let (here, gone) = flume::bounded::<()>(1);
        let shard = self.clone();
        spawn(async move {
            let carry = async {
                while let Some(event) = follower.next().await? {
                    if sender.send_async(Ok(event)).await.is_err() {
                        break;
                    }
                }
                Ok(())
            };
            let carried = async {
                match &within {
                    Some(slot) => shard.within_disk(slot, carry).await,
                    None => carry.await,
                }
            };
            if let Either::Left((Err(error), _)) = select(pin!(carried), pin!(gone.recv_async())).await {
                let _ = sender.send_async(Err(error)).await;
            }
        });
        Follow { events, _here: here }
    }
}
