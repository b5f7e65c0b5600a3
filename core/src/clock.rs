//! Time as numbers, and how it is written: RFC 3339 in UTC, from and to microseconds since 1970.
//!
//! Two times, never mixed: *wall* (`_us` since the epoch, may jump, is shown and stored) and *monotonic*
//! (`_ms` since some start, never jumps, decides deadlines). Nothing here asks for the time; callers pass `now`.
//! Years 1970 to 9999. Source: RFC 3339 section 5.6; Gregorian calendar, a leap second is read as the second after.

const DAY_S: u64 = 86_400;

/// The last microsecond that can be written: the end of the year 9999.
pub const WALL_US_MAX: u64 = 253_402_300_799_999_999;

/// `2026-11-24T01:02:03.000004Z`. Later than [`WALL_US_MAX`] is written as that.
pub fn rfc3339(wall_us: u64) -> String {
    let wall_us = wall_us.min(WALL_US_MAX);
    let (seconds, us) = (wall_us / 1_000_000, wall_us % 1_000_000);
    let (year, month, day) = date_of(seconds / DAY_S);
    let (h, m, s) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{us:06}Z")
}

/// Reads what [`rfc3339`] writes and the other forms of RFC 3339: offsets, 0 to 9 digits of a second, lower case.
pub fn parse_rfc3339(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    if !(20..=35).contains(&bytes.len()) || bytes[4] != b'-' || bytes[7] != b'-' || !matches!(bytes[10], b'T' | b't') {
        return None;
    }
    let (year, month, day) = (digits(&bytes[0..4])?, digits(&bytes[5..7])?, digits(&bytes[8..10])?);
    let (h, m, s) = (digits(&bytes[11..13])?, digits(&bytes[14..16])?, digits(&bytes[17..19])?);
    let in_range = (1..=12).contains(&month) && day >= 1 && h <= 23 && m <= 59 && s <= 60;
    if !in_range || bytes[13] != b':' || bytes[16] != b':' || day > days_in(year, month) {
        return None;
    }
    let (us, rest) = fraction(&bytes[19..])?;
    let seconds = days_before(year)? + days_before_month(year, month) + day - 1;
    let local_us = (seconds * DAY_S + h * 3600 + m * 60 + s) * 1_000_000 + us;
    let wall_us = match rest {
        b"Z" | b"z" => local_us,
        [sign @ (b'+' | b'-'), zone @ ..] if zone.len() == 5 && zone[2] == b':' => {
            let (h, m) = (digits(&zone[0..2])?, digits(&zone[3..5])?);
            let offset_us = (h <= 23 && m <= 59).then_some((h * 60 + m) * 60_000_000)?;
            if *sign == b'+' { local_us.checked_sub(offset_us)? } else { local_us.checked_add(offset_us)? }
        }
        _ => return None,
    };
    (wall_us <= WALL_US_MAX).then_some(wall_us)
}

/// The wall time a number of seconds after another, never later than [`WALL_US_MAX`]: a lifetime cannot overflow
/// into "for ever".
pub fn wall_after(wall_us: u64, seconds: u64) -> u64 {
    wall_us.saturating_add(seconds.saturating_mul(1_000_000)).min(WALL_US_MAX)
}

/// The optional `.123` and what follows it; digits beyond the microsecond are dropped.
fn fraction(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let Some(after) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let count = after.iter().take_while(|b| b.is_ascii_digit()).count();
    if !(1..=9).contains(&count) {
        return None;
    }
    let kept = count.min(6);
    let us = digits(&after[..kept])? * 10_u64.pow(6 - kept as u32);
    Some((us, &after[count..]))
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0, |n: u64, b| b.is_ascii_digit().then(|| n * 10 + u64::from(b - b'0')))
}

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to January 1st of a year.
fn days_before(year: u64) -> Option<u64> {
    let leaps = |y: u64| y / 4 - y / 100 + y / 400;
    let years = year.checked_sub(1970)?;
    Some(years * 365 + leaps(year - 1) - leaps(1969))
}

fn days_before_month(year: u64, month: u64) -> u64 {
    (1..month).map(|m| days_in(year, m)).sum()
}

