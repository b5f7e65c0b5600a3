//! Which second does an HTTP date name, and how is one written?
//!
//! Written is the one form of today; read are the two old ones too. A year of two digits is one of 1970 to 2069.
//! Source: RFC 9110 section 5.6.7.

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub type Date = [u8; 29];

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The years that are read.
const YEARS: std::ops::RangeInclusive<u64> = 1970..=9999;

/// Writes a second since 1970.
pub fn write(second: u64) -> Date {
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

/// Reads a date; `None` where it is none.
pub fn read(text: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ',', '-']).filter(|word| !word.is_empty()).take(7).collect();
    let (weekday, day, month, year, time) = match words[..] {
        [weekday, day, month, year, time, "GMT"] => (weekday, day, month, year, time),
        // As asctime(3) writes it.
        [weekday, month, day, time, year] => (weekday, day, month, year, time),
        _ => return None,
    };
    DAYS.iter().find(|name| weekday.starts_with(**name))?;
    let month = MONTHS.iter().position(|name| *name == month)? as u64;
    let year = match (year.len(), number(year)?) {
        (2, year) => year + if year < 70 { 2000 } else { 1900 },
        (4, year) if YEARS.contains(&year) => year,
        _ => return None,
    };
    let [hour, minute, second] = time.splitn(3, ':').map(number).collect::<Option<Vec<_>>>()?.try_into().ok()?;
    let day = number(day).filter(|day| (1..=days_of(year, month)).contains(day))?;
    // A leap second is the one before it.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let leap_days = |year: u64| year / 4 - year / 100 + year / 400;
    let before = (0..month).map(|month| days_of(year, month)).sum::<u64>() + day - 1;
    let days = (year - 1970) * 365 + leap_days(year - 1) - leap_days(1969) + before;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second.min(59))
}

/// Of at most four digits.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// January is 0.
fn days_of(year: u64, month: u64) -> u64 {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 => 28 + u64::from(is_leap),
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_calendar_go_both_ways() {
        for (second, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ] {
            assert_eq!(std::str::from_utf8(&write(second)).unwrap(), text);
            assert_eq!(read(text), Some(second));
        }
        for day in (0..=47_847).step_by(13) {
            let second = day * 86_400 + day % 86_400;
            assert_eq!(read(std::str::from_utf8(&write(second)).unwrap()), Some(second));
        }
    }

    #[test]
    fn old_forms_are_read_and_others_are_none() {
        for text in ["Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(read(text), Some(784_111_777), "{text}");
        }
        assert_eq!(read("Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_799));
        for bad in [
            "",
            "now",
            "784111777",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Nov 1994 08:49:37 GMT",
            "Tue, 29 Feb 2100 00:00:00 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "Foo, 06 Nov 1994 08:49:37 GMT",
            "1994-11-06T08:49:37Z",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
