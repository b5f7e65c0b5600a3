//! How does a filter come into force? seccomp(2), SECCOMP_SET_MODE_FILTER, kernel 3.17.
#![allow(unsafe_code)]

use std::io;

/// Puts the calling thread, and all it will start, under `program`, for good. `no_new_privs` must be set before.
/// EACCES: it is not set; EINVAL: not a valid program, or this kernel has no filters.
pub(crate) fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let program = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (mode, flags): (libc::c_uint, libc::c_uint) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: the kernel reads `len` instructions from `filter`, which the borrowed slice has, copies them and keeps
    // no pointer; it writes nothing to our memory.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::install;
    use crate::filter::command_program;

    fn errno(answer: libc::c_long) -> i32 {
        if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
    }

    // A filter holds for its thread and what that starts, so a thread of the test is enough.
    #[test]
    fn the_kernel_takes_the_program_and_keeps_to_it() {
        let inside = || {
            rustix::thread::set_no_new_privs(true).unwrap();
            install(&command_program(true)).unwrap();
            // SAFETY: getppid has no argument; the others are refused before the kernel looks at their pointers, which
            // are null.
            let (parent, ring, clone3, namespace) = unsafe {
                (
                    libc::syscall(libc::SYS_getppid),
                    errno(libc::syscall(libc::SYS_io_uring_setup, 8, 0)),
                    errno(libc::syscall(libc::SYS_clone3, 0, 0)),
                    errno(libc::syscall(libc::SYS_unshare, libc::CLONE_NEWUSER)),
                )
            };
            assert!(parent >= 0);
            assert_eq!((ring, clone3, namespace), (libc::EPERM, libc::ENOSYS, libc::EPERM));
            assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
            assert!(std::process::Command::new("/bin/true").status().unwrap().success());
        };
        std::thread::spawn(inside).join().unwrap();
    }

    #[test]
    fn a_program_longer_than_its_length_field_is_not_cut() {
        let too_long = vec![libc::sock_filter { code: 0, jt: 0, jf: 0, k: 0 }; 1 << 16];
        assert_eq!(install(&too_long).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
