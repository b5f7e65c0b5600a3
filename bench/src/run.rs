//! How long does a command take, there and back, one by one and many at once?
//!
//! The floor is posix_spawn and waitpid of the same `true` by the bench itself, with the same number at once, in turns with ours.

use crate::Bench;
use crate::api::{Herd, run_true};
use crate::compare::{Goal, Row};
use crate::crowd::begin_together;
use crate::failure::Failure;
use crate::floor::Floor;
use crate::process;
use crate::spread::Samples;
use crate::stop;
use std::time::{Duration, Instant};

/// What a run may take over the bare spawn, ms.
const OVER_FLOOR_MS: f64 = 0.5;
/// Commands of a connection in a round of many at once.
const EACH: u64 = 10;
/// Before the first measurement, so that both sides are warm.
const WARM: u64 = 5;

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let floor = Floor::spawn().probed();
    let at_once = bench.options.at_once;
    let apart = Duration::from_millis(bench.options.gap_ms);
    let mut rows = vec![one_by_one(bench, &herd, &floor, apart)?, one_by_one(bench, &herd, &floor, Duration::ZERO)?];

    let one = vec![herd.create(&mut herd.connect()?)?];
    rows.extend(many(bench, &herd, &floor, &one, "one sandbox")?);
    let mut several = Vec::new();
    let mut connection = herd.connect()?;
    for _ in 0..at_once {
        several.push(herd.create(&mut connection)?);
    }
    rows.extend(many(bench, &herd, &floor, &several, "as many sandboxes")?);
    herd.delete_all(bench.options.workers);
    Ok(rows)
}

fn one_by_one(bench: &Bench<'_>, herd: &Herd<'_>, floor: &Floor, gap: Duration) -> Result<Row, Failure> {
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    let (mut ours, mut bare, mut ignored) = (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..WARM {
        run_true(&mut connection, &id)?;
        floor.once(&mut ignored)?;
    }
    let processes = bench.target.processes();
    let server_us = process::cpu_us(&processes);
    for _ in 0..bench.options.samples {
        if stop::requested() {
            break;
        }
        stop::pause(gap);
        let begin = Instant::now();
        run_true(&mut connection, &id)?;
        ours.push_ms(begin.elapsed());
        stop::pause(gap);
        floor.once(&mut bare)?;
    }
    let server_us = process::cpu_us(&processes).saturating_sub(server_us);
    herd.delete(&mut connection, &id)?;
    let each_us = server_us as f64 / ours.spread().map_or(1, |spread| spread.count) as f64;
    let name = if gap.is_zero() { "no rest".to_owned() } else { format!("{} ms apart", gap.as_millis()) };
    Ok(Row::new(format!("run `true`, {name}"), "ms", &ours)
        .beside(floor.name, &ours, &bare)
        .goal(Goal::OverFloorAtMost(OVER_FLOOR_MS))
        .note(format!("CPU of supervisor, server and launcher, all they did meanwhile: {each_us:.0} µs a run"))
        .note_some(floor.note()))
}

fn many(bench: &Bench<'_>, herd: &Herd<'_>, floor: &Floor, ids: &[String], where_: &str) -> Result<Vec<Row>, Failure> {
    let at_once = bench.options.at_once;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let (mut our_rate, mut bare_rate) = (Samples::default(), Samples::default());
    let all = (at_once * EACH) as f64;
    for _ in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        let mut items = Vec::new();
        for index in 0..at_once {
            items.push((herd.connect()?, ids[index as usize % ids.len()].as_str()));
        }
        let took = begin_together(items, &mut ours, |(mut connection, id), samples| {
            for _ in 0..EACH {
                let begin = Instant::now();
                run_true(&mut connection, id)?;
                samples.push_ms(begin.elapsed());
            }
            Ok(())
        })?;
        our_rate.push(all / took.as_secs_f64());
        let took = floor.at_once(at_once, EACH, &mut bare)?;
        bare_rate.push(all / took.as_secs_f64());
    }
    let mean = |samples: &Samples| samples.spread().map_or(0.0, |spread| spread.mean);
    Ok(vec![
        Row::new(format!("run `true`, {at_once} at once in {where_}"), "ms", &ours)
            .beside(floor.name, &ours, &bare)
            .goal(Goal::OverFloorAtMost(OVER_FLOOR_MS))
            .note(format!(
                "mean {:.1} ms, of the floor {:.1} ms: bare threads are served unfairly (low median, long tail), a queue is not",
                mean(&ours),
                mean(&bare)
            )),
        Row::new("of it: commands", "/s", &our_rate).beside(floor.name, &our_rate, &bare_rate),
    ])
}
