//! What does the kernel say of the whole machine: memory by kind, and our control groups?
//!
//! proc_meminfo(5), proc_pid_mounts(5). MemAvailable is what the goals are stated in: it falls with everything that cannot be given back, kernel
//! memory included.

use crate::stop;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two looks at the memory.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// So many looks in a row must agree.
const LOOKS_ALIKE: usize = 4;
/// Within so much they agree.
const ALIKE_KIB: u64 = 512;
/// How deep below a mount our groups are looked for, and how many directories are looked at.
const DEPTH_MAX: usize = 8;
const DIRECTORIES_MAX: usize = 500_000;

/// Memory of the machine in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    /// What could be given to a new program.
    pub(crate) available: u64,
    /// Of what is used: kernel objects.
    pub(crate) slab: u64,
    /// Memory of processes.
    pub(crate) anonymous: u64,
    /// Page tables.
    pub(crate) page_tables: u64,
    /// Kernel stacks.
    pub(crate) kernel_stacks: u64,
    /// Per-CPU kernel memory.
    pub(crate) per_cpu: u64,
    /// Files in memory that cannot be dropped.
    pub(crate) shared: u64,
}

impl Memory {
    /// As it is now.
    pub(crate) fn now() -> Memory {
        Memory::parse(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
    }

    fn parse(text: &str) -> Memory {
        let kib = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            rest.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
        };
        Memory {
            available: kib("MemAvailable"),
            slab: kib("Slab"),
            anonymous: kib("AnonPages"),
            page_tables: kib("PageTables"),
            kernel_stacks: kib("KernelStack"),
            per_cpu: kib("Percpu"),
            shared: kib("Shmem"),
        }
    }

    /// What each kind took since `before`, for one of `count`, as text in KiB.
    pub(crate) fn growth_each(&self, before: &Memory, count: usize) -> String {
        let each = |now: u64, then: u64| (now as f64 - then as f64) / count.max(1) as f64;
        format!(
            "KiB each: slab {:.0}, anonymous {:.0}, page tables {:.0}, kernel stacks {:.0}, per-CPU {:.0}, shared {:.0}",
            each(self.slab, before.slab),
            each(self.anonymous, before.anonymous),
            each(self.page_tables, before.page_tables),
            each(self.kernel_stacks, before.kernel_stacks),
            each(self.per_cpu, before.per_cpu),
            each(self.shared, before.shared),
        )
    }
}

/// Waits until the memory rests, for a bounded time: namespaces are freed in the background. What it is then, and whether it rested.
pub(crate) fn settle(ms_max: u64) -> (Memory, bool) {
    let deadline = Instant::now() + Duration::from_millis(ms_max);
    let mut seen: Vec<u64> = Vec::new();
    loop {
        let memory = Memory::now();
        seen.push(memory.available);
        let last = &seen[seen.len().saturating_sub(LOOKS_ALIKE)..];
        let spread = last.iter().max().unwrap_or(&0) - last.iter().min().unwrap_or(&0);
        let rested = last.len() == LOOKS_ALIKE && spread <= ALIKE_KIB;
        if rested || Instant::now() >= deadline || stop::requested() {
            return (memory, rested);
        }
        stop::pause(LOOK_AGAIN);
    }
}

/// Waits until at least so much is available again, or until the time is over; what is available then.
pub(crate) fn await_available(kib: u64, ms_max: u64) -> Memory {
    let deadline = Instant::now() + Duration::from_millis(ms_max);
    loop {
        let memory = Memory::now();
        if memory.available >= kib || Instant::now() >= deadline || stop::requested() {
            return memory;
        }
        stop::pause(LOOK_AGAIN);
    }
}

/// The control group parents of all servers on this machine, in every hierarchy.
pub(crate) fn group_parents() -> BTreeSet<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut left = DIRECTORIES_MAX;
    for place in group_mounts(&mounts) {
        find_parents(place, 0, &mut left, &mut found);
    }
    found
}

/// Where control groups are mounted, from the text of /proc/self/mounts.
fn group_mounts(mounts: &str) -> impl Iterator<Item = &Path> {
    mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        match (fields.next(), fields.next()) {
            (Some(place), Some("cgroup" | "cgroup2")) => Some(Path::new(place)),
            _ => None,
        }
    })
}

/// How many directories are below these parents.
pub(crate) fn count_groups(parents: &BTreeSet<PathBuf>) -> u64 {
    let mut left = DIRECTORIES_MAX;
    parents.iter().map(|parent| count_below(parent, 0, &mut left)).sum()
}

fn find_parents(place: &Path, depth: usize, left: &mut usize, found: &mut BTreeSet<PathBuf>) {
    for directory in directories(place, left) {
        let named = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("workspace-");
        if directory.file_name().is_some_and(named) {
            found.insert(directory);
        } else if depth < DEPTH_MAX {
            find_parents(&directory, depth + 1, left, found);
        }
    }
}

fn count_below(place: &Path, depth: usize, left: &mut usize) -> u64 {
    if depth > DEPTH_MAX {
        return 0;
    }
    directories(place, left).iter().map(|directory| 1 + count_below(directory, depth + 1, left)).sum()
}

fn directories(place: &Path, left: &mut usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(place) else { return Vec::new() };
    let found: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .take(*left)
        .collect();
    *left -= found.len();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_by_name() {
        let memory = Memory::parse("MemTotal: 9 kB\nMemAvailable:   7 kB\nSlab:  5 kB\nSlabX: 6 kB\n");
        assert_eq!((memory.available, memory.slab, memory.per_cpu), (7, 5, 0));
    }

    #[test]
    fn growth_is_for_one() {
        let before = Memory::default();
        let after = Memory { slab: 200, ..before };
        assert!(after.growth_each(&before, 100).starts_with("KiB each: slab 2,"));
    }

    /// What is told stands in the text; a growth is a number whatever the figures.
    fn any_text(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let memory = Memory::parse(&text);
        assert!(memory.slab == 0 || text.lines().any(|line| line.starts_with("Slab:")));
        assert_eq!(Memory::parse(&format!("Slabs: 1\nSlab\n{text}")).slab, memory.slab);
        assert!(!memory.growth_each(&Memory::default(), 0).contains("NaN"));
        let lines = text.lines().filter(|line| line.contains(" cgroup")).count();
        assert!(group_mounts(&text).count() <= lines);
    }

    #[test]
    fn any_text_of_the_kernel_is_figures() {
        let corpus: [&[u8]; 4] = [
            b"MemTotal: 9 kB\nMemAvailable:   7 kB\nSlab:  5 kB\nPercpu: 1 kB\nShmem: 3 kB\n",
            b"Slab: 18446744073709551615 kB\n",
            b"cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n",
            b"a b cgroup",
        ];
        crate::fuzz::run(any_text, &corpus);
    }
}
