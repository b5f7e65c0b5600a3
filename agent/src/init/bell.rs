//! Who is woken when a command has news? Whoever has listened since the last time; each listener is kept once.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::task::{Context, Waker};

/// Tells all that wait for one thing.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    waiting: RefCell<BTreeMap<u64, Waker>>,
    next: Cell<u64>,
}

/// One that may listen; it is forgotten when it is dropped.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    bell: &'a Bell,
    id: u64,
}

impl Bell {
    /// A new one.
    pub(crate) fn listener(&self) -> Listener<'_> {
        let id = self.next.get();
        self.next.set(id + 1);
        Listener { bell: self, id }
    }

    /// Wakes all that listen, once.
    pub(crate) fn ring(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Listener<'_> {
    /// Wakes this task at the next ring.
    pub(crate) fn listen(&self, cx: &Context<'_>) {
        self.bell.waiting.borrow_mut().insert(self.id, cx.waker().clone());
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.bell.waiting.borrow_mut().remove(&self.id);
    }
}
