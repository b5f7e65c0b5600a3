//! Which Idempotency-Keys have been used, for what, and when: bounded and expiring.
//!
//! A key is as the caller scopes it (per API key). An entry is digest, id and time, 48 bytes; a second table orders
//! them by time, so that the oldest are found without a search.

use super::env::Failure;
use super::sys::Lmdb;
use super::writer::{Once, Row, Written};
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use heed::RwTxn;

/// Longest key, its scope included. LMDB's keys are at most 511 bytes, and 8 of them are the time.
pub const KEY_BYTES_MAX: usize = 480;
/// Used keys that are kept; beyond it the oldest goes.
pub const ENTRIES_MAX: u64 = 100_000;
/// How long a key is kept.
pub const KEPT_US: u64 = 24 * 3600 * 1_000_000;
/// Expired entries that one create clears away. More than one, so that they get fewer.
const CLEARED_PER_CREATE_MAX: usize = 8;

struct Entry {
    digest: u64,
    id: SandboxId,
    created_at_us: u64,
}

impl Entry {
    fn decode(bytes: &[u8]) -> Option<Entry> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let id = SandboxId::parse(std::str::from_utf8(bytes.get(16..)?).ok()?)?;
        Some(Entry { digest: number(0)?, created_at_us: number(8)?, id })
    }

    fn encode(&self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&self.digest.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.created_at_us.to_be_bytes());
        bytes[16..].copy_from_slice(self.id.as_str().as_bytes());
        bytes
    }
}

/// Takes the key for a new record (`Created`), or says who has it.
pub(super) fn claim(lmdb: &Lmdb, txn: &mut RwTxn<'_>, row: &Row, once: &Once) -> Result<Written, Failure> {
    if once.key.is_empty() || once.key.len() > KEY_BYTES_MAX {
        return Err(Failure::Answer(
            Error::new(Reason::InvalidParameter, "The Idempotency-Key is empty or too long.")
                .details("Idempotency-Key: 1..=255 visible ASCII characters"),
        ));
    }
    if let Some(entry) = entry(lmdb, txn, &once.key)? {
        let expired = once.now_us.saturating_sub(entry.created_at_us) > KEPT_US;
        // Its own entry: the same write again, after a commit whose end was not known.
        if entry.id != row.id && !expired {
            return Ok(if entry.digest == once.digest { Written::Replayed(entry.id) } else { Written::Conflict });
        }
        forget(lmdb, txn, entry.created_at_us, &once.key)?;
    }
    make_room(lmdb, txn, once.now_us)?;
    let entry = Entry { digest: once.digest, id: row.id, created_at_us: once.now_us };
    lmdb.idempotency().put(txn, &once.key, &entry.encode())?;
    lmdb.idempotency_order().put(txn, &order_key(once.now_us, &once.key), &[])?;
    Ok(Written::Created)
}

/// Frees a key, if it is still the sandbox's.
pub(super) fn release(lmdb: &Lmdb, txn: &mut RwTxn<'_>, id: &SandboxId, key: &str) -> Result<(), Failure> {
    match entry(lmdb, txn, key.as_bytes())? {
        Some(entry) if entry.id == *id => forget(lmdb, txn, entry.created_at_us, key.as_bytes()),
        _ => Ok(()),
    }
}

fn entry(lmdb: &Lmdb, txn: &RwTxn<'_>, key: &[u8]) -> Result<Option<Entry>, Failure> {
    match lmdb.idempotency().get(txn, key)? {
        None => Ok(None),
        Some(bytes) => match Entry::decode(bytes) {
            Some(entry) => Ok(Some(entry)),
            None => Err(Failure::Failed("an entry of an Idempotency-Key cannot be read".into())),
        },
    }
}

fn make_room(lmdb: &Lmdb, txn: &mut RwTxn<'_>, now_us: u64) -> Result<(), Failure> {
    for _ in 0..CLEARED_PER_CREATE_MAX {
        let Some((oldest, _)) = lmdb.idempotency_order().first(txn)? else { return Ok(()) };
        let oldest = oldest.to_vec();
        let (time, key) = oldest.split_first_chunk::<8>().ok_or_else(|| Failure::Failed("a short key".into()))?;
        let created_at_us = u64::from_be_bytes(*time);
        let expired = now_us.saturating_sub(created_at_us) > KEPT_US;
        if !expired && lmdb.idempotency_order().len(txn)? < ENTRIES_MAX {
            return Ok(());
        }
        forget(lmdb, txn, created_at_us, key)?;
    }
    Ok(())
}

fn forget(lmdb: &Lmdb, txn: &mut RwTxn<'_>, created_at_us: u64, key: &[u8]) -> Result<(), Failure> {
    lmdb.idempotency().delete(txn, key)?;
    lmdb.idempotency_order().delete(txn, &order_key(created_at_us, key))?;
    Ok(())
}

fn order_key(created_at_us: u64, key: &[u8]) -> Vec<u8> {
    [&created_at_us.to_be_bytes(), key].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry has one form: what is read is written the same.
    fn any_entry(input: &[u8]) {
        if let Some(entry) = Entry::decode(input) {
            assert_eq!(entry.encode(), input);
        }
    }

    #[test]
    fn any_bytes_are_an_entry_or_none() {
        let entry =
            Entry { digest: u64::MAX, id: SandboxId::from_random([9; 20]), created_at_us: 1_795_482_123_000_000 };
        crate::fuzz::run(any_entry, &[&entry.encode(), b"01234567012345670123456701234567"]);
    }
}
