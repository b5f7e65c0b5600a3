//! A new sandbox's record, and what the runtime is asked for: defaults, ids, limits.

use super::pool::Blank;
use super::{Shard, now_us};
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::runtime::Plan;
use crate::sandbox::{CreateSandbox, Enforced, Enforcement, Resources, State};
use crate::store::{Identity, Record};
use crate::template;
use workspace_proto::launcher;

const MIB: u64 = 1 << 20;
/// `/tmp` and `/dev/shm` together, and at most half of a sandbox's memory: what lies there can't be reclaimed, and where it
/// fills a memory limit, the kernel kills every program that starts, also the one that would remove it.
const TMP_BYTES_MAX: u64 = 256 * MIB;
const MEMORY_BYTES: u64 = 1024 * MIB;
const DISK_BYTES: u64 = 4096 * MIB;
const PIDS: u64 = 2048;
const CPU_PERIOD_US: f64 = 100_000.0;
const CPU_QUOTA_US_MIN: f64 = 1000.0;

fn tmp_bytes(memory_bytes: u64) -> u64 {
    TMP_BYTES_MAX.min(memory_bytes / 2)
}

impl Shard {
    /// A record for a checked request, with a blank's id and block where one fits, else with new ones.
    pub(super) fn new_record(&self, request: CreateSandbox) -> Result<(Record, Option<Blank>), Error> {
        let template = request.template.clone().unwrap_or_else(|| self.0.settings.base_image.clone());
        template::find(&template, &self.0.settings.base_image)?;
        let blank = self.take_blank(&request);
        let (id, block) = match &blank {
            Some(blank) => (blank.id, blank.block),
            None => (self.draw_id(), self.take_block()?),
        };
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
            expires_at_us: Shard::end_of_life_us(now_us, request.timeout),
            error_message: None,
            runtime: self.0.runtime.name().to_owned(),
            workspace_id: None,
            network: "none".to_owned(),
            resources: Resources {
                memory_bytes: request.memory_bytes.unwrap_or(MEMORY_BYTES),
                cpus: request.cpus,
                pids: request.pids.unwrap_or(PIDS),
                disk_bytes: request.disk_bytes.unwrap_or(DISK_BYTES),
                enforced: enforced(&launcher::Enforced::default(), request.cpus),
            },
            block,
            identity: None,
            dying: false,
            idempotency_key: request.idempotency.map(|idempotency| idempotency.key),
        };
        Ok((record, blank))
    }

    fn take_block(&self) -> Result<u32, Error> {
        self.0.blocks.borrow_mut().take().ok_or_else(|| {
            Error::new(
                Reason::SandboxLimitExceeded,
                "no host id range is free for another sandbox; delete one, or see `workspace-server doctor`",
            )
        })
    }

    /// What the runtime is asked for a sandbox that nobody has asked for yet.
    pub(super) fn blank_plan(&self, id: SandboxId, block: u32) -> Plan {
        Plan {
            id,
            block,
            template: template::HOST.to_owned(),
            memory_bytes: MEMORY_BYTES,
            pids_max: PIDS,
            cpu_quota_us: 0,
            cpu_count: 0,
            tmp_bytes: tmp_bytes(MEMORY_BYTES),
        }
    }

    /// What the runtime is asked for.
    pub(super) fn plan(&self, record: &Record) -> Result<Plan, Error> {
        let cpus = record.resources.cpus;
        Ok(Plan {
            id: record.id,
            block: record.block,
            template: template::find(&record.template, &self.0.settings.base_image)?.to_owned(),
            memory_bytes: record.resources.memory_bytes,
            pids_max: record.resources.pids,
            cpu_quota_us: cpus.map_or(0, |cpus| (cpus * CPU_PERIOD_US).max(CPU_QUOTA_US_MIN) as u32),
            cpu_count: cpus.map_or(0, |cpus| cpus.ceil() as u32),
            tmp_bytes: tmp_bytes(record.resources.memory_bytes),
        })
    }

    /// An agent's identity as the record keeps it: good for this boot only.
    pub(super) fn kept_identity(&self, identity: &launcher::Identity) -> Identity {
        Identity {
            pid: identity.pid,
            start_time_ticks: identity.start_time_ticks,
            pidfd_inode: identity.pidfd_inode,
            boot_id: self.0.settings.boot_id.clone(),
        }
    }

    fn knows(&self, id: SandboxId) -> bool {
        self.0.slots.borrow().contains_key(&id) || self.0.pool.borrow().holds(id)
    }

    pub(super) fn draw_id(&self) -> SandboxId {
        loop {
            let id = SandboxId::from_random(random());
            if id.shard_of(self.0.peers.len()) == self.0.index && !self.knows(id) {
                return id;
            }
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

/// Disk use is measured and acted upon (`disk.rs`), not kept by the kernel. CPUs without a quota are shared by weight.
pub(super) fn enforced(of: &launcher::Enforced, cpus: Option<f64>) -> Enforced {
    let hard = |is: bool| if is { Enforcement::Hard } else { Enforcement::None };
    let cpu = match (of.cpu, cpus) {
        (true, None) => Enforcement::Soft,
        (is, _) => hard(is),
    };
    Enforced { memory: hard(of.memory), cpu, pids: hard(of.pids), disk: Enforcement::Soft }
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
