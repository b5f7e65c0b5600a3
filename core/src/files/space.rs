//! May a sandbox's files grow by so much? Its disk limit, kept for what comes through the server.
//!
//! A tree is measured when it is first written to, and again after a while, when commands may have changed it; what is
//! written in between is counted. Measuring never takes more than a twentieth of the time.

use crate::disk;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sandboxes that are kept count of; beyond it all are measured again.
const COUNTED_MAX: usize = 4096;
const FRESH: Duration = Duration::from_secs(5);
/// A refusal measures again, when the last measure is at least this old.
const FRESH_FOR_REFUSAL: Duration = Duration::from_millis(200);
const MEASURE_SHARE: u32 = 20;
/// What a small file takes at least.
const BLOCK_BYTES: u64 = 4096;

#[derive(Debug, Clone, Copy)]
struct Count {
    used_bytes: u64,
    measured: Instant,
    took: Duration,
}

/// Counts of all sandboxes.
#[derive(Default)]
pub(super) struct Space {
    counts: Mutex<HashMap<SandboxId, Count>>,
}

impl Space {
    /// Counts `bytes` more, in whole blocks, and says how many, or 3008. Only for the file threads: it may walk the tree.
    pub(super) fn take(&self, sandboxes: &OwnedFd, id: SandboxId, bytes: u64, limit_bytes: u64) -> Result<u64, Error> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let mut count = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        for fresh in [FRESH, FRESH_FOR_REFUSAL] {
            let now = Instant::now();
            let known = match count {
                Some(count) if now - count.measured < fresh.max(count.took * MEASURE_SHARE) => count,
                _ => measure(sandboxes, id, now)?,
            };
            count = Some(known);
            if known.used_bytes.saturating_add(bytes) <= limit_bytes {
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                if counts.len() >= COUNTED_MAX {
                    counts.clear();
                }
                let kept = counts.entry(id).or_insert(known);
                if kept.measured < known.measured {
                    *kept = known;
                }
                kept.used_bytes = kept.used_bytes.saturating_add(bytes);
                return Ok(bytes);
            }
        }
        Err(Error::new(
            Reason::NoSpace,
            format!("the sandbox's files may not use more than its disk_bytes ({limit_bytes}); remove some first"),
        ))
    }

    /// As [`Space::take`] where it need not measure; `None` where it must.
    pub(super) fn take_counted(&self, id: SandboxId, bytes: u64, limit_bytes: u64) -> Option<u64> {
        let bytes = bytes.next_multiple_of(BLOCK_BYTES);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get_mut(&id)?;
        let is_fresh = count.measured.elapsed() < FRESH.max(count.took * MEASURE_SHARE);
        let used_bytes = count.used_bytes.checked_add(bytes).filter(|used| is_fresh && *used <= limit_bytes)?;
        count.used_bytes = used_bytes;
        Some(bytes)
    }

    /// Of bytes that were taken, `used_bytes` are used: the rest is given back.
    pub(super) fn settle(&self, id: SandboxId, taken_bytes: u64, used_bytes: u64) {
        if let Some(count) = self.counts.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            count.used_bytes = count.used_bytes.saturating_sub(taken_bytes).saturating_add(used_bytes);
        }
    }

    /// What is used, measured as often as for writers.
    pub(super) fn used(&self, sandboxes: &OwnedFd, id: SandboxId) -> Result<u64, Error> {
        self.take(sandboxes, id, 0, u64::MAX)?;
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(counts.get(&id).map_or(0, |count| count.used_bytes))
    }

    /// Something was removed: the next look measures.
    pub(super) fn forget(&self, id: SandboxId) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

fn measure(sandboxes: &OwnedFd, id: SandboxId, now: Instant) -> Result<Count, Error> {
    let used_bytes = disk::used_bytes(sandboxes, id).map_err(|errno| {
        Error::new(Reason::RuntimeError, "the sandbox's disk use could not be measured").source(errno)
    })?;
    Ok(Count { used_bytes, measured: now, took: now.elapsed() })
}
