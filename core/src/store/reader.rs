//! Reads: one record on any thread in microseconds, lists on a thread of their own.
//!
//! A list with a filter looks at every record, which would stop a shard for milliseconds; therefore the store-reader.

use super::env::{Failure, Gate};
use super::record::Record;
use super::sys::Lmdb;
use super::writer::order_key;
use crate::error::Error;
use crate::id::SandboxId;
use crate::sandbox::{ListFilter, State};
use crate::shard::mailbox::Inbox;
use std::ops::Bound;

/// Lists that wait for the reader.
pub(super) const QUEUE_LISTS_MAX: usize = 256;
/// Records of one page, whatever was asked for.
const PAGE_RECORDS_MAX: usize = 1000;

/// One page of records, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordPage {
    /// At most the filter's limit.
    pub records: Vec<Record>,
    /// How many match the filter in all.
    pub total: usize,
    /// Where the next page starts, if there is one.
    pub next: Option<(u64, SandboxId)>,
}

/// The thread's whole life: it ends with the last store.
pub(super) fn run(gate: &Gate, lists: &Inbox<Gate>) {
    while let Some(call) = lists.next_blocking() {
        call(gate);
    }
}

pub(super) fn get(gate: &Gate, id: &SandboxId) -> Result<Option<Record>, Error> {
    let found = gate.with(|lmdb| {
        let txn = lmdb.read()?;
        let bytes = lmdb.sandbox().get(&txn, id.as_str().as_bytes())?;
        bytes.map(|bytes| Record::decode(*id, bytes)).transpose().map_err(|bad| Failure::Answer(bad.into()))
    });
    found.map_err(Failure::at_use)
}

/// All records, by age. The error names the record that cannot be read.
pub(super) fn all(gate: &Gate) -> Result<Vec<Record>, Error> {
    let all = gate.with(|lmdb| {
        let txn = lmdb.read()?;
        let mut records = Vec::new();
        for entry in lmdb.sandbox().iter(&txn)? {
            let (key, bytes) = entry?;
            let id = std::str::from_utf8(key).ok().and_then(SandboxId::parse);
            let id = id.ok_or_else(|| Failure::Damaged("a record under a key that is no id".into()))?;
            records.push(Record::decode(id, bytes).map_err(|bad| Failure::Unknown(bad.to_string()))?);
        }
        Ok(records)
    });
    let mut records = all.map_err(|failure| gate.at_open(failure))?;
    records.sort_by_key(|record| (record.created_at_us, record.id));
    Ok(records)
}

pub(super) fn list(gate: &Gate, filter: &ListFilter) -> Result<RecordPage, Error> {
    let limit = filter.limit.clamp(1, PAGE_RECORDS_MAX);
    let page = gate.with(|lmdb| {
        if filter.state.is_none() && filter.metadata.is_empty() {
            page_of_all(lmdb, filter.after, limit)
        } else {
            page_of_matching(lmdb, filter, limit)
        }
    });
    page.map_err(Failure::at_use)
}

/// Nothing to filter: the order's table counts and finds the page without looking at the others.
fn page_of_all(lmdb: &Lmdb, after: Option<(u64, SandboxId)>, limit: usize) -> Result<RecordPage, Failure> {
    let txn = lmdb.read()?;
    let total = lmdb.sandbox_order().len(&txn)? as usize;
    let start = after.map(|(created_at_us, id)| order_key(created_at_us, id));
    let from = start.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    let mut page = RecordPage { records: Vec::new(), total, next: None };
    for entry in lmdb.sandbox_order().range(&txn, &(from, Bound::Unbounded))? {
        if page.records.len() == limit {
            page.next = page.records.last().map(|record: &Record| (record.created_at_us, record.id));
            break;
        }
        page.records.push(record_at(lmdb, &txn, entry?.0)?);
    }
    Ok(page)
}

fn page_of_matching(lmdb: &Lmdb, filter: &ListFilter, limit: usize) -> Result<RecordPage, Failure> {
    let txn = lmdb.read()?;
    let mut page = RecordPage { records: Vec::new(), total: 0, next: None };
    for entry in lmdb.sandbox_order().iter(&txn)? {
        let record = record_at(lmdb, &txn, entry?.0)?;
        if !matches(&record, filter) {
            continue;
        }
        page.total += 1;
        let is_after = filter.after.is_none_or(|after| (record.created_at_us, record.id) > after);
        if is_after && page.records.len() < limit {
            page.records.push(record);
        } else if is_after && page.next.is_none() {
            page.next = page.records.last().map(|record| (record.created_at_us, record.id));
        }
    }
    Ok(page)
}

fn record_at(lmdb: &Lmdb, txn: &heed::RoTxn<'_, heed::WithoutTls>, order: &[u8]) -> Result<Record, Failure> {
    let read = || {
        let id = id_in_order(order)?;
        let bytes = lmdb.sandbox().get(txn, id.as_str().as_bytes()).ok()??;
        Some(Record::decode(id, bytes))
    };
    let record = read().ok_or_else(|| Failure::Damaged("a list names a record that is not there".into()))?;
    record.map_err(|bad| Failure::Answer(bad.into()))
}

/// The id in a key of the order: behind 8 bytes of time.
fn id_in_order(order: &[u8]) -> Option<SandboxId> {
    SandboxId::parse(std::str::from_utf8(order.get(8..)?).ok()?)
}

/// As it is shown: a sandbox that is being deleted is `stopping`.
fn matches(record: &Record, filter: &ListFilter) -> bool {
    let shown = if record.dying { State::Stopping } else { record.state };
    filter.state.is_none_or(|state| state == shown)
        && filter.metadata.iter().all(|(key, value)| record.metadata.get(key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any_key(input: &[u8]) {
        if let Some(id) = id_in_order(input) {
            assert_eq!((input.len(), &input[8..]), (40, id.as_str().as_bytes()));
        }
    }

    #[test]
    fn any_key_of_the_order_names_an_id_or_nothing() {
        crate::fuzz::run(any_key, &[b"\0\x06\x60\xff\x01\x02\x03\x04aaq2wk57mzn4xcbdefghijklmnop3562"]);
    }
}
