//! What does a core's thread wait on? A ring where the machine has io_uring, else epoll; pinned to its core.

use monoio::time::TimeDriver;
use monoio::{FusionRuntime, IoUringDriver, LegacyDriver};

/// Entries of each core's submission queue.
const RING_ENTRIES: u32 = 1024;

type Ring = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// The runtime of this thread.
pub(super) fn ring() -> std::io::Result<Ring> {
    with_taskrun(Taskrun::Cooperative).or_else(|_| with_taskrun(Taskrun::Interrupting))
}

/// How the kernel runs a completion's work on this thread.
enum Taskrun {
    /// At the next system call: no interrupt for each completion (Linux 5.19, io_uring_setup(2)).
    Cooperative,
    /// At once.
    Interrupting,
}

fn with_taskrun(taskrun: Taskrun) -> std::io::Result<Ring> {
    let mut ring = io_uring::IoUring::builder();
    if matches!(taskrun, Taskrun::Cooperative) {
        ring.setup_coop_taskrun();
    }
    let runtime = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().uring_builder(ring);
    runtime.enable_timer().with_entries(RING_ENTRIES).build()
}

/// Keeps this thread on its core.
pub(super) fn pin_to_core(index: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(index);
    // A machine with fewer cores than shards, or a cpuset without this one: then the kernel places it.
    let _ = rustix::thread::sched_setaffinity(None, &set);
}
