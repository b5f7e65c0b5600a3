//! Gives back memory that was needed for a while: a crowd of streams leaves tens of MiB of free heap behind.
//!
//! Looked at seldom, by what the kernel counts, and only after the process has grown: a server at rest does nothing.

use crate::sys::heap::give_back;
use std::thread;
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(10);
/// Beyond what was left when it was last given back.
const GROWN_BYTES_MIN: u64 = 4 << 20;
/// Of one page: x86_64, and aarch64 as all distributions but few have it; elsewhere it looks a little later.
const PAGE_BYTES: u64 = 4096;

/// Starts the thread; it ends with the process.
pub(crate) fn start() -> std::io::Result<()> {
    let watch = || {
        let mut left_bytes = resident_bytes();
        loop {
            thread::sleep(LOOK);
            let now_bytes = resident_bytes();
            if now_bytes >= left_bytes + GROWN_BYTES_MIN {
                give_back();
                left_bytes = resident_bytes();
            }
            left_bytes = left_bytes.min(now_bytes);
        }
    };
    thread::Builder::new().name("heap".to_owned()).stack_size(64 << 10).spawn(watch).map(drop)
}

/// The second field of /proc/self/statm; 0 where it can't be read, and nothing is ever given back.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
