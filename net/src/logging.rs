//! The log: text on a terminal, one JSON object a line elsewhere. No secret and no content is ever given to it.
//!
//! It goes to standard error. A server that a client's program started outlives that program and must not hold its
//! standard error, so there it is a file, which begins anew when it is long.

use crate::supervisor::DataDir;
use rustix::fs::{Mode, OFlags, ftruncate, openat};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// The file's name in the data directory.
pub const FILE: &str = "stdio.log";
/// Of the file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Makes standard error a file in the data directory, empty at first, and starts the log there.
pub fn start_in_file(data_dir: &DataDir, filter: &str) -> Result<(), String> {
    let failed = |error: rustix::io::Errno| format!("{}/{FILE}: {error}", data_dir.path.display());
    // Not one that somebody else has put there, and not through a link.
    data_dir.withdraw(FILE)?;
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = openat(&data_dir.fd, FILE, flags, Mode::from_raw_mode(0o600)).map_err(failed)?;
    rustix::stdio::dup2_stderr(&file).map_err(failed)?;
    start_with(filter, || Bounded)
}

static WRITTEN_BYTES: AtomicU64 = AtomicU64::new(0);

/// Standard error, which is cut to nothing when it is a file that has grown too long.
struct Bounded;

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if WRITTEN_BYTES.fetch_add(length, Ordering::Relaxed) + length > FILE_BYTES_MAX {
            WRITTEN_BYTES.store(length, Ordering::Relaxed);
            // EINVAL of what is no file.
            let _ = ftruncate(rustix::stdio::stderr(), 0);
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Starts it once for the program. `filter` is `level` or `target=level`, with commas.
pub fn start(filter: &str) -> Result<(), String> {
    start_with(filter, io::stderr)
}

fn start_with<W>(filter: &str, writer: W) -> Result<(), String>
where
    W: for<'a> fmt::MakeWriter<'a> + Send + Sync + 'static,
{
    let targets: Targets = match filter.parse() {
        Ok(targets) => targets,
        Err(_) => {
            return Err(format!(
                "RUST_LOG={filter}: allowed are off, error, warn, info, debug, trace, or target=level with commas"
            ));
        }
    };
    let targets = targets.with_target("monoio", LevelFilter::WARN);
    let terminal = io::stderr().is_terminal();
    let layer = if terminal {
        fmt::layer().with_writer(writer).with_target(false).with_filter(targets).boxed()
    } else {
        fmt::layer().json().flatten_event(true).with_target(false).with_writer(writer).with_filter(targets).boxed()
    };
    registry().with(layer).try_init().map_err(|error| format!("the log could not be started: {error}"))
}
