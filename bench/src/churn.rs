//! Does anything grow when sandboxes come and go?
//!
//! After a warm-up, creates and deletes on some connections; memory, descriptors, threads and mounts of supervisor, server and launcher, and the control groups of
//! the server, are read at the begin, in the middle and at the end, each time with no sandbox alive and the machine at rest.

use crate::Bench;
use crate::api::{Herd, together};
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::kernel;
use crate::process::{self, Usage};
use crate::stop;
use std::time::Instant;

/// The warm-up is such a part of the whole: pools fill, allocators reach their size.
const WARM_PART: u64 = 10;
/// Resident memory may move by so many KiB and is flat still.
const RSS_KIB_MAX: f64 = 2_048.0;
/// Descriptors: a connection that is being closed.
const DESCRIPTORS_MAX: f64 = 4.0;

struct Look {
    usage: Usage,
    groups: u64,
    available_kib: u64,
}

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let options = bench.options;
    let herd = Herd::new(bench.target);
    churn(bench, &herd, (options.churn / WARM_PART).max(1))?;
    let begin = look(bench);
    let half = options.churn / 2;
    let start = Instant::now();
    churn(bench, &herd, half)?;
    let mut seconds = start.elapsed().as_secs_f64();
    let middle = look(bench);
    let start = Instant::now();
    churn(bench, &herd, options.churn - half)?;
    seconds += start.elapsed().as_secs_f64();
    let end = look(bench);
    if stop::requested() {
        return Err(Failure::new("stopped"));
    }

    let looks = [&begin, &middle, &end];
    let rate = Row::single(format!("{} creates and deletes", options.churn), "/s", options.churn as f64 / seconds)
        .note(series("MemAvailable, MiB", looks, |look| look.available_kib / 1024));
    let grown = |name: &str, unit, goal, of: fn(&Look) -> u64| {
        Row::single(format!("of it: growth of {name}"), unit, of(&end) as f64 - of(&begin) as f64)
            .goal(Goal::MedianAtMost(goal))
            .note(series("begin, middle, end", looks, of))
    };
    let groups = grown("the server's control groups", "", 0.0, |look| look.groups);
    if bench.target.supervisor.is_none() {
        return Ok(vec![rate.note("the server's processes are not known (--pid)"), groups]);
    }
    Ok(vec![
        rate,
        grown("resident memory", "KiB", RSS_KIB_MAX, |look| look.usage.rss_kib),
        grown("descriptors", "", DESCRIPTORS_MAX, |look| look.usage.descriptors),
        grown("threads", "", 0.0, |look| look.usage.threads),
        grown("lines of mount tables", "", 0.0, |look| look.usage.mounts),
        groups,
    ])
}

fn churn(bench: &Bench<'_>, herd: &Herd<'_>, rounds: u64) -> Result<(), Failure> {
    together(herd, bench.options.workers, rounds, |connection| {
        let id = herd.create(connection)?;
        herd.delete(connection, &id)
    })
}

fn look(bench: &Bench<'_>) -> Look {
    let (memory, _) = kernel::settle(bench.options.settle_ms_max);
    let usage = process::usage(&bench.target.processes());
    let groups = kernel::count_groups(&bench.target.groups);
    Look { usage, groups, available_kib: memory.available }
}

fn series(name: &str, looks: [&Look; 3], of: impl Fn(&Look) -> u64) -> String {
    let [begin, middle, end] = looks.map(of);
    format!("{name}: {begin}, {middle}, {end}")
}
