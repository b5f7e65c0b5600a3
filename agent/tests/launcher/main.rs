//! The built program as a launcher, looked at from the host: what a sandbox is made of, and that nothing is left.
//!
//! Needs root; without it each test says so and passes.
#![allow(clippy::unwrap_used)]

#[allow(dead_code)] // the agent's own tests use all of it
#[path = "../init/client.rs"]
mod client;
mod kit;
#[allow(dead_code)]
#[path = "../init/viewer.rs"]
mod viewer;

mod ends;
mod hosts;
mod made;
mod terminals;

use kit::{DataDir, Launcher, names, processes_of};

/// Nothing of a data directory is left on the machine but its own empty directories.
fn assert_nothing_is_left(data: &DataDir) {
    assert_eq!(names(&data.path.join("run")), [""; 0]);
    assert_eq!(names(&data.path.join("sandboxes")), [""; 0]);
    assert_eq!(processes_of(data), [0_u32; 0]);
    Launcher::sweep(data);
    assert!(data.cgroups().is_empty(), "{:?}", data.cgroups());
}
