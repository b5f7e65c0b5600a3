//! The driver of a sandbox's life: it steps the machine, carries out the effects, and brings each back as one event.
//!
//! What the life is stands in `sandbox/state.rs`; here is only how each effect is done.

use super::mailbox::oneshot;
use super::{Shard, Slot, not_found, now_ms, now_us};
use crate::agent::Agent;
use crate::clock;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::runtime::{Ended, Launched};
use crate::sandbox::deadlines::{Due, monotonic_ms, retry_delay_ms};
use crate::sandbox::state::{Effect, Event, Files, Kept, Machine};
use crate::sandbox::{CreateSandbox, Force, Sandbox, State};
use crate::store::PutCreate;
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;

/// After a link broke in set-up, how long the launcher may take to tell why, in milliseconds.
const WHY_MS_MAX: u64 = 1000;

impl Shard {
    pub(super) async fn create_here(&self, request: CreateSandbox) -> Result<Sandbox, Error> {
        let idempotency = request.idempotency.clone();
        let (record, blank) = self.new_record(request)?;
        let (machine, effects) = Machine::create();
        let slot = Slot::new(machine, record);
        slot.blank.replace(blank);
        let (reply, created) = oneshot();
        slot.idempotency.replace(idempotency);
        slot.created.replace(Some(reply));
        self.0.slots.borrow_mut().insert(slot.record.borrow().id, slot.clone());
        self.carry_out_all(&slot, effects);
        match created.wait().await?? {
            Kept::Created => Ok(self.show(&slot.record.borrow())),
            Kept::Replayed(earlier) => self.get(earlier).await,
            Kept::Conflict => Err(Error::new(
                Reason::SandboxAlreadyExists,
                "this Idempotency-Key was used with another body; use a new key for a new sandbox",
            )),
        }
    }

    pub(super) async fn delete_here(&self, id: SandboxId, force: Force) -> Result<(), Error> {
        let slot = self.slot(id)?;
        let (reply, deleted) = oneshot();
        slot.deletes.borrow_mut().push(reply);
        self.event(&slot, Event::Delete(force));
        deleted.wait().await?
    }

    /// The runtime says that a sandbox's first process has ended.
    pub(super) fn lost(&self, ended: Ended) {
        let Ok(slot) = self.slot(ended.id) else {
            let blank = self.0.pool.borrow_mut().drop_blank(ended.id);
            if let Some(blank) = blank {
                tracing::warn!(why = ended.why, "a sandbox made ahead ended by itself");
                self.remove_blank(blank);
            }
            return;
        };
        if slot.machine.borrow().is_running() {
            tracing::warn!(sandbox = %ended.id, why = ended.why, "sandbox ended by itself");
        }
        slot.mark_ended(ended.why.clone());
        self.event(&slot, Event::AgentLost(ended.why));
    }

    /// Brings deadlines that are due.
    pub(super) fn look_at_deadlines(&self) {
        loop {
            let due = self.0.deadlines.borrow_mut().take_due(now_ms());
            let Some((id, due)) = due else { return };
            let Ok(slot) = self.slot(id) else { continue };
            match due {
                Due::Expiry => {
                    tracing::info!(sandbox = %id, "its timeout is over");
                    self.event(&slot, Event::Expired);
                }
                Due::Retry => self.event(&slot, Event::Retry),
            }
        }
    }

    /// The one place where a life changes.
    fn event(&self, slot: &Rc<Slot>, event: Event) {
        let effects = slot.machine.borrow_mut().step(event);
        self.carry_out_all(slot, effects);
        let machine = slot.machine.borrow();
        if (machine.is_at_rest() || machine.is_gone())
            && let Some(settled) = slot.settled.take()
        {
            settled.send(());
        }
    }

    pub(super) fn carry_out_all(&self, slot: &Rc<Slot>, effects: Vec<Effect>) {
        effects.into_iter().for_each(|effect| self.carry_out(slot, effect));
    }

