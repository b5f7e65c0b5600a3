//! Which process was made last? One number in memory that agent and spawner share, so that the agent finds its child
//! even when the spawner is killed before it could tell.
//!
//! ```text
//! 0 nothing ── spawner, before clone ──► -1 unclear ── child, as its first act ──► its pid ── agent: take ──► 0
//! ```
//! Not CLONE_PARENT_SETTID: musl's clone refuses it. mmap(2), MAP_SHARED.
#![allow(unsafe_code)]

use super::disposition::last_errno;
use rustix::io::Errno;
use std::ptr;
use std::sync::atomic::{AtomicI32, Ordering};

const NOTHING: i32 = 0;
const UNCLEAR: i32 = -1;

/// What is known of the newest process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// None was made.
    Nothing,
    /// It may have been made and not have said so yet.
    Unclear,
    /// Its pid.
    Pid(i32),
}

/// The shared number.
pub(crate) struct Newest {
    place: *const AtomicI32,
}

impl Newest {
    /// Maps it. What is forked afterwards shares it; exec drops it.
    pub(crate) fn new() -> Result<Newest, Errno> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice, never unmapped.
        let place = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), size_of::<i32>(), libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if place == libc::MAP_FAILED { Err(last_errno()) } else { Ok(Newest { place: place.cast() }) }
    }

    fn number(&self) -> &AtomicI32 {
        // SAFETY: zeroed by the kernel, aligned to a page, mapped for the whole life of the process, and accessed as an
        // atomic by everybody.
        unsafe { &*self.place }
    }

    /// The spawner is about to clone.
    pub(crate) fn begin(&self) {
        self.number().store(UNCLEAR, Ordering::Release);
    }

    /// The clone failed.
    pub(crate) fn none(&self) {
        self.number().store(NOTHING, Ordering::Release);
    }

    /// The child's first act. One system call, no allocation, no lock.
    pub(crate) fn tell(&self) {
        self.number().store(rustix::process::getpid().as_raw_nonzero().get(), Ordering::Release);
    }

    /// What is known.
    pub(crate) fn look(&self) -> Told {
        match self.number().load(Ordering::Acquire) {
            NOTHING => Told::Nothing,
            UNCLEAR => Told::Unclear,
            pid => Told::Pid(pid),
        }
    }
}
