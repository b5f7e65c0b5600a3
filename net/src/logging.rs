//! The log: text on a terminal, one JSON object a line elsewhere. No secret and no content is ever given to it.

use std::io::IsTerminal;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// Starts it once for the program. `filter` is `level` or `target=level`, with commas.
pub fn start(filter: &str) -> Result<(), String> {
    let targets: Targets = match filter.parse() {
        Ok(targets) => targets,
        Err(_) => {
            return Err(format!(
                "RUST_LOG={filter}: allowed are off, error, warn, info, debug, trace, or target=level with commas"
            ));
        }
    };
    let targets = targets.with_target("monoio", LevelFilter::WARN);
    let terminal = std::io::stderr().is_terminal();
    let layer = if terminal {
        fmt::layer().with_writer(std::io::stderr).with_target(false).with_filter(targets).boxed()
    } else {
        fmt::layer()
            .json()
            .flatten_event(true)
            .with_target(false)
            .with_writer(std::io::stderr)
            .with_filter(targets)
            .boxed()
    };
    registry().with(layer).try_init().map_err(|error| format!("the log could not be started: {error}"))
}
