//! The server's program: picks a command.

use std::process::ExitCode;
use workspace_server::command::doctor;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("doctor") => doctor::run(args.next().is_some_and(|a| a == "--json")),
        Some("__probe") => doctor::probe(&args.next().unwrap_or_default()),
        _ => ExitCode::SUCCESS,
    }
}
