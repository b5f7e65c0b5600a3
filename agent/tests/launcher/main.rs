//! The built program as a launcher, looked at from the host: what a sandbox is made of, and that nothing is left.
//!
//! Needs root; without it each test says so and passes.
#![allow(clippy::unwrap_used)]

mod kit;

mod ends;
mod hosts;
mod made;

use kit::{DataDir, Launcher, names, processes_of};

/// Nothing of a data directory is left on the machine but its own empty directories.
fn assert_nothing_is_left(data: &DataDir) {
    assert_eq!(names(&data.path.join("run")), [""; 0]);
    assert_eq!(names(&data.path.join("sandboxes")), [""; 0]);
    assert_eq!(processes_of(data), [0_u32; 0]);
    Launcher::sweep(data);
    assert!(data.cgroups().is_empty(), "{:?}", data.cgroups());
}
