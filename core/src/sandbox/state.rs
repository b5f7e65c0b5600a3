//! The life of a sandbox: what each event means in each state, and what is to be done about it. Pure.
//!
//! ```text
//!             Hello            Kept                    AgentLost
//!  Launching ───────► Keeping ───────► Running ───────────────────────► Failing ──► Failed
//!      │ failed          │ failed, replayed │ Delete, Expired               │ recorded,  │ Delete, Expired
//!      ▼                 ▼                  ▼                               ▼ torn down  ▼
//!   Undoing ◄────────────┘               Dying: mark ──► destroy ──► forget ──► Gone ◄── (from Failed the same)
//!      └──► Gone
//!  After a start: Adopting ──► Running, or Failing; a record that was dying goes on Dying; what has no record: Undoing
//! ```
//! [`Machine::step`] is the only thing that changes a sandbox's life. Each [`Effect`] but the answers and deadlines is
//! carried out by the driver and comes back as exactly one [`Event`]; so at any time it is known what is under way, and
//! a step that failed is tried again after [`Effect::RetryLater`] until nothing is left.
//!
//! Promises: the create is answered after its record is durable. What was answered is not lost by a crash at any
//! point: the next start reads records and machine, and [`recover`] goes on. A delete is answered when nothing is left
//! but files in the trash. Two effects of one sandbox on the runtime are never under way at once.

use crate::error::Error;
use crate::id::SandboxId;
use crate::sandbox::{Force, State};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Of [`Effect::Launch`]: the agent has said Hello; or it failed, and something may be left.
    Launched(Result<(), Error>),
    /// Of [`Effect::Keep`].
    Kept(Result<Kept, Error>),
    /// Of [`Effect::KeepFailed`].
    FailedKept(Result<(), Error>),
    /// Of [`Effect::KeepDying`].
    DyingKept(Result<(), Error>),
    /// Of [`Effect::Destroy`].
    Destroyed(Result<(), Error>),
    /// Of [`Effect::Adopt`].
    Adopted(Result<(), Error>),
    /// Of [`Effect::Forget`] and [`Effect::UndoKeep`].
    Forgotten(Result<(), Error>),
    /// Of [`Effect::CountProcesses`]. An agent that cannot be asked holds nothing worth keeping: 0.
    Counted(u64),
    /// The sandbox's first process has ended; why, one line for the caller.
    AgentLost(String),
    /// A caller wants it gone.
    Delete(Force),
    /// Its lifetime is over.
    Expired,
    /// The deadline of [`Effect::RetryLater`].
    Retry,
}

/// What came of keeping a new record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is durable.
    Created,
    /// Its Idempotency-Key stands for this other sandbox.
    Replayed(SandboxId),
    /// Its Idempotency-Key was used with another body.
    Conflict,
}

/// What the driver must do, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start it in the runtime and wait for its agent's Hello.
    Launch,
    /// Make the record durable, as `running`, with its Idempotency-Key if it has one.
    Keep,
    /// Make the record durable as `error` with this message, and without an agent.
    KeepFailed(String),
    /// Make the record durable as dying.
    KeepDying,
    /// End it in the runtime, and everything it holds. Repeatable.
    Destroy(Files),
    /// Connect to its agent again, having checked that it is the one of the record.
    Adopt,
    /// Remove the record; the Idempotency-Key stays used. Repeatable.
    Forget,
    /// Remove the record of a create that failed, and free its Idempotency-Key. Repeatable.
    UndoKeep,
    /// Ask the agent how many of the callers' processes are alive.
    CountProcesses,
    /// Set the deadline at which it expires, if it has a lifetime.
    WatchExpiry,
    /// Come back with [`Event::Retry`]; the number of tries so far is `deadlines::retry_delay_ms`'s argument.
    RetryLater(u32),
    /// Answer the create.
    AnswerCreate(Result<Kept, Error>),
    /// Answer everybody who waits for a delete.
    AnswerDelete(Result<(), Error>),
    /// It is over: take back deadlines, host ids and the place in memory.
    Release,
}

/// What becomes of a destroyed sandbox's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// They stay where they are.
    Keep,
    /// They go to the trash, to be removed slowly.
    Trash,
}

/// Where it is; the drawing above.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    Launching { lost: Option<String> },
    Keeping { lost: Option<String>, delete: bool },
    Adopting { lost: Option<String>, delete: bool },
    Running { counting: bool },
    Failing { why: String, record: Work, machine: Work, delete: bool },
    Failed,
    Undoing { outcome: Option<Result<Kept, Error>>, machine: Work, record: Work },
    Dying { from: Alive, step: Step, waiting: bool, idle: bool },
    Gone,
}

