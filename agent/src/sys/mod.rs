//! Which system calls need unsafe code? A call family a file; nothing outside this folder is unsafe.

pub(crate) mod seccomp;
