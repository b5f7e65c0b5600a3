//! What the owner of a sandbox does: make it, run in it, end it, and notice that it ended.
//!
//! Order of a create: launch, Hello, then one durable record that says `running`, then the answer. A crash before the
//! record leaves a sandbox that nobody was told of: the next start finds it without a record and removes it.
//! Order of a delete: a durable `dying` mark, the runtime's tear-down, the record's removal. Repeatable at each step.

use super::{Shard, Slot, command, not_found, now_us};
use crate::clock;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::process::{Finished, RunCommand};
use crate::runtime::{Ended, Files, Launched, Plan};
use crate::sandbox::{CreateSandbox, Enforced, Enforcement, Force, Resources, Sandbox, State};
use crate::store::{Identity, PutCreate, Record};
use crate::template;
use futures_util::FutureExt;
use std::rc::Rc;
use workspace_proto::launcher;

const MIB: u64 = 1 << 20;
const TMP_BYTES: u64 = 256 * MIB;
const MEMORY_BYTES: u64 = 1024 * MIB;
const DISK_BYTES: u64 = 4096 * MIB;
const PIDS: u64 = 2048;
const CPU_PERIOD_US: f64 = 100_000.0;
/// After a link broke in set-up, how long the launcher may take to tell why, in milliseconds.
const WHY_MS_MAX: u64 = 1000;

impl Shard {
    pub(super) async fn create_here(&self, request: CreateSandbox) -> Result<Sandbox, Error> {
        let template = request.template.clone().unwrap_or_else(|| self.0.settings.base_image.clone());
        let launcher_template = template::find(&template, &self.0.settings.base_image)?;
        let Some(block) = self.0.blocks.borrow_mut().take() else {
            return Err(Error::new(
                Reason::SandboxLimitExceeded,
                "no host id range is free for another sandbox; delete one, or see `workspace-server doctor`",
            ));
        };
        let id = self.draw_id();
        let now_us = now_us();
        let record = Record {
            id,
            name: request.name.unwrap_or_else(|| id.as_str()[..12].to_owned()),
            template,
            state: State::Running,
            env: request.env,
            metadata: request.metadata,
            created_at_us: now_us,
            updated_at_us: now_us,
            timeout: request.timeout,
            idle_timeout: request.idle_timeout,
            expires_at_us: (request.timeout > 0).then(|| clock::wall_after(now_us, request.timeout)),
            error_message: None,
            runtime: self.0.runtime.name().to_owned(),
            workspace_id: None,
            network: "none".to_owned(),
            resources: Resources {
                memory_bytes: request.memory_bytes.unwrap_or(MEMORY_BYTES),
                cpus: request.cpus,
                pids: request.pids.unwrap_or(PIDS),
                disk_bytes: request.disk_bytes.unwrap_or(DISK_BYTES),
                enforced: enforced(&Default::default()),
            },
            block,
            identity: None,
            dying: false,
            idempotency_key: request.idempotency.as_ref().map(|idempotency| idempotency.key.clone()),
        };
        let plan = plan(&record, launcher_template);
        let slot = Slot::new(record);
        self.0.slots.borrow_mut().insert(id, slot.clone());
        let made = match self.launch(&slot, plan).await {
            Ok(()) => self.commit(&slot, request.idempotency).await,
            Err(error) => Err(error),
        };
        match made {
            Ok(None) => {
                self.watch_expiry(&slot);
                let record = slot.record.borrow();
                Ok(self.show(&record))
            }
            Ok(Some(earlier)) => {
                self.undo(id, block).await;
                self.get(earlier).await
            }
            Err(error) => {
                self.undo(id, block).await;
                Err(error)
            }
        }
    }

    /// An agent's identity as the record keeps it: good for this boot only.
    fn kept(&self, identity: launcher::Identity) -> Identity {
        Identity {
            pid: identity.pid,
            start_time_ticks: identity.start_time_ticks,
            pidfd_inode: identity.pidfd_inode,
            boot_id: self.0.settings.boot_id.clone(),
        }
    }

    fn draw_id(&self) -> SandboxId {
        loop {
            let id = SandboxId::from_random(random());
            if id.shard_of(self.0.peers.len()) == self.0.index && !self.0.slots.borrow().contains_key(&id) {
                return id;
            }
        }
    }

    /// Starts it and waits until its agent says Hello.
    async fn launch(&self, slot: &Rc<Slot>, plan: Plan) -> Result<(), Error> {
        let id = plan.id;
        let launched = self.0.runtime.create(plan).await?;
        {
            let mut record = slot.record.borrow_mut();
            record.identity = Some(self.kept(launched.identity));
            record.resources.enforced = enforced(&launched.enforced);
        }
        self.link(slot, id, launched).await
    }

