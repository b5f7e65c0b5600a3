//! The program that runs with privilege and inside sandboxes, in three roles: launcher, agent (PID 1), spawner.

mod filter;
mod sys;

fn main() {}
