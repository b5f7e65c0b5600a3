//! What the program can be asked to do: a module per command.

pub mod doctor;
mod nfs_listener;
pub mod serve;
mod stdio;