/// One thing that must be done once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Wanted,
    UnderWay,
    Done,
}

/// What it goes back to when its dying could not be written down, which means that nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Alive {
    Running { lost: Option<String> },
    Failed,
}

/// How far a delete is. Each step is durable or visible on the machine, and repeatable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Mark,
    Destroy,
    Forget,
}

/// The life of one sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    life: Life,
    /// Failed tries in a row.
    tries: u32,
    /// Its lifetime is over: it dies as soon as it can.
    expired: bool,
}

/// What a start found of a sandbox, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The record's state and dying mark; `None` without a record.
    pub record: Option<(State, bool)>,
    /// What stands on the machine.
    pub machine: OnMachine,
    /// The record's agent was started in this boot.
    pub same_boot: bool,
}

/// What stands on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMachine {
    /// The agent that the record names is alive.
    Agent,
    /// Something is left or alive, but not that agent.
    Other,
    /// Nothing.
    Nothing,
}

impl Machine {
    /// A new sandbox.
    pub fn create() -> (Machine, Vec<Effect>) {
        (Machine::at(Life::Launching { lost: None }), vec![Effect::Launch])
    }

    /// A sandbox that a start found. `record` and `machine` are not both nothing.
    pub fn recover(found: Found) -> (Machine, Vec<Effect>) {
        let failing = |why: &str| {
            let (machine, mut effects) = Machine::failing(why.to_string(), Work::Wanted, Work::Wanted, false);
            effects.push(Effect::WatchExpiry);
            (machine, effects)
        };
        match (found.record, found.machine) {
            // A create that nobody was told of.
            (None, _) => Machine::undoing(None, Work::Done),
            (Some((_, true)), _) => {
                let dying = Life::Dying { from: Alive::Failed, step: Step::Destroy, waiting: false, idle: false };
                (Machine::at(dying), vec![Effect::Destroy(Files::Trash)])
            }
            (Some((State::Running | State::Paused, _)), OnMachine::Agent) => {
                let adopting = Life::Adopting { lost: None, delete: false };
                (Machine::at(adopting), vec![Effect::Adopt, Effect::WatchExpiry])
            }
            (Some((State::Error | State::Stopped, _)), OnMachine::Nothing) => {
                (Machine::at(Life::Failed), vec![Effect::WatchExpiry])
            }
            (Some((State::Error | State::Stopped, _)), _) => {
                let (machine, mut effects) = Machine::failing(String::new(), Work::Done, Work::Wanted, false);
                effects.push(Effect::WatchExpiry);
                (machine, effects)
            }
            _ if !found.same_boot => {
                failing("host_restarted: the machine was started again; its processes are gone, its files are kept")
            }
            _ => failing("agent_lost: its agent had ended while the server was away; its files are kept"),
        }
    }

    /// The state as callers see it.
    pub fn shown(&self) -> State {
        match &self.life {
            Life::Launching { .. } | Life::Keeping { .. } => State::Starting,
            Life::Running { .. } | Life::Adopting { .. } => State::Running,
            Life::Failing { .. } | Life::Failed | Life::Undoing { .. } => State::Error,
            Life::Dying { .. } | Life::Gone => State::Stopping,
        }
    }

    /// True while commands can be run.
    pub fn is_running(&self) -> bool {
        matches!(self.life, Life::Running { .. })
    }

    /// True once [`Effect::Release`] was given.
    pub fn is_gone(&self) -> bool {
        self.life == Life::Gone
    }

    /// True where no effect is under way: it stays as it is until somebody wants something.
    pub fn is_at_rest(&self) -> bool {
        match &self.life {
            Life::Running { counting } => !counting && !self.expired,
            Life::Failed => !self.expired,
            Life::Gone => true,
            _ => false,
        }
    }

    /// What an event means here. An event that means nothing here changes nothing: a late answer, a second delete.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        let life = std::mem::replace(&mut self.life, Life::Gone);
        let (life, effects) = self.next(life, event);
        self.life = life;
        effects
    }

    fn at(life: Life) -> Machine {
        Machine { life, tries: 0, expired: false }
    }

    fn undoing(outcome: Option<Result<Kept, Error>>, record: Work) -> (Machine, Vec<Effect>) {
        let life = Life::Undoing { outcome, machine: Work::UnderWay, record };
        (Machine::at(life), vec![Effect::Destroy(Files::Trash)])
    }

    fn failing(why: String, record: Work, machine: Work, delete: bool) -> (Machine, Vec<Effect>) {
        let (life, effects) = rules::fail(why, record, machine, delete);
        (Machine::at(life), effects)
    }
}

mod rules;
#[cfg(test)]
mod tests;
