//! What is told to a session's client without being asked: messages that wait for the one stream that carries them.
//!
//! Whoever tells and whoever carries may be on any two cores. What waits is bounded, and what does not fit is refused,
//! so that who tells knows. A stream that begins ends the one before it: a client that comes back must not wait until
//! the server has noticed that its old connection is dead. What was on its way on a connection that broke is lost.

use super::engine::Messages;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Messages that wait, of one session.
const WAITING_MAX: usize = 256;
/// Of what waits, of all sessions together.
const WAITING_ALL_BYTES_MAX: usize = 64 << 20;

/// The messages that wait.
#[derive(Debug)]
pub(super) struct Outbox {
    state: Mutex<State>,
    all_bytes: Arc<AtomicUsize>,
    ended: flume::Receiver<Infallible>,
}

#[derive(Debug)]
struct State {
    waiting: VecDeque<Vec<u8>>,
    /// Of the stream that carries them. Dropped, it ends.
    bell: Option<flume::Sender<()>>,
    /// Dropped with the session.
    alive: Option<flume::Sender<Infallible>>,
}

impl Outbox {
    /// An empty one; `all_bytes` counts what waits in all of them.
    pub(super) fn new(all_bytes: Arc<AtomicUsize>) -> Arc<Outbox> {
        let (alive, ended) = flume::bounded(1);
        let state = State { waiting: VecDeque::new(), bell: None, alive: Some(alive) };
        Arc::new(Outbox { state: Mutex::new(state), all_bytes, ended })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a message, unless the same one waits already, which says no more when it is said twice; false where too much
    /// waits, or the session has ended.
    pub(super) fn tell_once(&self, message: Vec<u8>) -> bool {
        let mut state = self.state();
        if state.waiting.contains(&message) {
            return true;
        }
        let bytes = message.len();
        if state.alive.is_none() || state.waiting.len() >= WAITING_MAX {
            return false;
        }
        if self.all_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > WAITING_ALL_BYTES_MAX {
            self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        state.waiting.push_back(message);
        // Full: it was rung already.
        state.bell.as_ref().map(|bell| bell.try_send(()));
        true
    }

    /// Begins a stream of what waits and of what will come; ends the one before it. `None`: the session has ended.
    pub(super) fn listen(self: &Arc<Outbox>) -> Option<Listener> {
        let mut state = self.state();
        state.alive.as_ref()?;
        let (bell, rung) = flume::bounded(1);
        state.bell = Some(bell);
        Some(Listener { outbox: self.clone(), rung })
    }

    /// Ends what belongs to the session: its stream, and all that waits for [`Outbox::ended`].
    pub(super) fn end(&self) {
        let mut state = self.state();
        (state.bell, state.alive) = (None, None);
        let bytes: usize = state.waiting.drain(..).map(|message| message.len()).sum();
        self.all_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Returns when the session ends.
    pub(super) async fn ended(&self) {
        // Nothing is ever sent.
        let _ = self.ended.recv_async().await;
    }

    /// True while a stream carries what is told.
    pub(super) fn is_heard(&self) -> bool {
        self.state().bell.as_ref().is_some_and(|bell| !bell.is_disconnected())
    }
}

/// The stream that carries what is told.
#[derive(Debug)]
pub(super) struct Listener {
    outbox: Arc<Outbox>,
    rung: flume::Receiver<()>,
}

impl Listener {
    /// The next one, while this is the newest stream.
    fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.outbox.state();
        if self.rung.is_disconnected() {
            return None;
        }
        let message = state.waiting.pop_front()?;
        self.outbox.all_bytes.fetch_sub(message.len(), Ordering::Relaxed);
        Some(message)
    }

    /// The next one; `None` where another stream, or the end, has come.
    pub(super) async fn next_message(&self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.take() {
                return Some(message);
            }
            self.rung.recv_async().await.ok()?;
        }
    }
}

impl Messages for Listener {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        self.next_message().boxed_local()
    }

    fn only_listens(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(listener: &Listener) -> Option<Option<Vec<u8>>> {
        listener.next_message().now_or_never()
    }

    fn outbox() -> (Arc<Outbox>, Arc<AtomicUsize>) {
        let bytes = Arc::new(AtomicUsize::new(0));
        (Outbox::new(bytes.clone()), bytes)
    }

    #[test]
    fn what_waits_is_carried_in_order_by_the_newest_stream_alone() {
        let (outbox, bytes) = outbox();
        assert!(outbox.tell_once(b"a".to_vec()) && outbox.tell_once(b"b".to_vec()) && !outbox.is_heard());
        let old = outbox.listen().unwrap();
        assert_eq!(next(&old), Some(Some(b"a".to_vec())));
        let new = outbox.listen().unwrap();
        assert_eq!((next(&old), next(&new), next(&new)), (Some(None), Some(Some(b"b".to_vec())), None));
        assert!(outbox.tell_once(b"c".to_vec()) && outbox.is_heard());
        assert_eq!((next(&old), next(&new)), (Some(None), Some(Some(b"c".to_vec()))));
        drop((old, new));
        assert!(!outbox.is_heard() && bytes.load(Ordering::Relaxed) == 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_nothing_is_counted_twice() {
        let (outbox, bytes) = outbox();
        let message = |number: usize| format!("{number:03}").into_bytes();
        assert!((0..WAITING_MAX).all(|number| outbox.tell_once(message(number))));
        assert!(!outbox.tell_once(message(WAITING_MAX)) && outbox.tell_once(message(7)), "the latter waits already");
        assert_eq!(bytes.load(Ordering::Relaxed), 3 * WAITING_MAX);
        let other = Outbox::new(bytes.clone());
        assert!(!other.tell_once(vec![0; WAITING_ALL_BYTES_MAX]), "all of them share a bound");
        let listener = outbox.listen().unwrap();
        next(&listener);
        assert!(outbox.tell_once(b"cd".to_vec()));
        outbox.end();
        assert_eq!((next(&listener), outbox.ended().now_or_never()), (Some(None), Some(())));
        assert!(!outbox.tell_once(b"x".to_vec()) && outbox.listen().is_none());
        assert_eq!(bytes.load(Ordering::Relaxed), 0);
    }
}
