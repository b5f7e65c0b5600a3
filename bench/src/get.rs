//! How many GETs of a sandbox a second, and at which price?
//!
//! The floor is hyper on tokio in a process of its own, answering the very same bytes. The same client loads both in turns. Client and server
//! share the cores here, so CPU time for an answer is the second figure, and the client's own is told.

use crate::Bench;
use crate::api::{Herd, path};
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::floor_http::HttpFloor;
use crate::load::{Side, round};
use crate::spread::Samples;
use crate::stop;
use std::time::Duration;

const FLOOR: &str = "hyper on tokio";

#[derive(Default)]
struct Figures {
    rate: Samples,
    server_us: Samples,
    client_us: Samples,
    latency: Samples,
}

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let options = bench.options;
    let herd = Herd::new(bench.target);
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    let answer = connection.ask("GET", &path(&id), "")?;
    if answer.status != 200 {
        return Err(Failure::new(format!("get: status {}", answer.status)));
    }
    let floor = HttpFloor::start(&answer)?;
    let requests = [bench.target.get_request(&path(&id))];
    let known = bench.target.supervisor.is_some();
    let (mut ours, mut bare) = (Figures::default(), Figures::default());
    let time = Duration::from_millis(options.round_ms);
    for _ in 0..options.rounds {
        if stop::requested() {
            break;
        }
        let side = Side::new(&bench.target.address, &requests, bench.target.processes());
        ours.take(round(&side, options.connections, options.threads, time)?);
        let side = Side::new(&floor.address, &requests, vec![floor.pid()]);
        bare.take(round(&side, options.connections, options.threads, time)?);
    }
    let bytes = answer.head.len() + answer.body.len();
    let client = |figures: &Figures| figures.client_us.spread().map_or(0.0, |spread| spread.p50);
    let connections = options.connections;
    let mut rows = vec![
        Row::new(format!("GET sandbox, {connections} connections"), "/s", &ours.rate)
            .beside(FLOOR, &ours.rate, &bare.rate)
            .goal(Goal::RatioAtLeast(1.0))
            .note(format!(
                "{bytes} bytes an answer; the client's own CPU is {:.1} µs an answer beside ours, {:.1} µs beside the floor",
                client(&ours),
                client(&bare)
            )),
        Row::new("of it: latency", "ms", &ours.latency).beside(FLOOR, &ours.latency, &bare.latency),
    ];
    if known {
        let cpu = Row::new("of it: the server's CPU", "µs", &ours.server_us);
        rows.push(cpu.beside(FLOOR, &ours.server_us, &bare.server_us).goal(Goal::RatioAtMost(1.0)));
    }
    herd.delete(&mut connection, &id)?;
    Ok(rows)
}

impl Figures {
    fn take(&mut self, round: crate::load::Round) {
        self.rate.push(round.rate);
        self.server_us.push(round.server_us);
        self.client_us.push(round.client_us);
        self.latency.append(round.latency);
    }
}
