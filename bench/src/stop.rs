//! Has someone asked the bench to stop?
//!
//! SIGINT, SIGTERM and SIGHUP set a flag; every loop looks at it between two measurements, so that sandboxes, server and files are removed in
//! the ordinary way. A second SIGINT ends the bench at once; the server then ends too (it asked the kernel for that).

use crate::failure::Failure;
use crate::sys::signal;
use std::time::{Duration, Instant};

/// How long one sleep may hide a stop.
const SLICE: Duration = Duration::from_millis(50);

/// Begins to watch for the signals.
pub(crate) fn watch() -> Result<(), Failure> {
    signal::watch().map_err(|error| Failure::io("watch for signals", &error))
}

/// True once a signal came.
pub(crate) fn requested() -> bool {
    signal::came()
}

/// Sleeps, but not past a stop.
pub(crate) fn pause(time: Duration) {
    let end = Instant::now() + time;
    while !requested() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(SLICE));
    }
}
