//! Which tests may run at the same time: most side by side, heavy ones one at a time, a few alone.
//!
//! A test takes its turn before it starts a server; a server started without one takes a shared turn for its life.
//! A thread that holds a turn gets further shared turns at once, so two servers in one test are no deadlock.

use std::collections::HashMap;
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard};
use std::thread::{self, ThreadId};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Shared,
    Heavy,
    Alone,
}

#[derive(Default)]
struct Gate {
    holders: HashMap<ThreadId, usize>,
    heavy: bool,
    alone: bool,
    alone_waiting: usize,
}

static GATE: LazyLock<(Mutex<Gate>, Condvar)> = LazyLock::new(Default::default);

/// The right to run now; given back on drop.
pub(crate) struct Turn {
    thread: ThreadId,
    kind: Kind,
}

/// Beside all others but those that must be alone.
pub(crate) fn shared() -> Turn {
    take(Kind::Shared)
}

/// Beside shared ones, but only one heavy test at a time.
pub(crate) fn heavy() -> Turn {
    take(Kind::Heavy)
}

/// With no other test running: it counts what the whole host has, or loads both cores fully.
pub(crate) fn alone() -> Turn {
    take(Kind::Alone)
}

fn lock() -> MutexGuard<'static, Gate> {
    GATE.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn take(kind: Kind) -> Turn {
    let thread = thread::current().id();
    let mut gate = lock();
    if gate.holders.contains_key(&thread) {
        assert!(kind == Kind::Shared, "take a heavy or lone turn before anything else");
    } else {
        if kind == Kind::Alone {
            gate.alone_waiting += 1;
        }
        while !gate.admits(kind) {
            gate = GATE.1.wait(gate).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        match kind {
            Kind::Shared => {}
            Kind::Heavy => gate.heavy = true,
            Kind::Alone => {
                gate.alone = true;
                gate.alone_waiting -= 1;
            }
        }
    }
    *gate.holders.entry(thread).or_default() += 1;
    Turn { thread, kind }
}

impl Gate {
    fn admits(&self, kind: Kind) -> bool {
        match kind {
            Kind::Alone => self.holders.is_empty(),
            Kind::Heavy => !self.alone && self.alone_waiting == 0 && !self.heavy,
            Kind::Shared => !self.alone && self.alone_waiting == 0,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut gate = lock();
        if let Some(count) = gate.holders.get_mut(&self.thread) {
            *count -= 1;
            if *count == 0 {
                gate.holders.remove(&self.thread);
            }
        }
        match self.kind {
            Kind::Shared => {}
            Kind::Heavy => gate.heavy = false,
            Kind::Alone => gate.alone = false,
        }
        GATE.1.notify_all();
    }
}
