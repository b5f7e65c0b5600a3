//! How does a process that lives for days give back what one busy second took? By asking the C library.
//!
//! malloc_trim(3), glibc; musl gives whole pages back by itself.
#![allow(unsafe_code)]

/// Returns unused heap to the kernel. Takes each arena's lock for some ms in a large heap.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: may be called at any time from any thread; memory in use is not touched.
    unsafe {
        libc::malloc_trim(0);
    }
}
