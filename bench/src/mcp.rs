//! What does MCP cost over HTTP? `tools/call` of `process_run` beside `process/run` of the same command, in turns.
//!
//! Both go through the same port to the same operation; what differs is the protocol around it. One by one, and with many
//! sessions that call at once, each on a connection of its own.

use crate::Bench;
use crate::api::{Herd, run_true};
use crate::client::Connection;
use crate::compare::{Goal, Row};
use crate::crowd::begin_together;
use crate::failure::Failure;
use crate::spread::Samples;
use crate::stop;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PATH: &str = "/mcp/executor";
const FLOOR: &str = "process/run";
/// What a call may take over the request.
const TIMES_MAX: f64 = 1.3;
/// Before the first measurement.
const WARM: u64 = 5;
/// Calls of a session in a round.
const EACH: u64 = 4;
/// Sessions of one sandbox: fewer than the commands that it runs at once.
const OF_ONE_SANDBOX: u64 = 32;

/// The rows.
pub(crate) fn ask(bench: &Bench<'_>) -> Result<Vec<Row>, Failure> {
    let herd = Herd::new(bench.target);
    let rows = vec![one_by_one(bench, &herd)?, crowd(bench, &herd)?];
    herd.delete_all(bench.options.workers);
    Ok(rows)
}

/// A connection whose session has shaken hands.
fn begin(herd: &Herd<'_>) -> Result<Connection, Failure> {
    let mut connection = herd.connect()?;
    let client = json!({"name": "workspace-bench", "version": "1"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    let hello = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).to_string();
    let answer = connection.ask("POST", PATH, &hello)?;
    let session = answer.field("mcp-session-id").ok_or_else(|| Failure::new("initialize: no session"))?.to_owned();
    connection.with_fields(format!("Mcp-Session-Id: {session}\r\nMCP-Protocol-Version: 2025-11-25\r\n"));
    Ok(connection)
}

fn call_true(connection: &mut Connection, sandbox: &str, id: u64) -> Result<(), Failure> {
    let params = json!({"name": "process_run", "arguments": {"sandbox_id": sandbox, "command": "true"}});
    let call = json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string();
    let answer = connection.ask("POST", PATH, &call)?;
    let message: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, message["result"]["structuredContent"]["exit_code"].as_i64()) {
        (200, Some(0)) => Ok(()),
        (status, _) => Err(Failure::new(format!("tools/call: {status} {message:.300}"))),
    }
}

fn one_by_one(bench: &Bench<'_>, herd: &Herd<'_>) -> Result<Row, Failure> {
    let gap = Duration::from_millis(bench.options.gap_ms);
    let (mut session, mut plain) = (begin(herd)?, herd.connect()?);
    let sandbox = herd.create(&mut plain)?;
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for id in 0..WARM {
        call_true(&mut session, &sandbox, id)?;
        run_true(&mut plain, &sandbox)?;
    }
    for id in 0..bench.options.samples {
        if stop::requested() {
            break;
        }
        stop::pause(gap);
        let start = Instant::now();
        call_true(&mut session, &sandbox, id)?;
        ours.push_ms(start.elapsed());
        stop::pause(gap);
        let start = Instant::now();
        run_true(&mut plain, &sandbox)?;
        floor.push_ms(start.elapsed());
    }
    Ok(Row::new(format!("MCP process_run of `true`, {} ms apart", bench.options.gap_ms), "ms", &ours)
        .beside(FLOOR, &ours, &floor)
        .goal(Goal::RatioAtMost(TIMES_MAX)))
}

fn crowd(bench: &Bench<'_>, herd: &Herd<'_>) -> Result<Row, Failure> {
    let count = bench.options.sessions;
    let mut connection = herd.connect()?;
    let mut sandboxes = Vec::new();
    for _ in 0..count.div_ceil(OF_ONE_SANDBOX) {
        sandboxes.push(herd.create(&mut connection)?);
    }
    let of = |index: u64| sandboxes[index as usize % sandboxes.len()].as_str();
    let (mut ours, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..bench.options.rounds {
        if stop::requested() {
            break;
        }
        let mut items = Vec::new();
        for index in 0..count {
            items.push((begin(herd)?, of(index)));
        }
        begin_together(items, &mut ours, |(mut connection, sandbox), samples| {
            for id in 0..EACH {
                let start = Instant::now();
                call_true(&mut connection, sandbox, id)?;
                samples.push_ms(start.elapsed());
            }
            Ok(())
        })?;
        let mut items = Vec::new();
        for index in 0..count {
            items.push((herd.connect()?, of(index)));
        }
        begin_together(items, &mut floor, |(mut connection, sandbox), samples| {
            for _ in 0..EACH {
                let start = Instant::now();
                run_true(&mut connection, sandbox)?;
                samples.push_ms(start.elapsed());
            }
            Ok(())
        })?;
    }
    Ok(Row::new(format!("the same, {count} sessions at once"), "ms", &ours)
        .beside(FLOOR, &ours, &floor)
        .goal(Goal::RatioAtMost(TIMES_MAX))
        .note(format!("{} sandboxes, {EACH} calls of each session a round", sandboxes.len())))
}
