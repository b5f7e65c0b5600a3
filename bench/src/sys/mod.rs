//! The system calls that have no safe wrapper: signals and `posix_spawn`.

pub(crate) mod signal;
pub(crate) mod spawn;
