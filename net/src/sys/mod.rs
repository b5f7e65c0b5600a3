//! The kernel boundary of the server's program: what rustix has no safe call for. A call family a file.

pub(crate) mod borrow;
pub mod fork;
pub(crate) mod heap;
pub(crate) mod idmap;
pub(crate) mod namespaces;
pub(crate) mod peer;
pub mod signal;
pub(crate) mod socket;
pub(crate) mod uring;
