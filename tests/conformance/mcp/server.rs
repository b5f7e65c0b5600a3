//! The server with the endpoint that the official MCP suite is run on: built with the feature `mcp-conformance`, by the
//! test of that suite alone, under a name of its own so that the other tests keep their program.

use std::process::ExitCode;
use workspace_server::command::serve::{self, AtEnd};
use workspace_server::stdio::Lasts;

fn main() -> ExitCode {
    serve::run(AtEnd::Delete, Lasts::UntilStopped)
}
