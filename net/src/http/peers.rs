//! Who is connected to this core: how many, who idles, and how all of them are told to go.

use monoio::net::TcpStream;
use rustix::net::{Shutdown, shutdown};
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Instant;

/// Connections ended at once for want of descriptors.
const SHED_MAX: usize = 32;

/// One connection.
pub(super) struct Peer {
    pub(super) stream: TcpStream,
    /// Since when nothing is under way on it; `None` while something is.
    pub(super) idle_since: Cell<Option<Instant>>,
}

impl Peer {
    /// Makes reads end once what has arrived is read: a request that raced with this is still answered.
    fn end_reads(&self) {
        // The peer may be gone already, which is as good.
        let _ = shutdown(crate::sys::borrow::borrow(&self.stream), Shutdown::Read);
    }

    fn cut(&self) {
        let _ = shutdown(crate::sys::borrow::borrow(&self.stream), Shutdown::Both);
    }
}

/// All connections of a core.
pub(super) struct Peers {
    slots: RefCell<Vec<Option<Rc<Peer>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    /// Dropped when no connection may outlive its present request.
    serving: RefCell<Option<flume::Sender<Infallible>>>,
    stop: flume::Receiver<Infallible>,
}

impl Default for Peers {
    fn default() -> Peers {
        let (serving, stop) = flume::bounded(1);
        Peers {
            slots: RefCell::default(),
            free: RefCell::default(),
            count: Cell::new(0),
            serving: RefCell::new(Some(serving)),
            stop,
        }
    }
}

impl Peers {
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    /// True once no connection may outlive its present request.
    pub(super) fn stopping(&self) -> bool {
        self.stop.is_disconnected()
    }

    /// Disconnected from then on.
    pub(super) fn stop_told(&self) -> flume::Receiver<Infallible> {
        self.stop.clone()
    }

    /// Adds a connection; the slot must be given back by [`Peers::remove`].
    pub(super) fn add(&self, peer: Rc<Peer>) -> usize {
        self.count.set(self.count.get() + 1);
        let mut slots = self.slots.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(slot) => {
                slots[slot] = Some(peer);
                slot
            }
            None => {
                slots.push(Some(peer));
                slots.len() - 1
            }
        }
    }

    pub(super) fn remove(&self, slot: usize) {
        if self.slots.borrow_mut()[slot].take().is_some() {
            self.free.borrow_mut().push(slot);
            self.count.set(self.count.get() - 1);
        }
    }

    /// Ends the connections that idle longest, for want of descriptors.
    pub(super) fn shed(&self) {
        let slots = self.slots.borrow();
        let mut idle: Vec<(Instant, &Rc<Peer>)> =
            slots.iter().flatten().filter_map(|peer| Some((peer.idle_since.get()?, peer))).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        for (_, peer) in idle.into_iter().take(SHED_MAX) {
            peer.idle_since.set(None);
            peer.end_reads();
        }
    }

    /// Ends the idle ones now and the others after their present request.
    pub(super) fn stop(&self) {
        self.serving.replace(None);
        for peer in self.slots.borrow().iter().flatten().filter(|peer| peer.idle_since.get().is_some()) {
            peer.end_reads();
        }
    }

    /// Ends all of them.
    pub(super) fn cut(&self) {
        self.slots.borrow().iter().flatten().for_each(|peer| peer.cut());
    }
}
