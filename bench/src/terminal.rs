//! How fast is a terminal: a key and its echo, and a flood of output?
//!
//! The floor is a bare terminal and a bare socket, in turns with ours. The echo is the terminal's own: `cat` runs in it.

use crate::Bench;
use crate::api::{Herd, path};
use crate::compare::{Goal, Row};
use crate::failure::Failure;
use crate::floor_stream::{Carry, StreamFloor};
use crate::spread::Samples;
use crate::stop;
use crate::stream::bytes_of;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use tungstenite::client::IntoClientRequest;
use tungstenite::{Message, WebSocket};

const FLOOR: &str = "bare pty + socket";
/// What an echo may take over the bare one, ms.
const OVER_FLOOR_MS: f64 = 0.5;
const WAIT_MS_MAX: u64 = 60_000;
const WARM: u64 = 5;
/// A line of a terminal holds 4,095 characters: a new one is begun before.
const KEYS_A_LINE: u64 = 1_000;

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let mut connection = herd.connect()?;
    let id = herd.create(&mut connection)?;
    // A terminal writes a carriage return in front of every line end.
    let lines = bench.options.lines;
    let floor = StreamFloor::start(lines)?;
    let rows = vec![echo(bench, &herd, &id, &floor)?, flood(bench, &herd, &id, &floor, lines)?];
    herd.delete(&mut connection, &id)?;
    Ok(rows)
}

fn echo(bench: &Bench<'_>, herd: &Herd<'_>, id: &str, floor: &StreamFloor) -> Result<Row, Failure> {
    let gap = Duration::from_millis(bench.options.gap_ms);
    let mut terminal = open(bench, herd, id, &json!({ "command": "cat" }))?;
    let mut bare = floor.connect(Carry::Echo)?;
    bare.set_read_timeout(Some(Duration::from_millis(WAIT_MS_MAX))).map_err(|e| Failure::io("floor", &e))?;
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    for count in 0..WARM + bench.options.samples {
        if stop::requested() {
            break;
        }
        let key = if count % KEYS_A_LINE == KEYS_A_LINE - 1 { b"\n" } else { b"x" };
        stop::pause(gap);
        let begin = Instant::now();
        terminal.send(Message::Binary(key.to_vec().into())).map_err(broken)?;
        output(&mut terminal)?;
        let took = begin.elapsed();
        stop::pause(gap);
        let begin = Instant::now();
        let mut echoed = [0; 64];
        let read = bare.write_all(key).and_then(|()| bare.read(&mut echoed));
        let bare_took = begin.elapsed();
        if read.map_err(|e| Failure::io("floor", &e))? == 0 {
            return Err(Failure::new("the floor's terminal ended"));
        }
        if count >= WARM {
            ours.push_ms(took);
            theirs.push_ms(bare_took);
        }
        if key == b"\n" {
            // The line itself comes back from `cat`, at its own time.
            stop::pause(Duration::from_millis(50));
            bare.read(&mut [0; 8192]).map_err(|e| Failure::io("floor", &e))?;
            while output(&mut terminal)? < KEYS_A_LINE as usize - 1 {}
        }
    }
    Ok(Row::new(format!("key and echo, {} ms apart", bench.options.gap_ms), "ms", &ours)
        .beside(FLOOR, &ours, &theirs)
        .goal(Goal::OverFloorAtMost(OVER_FLOOR_MS)))
}

fn flood(bench: &Bench<'_>, herd: &Herd<'_>, id: &str, floor: &StreamFloor, lines: u64) -> Result<Row, Failure> {
    let (mut ours, mut theirs) = (Samples::default(), Samples::default());
    let bytes = bytes_of(lines) + lines;
    for _ in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        let begin = Instant::now();
        // The first line waits for us: without a viewer a terminal waits for nobody.
        let script = format!("read go; exec seq 1 {lines}");
        let mut terminal = open(bench, herd, id, &json!({ "command": "sh", "args": ["-c", script] }))?;
        terminal.send(Message::Binary(b"\n".to_vec().into())).map_err(broken)?;
        let mut count = 0;
        // The echo of our line end is two bytes.
        while count < bytes + 2 {
            count += output(&mut terminal)? as u64;
        }
        ours.push(bytes as f64 / 1e6 / begin.elapsed().as_secs_f64());

        let begin = Instant::now();
        let mut bare = floor.connect(Carry::Terminal)?;
        let (mut count, mut piece) = (0, vec![0; 256 << 10]);
        loop {
            match bare.read(&mut piece).map_err(|e| Failure::io("floor", &e))? {
                0 => break,
                length => count += length as u64,
            }
        }
        if count != bytes {
            return Err(Failure::new(format!("the floor carried {count} bytes instead of {bytes}")));
        }
        theirs.push(bytes as f64 / 1e6 / begin.elapsed().as_secs_f64());
    }
    Ok(Row::new(format!("{:.0} MB through a terminal", bytes as f64 / 1e6), "MB/s", &ours)
        .beside(FLOOR, &ours, &theirs)
        .goal(Goal::RatioAtLeast(0.5)))
}

/// Opens a terminal and becomes its viewer.
fn open(bench: &Bench<'_>, herd: &Herd<'_>, id: &str, body: &Value) -> Result<WebSocket<TcpStream>, Failure> {
    let answer = herd.connect()?.ask("POST", &format!("{}/pty", path(id)), &body.to_string())?;
    let pty: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let pty = pty["id"].as_str().ok_or_else(|| Failure::new(format!("pty: status {}", answer.status)))?.to_owned();
    let target = bench.target;
    let failed = |error| Failure::io("connect a terminal", &error);
    let stream = TcpStream::connect(&target.address).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream.set_read_timeout(Some(Duration::from_millis(WAIT_MS_MAX))).map_err(failed)?;
    let url = format!("ws://{}{}/pty/{pty}", target.address, path(id));
    let mut request = url.into_client_request().map_err(broken)?;
    if let Some(key) = &target.key {
        let value = key.parse().map_err(|_| Failure::new("--api-key: not a header's value"))?;
        request.headers_mut().insert("x-api-key", value);
    }
    let (socket, _) = tungstenite::client(request, stream).map_err(broken)?;
    Ok(socket)
}

/// Bytes of the next output.
fn output(terminal: &mut WebSocket<TcpStream>) -> Result<usize, Failure> {
    loop {
        match terminal.read().map_err(broken)? {
            Message::Binary(bytes) => return Ok(bytes.len()),
            Message::Close(why) => return Err(Failure::new(format!("the terminal was closed: {why:?}"))),
            _ => {}
        }
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("terminal: {error}"))
}
