//! The one system call that a test needs between fork and exec: a filter that refuses io_uring.
//!
//! It is what Docker's default seccomp profile does to a server in a container: io_uring_setup answers EPERM.

#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Makes the command start with a filter that answers EPERM to io_uring_setup. Needs root: no_new_privs stays off.
pub(crate) fn refuse_io_uring(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes one prctl; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(install) };
}

fn install() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let refused = libc::SYS_io_uring_setup as u32;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program = [
        // The first word of seccomp_data is the system call's number.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter { jf: 1, ..statement(equal, refused) },
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points to a program of `len` instructions that lives until the call returns; the kernel copies it.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
