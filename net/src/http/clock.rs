//! What each answer carries from outside itself: its request id, and the date, formatted once a second.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};
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

/// `Sun, 06 Nov 1994 08:49:37 GMT`, RFC 9110 section 5.6.7.
pub(super) type Date = [u8; 29];

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
        let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        if self.second.replace(second) != second {
            self.date.set(format(second));
        }
        self.date.get()
    }
}

pub(super) fn format(second: u64) -> Date {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, time) = (second / 86_400, second % 86_400);
    // Civil date of a day count: years start in March, so that the leap day is the last of its year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12;
    let year = era * 400 + year_of_era + u64::from(month < 2);
    let text = format!(
        "{}, {day:02} {} {year:04} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[month as usize],
        time / 3600,
        time / 60 % 60,
        time % 60
    );
    text.as_bytes().try_into().unwrap_or(*b"Thu, 01 Jan 1970 00:00:00 GMT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_calendar() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&format(second)).unwrap(), text);
        }
    }

    #[test]
    fn ids_differ() {
        let clock = Clock::new();
        let (one, two) = (clock.request_id(), clock.request_id());
        assert_ne!(one, two);
        assert_eq!(one.as_str().len(), 16);
    }
}
