//! Measures the server beside its floors, in one run.

fn main() {}
