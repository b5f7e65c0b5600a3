//! What a start finds: records joined with what stands on the machine, each given to the machine of its life.

use super::mailbox::oneshot;
use super::record::told;
use super::{Shard, Slot};
use crate::id::SandboxId;
use crate::sandbox::state::{Found, Machine, OnMachine};
use crate::store::Record;
use futures_util::future::{join_all, select};
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;
use workspace_proto::launcher::Entry;

/// How long a start waits for what it found to settle; the rest goes on while it serves.
const SETTLE_MS_MAX: u64 = 10_000;

/// One sandbox to resolve: at least one of both is there.
#[derive(Debug)]
pub struct Recovery {
    /// What the store knows.
    pub record: Option<Record>,
    /// What the machine holds.
    pub entry: Option<Entry>,
}

impl Recovery {
    /// Joins records and entries by id, one list per shard.
    pub fn join(records: Vec<Record>, entries: Vec<Entry>, shards: usize) -> Vec<Vec<Recovery>> {
        let mut all: BTreeMap<SandboxId, Recovery> =
            records.into_iter().map(|record| (record.id, Recovery { record: Some(record), entry: None })).collect();
        for entry in entries {
            let Some(id) = SandboxId::parse(&entry.id) else {
                tracing::warn!(id = entry.id, "something of ours with a name that is no id; left alone");
                continue;
            };
            all.entry(id).or_insert(Recovery { record: None, entry: None }).entry = Some(entry);
        }
        let mut lists: Vec<Vec<Recovery>> = (0..shards).map(|_| Vec::new()).collect();
        for (id, recovery) in all {
            lists[id.shard_of(shards)].push(recovery);
        }
        lists
    }
}

impl Shard {
    /// Resolves what belongs to this shard, or must be removed. Returns how many run again.
    pub async fn recover(&self, list: Vec<Recovery>) -> usize {
        let mut settled = Vec::new();
        for Recovery { record, entry } in list {
            let Some(record) = record else {
                if let Some(entry) = entry {
                    self.remove_stranger(entry);
                }
                continue;
            };
            let id = record.id;
            let (machine, effects) = Machine::recover(self.found(&record, entry.as_ref()));
            let slot = Slot::new(machine, record);
            let (reply, answer) = oneshot();
            if slot.machine.borrow().is_at_rest() {
                reply.send(());
            } else {
                slot.settled.replace(Some(reply));
            }
            slot.adopted.set(true);
            self.0.slots.borrow_mut().insert(id, slot.clone());
            self.carry_out_all(&slot, effects);
            settled.push(answer.wait());
        }
        let limit = monoio::time::sleep(Duration::from_millis(SETTLE_MS_MAX));
        select(pin!(join_all(settled)), pin!(limit)).await;
        let slots = self.0.slots.borrow();
        slots.values().filter(|slot| slot.adopted.get() && slot.machine.borrow().is_running()).count()
    }

    /// Takes blocks that are in use off this shard's list: its share of them may be another shard's by now.
    pub fn occupy(&self, blocks: &[u32]) {
        let mut mine = self.0.blocks.borrow_mut();
        blocks.iter().for_each(|block| mine.occupy(*block));
    }

    fn found(&self, record: &Record, entry: Option<&Entry>) -> Found {
        let agent = record.identity.as_ref().map(told);
        let machine = match entry {
            None => OnMachine::Nothing,
            Some(entry) if entry.alive && agent.is_some() && entry.identity == agent => OnMachine::Agent,
            // What is left of its files alone is not something on the machine that must be ended.
            Some(_) => OnMachine::Other,
        };
        let boot_id = record.identity.as_ref().map(|identity| identity.boot_id.as_str());
        Found {
            record: Some((record.state, record.dying)),
            machine,
            same_boot: boot_id == Some(self.0.settings.boot_id.as_str()),
        }
    }

    fn remove_stranger(&self, entry: Entry) {
        let Some(id) = SandboxId::parse(&entry.id) else { return };
        tracing::info!(sandbox = %id, "removing what nobody was told of");
        self.remove_id(id, entry.block);
    }
}
