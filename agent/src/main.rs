//! The program that runs with privilege and inside sandboxes, in three roles: launcher, agent (PID 1), spawner.

mod filter;
mod init;
mod spawner;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1) {
        Some(role) if role == "agent" => init::run(),
        _ => ExitCode::from(2),
    }
}
