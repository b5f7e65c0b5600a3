//! `WORKSPACE_MCP_MODE=stdio`: finds or starts the server of the data directory, then carries a client's bytes to it.
//!
//! Nothing is ever printed to standard output but the server's messages.

use super::serve::AtEnd;
use crate::stdio;
use std::process::ExitCode;
use workspace_core::config::Config;

/// Serves the client at this program's pipes, until it ends.
pub(super) fn run(config: &Config, at_end: AtEnd) -> Result<ExitCode, String> {
    for warning in &config.warnings {
        eprintln!("workspace-server: {warning}");
    }
    stdio::server(config, at_end).map(stdio::run)
}
