//! Gives back memory that was needed for a while: a crowd of streams leaves tens of MiB of free heap behind.
//!
//! Looked at seldom, by what the kernel counts, and only after the process has grown: a server at rest does nothing. What
//! was in use at one look may be free at the next, which the kernel does not count: so a process that is still larger than
//! it was gives back again, ever more seldom.

use crate::sys::heap::give_back;
use std::thread;
use std::time::Duration;

const LOOK: Duration = Duration::from_secs(10);
/// Beyond what was left when it was last given back.
const GROWN_BYTES_MIN: u64 = 4 << 20;
/// Looks between two times that a large process which does not grow gives back.
const GAP_LOOKS_MAX: u32 = 16;
/// Of one page: x86_64, and aarch64 as all distributions but few have it; elsewhere it looks a little later.
const PAGE_BYTES: u64 = 4096;

/// Starts the thread; it ends with the process.
pub(crate) fn start() -> std::io::Result<()> {
    let watch = || {
        let mut pace = Pace::new(resident_bytes());
        loop {
            thread::sleep(LOOK);
            if pace.is_due(resident_bytes()) {
                give_back();
                pace.gave_back(resident_bytes());
            }
        }
    };
    thread::Builder::new().name("heap".to_owned()).stack_size(64 << 10).spawn(watch).map(drop)
}

/// When is it worth it?
struct Pace {
    /// Resident when it was last given back, or less by now.
    left_bytes: u64,
    /// The least that ever was resident.
    least_bytes: u64,
    gap_looks: u32,
    /// Since it was last given back.
    looks: u32,
}

impl Pace {
    fn new(resident_bytes: u64) -> Pace {
        Pace { left_bytes: resident_bytes, least_bytes: resident_bytes, gap_looks: 1, looks: 0 }
    }

    /// Asked at each look.
    fn is_due(&mut self, resident_bytes: u64) -> bool {
        self.least_bytes = self.least_bytes.min(resident_bytes);
        self.looks = self.looks.saturating_add(1);
        if resident_bytes >= self.left_bytes + GROWN_BYTES_MIN {
            self.gap_looks = 1;
            return true;
        }
        self.left_bytes = self.left_bytes.min(resident_bytes);
        if resident_bytes >= self.least_bytes + GROWN_BYTES_MIN && self.looks >= self.gap_looks {
            self.gap_looks = (self.gap_looks * 2).min(GAP_LOOKS_MAX);
            return true;
        }
        false
    }

    fn gave_back(&mut self, left_bytes: u64) {
        self.left_bytes = left_bytes;
        self.looks = 0;
    }
}

/// The second field of /proc/self/statm; 0 where it can't be read, and nothing is ever given back.
fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_ascii_whitespace().nth(1).and_then(|field| field.parse().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Says at which of so many looks it was due, where nothing that it does changes what is resident.
    fn due(pace: &mut Pace, looks: usize, resident_bytes: u64) -> Vec<usize> {
        let mut due = Vec::new();
        for look in 1..=looks {
            if pace.is_due(resident_bytes) {
                pace.gave_back(resident_bytes);
                due.push(look);
            }
        }
        due
    }

    #[test]
    fn a_server_at_rest_does_nothing() {
        assert_eq!(due(&mut Pace::new(20 * MIB), 1000, 23 * MIB), [0; 0]);
    }

    /// Once it looked in the middle of a crowd, took what was in use for what stays, and never looked again.
    #[test]
    fn what_was_in_use_at_the_first_look_is_given_back_later() {
        let mut pace = Pace::new(20 * MIB);
        assert_eq!(due(&mut pace, 64, 60 * MIB), [1, 2, 4, 8, 16, 32, 48, 64]);
        // Something of it came back: the rest is small enough.
        assert!(pace.is_due(64 * MIB));
        pace.gave_back(22 * MIB);
        assert_eq!(due(&mut pace, 1000, 22 * MIB), [0; 0]);
    }

    #[test]
    fn who_grows_gives_back_at_the_next_look() {
        let mut pace = Pace::new(20 * MIB);
        due(&mut pace, 100, 60 * MIB);
        for resident in [64, 68, 72] {
            assert_eq!(due(&mut pace, 1, resident * MIB), [1]);
        }
    }
}
