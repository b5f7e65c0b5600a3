//! How does a signal become a flag, and how does a server end with the bench that started it?
//!
//! signal(7), sigaction(2), PR_SET_PDEATHSIG (2const).
#![allow(unsafe_code)]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

/// SIGINT, SIGTERM and SIGHUP set the flag once; the next one has its default effect.
pub(crate) fn watch() -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: all-zero is a valid sigaction (empty mask, no flags); the handler only stores to an atomic, which is async-signal-safe; the
        // old action is not asked for, so its pointer may be null.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = note as *const () as usize;
            action.sa_flags = libc::SA_RESETHAND | libc::SA_RESTART;
            libc::sigaction(signal, &action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// True once a signal came.
pub(crate) fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// The command gets SIGTERM when the thread that starts it ends, so that a killed bench leaves no server.
pub(crate) fn end_with_us(command: &mut Command) {
    // SAFETY: between fork and exec the closure only makes one prctl call, which neither allocates nor locks.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}
