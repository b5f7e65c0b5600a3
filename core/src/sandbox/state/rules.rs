//! The transitions of a sandbox's life, in the order of the drawing in `state.rs`.

use super::{Alive, Effect, Event, Files, Kept, Life, Machine, Step, Work};
use crate::error::{Error, Reason};
use crate::sandbox::Force;

impl Machine {
    /// What an event means in a life.
    pub(super) fn next(&mut self, life: Life, event: Event) -> (Life, Vec<Effect>) {
        match event {
            Event::Expired => {
                self.expired = true;
                self.want_gone(life, Force::Yes, false)
            }
            Event::Delete(force) => self.want_gone(life, force, true),
            Event::AgentLost(why) => lose(life, why),
            Event::Retry => self.retry(life),
            _ => match life {
                Life::Launching { .. } | Life::Keeping { .. } | Life::Undoing { .. } => self.making(life, event),
                Life::Adopting { .. } | Life::Running { .. } | Life::Failing { .. } | Life::Failed => {
                    self.living(life, event)
                }
                Life::Dying { .. } | Life::Gone => self.dying(life, event),
            },
        }
    }

    /// From the launch to the answer of the create, or back to nothing.
    fn making(&mut self, life: Life, event: Event) -> (Life, Vec<Effect>) {
        match (life, event) {
            (Life::Launching { lost: None }, Event::Launched(Ok(()))) => {
                (Life::Keeping { lost: None, delete: false }, vec![Effect::Keep])
            }
            (Life::Launching { lost: Some(why) }, Event::Launched(Ok(()))) => undo(Err(set_up(&why)), Work::Done),
            (Life::Launching { .. }, Event::Launched(Err(error))) => undo(Err(error), Work::Done),
            (Life::Keeping { lost: None, delete }, Event::Kept(Ok(Kept::Created))) => {
                let mut effects = vec![Effect::AnswerCreate(Ok(Kept::Created)), Effect::WatchExpiry];
                if delete {
                    let (life, more) = die(Alive::Running { lost: None }, true);
                    effects.extend(more);
                    return (life, effects);
                }
                (Life::Running { counting: false }, effects)
            }
            // Not for the caller: the key was another's, or it is over already, or it was not kept as far as the store
            // knows. Then the record is removed all the same. Who found it in a list and deletes it is told that it
            // is not there.
            (Life::Keeping { lost, delete }, Event::Kept(kept)) => {
                let record = match kept {
                    Ok(Kept::Replayed(_) | Kept::Conflict) => Work::Done,
                    Ok(Kept::Created) | Err(_) => Work::Wanted,
                };
                let outcome = match (kept, lost) {
                    (Ok(Kept::Created), Some(why)) => Err(set_up(&why)),
                    (kept, _) => kept,
                };
                let (life, mut effects) = undo(outcome, record);
                effects.extend(answer_delete(delete, Err(not_found())));
                (life, effects)
            }
            (Life::Undoing { outcome, record, .. }, Event::Destroyed(Ok(()))) => match record {
                Work::Done => release(outcome),
                _ => (Life::Undoing { outcome, machine: Work::Done, record: Work::UnderWay }, vec![Effect::UndoKeep]),
            },
            (Life::Undoing { outcome, .. }, Event::Forgotten(Ok(()))) => release(outcome),
            (Life::Undoing { outcome, record, .. }, Event::Destroyed(Err(_))) => {
                let life = Life::Undoing { outcome: None, machine: Work::Wanted, record };
                (life, self.again(answer_create(outcome)))
            }
            (Life::Undoing { outcome, machine, .. }, Event::Forgotten(Err(_))) => {
                let life = Life::Undoing { outcome: None, machine, record: Work::Wanted };
                (life, self.again(answer_create(outcome)))
            }
            (life, _) => (life, vec![]),
        }
    }

    /// While it lives, and while it is being taken down with its files kept.
    fn living(&mut self, life: Life, event: Event) -> (Life, Vec<Effect>) {
        match (life, event) {
            (Life::Adopting { lost, delete }, Event::Adopted(Ok(()))) if delete || self.expired => {
                die(Alive::Running { lost }, delete)
            }
            (Life::Adopting { lost: None, .. }, Event::Adopted(Ok(()))) => (Life::Running { counting: false }, vec![]),
            (Life::Adopting { lost: Some(why), delete }, Event::Adopted(_)) => {
                fail(why, Work::Wanted, Work::Wanted, delete)
            }
            (Life::Adopting { lost: None, delete }, Event::Adopted(Err(error))) => {
                fail(format!("agent_lost: {}", error.message), Work::Wanted, Work::Wanted, delete)
            }
            (Life::Running { counting: true }, Event::Counted(0)) => die(Alive::Running { lost: None }, true),
            (Life::Running { counting: true }, Event::Counted(count)) => {
                (Life::Running { counting: false }, vec![Effect::AnswerDelete(Err(busy(count)))])
            }
            (Life::Failing { why, machine, delete, .. }, Event::FailedKept(result)) => {
                let record = if result.is_ok() { Work::Done } else { Work::Wanted };
                self.failed(why, record, machine, delete)
            }
            (Life::Failing { why, record, delete, .. }, Event::Destroyed(result)) => {
                let machine = if result.is_ok() { Work::Done } else { Work::Wanted };
                self.failed(why, record, machine, delete)
            }
            (life, _) => (life, vec![]),
        }
    }