    fn carry_out(&self, slot: &Rc<Slot>, effect: Effect) {
        let id = slot.record.borrow().id;
        match effect {
            Effect::AnswerCreate(result) => {
                if let Some(created) = slot.created.take() {
                    created.send(result);
                }
            }
            Effect::AnswerDelete(result) => {
                slot.deletes.take().into_iter().for_each(|reply| reply.send(result.clone()))
            }
            Effect::WatchExpiry => {
                if let Some(at_us) = slot.record.borrow().expires_at_us {
                    let at_ms = monotonic_ms(at_us, now_us(), now_ms());
                    self.0.deadlines.borrow_mut().set(id, Due::Expiry, at_ms);
                }
            }
            Effect::RetryLater(tries) => {
                let at_ms = now_ms().saturating_add(retry_delay_ms(tries));
                self.0.deadlines.borrow_mut().set(id, Due::Retry, at_ms);
            }
            Effect::Release => {
                self.0.deadlines.borrow_mut().forget(id);
                self.0.blocks.borrow_mut().give_back(slot.record.borrow().block);
                self.0.slots.borrow_mut().remove(&id);
            }
            effect => {
                let (shard, slot) = (self.clone(), slot.clone());
                super::spawn(async move {
                    // Also after a panic: an effect that never came back would leave the life waiting for ever.
                    let panicked = after_panic(&effect);
                    let done = AssertUnwindSafe(shard.done(&slot, id, effect)).catch_unwind().await;
                    shard.event(&slot, done.unwrap_or(panicked));
                });
            }
        }
    }

    /// Carries out one effect that takes time.
    async fn done(&self, slot: &Rc<Slot>, id: SandboxId, effect: Effect) -> Event {
        match effect {
            Effect::Launch => Event::Launched(self.launch(slot, id).await),
            Effect::Keep => Event::Kept(self.keep(slot).await),
            Effect::KeepFailed(why) => {
                slot.agent.replace(None);
                let record = self.change(slot, |record| {
                    record.state = State::Error;
                    record.error_message = Some(why);
                    record.identity = None;
                });
                Event::FailedKept(self.told(id, self.0.store.put(record).await))
            }
            Effect::KeepDying => {
                let record = self.change(slot, |record| record.dying = true);
                let kept = self.0.store.put(record).await;
                if kept.is_err() {
                    slot.record.borrow_mut().dying = false;
                }
                Event::DyingKept(self.told(id, kept))
            }
            Effect::Destroy(files) => {
                let destroyed = self.0.runtime.destroy(id, files).await;
                if files == Files::Trash {
                    self.tell_trash();
                }
                Event::Destroyed(self.told(id, destroyed))
            }
            Effect::Adopt => Event::Adopted(self.told(id, self.connect_again(slot).await.map(drop))),
            Effect::Forget => Event::Forgotten(self.told(id, self.0.store.remove(id).await)),
            Effect::UndoKeep => Event::Forgotten(self.told(id, self.0.store.undo_create(id).await)),
            Effect::CountProcesses => Event::Counted(self.count_processes(slot).await),
            Effect::AnswerCreate(_)
            | Effect::AnswerDelete(_)
            | Effect::WatchExpiry
            | Effect::RetryLater(_)
            | Effect::Release => unreachable!("done at once by carry_out"),
        }
    }

    /// Failures that no caller may be waiting for are in the log at least.
    fn told(&self, id: SandboxId, result: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &result {
            tracing::warn!(sandbox = %id, %error, "a step of its life failed");
        }
        result
    }

    fn change(&self, slot: &Rc<Slot>, change: impl FnOnce(&mut crate::store::Record)) -> crate::store::Record {
        let mut record = slot.record.borrow_mut();
        change(&mut record);
        record.updated_at_us = now_us();
        record.clone()
    }

