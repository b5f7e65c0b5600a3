//! Which part of a body does a Range field ask for?
//!
//! One part or none: ranges that touch are one part, ranges with gaps between them are refused, however many there
//! are. What is no range of bytes is ignored, as it must be. Source: RFC 9110 section 14.

use std::ops::Range;

/// Ranges in one field; more are refused.
const RANGES_MAX: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it.
    Whole,
    /// These bytes, at least one, all within the body.
    Of(Range<u64>),
    /// Nothing that is there in one piece: 416.
    Unsatisfiable,
}

/// Reads a Range field for a body of `size` bytes.
pub fn read(field: &str, size: u64) -> Part {
    let Some((unit, set)) = field.split_once('=') else { return Part::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Part::Whole;
    }
    let mut ranges = Vec::new();
    for (count, spec) in set.split(',').map(str::trim).filter(|spec| !spec.is_empty()).enumerate() {
        if count >= RANGES_MAX {
            return Part::Unsatisfiable;
        }
        match range(spec, size) {
            None => return Part::Whole,
            Some(range) if range.is_empty() => {}
            Some(range) => ranges.push(range),
        }
    }
    ranges.sort_by_key(|range| range.start);
    let mut ranges = ranges.into_iter();
    let Some(mut part) = ranges.next() else { return Part::Unsatisfiable };
    for range in ranges {
        if range.start > part.end {
            return Part::Unsatisfiable;
        }
        part.end = part.end.max(range.end);
    }
    Part::Of(part)
}

/// One range, empty where it lies behind the body's end; `None` where it is no range at all.
fn range(spec: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(size.saturating_sub(suffix)..size);
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    let end = last.saturating_add(1).min(size);
    Some(first.min(end)..end)
}

/// Digits alone; what does not fit into 64 bits is behind every end.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_or_none() {
        for (field, part) in [
            ("bytes=0-0", Part::Of(0..1)),
            ("bytes=2-", Part::Of(2..10)),
            ("bytes=-3", Part::Of(7..10)),
            ("bytes=-99999999999999999999", Part::Of(0..10)),
            ("bytes=5-99999999999999999999", Part::Of(5..10)),
            ("Bytes = 1-2", Part::Of(1..3)),
            ("bytes=0-3, 4-5,-5", Part::Of(0..10)),
            ("bytes=4-6,0-4", Part::Of(0..7)),
            ("bytes=20-30,1-1", Part::Of(1..2)),
            ("bytes=0-0,-1", Part::Unsatisfiable),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=", Part::Unsatisfiable),
            ("bytes=99999999999999999999-", Part::Unsatisfiable),
            ("bytes=3-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=--1", Part::Whole),
            ("bytes 0-1", Part::Whole),
            ("lines=0-1", Part::Whole),
        ] {
            assert_eq!(read(field, 10), part, "{field}");
        }
        assert_eq!(read(&format!("bytes={}", "0-0,".repeat(10_000)), 10), Part::Unsatisfiable);
        assert_eq!(read("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(read("bytes=-1", 0), Part::Unsatisfiable);
    }
}
