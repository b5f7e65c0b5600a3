//! How is any signal sent, the real-time ones too? By number: kill(2), to one process.
#![allow(unsafe_code)]

/// The last signal that the kernel knows.
pub(crate) const SIGNAL_MAX: i32 = 64;
pub(crate) const SIGKILL: i32 = libc::SIGKILL;
pub(crate) const SIGTERM: i32 = libc::SIGTERM;

/// Sends `signal` to the process `pid` alone; false: there is none, or we may not. Never to ourselves (1), to a group or
/// to all.
pub(crate) fn send(pid: i32, signal: i32) -> bool {
    if pid <= 1 || !(1..=SIGNAL_MAX).contains(&signal) {
        return false;
    }
    // SAFETY: kill takes two numbers.
    unsafe { libc::kill(pid, signal) == 0 }
}