    /// Starts the protocol on a new stream. A sandbox that ends meanwhile says why.
    pub(super) async fn link(&self, slot: &Rc<Slot>, id: SandboxId, launched: Launched) -> Result<(), Error> {
        let connected = self.0.connector.connect(launched.link, id, self.0.settings.agent_timeout_ms).await;
        match connected {
            Ok(agent) => {
                slot.agent.replace(Some(agent));
                Ok(())
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

    /// Makes the sandbox durable. `Some` when an earlier create with the same key stands for it.
    async fn commit(
        &self,
        slot: &Rc<Slot>,
        idempotency: Option<crate::sandbox::Idempotency>,
    ) -> Result<Option<SandboxId>, Error> {
        let record = slot.record.borrow().clone();
        let Some(idempotency) = idempotency else {
            self.0.store.put(record).await?;
            return Ok(None);
        };
        match self.0.store.put_create(record, idempotency).await? {
            PutCreate::Created => Ok(None),
            PutCreate::Replayed(earlier) => Ok(Some(earlier)),
            PutCreate::Conflict => Err(Error::new(
                Reason::SandboxAlreadyExists,
                "this Idempotency-Key was used with another body; use a new key for a new sandbox",
            )),
        }
    }

    /// Removes what a create that failed had made.
    async fn undo(&self, id: SandboxId, block: u32) {
        match self.0.runtime.destroy(id, Files::Trash).await {
            Ok(()) => self.0.blocks.borrow_mut().give_back(block),
            Err(error) => tracing::warn!(sandbox = %id, %error, "a failed create was not undone; the next start will"),
        }
        self.0.slots.borrow_mut().remove(&id);
        self.tell_trash();
    }

    pub(super) async fn run_here(&self, id: SandboxId, command: RunCommand) -> Result<Finished, Error> {
        let slot = self.slot(id)?;
        let agent = self.agent(&slot, id).await?;
        let request = command::request(&slot.record.borrow(), command);
        agent.run(request).await
    }

    fn slot(&self, id: SandboxId) -> Result<Rc<Slot>, Error> {
        self.0.slots.borrow().get(&id).cloned().ok_or_else(|| not_found(id))
    }

    /// The link to a running sandbox's agent, opened again where it was lost.
    async fn agent(&self, slot: &Rc<Slot>, id: SandboxId) -> Result<Rc<dyn crate::agent::Agent>, Error> {
        let (state, identity) = {
            let record = slot.record.borrow();
            (record.state, record.identity.clone())
        };
        if state != State::Running || slot.deleting.get() {
            let state = if slot.deleting.get() { State::Stopping } else { state };
            return Err(Error::new(
                Reason::InvalidSandboxState,
                format!("the sandbox is {}; only a running one takes this", state.name()),
            ));
        }
        let known = slot.agent.borrow().clone();
        if let Some(agent) = known.filter(|agent| agent.closed().now_or_never().is_none()) {
            return Ok(agent);
        }
        let identity = identity.ok_or_else(|| Error::new(Reason::AgentNotConnected, "the sandbox's agent has gone"))?;
        let launched = self.0.runtime.adopt(id, told(&identity)).await?;
        self.link(slot, id, launched).await?;
        let agent = slot.agent.borrow().clone();
        agent.ok_or_else(|| Error::new(Reason::AgentNotConnected, "the sandbox's agent has gone"))
    }

    pub(super) async fn delete_here(&self, id: SandboxId, force: Force) -> Result<(), Error> {
        let slot = self.slot(id)?;
        if slot.deleting.get() {
            let done = slot.delete_done.borrow().clone();
            if let Some(done) = done {
                let _ = done.recv_async().await;
            }
            return Err(not_found(id));
        }
        if force == Force::No {
            self.refuse_busy(&slot, id).await?;
        }
        if slot.deleting.replace(true) {
            return Err(not_found(id)); // another delete came first while this one asked
        }
        let (deleting, done) = flume::bounded::<()>(1);
        slot.delete_done.replace(Some(done));
        let result = self.tear_down(&slot, id).await;
        slot.deleting.set(false);
        drop(deleting);
        result
    }

    async fn refuse_busy(&self, slot: &Rc<Slot>, id: SandboxId) -> Result<(), Error> {
        if slot.record.borrow().state != State::Running {
            return Ok(());
        }
        // An agent that can't be asked holds nothing that is worth keeping from a delete.
        let Ok(agent) = self.agent(slot, id).await else { return Ok(()) };
        match agent.process_count(self.0.settings.agent_timeout_ms).await {
            Ok(0) | Err(_) => Ok(()),
            Ok(count) => Err(Error::new(
                Reason::InvalidSandboxState,
                format!("{count} of the caller's processes run in the sandbox; end them, or delete with force=true"),
            )),
        }
    }

    async fn tear_down(&self, slot: &Rc<Slot>, id: SandboxId) -> Result<(), Error> {
        let record = {
            let mut record = slot.record.borrow_mut();
            record.dying = true;
            record.state = State::Stopping;
            record.updated_at_us = now_us();
            record.clone()
        };
        let (block, expires_at_us) = (record.block, record.expires_at_us);
        self.0.store.put(record).await?;
        self.0.runtime.destroy(id, Files::Trash).await?;
        self.tell_trash();
        self.0.store.remove(id).await?;
        self.0.slots.borrow_mut().remove(&id);
        self.0.blocks.borrow_mut().give_back(block);
        if let Some(at) = expires_at_us {
            self.0.expiries.borrow_mut().remove(&(at, id));
        }
        Ok(())
    }

    /// The runtime says that a sandbox's first process has ended.
    pub(super) async fn lost(&self, ended: Ended) {
        let Ok(slot) = self.slot(ended.id) else { return };
        let was_linked = slot.agent.borrow().is_some();
        slot.mark_ended(ended.why.clone());
        let running = slot.record.borrow().state == State::Running;
        // In set-up the create itself reports and cleans; in a delete the end is what was asked for.
        if !was_linked || !running || slot.deleting.get() {
            return;
        }
        tracing::warn!(sandbox = %ended.id, why = ended.why, "sandbox ended by itself");
        self.fail(&slot, ended.id, ended.why).await;
    }

    /// Marks a sandbox `error`, keeps its files, and removes all else.
    pub(super) async fn fail(&self, slot: &Rc<Slot>, id: SandboxId, why: String) {
        let record = {
            let mut record = slot.record.borrow_mut();
            record.state = State::Error;
            record.error_message = Some(why);
            record.updated_at_us = now_us();
            record.clone()
        };
        if let Err(error) = self.0.store.put(record).await {
            tracing::error!(sandbox = %id, %error, "its end could not be recorded; the next start will see it");
        }
        if let Err(error) = self.0.runtime.destroy(id, Files::Keep).await {
            tracing::warn!(sandbox = %id, %error, "not torn down");
        }
    }

    pub(super) fn watch_expiry(&self, slot: &Rc<Slot>) {
        let record = slot.record.borrow();
        if let Some(at) = record.expires_at_us {
            self.0.expiries.borrow_mut().insert((at, record.id));
        }
    }

    /// Deletes the sandboxes whose life is over.
    pub(super) fn expire(&self, now_us: u64) {
        loop {
            let due = self.0.expiries.borrow().first().copied().filter(|(at, _)| *at <= now_us);
            let Some(due) = due else { return };
            self.0.expiries.borrow_mut().remove(&due);
            let shard = self.clone();
            super::spawn(async move {
                tracing::info!(sandbox = %due.1, "its timeout is over");
                match shard.delete_here(due.1, Force::Yes).await {
                    Err(error) if error.reason != Reason::SandboxNotFound => {
                        tracing::warn!(sandbox = %due.1, %error, "not deleted at its timeout");
                    }
                    _ => {}
                }
            });
        }
    }
}

/// An agent's identity as the runtime compares it.
pub(super) fn told(identity: &Identity) -> launcher::Identity {
    launcher::Identity {
        pid: identity.pid,
        start_time_ticks: identity.start_time_ticks,
        pidfd_inode: identity.pidfd_inode,
    }
}

/// What the runtime is asked for.
fn plan(record: &Record, template: &str) -> Plan {
    let cpus = record.resources.cpus;
    Plan {
        id: record.id,
        block: record.block,
        template: template.to_owned(),
        memory_bytes: record.resources.memory_bytes,
        pids_max: record.resources.pids,
        cpu_quota_us: cpus.map_or(0, |cpus| (cpus * CPU_PERIOD_US).max(1000.0) as u32),
        cpu_count: cpus.map_or(0, |cpus| cpus.ceil() as u32),
        tmp_bytes: TMP_BYTES,
    }
}

fn enforced(of: &launcher::Enforced) -> Enforced {
    let hard = |is: bool| if is { Enforcement::Hard } else { Enforcement::None };
    Enforced { memory: hard(of.memory), cpu: hard(of.cpu), pids: hard(of.pids), disk: Enforcement::None }
}

fn random() -> [u8; 20] {
    let mut bytes = [0u8; 20];
    let mut filled = 0;
    while filled < bytes.len() {
        // Never fails once the machine has booted (getrandom(2)); interrupted calls are made again.
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}
