//! The kernel boundary of the server's program: what rustix has no safe call for.

pub mod fork;
pub mod signal;
