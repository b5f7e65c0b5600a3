//! Which system calls need unsafe code? A call family a file; nothing outside this folder is unsafe.

pub(crate) mod descriptors;
pub(crate) mod disposition;
pub(crate) mod seccomp;
pub(crate) mod signal;
pub(crate) mod spawn;
pub(crate) mod watched;
