//! What is due next: one table of deadlines for a shard, in monotonic milliseconds.
//!
//! Asks for no time and starts no timer: `now` comes in, what is due goes out. The wall clock decides only once, when
//! a deadline is set; that it jumps later changes nothing.

use crate::id::SandboxId;
use std::collections::{BTreeMap, BTreeSet};

/// What falls due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Due {
    /// The sandbox's life is over.
    Expiry,
    /// Something about it failed and is tried again.
    Retry,
}

/// The deadlines of a shard's sandboxes: at most one of a kind for each.
#[derive(Debug, Clone, Default)]
pub struct Deadlines {
    by_time: BTreeSet<(u64, SandboxId, Due)>,
    by_name: BTreeMap<(SandboxId, Due), u64>,
}

impl Deadlines {
    /// Sets a deadline in place of the one before.
    pub fn set(&mut self, id: SandboxId, due: Due, at_ms: u64) {
        self.clear(id, due);
        self.by_name.insert((id, due), at_ms);
        self.by_time.insert((at_ms, id, due));
    }

    /// Takes a deadline back, if there is one.
    pub fn clear(&mut self, id: SandboxId, due: Due) {
        if let Some(at_ms) = self.by_name.remove(&(id, due)) {
            self.by_time.remove(&(at_ms, id, due));
        }
    }

    /// Takes all deadlines of a sandbox back.
    pub fn forget(&mut self, id: SandboxId) {
        self.clear(id, Due::Expiry);
        self.clear(id, Due::Retry);
    }

    /// When to come back; `None`: when something is set.
    pub fn next_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, ..)| *at_ms)
    }

    /// Takes the earliest deadline that is due, if one is. Call again until `None`.
    pub fn take_due(&mut self, now_ms: u64) -> Option<(SandboxId, Due)> {
        let (at_ms, id, due) = self.by_time.first().copied()?;
        (at_ms <= now_ms).then(|| {
            self.clear(id, due);
            (id, due)
        })
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// True where nothing is set.
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }
}

/// Where a wall time lies on the monotonic clock, seen from now. What has passed is due now; what is too far to count
/// is as far as can be counted, never in the past.
pub fn monotonic_ms(wall_at_us: u64, wall_now_us: u64, now_ms: u64) -> u64 {
    now_ms.saturating_add(wall_at_us.saturating_sub(wall_now_us).div_ceil(1000))
}

/// How long to wait before trying again for the nth time: 1 s, doubled, at most a minute.
pub fn retry_delay_ms(tries: u32) -> u64 {
    (1000_u64 << tries.min(6)).min(60_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SandboxId {
        SandboxId::from_random([n; 20])
    }

    #[test]
    fn earliest_first_and_each_once() {
        let mut table = Deadlines::default();
        assert_eq!((table.next_ms(), table.take_due(u64::MAX)), (None, None));
        table.set(id(1), Due::Expiry, 30);
        table.set(id(2), Due::Expiry, 10);
        table.set(id(1), Due::Retry, 20);
        table.set(id(2), Due::Expiry, 25);
        assert_eq!((table.next_ms(), table.len()), (Some(20), 3));
        assert_eq!(table.take_due(19), None);
        assert_eq!(table.take_due(25), Some((id(1), Due::Retry)));
        assert_eq!(table.take_due(25), Some((id(2), Due::Expiry)));
        assert_eq!(table.take_due(25), None);
        table.forget(id(1));
        assert!(table.is_empty() && table.by_name.is_empty());
    }

    #[test]
    fn nothing_overflows_into_never_or_into_the_past() {
        assert_eq!(monotonic_ms(5_000_000, 3_000_000, 100), 2100);
        assert_eq!(monotonic_ms(3_000_001, 3_000_000, 100), 101, "never early");
        assert_eq!(monotonic_ms(1, 3_000_000, 100), 100, "what has passed is due now");
        assert_eq!(monotonic_ms(u64::MAX, 0, u64::MAX - 5), u64::MAX);
        let mut table = Deadlines::default();
        table.set(id(1), Due::Expiry, monotonic_ms(u64::MAX, 0, u64::MAX));
        assert_eq!(table.take_due(u64::MAX - 1), None);
        assert!(table.take_due(u64::MAX).is_some());
    }

    #[test]
    fn retries_slow_down_and_go_on() {
        assert_eq!([0, 1, 5, 6, u32::MAX].map(retry_delay_ms), [1000, 2000, 32_000, 60_000, 60_000]);
    }
}
