//! The process above all others: prepares the data directory, keeps launcher and server running as one unit, and ends
//! them. It reads no network, has one thread and no ring.
//!
//! ```text
//! supervisor ─┬─ launcher   privileged, no network, no secret
//!             └─ server     network, no privilege; forked, confined (confine.rs), then serves
//! ```
//! Either may die at any time: the other is ended and both start again after a back-off. Sandboxes live on meanwhile.

mod blocks;
mod confine;
mod data_dir;
mod delegation;
mod identity;
mod idmapped;
mod rejoin;
mod unit;

pub use confine::DATA_DIR;
pub use data_dir::{DataDir, Unheld};
pub use identity::{Identities, establish};

use crate::sys::{fork, signal};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use unit::{Parts, Unit};

/// How long the server may take to drain and the unit to end, in milliseconds.
const DRAIN_MS_MAX: u64 = 10_000;
const END_MS_MAX: u64 = 2_000;
/// Back-off between restarts of the unit, in milliseconds.
const BACKOFF_MS_MIN: u64 = 100;
const BACKOFF_MS_MAX: u64 = 5_000;
/// A unit that ran this long was well: the back-off starts anew.
const WELL_MS: u64 = 10_000;
/// After so many starts in a row that never came to serve, the service ends: somebody must look.
const FAILED_STARTS_MAX: u32 = 5;
/// A server that ends with this code said why itself, and starting it again would not help.
pub const EXIT_FATAL: i32 = 2;
/// A server that ends with this code was started for clients that have gone: the service ends with it.
pub const EXIT_UNUSED: i32 = 3;

const SIGNALS: [i32; 4] = [libc::SIGCHLD, libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Runs units until told to stop. `serve` is what the server process does with its sockets to the launcher.
pub fn run(
    data_dir: &DataDir,
    ids: &Identities,
    shard_count: usize,
    serve: impl Fn(Vec<OwnedFd>, io::PipeWriter) -> i32,
) -> Result<ExitCode, String> {
    signal::block(&SIGNALS);
    let agent = unit::agent_memfd().map_err(|e| format!("the agent could not be put into memory: {e}"))?;
    let parts = Parts { agent, data_dir, ids, shard_count };
    let mut backoff_ms = BACKOFF_MS_MIN;
    let mut failed_starts = 0;
    loop {
        let started = Instant::now();
        let (unit, mut served) =
            unit::start(&parts, &serve).map_err(|e| format!("the server could not be started: {e}"))?;
        match watch(unit) {
            Outcome::Stopped(code) => {
                if let Err(error) = unit::sweep(&parts) {
                    tracing::warn!(%error, "empty control groups were not removed");
                }
                return Ok(ExitCode::from(code));
            }
            Outcome::Died(what) => {
                if started.elapsed() > Duration::from_millis(WELL_MS) {
                    backoff_ms = BACKOFF_MS_MIN;
                }
                // Both have ended, so this reads the byte or the end.
                let well = served.read(&mut [0]).is_ok_and(|bytes| bytes == 1);
                failed_starts = if well { 0 } else { failed_starts + 1 };
                if failed_starts >= FAILED_STARTS_MAX {
                    return Err(format!(
                        "launcher and server ended {FAILED_STARTS_MAX} times right after their start; the lines above say why, and `workspace-server doctor` may know the remedy"
                    ));
                }
                tracing::warn!(what, backoff_ms, "starting launcher and server again; sandboxes live on");
                if signal::wait(&[libc::SIGINT, libc::SIGTERM], Duration::from_millis(backoff_ms)).is_some() {
                    return Ok(ExitCode::SUCCESS);
                }
                backoff_ms = (backoff_ms * 2).min(BACKOFF_MS_MAX);
            }
        }
    }
}

enum Outcome {
    Stopped(u8),
    Died(&'static str),
}

/// Waits for a signal or for the end of one of the two; ends what is left of the unit.
fn watch(unit: Unit) -> Outcome {
    loop {
        match signal::wait(&SIGNALS, Duration::from_secs(3600)) {
            Some(libc::SIGINT | libc::SIGTERM | libc::SIGHUP) => {
                fork::kill(unit.server, libc::SIGTERM);
                let code = wait_for(unit.server, DRAIN_MS_MAX + END_MS_MAX);
                end(unit);
                return Outcome::Stopped(u8::from(code != Some(0)));
            }
            _ => {
                // As PID 1 of a container this reaps strangers too.
                while let Some((pid, status)) = fork::reap() {
                    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
                    if pid == unit.server && matches!(code, Some(EXIT_FATAL | EXIT_UNUSED)) {
                        end(unit);
                        return Outcome::Stopped(u8::from(code != Some(EXIT_UNUSED)));
                    }
                    if pid == unit.server || pid == unit.launcher {
                        end(unit);
                        return Outcome::Died(if pid == unit.server { "server" } else { "launcher" });
                    }
                }
            }
        }
    }
}

/// The exit code of this child, or `None` when it did not end in time or not by itself.
fn wait_for(pid: i32, limit_ms: u64) -> Option<i32> {
    let deadline = Instant::now() + Duration::from_millis(limit_ms);
    while Instant::now() < deadline {
        while let Some((ended, status)) = fork::reap() {
            if ended == pid {
                return libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
            }
        }
        // A second signal from an impatient user cuts the drain short.
        if let Some(libc::SIGINT | libc::SIGTERM) = signal::wait(&SIGNALS, Duration::from_millis(200)) {
            return None;
        }
    }
    None
}

/// Ends what is left of a unit. Without the server's sockets the launcher ends by itself, once it has removed its own
/// empty cgroups; it gets a moment for that.
fn end(unit: Unit) {
    fork::kill(unit.server, libc::SIGKILL);
    let deadline = Instant::now() + Duration::from_millis(END_MS_MAX);
    while Instant::now() < deadline {
        while fork::reap().is_some() {}
        if !alive(unit.server) && !alive(unit.launcher) {
            return;
        }
        signal::wait(&[libc::SIGCHLD], Duration::from_millis(50));
    }
    fork::kill(unit.launcher, libc::SIGKILL);
}

fn alive(pid: i32) -> bool {
    rustix::process::Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}
