//! What stands on the machine and outlives the server: agents, what is left of them, files.

use crate::random::Random;
use std::collections::BTreeMap;
use workspace_core::SandboxId;
use workspace_core::sandbox::state::{Files, OnMachine};
use workspace_core::store::{Identity, Record};

/// One sandbox on the machine.
pub(crate) struct Standing {
    /// Its agent, while that lives.
    pub(crate) agent: Option<Identity>,
    /// Its block of host ids.
    pub(crate) block: u32,
}

/// The machine.
#[derive(Default)]
pub(crate) struct Host {
    /// Processes, cgroups and mounts, by sandbox.
    pub(crate) standing: BTreeMap<SandboxId, Standing>,
    /// Directories that are not in the trash.
    pub(crate) files: BTreeMap<SandboxId, ()>,
    boot: u32,
    pids: u32,
}

impl Host {
    /// A sandbox is made whole, or fails half-way; `None` then.
    pub(crate) fn launch(
        &mut self,
        id: SandboxId,
        block: u32,
        random: &mut Random,
        fail_percent: u64,
    ) -> Option<Identity> {
        self.pids += 1;
        let identity = Identity {
            pid: self.pids,
            start_time_ticks: 7,
            pidfd_inode: u64::from(self.pids),
            boot_id: self.boot_id(),
        };
        let fails = random.percent(fail_percent);
        if fails && random.percent(50) {
            return None;
        }
        let agent = (!fails).then(|| identity.clone());
        self.files.insert(id, ());
        self.standing.insert(id, Standing { agent: agent.clone(), block });
        agent
    }

    /// Ends it, or fails and may have got some of the way.
    pub(crate) fn destroy(&mut self, id: SandboxId, files: Files, random: &mut Random, fail_percent: u64) -> bool {
        let fails = random.percent(fail_percent);
        if fails {
            if let Some(standing) = self.standing.get_mut(&id).filter(|_| random.percent(50)) {
                standing.agent = None;
            }
            return false;
        }
        self.standing.remove(&id);
        if files == Files::Trash {
            self.files.remove(&id);
        }
        true
    }

    /// The agent dies by itself. False where there is none.
    pub(crate) fn kill(&mut self, id: SandboxId) -> bool {
        self.standing.get_mut(&id).and_then(|standing| standing.agent.take()).is_some()
    }

    /// The machine is started again: no process is left, and maybe traces of some.
    pub(crate) fn reboot(&mut self, random: &mut Random) {
        self.boot += 1;
        self.standing.retain(|_, standing| {
            standing.agent = None;
            random.percent(50)
        });
    }

    /// What a start finds of a record's sandbox.
    pub(crate) fn of(&self, id: &SandboxId, record: Option<&Record>) -> OnMachine {
        let Some(standing) = self.standing.get(id) else { return OnMachine::Nothing };
        let named = record.and_then(|record| record.identity.as_ref());
        if standing.agent.is_some() && standing.agent.as_ref() == named { OnMachine::Agent } else { OnMachine::Other }
    }

    /// Of this boot.
    pub(crate) fn boot_id(&self) -> String {
        format!("boot {}", self.boot)
    }
}