    /// Starts it and waits until its agent says Hello; a blank has done that already.
    async fn launch(&self, slot: &Rc<Slot>, id: SandboxId) -> Result<(), Error> {
        if let Some(blank) = slot.blank.take() {
            let mut record = slot.record.borrow_mut();
            record.identity = Some(blank.identity);
            record.resources.enforced = blank.enforced;
            slot.agent.replace(Some(blank.agent));
            return Ok(());
        }
        let plan = self.plan(&slot.record.borrow())?;
        let launched = self.0.runtime.create(plan).await?;
        {
            let mut record = slot.record.borrow_mut();
            record.identity = Some(self.kept_identity(&launched.identity));
            record.resources.enforced = super::record::enforced(&launched.enforced, record.resources.cpus);
        }
        self.link(slot, id, launched).await.map(drop)
    }

    /// Starts the protocol on a new stream. A sandbox that ends meanwhile says why.
    async fn link(&self, slot: &Rc<Slot>, id: SandboxId, launched: Launched) -> Result<Rc<dyn Agent>, Error> {
        match self.0.connector.connect(launched.link, id, self.0.settings.agent_timeout_ms).await {
            Ok(agent) => {
                slot.agent.replace(Some(agent.clone()));
                Ok(agent)
            }
            Err(error) if error.reason == Reason::AgentNotConnected => match slot.why_ended(WHY_MS_MAX).await {
                Some(why) => Err(Error::new(
                    Reason::RuntimeError,
                    "the sandbox ended while it was set up; `workspace-server doctor` may say why",
                )
                .source(why)),
                None => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    async fn keep(&self, slot: &Rc<Slot>) -> Result<Kept, Error> {
        let record = slot.record.borrow().clone();
        match slot.idempotency.take() {
            None => self.0.store.put(record).await.map(|()| Kept::Created),
            Some(idempotency) => Ok(match self.0.store.put_create(record, idempotency).await? {
                PutCreate::Created => Kept::Created,
                PutCreate::Replayed(earlier) => Kept::Replayed(earlier),
                PutCreate::Conflict => Kept::Conflict,
            }),
        }
    }

    /// An agent that can't be asked holds nothing that is worth keeping from a delete.
    pub(super) async fn count_processes(&self, slot: &Rc<Slot>) -> u64 {
        match self.agent(slot).await {
            Ok(agent) => agent.process_count(self.0.settings.agent_timeout_ms).await.unwrap_or(0),
            Err(_) => 0,
        }
    }

    /// The link to a running sandbox's agent, opened again where it was lost.
    pub(super) async fn agent(&self, slot: &Rc<Slot>) -> Result<Rc<dyn Agent>, Error> {
        let known = slot.agent.borrow().clone();
        match known.filter(|agent| agent.closed().now_or_never().is_none()) {
            Some(agent) => Ok(agent),
            None => self.connect_again(slot).await,
        }
    }

    async fn connect_again(&self, slot: &Rc<Slot>) -> Result<Rc<dyn Agent>, Error> {
        let (id, identity) = {
            let record = slot.record.borrow();
            (record.id, record.identity.clone())
        };
        let identity = identity.ok_or_else(|| Error::new(Reason::AgentNotConnected, "the sandbox's agent has gone"))?;
        let launched = self.0.runtime.adopt(id, super::record::told(&identity)).await?;
        self.link(slot, id, launched).await
    }

    pub(super) fn slot(&self, id: SandboxId) -> Result<Rc<Slot>, Error> {
        self.0.slots.borrow().get(&id).cloned().ok_or_else(|| not_found(id))
    }

    /// When a lifetime that starts now is over.
    pub(super) fn end_of_life_us(now_us: u64, timeout: u64) -> Option<u64> {
        (timeout > 0).then(|| clock::wall_after(now_us, timeout))
    }
}

fn after_panic(effect: &Effect) -> Event {
    let error = super::panicked();
    match effect {
        Effect::Launch => Event::Launched(Err(error)),
        Effect::Keep => Event::Kept(Err(error)),
        Effect::KeepFailed(_) => Event::FailedKept(Err(error)),
        Effect::KeepDying => Event::DyingKept(Err(error)),
        Effect::Destroy(_) => Event::Destroyed(Err(error)),
        Effect::Adopt => Event::Adopted(Err(error)),
        Effect::CountProcesses => Event::Counted(0),
        _ => Event::Forgotten(Err(error)),
    }
}
