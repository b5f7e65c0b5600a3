//! The server's program: picks a command.

use std::process::ExitCode;
use workspace_server::command::doctor;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    match args.next().as_deref().and_then(|a| a.to_str()) {
        Some("doctor") => doctor::run(None, args.next().is_some_and(|a| a == "--json")),
        Some("__probe") => doctor::probe(&args.next().unwrap_or_default()),
        _ => ExitCode::SUCCESS,
    }
}
