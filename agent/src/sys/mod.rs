//! The only place of this crate with `unsafe`: one family of system calls a file, each with a safe signature.

pub(crate) mod clone;
pub(crate) mod descriptors;
pub(crate) mod loopback;
pub(crate) mod mount;
pub(crate) mod signal;
