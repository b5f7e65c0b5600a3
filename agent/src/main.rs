//! The program that runs with privilege and inside sandboxes, in three roles: launcher, agent (PID 1), spawner.
//!
//! The first argument names the role; the spawner is a fork of the agent. Both roles are started with an empty
//! environment and fixed descriptors, which `proto/launcher.proto` lists.

mod filter;
mod init;
mod launcher;
mod spawner;
mod sys;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args_os().nth(1).as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("launcher") => launcher::run(),
        Some("agent") => init::run(),
        Some("--version") => {
            println!("workspace-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("workspace-agent is started by workspace-server");
            ExitCode::from(2)
        }
    }
}
