//! What does a process use?
//!
//! proc_pid_stat(5), proc_pid_status(5). A process that is gone counts as nothing.

use std::collections::BTreeMap;
use std::fs;

/// What some processes use together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident memory, KiB.
    pub(crate) rss_kib: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Lines of their mount tables.
    pub(crate) mounts: u64,
}

/// What they use now.
pub(crate) fn usage(pids: &[u32]) -> Usage {
    let mut sum = Usage::default();
    for pid in pids {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum.rss_kib += number_after(&status, "VmRSS:");
        sum.threads += number_after(&status, "Threads:");
        sum.descriptors += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count() as u64);
        sum.mounts +=
            fs::read_to_string(format!("/proc/{pid}/mountinfo")).map_or(0, |text| text.lines().count() as u64);
    }
    sum
}

/// CPU time that they have used, user and kernel, in µs; the kernel counts it in steps of a clock tick.
pub(crate) fn cpu_us(pids: &[u32]) -> u64 {
    let ticks: u64 = pids.iter().filter_map(|pid| stat(*pid)).map(|stat| stat.ticks).sum();
    ticks.saturating_mul(1_000_000) / rustix::param::clock_ticks_per_second().max(1)
}

/// The direct children of a process.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let all = parents();
    all.iter().filter(|(_, its)| **its == parent).map(|(pid, _)| *pid).collect()
}

/// Every process with its parent.
fn parents() -> BTreeMap<u32, u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.parent))).collect()
}

struct Stat {
    parent: u32,
    ticks: u64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in brackets may hold spaces and brackets, so the fields are counted from the last one.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some(Stat { parent: u32::try_from(number(1)?).ok()?, ticks: number(11)?.saturating_add(number(12)?) })
}

fn number_after(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_move_the_fields() {
        let stat = parse_stat("7 (a ) 9 (b) R 3 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20 0 1 0").unwrap();
        assert_eq!((stat.parent, stat.ticks), (3, 110));
        assert!(parse_stat("7 (x").is_none());
    }

    #[test]
    fn this_process_has_memory_and_a_parent() {
        let me = std::process::id();
        assert!(usage(&[me]).rss_kib > 0);
        assert!(usage(&[me]).descriptors > 0);
        assert!(parents().contains_key(&me));
    }

    /// No name moves a field, and no other line counts.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let read = |text: &str| parse_stat(text).map(|stat| (stat.parent, stat.ticks));
        if let Some((_, fields)) = text.rsplit_once(')') {
            assert_eq!(read(&format!("7 (a) R 3 (b){fields}")), read(&text));
        }
        assert_eq!(number_after(&format!("VmRSSx: 9\n{text}"), "VmRSS:"), number_after(&text, "VmRSS:"));
    }

    #[test]
    fn any_stat_and_status_is_read_or_not() {
        let corpus: [&[u8]; 4] = [
            b"7 (a ) 9 (b) R 3 7 7 0 -1 4194304 1 2 3 4 50 60 0 0 20 0 1 0",
            b"Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t2\n",
            // Overflowed.
            b"7 (a) R 3 7 7 0 -1 4194304 1 2 3 4 18446744073709551615 18446744073709551615 0",
            b"VmRSS:\t18446744073709551616 kB",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
