//! The kernel boundary of the server's program: what rustix has no safe call for. A call family a file.

pub(crate) mod borrow;
pub mod fork;
pub(crate) mod idmap;
pub(crate) mod namespaces;
pub mod signal;
pub(crate) mod tcp;
pub(crate) mod uring;
