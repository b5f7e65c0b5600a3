//! How long do creates take that come all at once, and do all of them go well?
//!
//! One connection and one thread for each, made before. Each runs `true` afterwards, because a create is well only when its sandbox works. The
//! floor is as many `bwrap` at once.

use crate::Bench;
use crate::api::{Herd, run_true};
use crate::compare::{Goal, Row};
use crate::create::begin;
use crate::crowd::begin_together;
use crate::failure::Failure;
use crate::floor::Floor;
use crate::kernel;
use crate::spread::Samples;
use crate::stop;
use std::sync::Mutex;
use std::sync::PoisonError;

/// The longest rest between two bursts: the pool fills, namespaces are freed.
const REST_MS_MAX: u64 = 3_000;

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let (count, rounds) = (bench.options.burst, bench.options.rounds);
    let herd = Herd::new(bench.target);
    let bwrap = Floor::bwrap().probed();
    let (mut answered, mut floor) = (Samples::default(), Samples::default());
    let first_output = Mutex::new(Samples::default());
    let mut trouble = None;
    for _ in 0..rounds {
        if stop::requested() {
            break;
        }
        let connections = (0..count).map(|_| herd.connect()).collect::<Result<Vec<_>, _>>()?;
        let result = begin_together(connections, &mut answered, |mut connection, samples| {
            let (id, begin) = begin(&herd, &mut connection, samples)?;
            run_true(&mut connection, &id)?;
            first_output.lock().unwrap_or_else(PoisonError::into_inner).push_ms(begin.elapsed());
            Ok(())
        });
        if let Err(failure) = result {
            trouble = Some(failure.to_string());
        }
        let left = herd.delete_all(bench.options.workers);
        if left > 0 {
            trouble = Some(format!("{left} of {count} were not deleted"));
        }
        kernel::settle(REST_MS_MAX);
        bwrap.at_once(count, 1, &mut floor)?;
        kernel::settle(REST_MS_MAX);
    }
    let first_output = first_output.into_inner().unwrap_or_else(PoisonError::into_inner);
    let wanted = (count * rounds) as usize;
    let well = first_output.spread().map_or(0, |spread| spread.count);
    let mut row = Row::new(format!("{count} creates at once: answered"), "ms", &answered)
        .beside(bwrap.name, &answered, &floor)
        .goal(Goal::P95AtMost(500.0))
        .note(format!("{well} of {wanted} well, in {rounds} bursts"))
        .note_some(bwrap.note());
    if well < wanted {
        row = row.broken(trouble.unwrap_or_else(|| "stopped".to_owned()));
    }
    let first = Row::new(format!("{count} creates at once: first output"), "ms", &first_output).beside(
        bwrap.name,
        &first_output,
        &floor,
    );
    Ok(vec![row, first])
}
