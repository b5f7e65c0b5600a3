//! Waiting for something to become true, always with a deadline.

use std::time::{Duration, Instant};

const POLL_MS: u64 = 10;

/// Polls until `look` is true; panics with `what` after `seconds_max`.
pub(crate) fn until(what: &str, seconds_max: u64, mut look: impl FnMut() -> bool) {
    until_some(what, seconds_max, || look().then_some(()));
}

/// Polls until `look` gives something; panics with `what` after `seconds_max`.
pub(crate) fn until_some<T>(what: &str, seconds_max: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds_max);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not within {seconds_max} s: {what}");
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}

/// Polls until `look` is true or `seconds_max` have passed; says whether it became true.
pub(crate) fn within(seconds_max: u64, mut look: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(seconds_max);
    loop {
        if look() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(POLL_MS));
    }
}
