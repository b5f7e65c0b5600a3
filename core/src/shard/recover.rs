//! What a start finds, and what becomes of it: records, and what stands on the machine.
//!
//! ```text
//!   record \ machine      agent alive            something left            nothing
//!   running               adopt                  error, files kept         error, files kept
//!   dying                 destroy, forget        destroy, forget           forget
//!   stopped, error        destroy, keep files    destroy, keep files       as it is
//!   none                  destroy                destroy                   -
//! ```

use super::drive::told;
use super::{Shard, Slot};
use crate::id::SandboxId;
use crate::runtime::Files;
use crate::sandbox::State;
use crate::store::Record;
use futures_util::StreamExt;
use workspace_proto::launcher::Entry;

/// Sandboxes that are resolved at once.
const AT_ONCE_MAX: usize = 32;

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
        let mut all: std::collections::BTreeMap<SandboxId, Recovery> =
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
    /// Resolves what belongs to this shard, or must be removed. Returns how many were adopted.
    pub async fn recover(&self, list: Vec<Recovery>) -> usize {
        for recovery in &list {
            let block = recovery.record.as_ref().map(|r| r.block).or(recovery.entry.as_ref().map(|e| e.block));
            self.0.blocks.borrow_mut().occupy(block.unwrap_or(0));
        }
        let resolved =
            futures_util::stream::iter(list).map(|recovery| self.resolve(recovery)).buffer_unordered(AT_ONCE_MAX);
        resolved.fold(0, |adopted, is| async move { adopted + usize::from(is) }).await
    }

    /// Gives blocks that other shards' sandboxes use to nobody: the shares move when the number of shards changes.
    pub fn occupy(&self, blocks: &[u32]) {
        let mut mine = self.0.blocks.borrow_mut();
        blocks.iter().for_each(|block| mine.occupy(*block));
    }

    async fn resolve(&self, recovery: Recovery) -> bool {
        let Recovery { record, entry } = recovery;
        let Some(record) = record else {
            if let Some(entry) = entry {
                self.remove_stranger(entry).await;
            }
            return false;
        };
        let id = record.id;
        if record.dying {
            self.finish_delete(record).await;
            return false;
        }
        let slot = Slot::new(record.clone());
        self.0.slots.borrow_mut().insert(id, slot.clone());
        self.watch_expiry(&slot);
        let boot_id = record.identity.as_ref().map(|identity| identity.boot_id.as_str());
        let identity = record.identity.as_ref().map(told);
        match (record.state, entry) {
            (State::Running, Some(entry)) if entry.alive && entry.identity == identity => {
                let linked = match self.0.runtime.adopt(id, identity.unwrap_or_default()).await {
                    Ok(launched) => self.link(&slot, id, launched).await,
                    Err(error) => Err(error),
                };
                match linked {
                    Ok(()) => return true,
                    Err(error) => self.fail(&slot, id, format!("its agent was not found again: {error}")).await,
                }
            }
            (State::Running, _) => {
                let why = if boot_id == Some(self.0.settings.boot_id.as_str()) {
                    "its agent had ended while the server was away"
                } else {
                    "host_restarted: the machine was started again, its processes are gone, its files are kept"
                };
                self.fail(&slot, id, why.to_owned()).await;
            }
            (_, Some(_)) => drop(self.0.runtime.destroy(id, Files::Keep).await),
            (_, None) => {}
        }
        false
    }

    async fn remove_stranger(&self, entry: Entry) {
        let Some(id) = SandboxId::parse(&entry.id) else { return };
        tracing::info!(sandbox = %id, "removing what a create left that was never answered");
        match self.0.runtime.destroy(id, Files::Trash).await {
            Ok(()) => self.0.blocks.borrow_mut().give_back(entry.block),
            Err(error) => tracing::warn!(sandbox = %id, %error, "not removed"),
        }
        self.tell_trash();
    }

    async fn finish_delete(&self, record: Record) {
        let destroyed = self.0.runtime.destroy(record.id, Files::Trash).await;
        let removed = match destroyed {
            Ok(()) => self.0.store.remove(record.id).await,
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => self.0.blocks.borrow_mut().give_back(record.block),
            Err(error) => {
                tracing::warn!(sandbox = %record.id, %error, "its delete was not finished; DELETE it again");
                self.0.slots.borrow_mut().insert(record.id, Slot::new(record));
            }
        }
        self.tell_trash();
    }
}
