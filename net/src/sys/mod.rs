//! The system calls that no safe wrapper covers: a family a file.

pub(crate) mod idmap;
pub(crate) mod namespaces;
pub(crate) mod uring;
