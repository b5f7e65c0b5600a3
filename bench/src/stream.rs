//! How fast does output travel, from a command to its reader?
//!
//! The floor is the same `seq` through a plain pipe and a bare socket, in turns with ours. Ours carries the bytes as JSON
//! in server-sent events, so the client counts what the lines' escapes say, and of the floor the line ends.

use crate::Bench;
use crate::api::{Herd, path};
use crate::client;
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::floor_stream::{Carry, StreamFloor};
use crate::process;
use crate::spread::Samples;
use crate::stop;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const FLOOR: &str = "pipe + bare socket";
const WAIT_MS_MAX: u64 = 60_000;
const GOAL: Goal = Goal::RatioAtLeast(0.5);

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let lines = bench.options.lines;
    let herd = Herd::new(bench.target);
    let floor = StreamFloor::start(lines)?;
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    let (mut run, mut started, mut bare) = (Samples::default(), Samples::default(), Samples::default());
    let command = json!({ "command": "seq", "args": ["1", lines.to_string()] }).to_string();
    let processes = bench.target.processes();
    let mut server_us = 0;
    for _ in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        let before_us = process::cpu_us(&processes);
        let stream = send(bench, "POST", &format!("{}/process/run/stream", path(&id)), &command)?;
        run.push(rate(stream, lines, b'\\')?);
        server_us += process::cpu_us(&processes).saturating_sub(before_us);

        let answer = connection.ask("POST", &format!("{}/process/start", path(&id)), &command)?;
        let process: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let pid = process["pid"].as_u64().ok_or_else(|| Failure::new(format!("start: status {}", answer.status)))?;
        let stream = send(bench, "GET", &format!("{}/process/{pid}/stream", path(&id)), "")?;
        started.push(rate(stream, lines, b'\\')?);

        bare.push(rate((floor.connect(Carry::Pipe)?, Instant::now()), lines, b'\n')?);
    }
    herd.delete(&mut connection, &id)?;
    let megabytes = bytes_of(lines) as f64 / 1e6;
    let each_us = server_us as f64 / run.spread().map_or(1, |spread| spread.count) as f64 / megabytes;
    Ok(vec![
        Row::new(format!("run/stream of {megabytes:.0} MB"), "MB/s", &run)
            .beside(FLOOR, &run, &bare)
            .goal(GOAL)
            .note(format!("CPU of supervisor, server and launcher: {each_us:.0} µs a MB")),
        Row::new("the same by start + stream", "MB/s", &started).beside(FLOOR, &started, &bare).goal(GOAL),
    ])
}

/// A request whose answer ends with the connection, and when it was sent.
fn send(bench: &Bench<'_>, method: &str, path: &str, body: &str) -> Result<(TcpStream, Instant), Failure> {
    let failed = |error| Failure::io(format!("{method} {path}"), &error);
    let target = bench.target;
    let mut stream = TcpStream::connect(&target.address).map_err(failed)?;
    let begin = Instant::now();
    let request = client::request(method, path, &target.address, target.key.as_deref(), body);
    stream.write_all(&request).map_err(failed)?;
    Ok((stream, begin))
}

/// Reads to the end; MB of output a second. Each line has one `mark`.
fn rate((mut stream, begin): (TcpStream, Instant), lines: u64, mark: u8) -> Result<f64, Failure> {
    let failed = |error| Failure::io("read a stream", &error);
    stream.set_read_timeout(Some(Duration::from_millis(WAIT_MS_MAX))).map_err(failed)?;
    let mut piece = vec![0; 256 << 10];
    let mut marks = 0;
    loop {
        match stream.read(&mut piece).map_err(failed)? {
            0 => break,
            length => marks += piece[..length].iter().filter(|byte| **byte == mark).count() as u64,
        }
    }
    let took = begin.elapsed();
    if marks != lines {
        return Err(Failure::new(format!("{marks} lines instead of {lines}")));
    }
    Ok(bytes_of(lines) as f64 / 1e6 / took.as_secs_f64())
}

/// What `seq 1 LINES` prints.
pub(crate) fn bytes_of(lines: u64) -> u64 {
    let (mut bytes, mut digits, mut first) = (0, 1, 1u64);
    while first <= lines {
        let last = (first * 10 - 1).min(lines);
        bytes += (last - first + 1) * (digits + 1);
        (digits, first) = (digits + 1, first * 10);
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_bytes_of_seq_are_known() {
        for lines in [1, 9, 10, 11, 99, 100, 12_345] {
            let printed: usize = (1..=lines).map(|line: u64| line.to_string().len() + 1).sum();
            assert_eq!(super::bytes_of(lines), printed as u64);
        }
        assert_eq!(super::bytes_of(20_000_000), 168_888_897);
    }
}
