//! What does a process of ours do with signals? The spawner has every handler at its default and all signals blocked,
//! so that its children start from a clean slate and nobody inside can end it by anything but SIGKILL.
//!
//! rt_sigprocmask(2), sigaction(2). Raw masks of 64 bits: the C library hides two signals.
#![allow(unsafe_code)]

use rustix::io::Errno;

/// Bytes of the kernel's signal mask on x86_64 and aarch64.
const MASK_BYTES: usize = 8;
const SIGNAL_MAX: i32 = 64;
/// handler, flags, restorer (not on aarch64), mask.
const ACTION_WORDS: usize = 4;

/// Sets the whole mask of this thread. Bit `n - 1` blocks signal `n`.
pub(crate) fn set_mask(mask: u64) -> Result<(), Errno> {
    // SAFETY: `mask` is 8 readable bytes, as said in the last argument; no old mask is asked for.
    let result =
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, 0usize, MASK_BYTES) };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Every handler and every "ignore" back to the default. Ignored signals would survive the exec of a command.
pub(crate) fn reset_handlers() {
    for signal in 1..=SIGNAL_MAX {
        let default = [0u64; ACTION_WORDS];
        // SAFETY: the kernel's sigaction is at most this long and all zero: SIG_DFL, no flags, no restorer, empty mask.
        // The raw call, because the C library refuses 32 and 33; SIGKILL and SIGSTOP are refused by the kernel.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), MASK_BYTES);
        }
    }
}

/// `errno` of the C library's last failed call in this thread.
pub(crate) fn last_errno() -> Errno {
    // SAFETY: the location is valid for the life of the thread.
    Errno::from_raw_os_error(unsafe { *libc::__errno_location() })
}
