//! What the program can be asked to do: a file per command.

pub mod serve;
