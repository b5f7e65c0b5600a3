//! The program that runs with privilege and inside sandboxes, in four roles: launcher, agent (PID 1), spawner,
//! and worker on files.
//!
//! The first argument names the role; the spawner is a fork of the agent. Launcher and agent are started with an empty
//! environment and fixed descriptors, which `proto/launcher.proto` lists. `sweep` ends by itself: it removes what a
//! launcher without power over files can't.

mod files;
mod filter;
#[cfg(test)]
#[path = "../../tests/fuzz/run.rs"]
mod fuzz;
mod init;
mod launcher;
mod spawner;
mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match arguments.as_slice() {
        ["launcher"] => launcher::run(),
        ["agent"] => init::run(),
        ["files"] => files::run(),
        ["sweep", hash] => launcher::sweep(hash),
        ["--version"] => {
            println!("workspace-agent {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("workspace-agent is started by workspace-server");
            ExitCode::from(2)
        }
    }
}
