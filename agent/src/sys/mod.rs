//! Which system calls need unsafe code? A call family a file; nothing outside this folder is unsafe.

pub(crate) mod clone;
pub(crate) mod disposition;
pub(crate) mod fixed_fds;
pub(crate) mod heap;
pub(crate) mod kill;
pub(crate) mod loopback;
pub(crate) mod mount;
pub(crate) mod newest;
pub(crate) mod pty;
pub(crate) mod seccomp;
pub(crate) mod sigchld;
pub(crate) mod spawn;
pub(crate) mod watched;
