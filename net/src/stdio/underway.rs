//! What does one client have under way, and how much may that be? Requests by their ids, each with what ends it.

use rmcp::model::RequestId;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Instant;

/// Requests of one client at once.
pub(super) const REQUESTS_MAX: usize = 256;
/// Of their messages together; one alone may always be.
const MESSAGES_BYTES_MAX: usize = 32 << 20;

/// The requests of one client.
pub(super) struct Underway {
    table: RefCell<HashMap<u64, One>>,
    next: Cell<u64>,
    bytes: Cell<usize>,
    /// When one has begun or ended last.
    moved: Cell<Instant>,
    /// Rung whenever one ends.
    bell: (flume::Sender<()>, flume::Receiver<()>),
}

struct One {
    id: Option<RequestId>,
    cancel: flume::Sender<()>,
    state: State,
}

impl One {
    fn end(&self) {
        // Full: it was told already.
        let _ = self.cancel.try_send(());
    }
}

/// How far a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Works,
    /// Its answer waits to be read.
    Answered,
    /// It goes on until it is cancelled.
    Listens,
}

/// Why there is no place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// One of this id is there.
    Twice,
    /// Too many are.
    Full,
}

/// A request that is under way. Dropping it forgets it.
pub(super) struct Place {
    all: Rc<Underway>,
    key: u64,
    bytes: usize,
    cancelled: flume::Receiver<()>,
}

impl Underway {
    pub(super) fn new() -> Rc<Underway> {
        Rc::new(Underway {
            table: RefCell::default(),
            next: Cell::new(0),
            bytes: Cell::new(0),
            moved: Cell::new(Instant::now()),
            bell: flume::bounded(1),
        })
    }

    /// Takes a place. Several messages at once have no id.
    pub(super) fn enter(self: &Rc<Underway>, id: Option<RequestId>, bytes: usize) -> Result<Place, NoPlace> {
        let mut table = self.table.borrow_mut();
        if id.is_some() && table.values().any(|one| one.id == id) {
            return Err(NoPlace::Twice);
        }
        let is_heavy = self.bytes.get() > 0 && self.bytes.get() + bytes > MESSAGES_BYTES_MAX;
        if table.len() >= REQUESTS_MAX || is_heavy {
            return Err(NoPlace::Full);
        }
        let (cancel, cancelled) = flume::bounded(1);
        let key = self.next.replace(self.next.get() + 1);
        table.insert(key, One { id, cancel, state: State::Works });
        self.bytes.set(self.bytes.get() + bytes);
        self.moved.set(Instant::now());
        Ok(Place { all: self.clone(), key, bytes, cancelled })
    }

    /// When one has begun or ended last.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Ends a request, where it is under way. Its id is free from then on, its place a moment later.
    pub(super) fn cancel(&self, id: &RequestId) {
        let mut table = self.table.borrow_mut();
        if let Some(one) = table.values_mut().find(|one| one.id.as_ref() == Some(id)) {
            one.id = None;
            one.end();
            self.moved.set(Instant::now());
        }
    }

    /// Ends all of them.
    pub(super) fn cancel_all(&self) {
        self.table.borrow().values().for_each(One::end);
    }

    /// Ends those whose answer is not there yet.
    pub(super) fn cancel_working(&self) {
        let table = self.table.borrow();
        table.values().filter(|one| one.state != State::Answered).for_each(One::end);
    }

    /// Returns when one has ended since this was called last.
    pub(super) async fn one_ended(&self) {
        // The sender lives in self.
        let _ = self.bell.1.recv_async().await;
    }

    /// Returns when nothing is under way whose answer is still to come.
    pub(super) async fn answered(&self) {
        while self.table.borrow().values().any(|one| one.state == State::Works) {
            self.one_ended().await;
        }
    }
}

impl Place {
    /// Returns when the request is to end.
    pub(super) async fn cancelled(&self) {
        let _ = self.cancelled.recv_async().await;
    }

    /// Notes that it goes on until it is cancelled.
    pub(super) fn only_listens(&self) {
        self.is_now(State::Listens);
    }

    /// Notes that its answer is there.
    pub(super) fn is_answered(&self) {
        self.is_now(State::Answered);
    }

    fn is_now(&self, state: State) {
        if let Some(one) = self.all.table.borrow_mut().get_mut(&self.key) {
            one.state = state;
        }
        let _ = self.all.bell.0.try_send(());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table.borrow_mut().remove(&self.key);
        self.all.bytes.set(self.all.bytes.get() - self.bytes);
        self.all.moved.set(Instant::now());
        // Full: it was rung already.
        let _ = self.all.bell.0.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn places_are_bounded_by_count_and_by_bytes_and_ids_are_used_once_at_a_time() {
        let all = Underway::new();
        let id = |n| Some(RequestId::Number(n));
        let first = all.enter(id(0), MESSAGES_BYTES_MAX + 1).ok().unwrap();
        assert_eq!(all.enter(id(0), 1).err(), Some(NoPlace::Twice));
        assert_eq!(all.enter(id(1), 1).err(), Some(NoPlace::Full), "too many bytes");
        drop(first);
        let places: Vec<Place> = (0..REQUESTS_MAX as i64).map(|n| all.enter(id(n), 1).ok().unwrap()).collect();
        assert_eq!(all.enter(None, 1).err(), Some(NoPlace::Full));
        drop(places);
        assert_eq!((all.bytes.get(), all.table.borrow().len()), (0, 0));
        assert!(all.enter(id(0), 1).is_ok() && all.answered().now_or_never().is_some());
    }

    #[test]
    fn one_is_cancelled_by_its_id_and_who_only_listens_is_not_waited_for() {
        let all = Underway::new();
        let place = all.enter(Some(RequestId::Number(7)), 1).ok().unwrap();
        all.cancel(&RequestId::Number(8));
        assert!(place.cancelled().now_or_never().is_none() && all.answered().now_or_never().is_none());
        all.cancel(&RequestId::Number(7));
        all.cancel(&RequestId::Number(7));
        assert!(place.cancelled().now_or_never().is_some());
        place.only_listens();
        assert!(all.answered().now_or_never().is_some());
        let other = all.enter(Some(RequestId::Number(9)), 1).ok().unwrap();
        other.is_answered();
        all.cancel_working();
        assert!(place.cancelled().now_or_never().is_some() && other.cancelled().now_or_never().is_none());
    }
}
