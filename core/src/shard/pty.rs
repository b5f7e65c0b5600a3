//! What a shard does with terminals: open, list, resize and close them, and bring viewers on any core to them.
//!
//! ```text
//!   viewer's core                        owner's core
//!   Viewer.typed ──► bounded channel ──► Keys   (the agent's stream, towards it)
//!   Viewer.seen  ◄── bounded channel ◄── Screen (the same stream, from it)
//!     dropped ─────────────────────────► both are dropped, which detaches the viewer
//! ```
//! A viewer that does not take holds back its own stream; the agent lets it go when it is a ring behind.

use super::{Shard, Slot, command, spawn};
use crate::agent::Viewing;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::pty::{Away, OpenPty, Pty, Seen, Size, Typed};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use workspace_proto::agent::{PtyOpenRequest, Variable};

/// Pieces of at most 64 KiB between two cores, each way.
const PIECES_MAX: usize = 4;
/// After a link broke, how long the launcher may take to tell that the sandbox has ended, in milliseconds.
const WHY_MS_MAX: u64 = 500;
/// What programs on a terminal ask for, where the caller said nothing else.
const TERMINAL: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];

/// A viewer's ends, on any core. Dropping either detaches it.
pub struct Viewer {
    /// As it was when the viewer came.
    pub pty: Pty,
    /// What it types, in order.
    pub typed: flume::Sender<Typed>,
    /// What it sees, in order: first what is kept of the recent output. It ends behind the end.
    pub seen: flume::Receiver<Result<Seen, Away>>,
}

impl Shard {
    /// Opens a terminal with a program on it. Dropping the future before the answer closes it.
    pub async fn pty_open(&self, id: SandboxId, open: OpenPty) -> Result<Pty, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let mut run = command::request(&slot.record.borrow(), open.program);
            for (name, value) in TERMINAL {
                if run.env.iter().all(|variable| variable.name != name) {
                    run.env.push(Variable { name: name.into(), value: value.into() });
                }
            }
            let Size { cols, rows } = open.size;
            let opened = agent.pty_open(PtyOpenRequest { run: Some(run), cols, rows }).await?;
            slot.know_pty(opened.id);
            shard.watch_disk(&slot);
            Ok(opened)
        })
        .await
    }

    /// The open terminals, ascending by id.
    pub async fn ptys(&self, id: SandboxId) -> Result<Vec<Pty>, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let ptys = agent.ptys().await?;
            ptys.iter().for_each(|pty| slot.know_pty(pty.id));
            Ok(ptys)
        })
        .await
    }

    /// Attaches a viewer.
    pub async fn pty_view(&self, id: SandboxId, pty: u64) -> Result<Viewer, Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            let viewing = agent.pty_view(pty).await.map_err(|error| slot.pty_error(pty, error))?;
            slot.know_pty(pty);
            Ok(carry(slot, viewing))
        })
        .await
    }

    /// Gives a terminal another size; its program is told by a signal.
    pub async fn pty_resize(&self, id: SandboxId, pty: u64, size: Size) -> Result<(), Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            agent.pty_resize(pty, size).await.map_err(|error| slot.pty_error(pty, error))
        })
        .await
    }

    /// Ends a terminal's program with all its descendants, and forgets the terminal.
    pub async fn pty_close(&self, id: SandboxId, pty: u64) -> Result<(), Error> {
        self.on_owner(id, move |shard| async move {
            let (slot, agent) = shard.running(id).await?;
            agent.pty_close(pty).await.map_err(|error| slot.pty_error(pty, error))
        })
        .await
    }
}

impl Slot {
    fn know_pty(&self, pty: u64) {
        self.ptys_known.set(self.ptys_known.get().max(pty));
    }

    /// Ids only ascend, so one up to the last that was seen has been there. After a restart of the server the last one
    /// is not known, and an ended terminal is told as one that never was.
    fn pty_error(&self, pty: u64, error: Error) -> Error {
        if error.reason == Reason::PtyNotFound && (1..=self.ptys_known.get()).contains(&pty) {
            return Error::new(Reason::PtyClosed, "this terminal has ended; POST …/pty opens another");
        }
        error
    }
}

/// Carries between a viewer on any core and its agent, in a task of its own.
fn carry(slot: Rc<Slot>, viewing: Viewing) -> Viewer {
    let Viewing { pty, mut screen, mut keys } = viewing;
    let (typed, to_type) = flume::bounded::<Typed>(PIECES_MAX);
    let (show, seen) = flume::bounded(PIECES_MAX);
    spawn(async move {
        let typing = async {
            let mut heard = true;
            // To the end of the channel, also where the agent listens no more: the screen tells why.
            while let Ok(piece) = to_type.recv_async().await {
                heard = heard && keys.press(piece).await.is_ok();
            }
        };
        let showing = async {
            while let Some(piece) = screen.next().await? {
                if show.send_async(Ok(piece)).await.is_err() {
                    break;
                }
            }
            Ok(())
        };
        let end = match select(pin!(typing), pin!(showing)).await {
            Either::Left(_) | Either::Right((Ok(()), _)) => return,
            Either::Right((Err(error), _)) => error,
        };
        let away = why_away(&slot, &end).await;
        match end.reason {
            Reason::AgentError => tracing::warn!(error = %end, "a viewer of a terminal was sent away"),
            _ => tracing::debug!(error = %end, ?away, "a viewer of a terminal was sent away"),
        }
        let _ = show.send_async(Err(away)).await;
    });
    Viewer { pty, typed, seen }
}

async fn why_away(slot: &Slot, error: &Error) -> Away {
    match error.reason {
        Reason::RateLimited => return Away::TooSlow,
        // A sandbox that ends breaks its link first, and is told to have ended a moment later.
        Reason::AgentNotConnected if slot.machine.borrow().is_running() => drop(slot.why_ended(WHY_MS_MAX).await),
        _ => {}
    }
    if slot.machine.borrow().is_running() { Away::LinkLost } else { Away::SandboxEnded }
}
