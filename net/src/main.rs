//! The server's program: picks a command.

fn main() {}
