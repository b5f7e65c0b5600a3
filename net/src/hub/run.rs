//! One command's stream: started, output, exited, in that order; anything else is the agent's nonsense.

use super::call::{Messages, lost, nonsense, open_stream, within};
use super::process::ending_from_wire;
use bytes::Bytes;
use h2::client::SendRequest;
use std::cell::Cell;
use workspace_core::process::{Ending, ExitReason, Finished};
use workspace_core::{Error, Reason};
use workspace_proto::agent::{Exited, RunEvent, RunRequest, run_event::Event};
use workspace_proto::{TIMEOUT_GRACE_MS, method};

/// What a lost sandbox leaves as exit code: as if killed, never a made-up success.
const LOST_EXIT_CODE: i32 = 128 + 9;

/// From here on a timeout is longer than any timer is set for; the agent keeps it.
const UNLIMITED_MS_MIN: u64 = 1 << 34;

/// Output that one core may hold of commands that still run, in bytes. Each of them has its own bound, but not their sum.
const HELD_BYTES_MAX: usize = 512 << 20;

thread_local! {
    static HELD_BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Runs a command and collects its output. Dropping the future resets the stream, which kills the command's tree.
/// The agent has `patience_ms` to start it, and as much beyond the command's own timeout to tell its end: an agent
/// that hangs holds nobody for longer.
pub(super) async fn run(
    requests: SendRequest<Bytes>,
    request: RunRequest,
    patience_ms: u64,
) -> Result<Finished, Error> {
    let collected = Collected::new(request.output_bytes_max);
    let limit_ms = match request.timeout_ms {
        0 | UNLIMITED_MS_MIN.. => None,
        timeout_ms => Some(timeout_ms.saturating_add(TIMEOUT_GRACE_MS).saturating_add(patience_ms)),
    };
    let call = async {
        let started = async { open_stream(requests, method::RUN, &request).await?.await.map_err(lost) };
        let response = within(patience_ms, started).await?;
        drop(request);
        collect(Messages::new(method::RUN, response)?, collected).await
    };
    match limit_ms {
        Some(limit_ms) => within(limit_ms, call).await,
        None => call.await,
    }
}

async fn collect(mut messages: Messages<RunEvent>, mut collected: Collected) -> Result<Finished, Error> {
    loop {
        match messages.next().await {
            Ok(Some(message)) => collected.take(message)?,
            Ok(None) => return collected.finished(),
            Err(error) if error.reason == Reason::AgentNotConnected && collected.started => return Ok(collected.lost()),
            Err(error) => return Err(error),
        }
    }
}

/// Counts output in, or refuses it.
fn hold(bytes: usize) -> Result<(), Error> {
    let held = HELD_BYTES.get() + bytes;
    if held > HELD_BYTES_MAX {
        return Err(Error::new(
            Reason::Overloaded,
            "the server holds as much output of running commands as it may; try again, or ask for less by max_output_bytes",
        ));
    }
    HELD_BYTES.set(held);
    Ok(())
}

fn release(bytes: usize) {
    HELD_BYTES.set(HELD_BYTES.get() - bytes);
}

struct Collected {
    output_bytes_max: u64,
    started: bool,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exited: Option<Exited>,
}

impl Collected {
    fn new(output_bytes_max: u64) -> Collected {
        Collected { output_bytes_max, started: false, stdout: Vec::new(), stderr: Vec::new(), exited: None }
    }

    fn take(&mut self, message: RunEvent) -> Result<(), Error> {
        if self.exited.is_some() {
            return Err(nonsense("an event after the exit"));
        }
        match message.event {
            Some(Event::Started(_)) if !self.started => self.started = true,
            Some(Event::Stdout(bytes)) if self.started && self.fits(&bytes) => {
                hold(bytes.len())?;
                self.stdout.extend_from_slice(&bytes);
            }
            Some(Event::Stderr(bytes)) if self.started && self.fits(&bytes) => {
                hold(bytes.len())?;
                self.stderr.extend_from_slice(&bytes);
            }
            Some(Event::Exited(exited)) if self.started => self.exited = Some(exited),
            _ => return Err(nonsense("an event out of order or over the output limit")),
        }
        Ok(())
    }

    fn fits(&self, bytes: &Bytes) -> bool {
        (self.stdout.len() + self.stderr.len() + bytes.len()) as u64 <= self.output_bytes_max
    }

    /// What was collected; from now on it counts as the caller's.
    fn output(&mut self) -> (Vec<u8>, Vec<u8>) {
        let output = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        release(output.0.len() + output.1.len());
        output
    }

    fn lost(mut self) -> Finished {
        let (stdout, stderr) = self.output();
        let ending = Ending {
            exit_code: LOST_EXIT_CODE,
            signal: None,
            reason: ExitReason::SandboxLost,
            truncated: false,
            duration_us: 0,
        };
        Finished { ending, stdout, stderr }
    }

    fn finished(mut self) -> Result<Finished, Error> {
        let exited = self.exited.take().ok_or_else(|| nonsense("a stream without an exit"))?;
        let ending = ending_from_wire(&exited)?;
        let (stdout, stderr) = self.output();
        Ok(Finished { ending, stdout, stderr })
    }
}

impl Drop for Collected {
    fn drop(&mut self) {
        release(self.stdout.len() + self.stderr.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdout(bytes: usize) -> RunEvent {
        RunEvent { event: Some(Event::Stdout(Bytes::from(vec![0; bytes]))) }
    }

    fn started() -> Collected {
        let mut collected = Collected::new(u64::MAX);
        collected.take(RunEvent { event: Some(Event::Started(Default::default())) }).unwrap();
        collected
    }

    #[test]
    fn the_sum_of_all_output_is_bounded_and_given_back() {
        let (mut one, mut two) = (started(), started());
        HELD_BYTES.set(HELD_BYTES_MAX - 100);
        one.take(stdout(60)).unwrap();
        assert_eq!(two.take(stdout(60)).unwrap_err().reason, Reason::Overloaded);
        drop(one);
        two.take(stdout(60)).unwrap();
        assert_eq!(two.lost().stdout.len(), 60);
        assert_eq!(HELD_BYTES.get(), HELD_BYTES_MAX - 100);
    }

    #[test]
    fn events_out_of_order_are_nonsense() {
        let mut early = Collected::new(10);
        assert_eq!(early.take(stdout(1)).unwrap_err().reason, Reason::AgentError);
        let mut over = started();
        over.output_bytes_max = 10;
        assert_eq!(over.take(stdout(11)).unwrap_err().reason, Reason::AgentError);
        assert!(started().finished().is_err(), "no exit was told");
    }

    /// Whatever an agent sends: no more output than was asked for, an end that exists, and every byte given back.
    fn events(input: &[u8]) {
        let mut decoder = workspace_proto::grpc_frame::Decoder::default();
        decoder.push(input);
        let mut collected = Collected::new(64);
        HELD_BYTES.set(0);
        while let Ok(Some(event)) = decoder.next_message::<RunEvent>() {
            if collected.take(event).is_err() {
                break;
            }
        }
        let held = collected.stdout.len() + collected.stderr.len();
        assert!(held <= 64 && HELD_BYTES.get() == held && (collected.started || held == 0));
        if let Ok(finished) = collected.finished() {
            assert!((0..=255).contains(&finished.ending.exit_code));
            assert!(finished.ending.signal.is_none_or(|signal| (1..=64).contains(&signal)));
            assert_eq!(finished.stdout.len() + finished.stderr.len(), held);
        }
        assert_eq!(HELD_BYTES.get(), 0);
    }

    #[test]
    fn no_events_exceed_what_was_asked_for() {
        use workspace_proto::agent::{ExitReason as Wire, Started};
        use workspace_proto::grpc_frame::encode;
        let event = |event| encode(&RunEvent { event: Some(event) }).to_vec();
        let exited = |exit_code, signal, reason: Wire| {
            event(Event::Exited(Exited { exit_code, signal, reason: reason.into(), truncated: true, duration_us: 5 }))
        };
        let started = event(Event::Started(Started { pid: 7 }));
        let out = |bytes| event(Event::Stdout(Bytes::from(vec![b'x'; bytes])));
        let err = event(Event::Stderr(Bytes::from_static(b"no")));
        let corpus: [&[u8]; 5] = [
            &[&*started, &out(5), &err, &exited(0, 0, Wire::Exited)].concat(),
            &[&*started, &out(60), &out(5)].concat(),
            &[&*started, &exited(143, 15, Wire::Signaled), &out(1)].concat(),
            &[&*started, &exited(-1, 65, Wire::Unspecified)].concat(),
            &[&*out(1), &started, &started].concat(),
        ];
        crate::fuzz::run(events, &corpus);
    }
}
