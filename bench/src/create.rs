//! How long from a create to the first output of a command in the sandbox, one by one?
//!
//! `true` prints nothing: its answer is the first output. The floor is `bwrap` around `true`, from its start to its end. Ours and the floors take
//! turns. With a rest before each measurement the server's pool is full, as for a client that comes now and then; without any rest the pool runs dry
//! and every create pays for its own sandbox.

use crate::Bench;
use crate::api::{Herd, run_true};
use crate::client::Connection;
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::floor::Floor;
use crate::spread::Samples;
use crate::stop;
use std::time::{Duration, Instant};

/// Times of one series.
#[derive(Default)]
pub(crate) struct Creates {
    /// Until the create is answered, ms.
    pub(crate) answered: Samples,
    /// Until the first command is answered, ms.
    pub(crate) first_output: Samples,
    /// Of the delete afterwards, ms.
    pub(crate) deleted: Samples,
    /// The floor, ms.
    pub(crate) bwrap: Samples,
}

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let (bwrap, unshare) = (Floor::bwrap().probed(), Floor::unshare().probed());
    let mut bare = Samples::default();
    let gap = Duration::from_millis(bench.options.gap_ms);
    let rested = series(&herd, bench.options.samples, gap, &bwrap)?;
    for _ in 0..bench.options.samples {
        if stop::requested() {
            break;
        }
        stop::pause(gap);
        unshare.once(&mut bare)?;
    }
    let pressed = series(&herd, bench.options.samples, Duration::ZERO, &bwrap)?;

    let first = &rested.first_output;
    Ok(vec![
        Row::new(format!("create → first output, {} ms apart", bench.options.gap_ms), "ms", first)
            .beside(bwrap.name, first, &rested.bwrap)
            .goal(Goal::RatioAtMost(1.0))
            .note_some(bwrap.note()),
        Row::new("the same beside namespaces alone", "ms", first)
            .beside(unshare.name, first, &bare)
            .note_some(unshare.note()),
        Row::new("of it: create answered", "ms", &rested.answered),
        Row::new("its delete", "ms", &rested.deleted),
        Row::new("create → first output, no rest", "ms", &pressed.first_output)
            .beside(bwrap.name, &pressed.first_output, &pressed.bwrap)
            .note("ours alone without any rest, each deleted before the next; then the floor the same way"),
    ])
}

/// Creates, runs and deletes one after the other, the floor in between (without a rest: in turns of a fifth).
pub(crate) fn series(herd: &Herd<'_>, samples: u64, gap: Duration, bwrap: &Floor) -> Result<Creates, Failure> {
    let mut creates = Creates::default();
    let mut connection = herd.connect()?;
    let turn = if gap.is_zero() { samples.div_ceil(5).max(1) } else { 1 };
    let mut left = samples;
    while left > 0 && !stop::requested() {
        let now = turn.min(left);
        for _ in 0..now {
            stop::pause(gap);
            let (id, begin) = begin(herd, &mut connection, &mut creates.answered)?;
            run_true(&mut connection, &id)?;
            creates.first_output.push_ms(begin.elapsed());
            let begin = Instant::now();
            herd.delete(&mut connection, &id)?;
            creates.deleted.push_ms(begin.elapsed());
        }
        for _ in 0..now {
            stop::pause(gap);
            bwrap.once(&mut creates.bwrap)?;
        }
        left -= now;
    }
    Ok(creates)
}

/// Creates one, and tells when that began.
pub(crate) fn begin(
    herd: &Herd<'_>,
    connection: &mut Connection,
    answered: &mut Samples,
) -> Result<(String, Instant), Failure> {
    let begin = Instant::now();
    let id = herd.create(connection)?;
    answered.push_ms(begin.elapsed());
    Ok((id, begin))
}
