//! What does an idle sandbox cost when there are many, and are creates still fast then?
//!
//! Memory is the fall of MemAvailable, so the kernel's part is in it; the machine is given time to come to rest before each look. The first and the
//! last hundred are created one by one, those between them on several connections. The floor of memory is `bwrap` around `sleep`.

use crate::Bench;
use crate::api::{Herd, together};
use crate::compare::{Goal, Row};
use crate::create::{self, begin};
use crate::failure::Failure;
use crate::floor::Floor;
use crate::kernel::{self, Memory};
use crate::process;
use crate::spread::Samples;
use crate::stop;
use crate::sys::spawn;
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

/// Created one by one at the begin and at the end.
const EDGE: u64 = 100;
/// Measurements with all of them alive, and `bwrap` kept alive for the floor.
const PROBES_MAX: u64 = 100;
/// Memory of an idle sandbox, KiB.
const EACH_KIB_MAX: f64 = 1.2 * 1024.0;
/// How long returned memory is waited for.
const RETURN_MS_MAX: u64 = 30_000;
/// What share of it is enough to end that wait.
const RETURNED_PERCENT: u64 = 97;

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let options = bench.options;
    let bwrap = Floor::bwrap().probed();
    let floor_kib = idle_floor(options.alive.min(PROBES_MAX), options.settle_ms_max)?;

    let herd = Herd::new(bench.target);
    let gap = Duration::from_millis(options.gap_ms);
    // The first sandbox of a server brings what all share.
    let first = herd.create(&mut herd.connect()?)?;
    herd.delete(&mut herd.connect()?, &first)?;
    let (before, rested_before) = kernel::settle(options.settle_ms_max);
    let edge = EDGE.min(options.alive / 2);
    let mut notes = Vec::new();
    let mut begun = Samples::default();
    let mut ended = Samples::default();
    one_by_one(&herd, edge, gap, &mut begun)?;
    let middle = options.alive - 2 * edge;
    let (begin, so_far) = (Instant::now(), herd.count());
    // Too few is an answer too; the row says why.
    let refused = together(&herd, options.workers, middle, |connection| herd.create(connection).map(drop)).err();
    let middle = herd.count() - so_far;
    notes.push(format!(
        "{middle} of them in {:.1} s on {} connections",
        begin.elapsed().as_secs_f64(),
        options.workers
    ));
    kernel::settle(options.settle_ms_max);
    one_by_one(&herd, edge, gap, &mut ended)?;
    let (full, rested_full) = kernel::settle(options.settle_ms_max);
    let alive = herd.count();
    let each_kib = (before.available as f64 - full.available as f64) / alive.max(1) as f64;
    notes.push(full.growth_each(&before, alive));
    notes.push(usage_note(bench));
    if !(rested_before && rested_full) {
        notes.push("the machine's memory did not come to rest: others use it, the figure is not exact".to_owned());
    }
    let probes = create::series(&herd, options.samples.min(PROBES_MAX), gap, &bwrap)?;

    let begin = Instant::now();
    let left = herd.delete_all(options.workers);
    let deleted_s = begin.elapsed().as_secs_f64();
    let enough = full.available + before.available.saturating_sub(full.available) * RETURNED_PERCENT / 100;
    let after = kernel::await_available(enough, RETURN_MS_MAX);
    let returned = returned_percent(&before, &full, &after);

    let mut memory = Row::single(format!("memory of one of {alive} idle sandboxes"), "KiB", each_kib);
    memory = match floor_kib {
        Some(kib) => memory.beside_single("bwrap … sleep", kib),
        None => memory.note_some(Floor::bwrap_idle().note()),
    };
    memory = notes.into_iter().fold(memory, Row::note).goal(Goal::MedianAtMost(EACH_KIB_MAX));
    if (alive as u64) < options.alive {
        let why = refused.map_or("stopped".to_owned(), |failure| failure.to_string());
        memory = memory.broken(format!("{alive} of {} are alive: {why}", options.alive));
    }
    let mut freed = Row::single(format!("memory returned after {alive} deletes"), "%", returned).note(format!(
        "deleted in {deleted_s:.1} s on {} connections; {}",
        options.workers,
        usage_note(bench)
    ));
    if left > 0 {
        freed = freed.broken(format!("{left} were not deleted"));
    }
    Ok(vec![
        memory,
        Row::new(format!("create answered: the last {edge} of {alive}"), "ms", &ended)
            .beside("the first as many", &ended, &begun)
            .goal(Goal::RatioAtMost(1.5)),
        Row::new(format!("create → first output with {alive} alive"), "ms", &probes.first_output)
            .beside(bwrap.name, &probes.first_output, &probes.bwrap)
            .goal(Goal::RatioAtMost(1.0))
            .note_some(bwrap.note()),
        freed,
    ])
}

fn one_by_one(herd: &Herd<'_>, count: u64, gap: Duration, into: &mut Samples) -> Result<(), Failure> {
    let mut connection = herd.connect()?;
    for _ in 0..count {
        if stop::requested() {
            break;
        }
        stop::pause(gap);
        begin(herd, &mut connection, into)?;
    }
    Ok(())
}

/// KiB of an idle `bwrap`; nothing where there is none.
fn idle_floor(count: u64, settle_ms_max: u64) -> Result<Option<f64>, Failure> {
    if Floor::bwrap().probed().note().is_some() {
        return Ok(None);
    }
    let floor = Floor::bwrap_idle();
    let (before, _) = kernel::settle(settle_ms_max);
    let mut pids = Vec::new();
    let mut failed = None;
    for _ in 0..count {
        match floor.start() {
            Some(Ok(pid)) => pids.push(pid),
            Some(Err(error)) => failed = Some(Failure::io(floor.name, &error)),
            None => return Ok(None),
        }
    }
    let (full, _) = kernel::settle(settle_ms_max);
    for pid in &pids {
        if let Some(pid) = Pid::from_raw(*pid) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
    for pid in &pids {
        let _ = spawn::wait(*pid);
    }
    kernel::await_available(before.available, settle_ms_max);
    let each = (before.available as f64 - full.available as f64) / pids.len().max(1) as f64;
    failed.map_or(Ok(Some(each)), Err)
}

fn usage_note(bench: &Bench<'_>) -> String {
    let processes = bench.target.processes();
    if processes.is_empty() {
        return "the server's processes are not known (--pid)".to_owned();
    }
    let usage = process::usage(&processes);
    format!("supervisor, server and launcher: {} KiB resident, {} descriptors", usage.rss_kib, usage.descriptors)
}

fn returned_percent(before: &Memory, full: &Memory, after: &Memory) -> f64 {
    let taken = before.available as f64 - full.available as f64;
    let back = after.available as f64 - full.available as f64;
    if taken > 0.0 { back / taken * 100.0 } else { 100.0 }
}
