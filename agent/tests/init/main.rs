//! Does the agent hold as PID 1? The built program, in its role `agent`, is spoken to as the server does, over h2.
//!
//! Its surroundings are made by the test as root, without the launcher: a pid namespace, an inner user namespace, a
//! cgroup. Where the test is not root it says `skipped: needs root`.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod client;
mod follower;
mod kit;
mod viewer;

mod crowds;
mod endings;
mod follows;
mod holds;
mod hostile;
mod inputs;
mod load;
mod pty_ends;
mod pty_hostile;
mod pty_keys;
mod pty_viewers;
mod reuse;
mod runs;
mod signals;
mod starts;