/// Year, month and day of a day since 1970-01-01.
fn date_of(days: u64) -> (u64, u64, u64) {
    // 400 years are 146,097 days: a guess that is never too early by more than a year, then mended.
    let mut year = 1970 + days * 400 / 146_097;
    while days_before(year).is_some_and(|first| first > days) {
        year -= 1;
    }
    while days_before(year + 1).is_some_and(|first| first <= days) {
        year += 1;
    }
    let mut day = days - days_before(year).unwrap_or(0);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    (year, month, day + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (text, us) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("2000-02-29T23:59:59.999999Z", 951_868_799_999_999),
            ("2026-11-24T01:02:03.000004Z", 1_795_482_123_000_004),
            ("2100-03-01T00:00:00.000000Z", 4_107_542_400_000_000),
            ("9999-12-31T23:59:59.999999Z", WALL_US_MAX),
        ] {
            assert_eq!(rfc3339(us), text);
            assert_eq!(parse_rfc3339(text), Some(us), "{text}");
        }
        assert_eq!(rfc3339(u64::MAX), rfc3339(WALL_US_MAX));
    }

    #[test]
    fn days_there_and_back() {
        let mut last = String::new();
        for day in (0..WALL_US_MAX / 1_000_000 / DAY_S).step_by(11) {
            let text = rfc3339(day * DAY_S * 1_000_000);
            assert_eq!(parse_rfc3339(&text), Some(day * DAY_S * 1_000_000), "{text}");
            assert!(text > last, "{text} after {last}");
            last = text;
        }
    }

    #[test]
    fn other_forms_of_the_same() {
        let us = parse_rfc3339("2026-11-24T01:02:03.5Z");
        for text in ["2026-11-24t01:02:03.500000999z", "2026-11-24T03:32:03.5+02:30", "2026-11-23T23:02:03.5-02:00"] {
            assert_eq!(parse_rfc3339(text), us, "{text}");
        }
    }

    #[test]
    fn nonsense_is_none() {
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T01:02:03",
            "2026-11-24 01:02:03Z",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.0000000001Z",
            "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00ZZ",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "+026-01-01T00:00:00Z",
            "2026-01-01T00:00:00é",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn a_lifetime_never_overflows() {
        assert_eq!(wall_after(5, 1), 1_000_005);
        assert_eq!(wall_after(u64::MAX, u64::MAX), WALL_US_MAX);
    }

    /// What is read is in range, and is written as the same instant, in every zone and precision.
    fn any_text(input: &[u8]) {
        let Some(us) = std::str::from_utf8(input).ok().and_then(parse_rfc3339) else { return };
        assert!(us <= WALL_US_MAX);
        let written = rfc3339(us);
        assert_eq!(parse_rfc3339(&written), Some(us));
        assert_eq!(parse_rfc3339(&written.to_ascii_lowercase()), Some(us));
        // Years before 1970 are not read, also where the zone moves them back in.
        let local = |sign, minutes: u64| {
            let local_us =
                if sign == '+' { us.checked_add(minutes * 60_000_000) } else { us.checked_sub(minutes * 60_000_000) };
            let local_us = local_us.filter(|local_us| *local_us <= WALL_US_MAX)?;
            let text = rfc3339(local_us);
            Some(format!("{}{sign}{:02}:{:02}", &text[..text.len() - 1], minutes / 60, minutes % 60))
        };
        for (sign, minutes) in [('+', 0), ('-', 0), ('+', 330), ('-', 210), ('+', 1439), ('-', 1439)] {
            let Some(text) = local(sign, minutes) else { continue };
            assert_eq!(parse_rfc3339(&text), Some(us), "{text}");
        }
    }

    #[test]
    fn any_text_is_an_instant_or_none() {
        crate::fuzz::run(
            any_text,
            &[
                b"2026-11-24T01:02:03.000004Z",
                b"2026-11-24t03:32:03.5+02:30",
                b"1970-01-01T00:00:00Z",
                b"9999-12-31T23:59:59.999999Z",
                b"9999-12-31T23:59:60Z",
                b"2000-02-29T23:59:60.123456789-23:59",
                b"1900-02-29T00:00:00+00:00",
            ],
        );
    }
}
