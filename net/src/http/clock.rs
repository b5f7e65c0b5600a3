//! What each answer carries from outside itself: its request id, and the date, formatted once a second.

use crate::wire::date::{self, Date};
use rustix::time::{ClockId, clock_gettime};
use std::cell::Cell;
use workspace_core::BASE32;

/// A request's id: the core's random prefix and a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RequestId([u8; 16]);

impl RequestId {
    pub(super) fn as_str(&self) -> &str {
        // ASCII by construction.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

pub(super) struct Clock {
    prefix: u64,
    count: Cell<u64>,
    second: Cell<u64>,
    date: Cell<Date>,
}

impl Clock {
    pub(super) fn new() -> Clock {
        let mut random = [0u8; 8];
        // Without randomness ids are still unique in this process; they grant nothing.
        let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let prefix = if got == Ok(8) { u64::from_ne_bytes(random) } else { u64::from(std::process::id()) };
        Clock {
            prefix,
            count: Cell::new(0),
            second: Cell::new(u64::MAX),
            date: Cell::new(*b"Thu, 01 Jan 1970 00:00:00 GMT"),
        }
    }

    pub(super) fn request_id(&self) -> RequestId {
        let count = self.count.get();
        self.count.set(count.wrapping_add(1));
        let mut text = [b'-'; 16];
        for (i, digit) in text[..8].iter_mut().enumerate() {
            *digit = BASE32[(self.prefix >> (5 * i)) as usize & 31];
        }
        for (i, digit) in text[9..].iter_mut().rev().enumerate() {
            *digit = BASE32[(count >> (5 * i)) as usize & 31];
        }
        RequestId(text)
    }

    pub(super) fn date(&self) -> Date {
        // As of the kernel's last tick: a few milliseconds are no matter, and no device is read.
        let second = u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0);
        if self.second.replace(second) != second {
            self.date.set(date::write(second));
        }
        self.date.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ() {
        let clock = Clock::new();
        let (one, two) = (clock.request_id(), clock.request_id());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 16);
    }
}
