//! What callers were told, and so what must be true ever after.

use crate::disk::Tables;
use crate::host::Host;
use std::collections::{BTreeMap, BTreeSet};
use workspace_core::SandboxId;
use workspace_core::sandbox::state::Kept;

/// All callers together.
#[derive(Default)]
pub(crate) struct Callers {
    /// Sandboxes that a create was answered with, and when they expire (wall time, µs).
    pub(crate) told: BTreeMap<SandboxId, Option<u64>>,
    /// Those that somebody asked to delete, whatever the answer.
    pub(crate) asked_to_delete: BTreeSet<SandboxId>,
    /// Those whose delete was answered.
    deleted: BTreeSet<SandboxId>,
    /// Which sandbox a key has made.
    keys: BTreeMap<String, SandboxId>,
}

impl Callers {
    /// A create was answered.
    pub(crate) fn created(
        &mut self,
        id: SandboxId,
        kept: Kept,
        key: Option<&str>,
        expires_at_us: Option<u64>,
        disk: &Tables,
    ) {
        match kept {
            Kept::Created => {
                let record = disk.record(&id).expect("told before it was durable");
                assert!(!record.dying, "told of a sandbox that is dying");
                assert!(self.told.insert(id, expires_at_us).is_none(), "told twice");
                if let Some(key) = key {
                    let before = self.keys.insert(key.into(), id);
                    assert_eq!(before, None, "the key {key} made two sandboxes");
                }
            }
            Kept::Replayed(earlier) => {
                let key = key.expect("replayed without a key");
                // The first answer may have been cut off by a crash; then this is the first.
                let first = self.keys.entry(key.into()).or_insert(earlier);
                assert_eq!(*first, earlier, "the key {key} stands for two sandboxes");
            }
            Kept::Conflict => assert!(key.is_some(), "a conflict without a key"),
        }
    }

    /// A delete was answered well.
    pub(crate) fn deleted(&mut self, id: SandboxId) {
        self.deleted.insert(id);
    }

    /// What was told holds, now.
    pub(crate) fn check(&self, now_us: u64, disk: &Tables, host: &Host) {
        for (id, expires_at_us) in &self.told {
            let may_go = self.asked_to_delete.contains(id) || expires_at_us.is_some_and(|at| at <= now_us);
            assert!(may_go || disk.records.contains_key(id), "{id} was acknowledged and is lost");
            assert!(may_go || host.files.contains_key(id), "{id} has lost its files");
        }
        for id in &self.deleted {
            assert!(!disk.records.contains_key(id), "{id} was deleted and is back");
            assert!(!host.standing.contains_key(id) && !host.files.contains_key(id), "{id} left something");
        }
    }
}
