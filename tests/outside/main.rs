//! Does the built program do what its users see? Each module is one theme, each test starts a server of its own.
//!
//! Nothing of our own code is linked here: only HTTP, the environment, signals and /proc.

#[path = "../kit/mod.rs"]
mod kit;

mod bad_input;
mod config;
mod crash;
mod disk;
mod files;
mod files_bytes;
mod framing;
mod leaks;
mod openapi;
mod pool;
mod rootless;
mod run;
mod run_end;
mod shutdown;
mod spine;
mod storm;
mod stuck;
mod terminal;
mod wire;
mod workload;
