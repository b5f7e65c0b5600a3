//! A disk under the writer that fails as disks do: full, in error before or after the fact, cut off in the middle.

use crate::random::Random;
use std::collections::BTreeMap;
use workspace_core::store::Record;
use workspace_core::store::writer::{Log, Row, Write, Written};
use workspace_core::{Error, Reason, SandboxId};

/// What is durable.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    /// Encoded records by id.
    pub(crate) records: BTreeMap<SandboxId, Row>,
    keys: BTreeMap<Vec<u8>, (u64, SandboxId)>,
}

impl Tables {
    /// As the store is read at a start, and by a GET.
    pub(crate) fn record(&self, id: &SandboxId) -> Option<Record> {
        self.records.get(id).map(|row| Record::decode(*id, &row.bytes).expect("what was written can be read"))
    }

    /// The rule of the real transaction, without LMDB.
    fn apply(&mut self, write: &Write) -> Written {
        match write {
            Write::Put(row) => {
                self.records.insert(row.id, row.clone());
                Written::Done
            }
            Write::PutCreate(row, once) => {
                match self.keys.get(&once.key) {
                    Some((_, id)) if *id == row.id => {}
                    Some((digest, id)) if *digest == once.digest => return Written::Replayed(*id),
                    Some(_) => return Written::Conflict,
                    None => {}
                }
                self.keys.insert(once.key.clone(), (once.digest, row.id));
                self.records.insert(row.id, row.clone());
                Written::Created
            }
            Write::Remove(id) => {
                self.records.remove(id);
                Written::Done
            }
            Write::UndoCreate(id) => {
                let key = self.record(id).and_then(|record| record.idempotency_key).unwrap_or_default();
                if self.keys.get(key.as_bytes()).is_some_and(|(_, owner)| owner == id) {
                    self.keys.remove(key.as_bytes());
                }
                self.records.remove(id);
                Written::Done
            }
        }
    }
}

/// One commit after another, with faults.
pub(crate) struct Disk<'w> {
    /// What is durable.
    pub(crate) tables: &'w mut Tables,
    /// Nothing new fits.
    pub(crate) full: bool,
    /// Commits of a hundred that fail.
    pub(crate) fail_percent: u64,
    /// Decides which.
    pub(crate) random: &'w mut Random,
    /// How many failed.
    pub(crate) failed: &'w mut u64,
}

impl Log for Disk<'_> {
    fn commit(&mut self, batch: &[&Write]) -> Result<Vec<Written>, Error> {
        // The real log keeps room in reserve for what is no new record, so that a full disk can be emptied.
        let grows = batch.iter().any(|write| match write {
            Write::Put(row) | Write::PutCreate(row, _) => !self.tables.records.contains_key(&row.id),
            Write::Remove(_) | Write::UndoCreate(_) => false,
        });
        if self.full && grows {
            *self.failed += 1;
            return Err(Error::new(Reason::NoSpace, "full"));
        }
        let mut after = self.tables.clone();
        let answers = batch.iter().map(|write| after.apply(write)).collect();
        if !self.random.percent(self.fail_percent) {
            *self.tables = after;
            return Ok(answers);
        }
        *self.failed += 1;
        // It failed, but the bytes may be there all the same: nobody knows until the next read.
        if self.random.percent(30) {
            *self.tables = after;
        }
        Err(Error::new(Reason::DatabaseError, "failed"))
    }
}
