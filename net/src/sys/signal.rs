//! Signals as something to wait for: blocked in every thread, taken by sigtimedwait(2) or signalfd(2).
#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::Duration;

fn set_of(signals: &[i32]) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set; sigaddset gets the initialised set and signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}

/// Blocks these signals in this thread and those it starts.
pub fn block(signals: &[i32]) {
    let set = set_of(signals);
    // SAFETY: both pointers are valid or null.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
}

/// Unblocks all signals: for a child before exec.
pub fn unblock_all() {
    let set = set_of(&[]);
    // SAFETY: both pointers are valid or null.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) };
}

/// Waits for one of these blocked signals, at most `timeout`. `None` when none came.
pub fn wait(signals: &[i32], timeout: Duration) -> Option<i32> {
    let set = set_of(signals);
    let limit =
        libc::timespec { tv_sec: timeout.as_secs() as libc::time_t, tv_nsec: timeout.subsec_nanos() as libc::c_long };
    // SAFETY: the set and the time are valid; no information is asked back.
    let signal = unsafe { libc::sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const limit) };
    (signal > 0).then_some(signal)
}

/// A descriptor that is readable while one of these blocked signals is pending.
pub fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: the set is valid; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Takes this signal's default action back from being ignored or handled.
pub fn default_action(signal: i32) {
    // SAFETY: SIG_DFL needs no handler.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