    /// One half of a failure came back. Both done: it rests, or dies if somebody waits for that.
    fn failed(&mut self, why: String, record: Work, machine: Work, delete: bool) -> (Life, Vec<Effect>) {
        if record == Work::UnderWay || machine == Work::UnderWay {
            return (Life::Failing { why, record, machine, delete }, vec![]);
        }
        if delete || self.expired {
            return die(Alive::Failed, delete);
        }
        if (record, machine) == (Work::Done, Work::Done) {
            self.tries = 0;
            return (Life::Failed, vec![]);
        }
        (Life::Failing { why, record, machine, delete }, self.again(vec![]))
    }

    fn dying(&mut self, life: Life, event: Event) -> (Life, Vec<Effect>) {
        let Life::Dying { from, step, waiting, idle: false } = life else { return (life, vec![]) };
        if matches!(event, Event::DyingKept(Ok(())) | Event::Destroyed(Ok(()))) {
            self.tries = 0;
        }
        let on = |step| Life::Dying { from: from.clone(), step, waiting, idle: false };
        match (step, event) {
            (Step::Mark, Event::DyingKept(Ok(()))) => (on(Step::Destroy), vec![Effect::Destroy(Files::Trash)]),
            (Step::Destroy, Event::Destroyed(Ok(()))) => (on(Step::Forget), vec![Effect::Forget]),
            (Step::Forget, Event::Forgotten(Ok(()))) => {
                let mut effects = answer_delete(waiting, Ok(()));
                effects.push(Effect::Release);
                (Life::Gone, effects)
            }
            // Nothing has changed: it lives on as before.
            (Step::Mark, Event::DyingKept(Err(error))) => {
                let mut effects = answer_delete(waiting, Err(error));
                let (life, more) = match from {
                    Alive::Failed => (Life::Failed, vec![]),
                    Alive::Running { lost: None } => (Life::Running { counting: false }, vec![]),
                    Alive::Running { lost: Some(why) } => fail(why, Work::Wanted, Work::Wanted, false),
                };
                effects.extend(more);
                (life, if self.expired { self.again(effects) } else { effects })
            }
            (Step::Destroy, Event::Destroyed(Err(error))) | (Step::Forget, Event::Forgotten(Err(error))) => {
                let life = Life::Dying { from, step, waiting: false, idle: true };
                (life, self.again(answer_delete(waiting, Err(error))))
            }
            _ => (on(step), vec![]),
        }
    }

    /// Somebody (who waits for it), or its lifetime, wants it gone.
    fn want_gone(&mut self, life: Life, force: Force, waits: bool) -> (Life, Vec<Effect>) {
        match life {
            // Nobody has been told of it: whoever asks has guessed the id.
            life @ (Life::Launching { .. } | Life::Undoing { .. } | Life::Gone) => {
                (life, answer_delete(waits, Err(not_found())))
            }
            Life::Keeping { lost, delete } => (Life::Keeping { lost, delete: delete || waits }, vec![]),
            Life::Adopting { lost, delete } => (Life::Adopting { lost, delete: delete || waits }, vec![]),
            Life::Running { counting: false } if force == Force::No => {
                (Life::Running { counting: true }, vec![Effect::CountProcesses])
            }
            // The answer to the count would come to nobody's question: it is ignored then.
            Life::Running { counting } if force == Force::Yes => die(Alive::Running { lost: None }, waits || counting),
            life @ Life::Running { .. } => (life, vec![]),
            Life::Failing { why, record, machine, delete } => {
                let delete = delete || waits;
                if record == Work::UnderWay || machine == Work::UnderWay {
                    return (Life::Failing { why, record, machine, delete }, vec![]);
                }
                die(Alive::Failed, delete)
            }
            Life::Failed => die(Alive::Failed, waits),
            Life::Dying { from, step, waiting, idle } => {
                let effects = if idle { vec![effect_of(step)] } else { vec![] };
                (Life::Dying { from, step, waiting: waiting || waits, idle: false }, effects)
            }
        }
    }

    fn retry(&mut self, life: Life) -> (Life, Vec<Effect>) {
        match life {
            Life::Running { .. } if self.expired => die(Alive::Running { lost: None }, false),
            Life::Failed if self.expired => die(Alive::Failed, false),
            Life::Failing { why, record, machine, delete } => {
                let idle = record != Work::UnderWay && machine != Work::UnderWay;
                match idle {
                    true if self.expired => die(Alive::Failed, delete),
                    true => fail(why, record, machine, delete),
                    false => (Life::Failing { why, record, machine, delete }, vec![]),
                }
            }
            Life::Undoing { outcome, machine: Work::Wanted, record } => {
                (Life::Undoing { outcome, machine: Work::UnderWay, record }, vec![Effect::Destroy(Files::Trash)])
            }
            Life::Undoing { outcome, machine: Work::Done, record: Work::Wanted } => {
                let life = Life::Undoing { outcome, machine: Work::Done, record: Work::UnderWay };
                (life, vec![Effect::UndoKeep])
            }
            Life::Dying { from, step, waiting, idle: true } => {
                (Life::Dying { from, step, waiting, idle: false }, vec![effect_of(step)])
            }
            life => (life, vec![]),
        }
    }

    fn again(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.push(Effect::RetryLater(self.tries));
        self.tries = self.tries.saturating_add(1);
        effects
    }
}

/// The agent has ended: in a delete that was wanted, in set-up the launch or the commit tells how it goes on.
fn lose(life: Life, why: String) -> (Life, Vec<Effect>) {
    match life {
        Life::Launching { .. } => (Life::Launching { lost: Some(why) }, vec![]),
        Life::Keeping { delete, .. } => (Life::Keeping { lost: Some(why), delete }, vec![]),
        Life::Adopting { delete, .. } => (Life::Adopting { lost: Some(why), delete }, vec![]),
        Life::Running { counting } => fail(why, Work::Wanted, Work::Wanted, counting),
        Life::Dying { from: Alive::Running { .. }, step, waiting, idle } => {
            (Life::Dying { from: Alive::Running { lost: Some(why) }, step, waiting, idle }, vec![])
        }
        life => (life, vec![]),
    }
}

fn undo(outcome: Result<Kept, Error>, record: Work) -> (Life, Vec<Effect>) {
    let life = Life::Undoing { outcome: Some(outcome), machine: Work::UnderWay, record };
    (life, vec![Effect::Destroy(Files::Trash)])
}

fn release(outcome: Option<Result<Kept, Error>>) -> (Life, Vec<Effect>) {
    let mut effects = answer_create(outcome);
    effects.push(Effect::Release);
    (Life::Gone, effects)
}

/// Starts what is still wanted of a failure.
pub(super) fn fail(why: String, record: Work, machine: Work, delete: bool) -> (Life, Vec<Effect>) {
    let start = |work| if work == Work::Wanted { Work::UnderWay } else { work };
    let mut effects = Vec::new();
    if record == Work::Wanted {
        effects.push(Effect::KeepFailed(why.clone()));
    }
    if machine == Work::Wanted {
        effects.push(Effect::Destroy(Files::Keep));
    }
    (Life::Failing { why, record: start(record), machine: start(machine), delete }, effects)
}

fn die(from: Alive, waiting: bool) -> (Life, Vec<Effect>) {
    (Life::Dying { from, step: Step::Mark, waiting, idle: false }, vec![Effect::KeepDying])
}

fn effect_of(step: Step) -> Effect {
    match step {
        Step::Mark => Effect::KeepDying,
        Step::Destroy => Effect::Destroy(Files::Trash),
        Step::Forget => Effect::Forget,
    }
}

fn answer_create(outcome: Option<Result<Kept, Error>>) -> Vec<Effect> {
    outcome.map(Effect::AnswerCreate).into_iter().collect()
}

fn answer_delete(waits: bool, result: Result<(), Error>) -> Vec<Effect> {
    if waits { vec![Effect::AnswerDelete(result)] } else { vec![] }
}

fn set_up(why: &str) -> Error {
    Error::new(Reason::RuntimeError, "the sandbox ended while it was set up; `workspace-server doctor` may say why")
        .source(why)
}

fn busy(count: u64) -> Error {
    Error::new(
        Reason::InvalidSandboxState,
        format!("{count} of the caller's processes run in the sandbox; end them, or delete with force=true"),
    )
}

fn not_found() -> Error {
    Error::new(Reason::SandboxNotFound, "no sandbox has this id")
}
