//! What is told on its way to the one who listens: bounded, in order, and never twice the same while nobody has read it.
//!
//! A listener that is too slow loses what comes until it has read all that waits; then it is told so.

use super::Change;
use crate::error::Error;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

const CHANGES_MAX: usize = 8192;
/// Of the paths in them.
const BYTES_MAX: usize = 1 << 20;

struct Shared {
    /// Changes were lost, and the listener has not been told.
    lost: AtomicBool,
    bytes: AtomicUsize,
    /// Why no more will come.
    ended: OnceLock<Error>,
}

/// The watching end.
pub(super) struct Sender {
    changes: flume::Sender<Change>,
    shared: Arc<Shared>,
    /// Paths that are told as modified, by hash, since another kind of change was; one of them is enough.
    modified: HashSet<u64>,
    hasher: RandomState,
}

/// The listening end.
pub(super) struct Receiver {
    changes: flume::Receiver<Change>,
    shared: Arc<Shared>,
}

pub(super) fn queue() -> (Sender, Receiver) {
    let (send, receive) = flume::bounded(CHANGES_MAX);
    let shared = Shared { lost: AtomicBool::new(false), bytes: AtomicUsize::new(0), ended: OnceLock::new() };
    let shared = Arc::new(shared);
    let sender = Sender { changes: send, shared: shared.clone(), modified: HashSet::new(), hasher: RandomState::new() };
    (sender, Receiver { changes: receive, shared })
}

impl Sender {
    /// True once nobody listens any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.changes.is_disconnected()
    }

    /// Tells a change, without a wait.
    pub(super) fn tell(&mut self, change: Change) {
        if self.shared.lost.load(Ordering::SeqCst) {
            return;
        }
        match &change {
            Change::Modified { path, .. } => {
                if self.changes.is_empty() {
                    self.modified.clear();
                }
                if !self.modified.insert(self.hasher.hash_one(path)) {
                    return;
                }
            }
            _ => self.modified.clear(),
        }
        let bytes = change.bytes();
        let is_full = self.shared.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes > BYTES_MAX;
        if !is_full && self.changes.try_send(change).is_ok() {
            return;
        }
        self.shared.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.modified.clear();
        self.shared.lost.store(true, Ordering::SeqCst);
        // All may have been read meanwhile, by one who now waits: the mark alone would not wake it.
        if self.changes.is_empty() && self.shared.lost.swap(false, Ordering::SeqCst) {
            let _ = self.changes.try_send(Change::Overflow);
        }
    }

    /// Nothing more will come, for this reason.
    pub(super) fn end(self, why: Error) {
        let _ = self.shared.ended.set(why);
    }
}

impl Receiver {
    /// The next change, where there is one now.
    pub(super) fn ready(&mut self) -> Option<Change> {
        match self.changes.try_recv() {
            Ok(change) => Some(self.taken(change)),
            Err(_) => self.shared.lost.swap(false, Ordering::SeqCst).then_some(Change::Overflow),
        }
    }

    /// Waits for the next change; an error is the last one. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Change, Error> {
        if let Some(change) = self.ready() {
            return Ok(change);
        }
        match self.changes.recv_async().await {
            Ok(change) => Ok(self.taken(change)),
            Err(flume::RecvError::Disconnected) => Err(self.shared.ended.get().cloned().unwrap_or_else(super::stopped)),
        }
    }

    fn taken(&self, change: Change) -> Change {
        self.shared.bytes.fetch_sub(change.bytes(), Ordering::SeqCst);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::mailbox::block_on;

    fn modified(path: &str) -> Change {
        Change::Modified { path: path.into(), is_dir: false }
    }

    fn created(path: &str) -> Change {
        Change::Created { path: path.into(), is_dir: false }
    }

    #[test]
    fn the_same_is_told_once_while_it_waits() {
        let (mut send, mut receive) = queue();
        for _ in 0..10 {
            send.tell(modified("/a"));
            send.tell(modified("/b"));
        }
        send.tell(created("/c"));
        send.tell(modified("/a"));
        let all: Vec<_> = std::iter::from_fn(|| receive.ready()).collect();
        assert_eq!(all, [modified("/a"), modified("/b"), created("/c"), modified("/a")]);
        send.tell(modified("/a"));
        assert_eq!(receive.ready(), Some(modified("/a")));
    }

    #[test]
    fn what_is_too_much_is_lost_and_said_once_behind_what_was_kept() {
        let (mut send, mut receive) = queue();
        for n in 0..CHANGES_MAX + 50 {
            send.tell(created(&format!("/{n}")));
        }
        for n in 0..CHANGES_MAX {
            assert_eq!(receive.ready(), Some(created(&format!("/{n}"))));
        }
        assert_eq!((receive.ready(), receive.ready()), (Some(Change::Overflow), None));
        // By bytes too.
        let long = "x".repeat(4000);
        for _ in 0..300 {
            send.tell(created(&long));
        }
        let kept = std::iter::from_fn(|| receive.ready()).take_while(|change| *change != Change::Overflow).count();
        assert!((200..=BYTES_MAX / 4000).contains(&kept), "{kept}");
        send.tell(created("/again"));
        assert_eq!(receive.ready(), Some(created("/again")));
        assert_eq!(send.shared.bytes.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_reader_that_is_as_quick_as_the_writer_misses_no_sign() {
        let (mut send, mut receive) = queue();
        let reader = std::thread::spawn(move || {
            let (mut told, mut lost) = (0_usize, 0_usize);
            loop {
                match block_on(receive.next()) {
                    Ok(Change::Overflow) => lost += 1,
                    Ok(_) => told += 1,
                    Err(error) => return (told, lost, error.message),
                }
            }
        });
        for n in 0..200_000 {
            send.tell(created(&n.to_string()));
        }
        send.end(Error::new(crate::Reason::FileNotFound, "over"));
        let (told, lost, why) = reader.join().unwrap();
        assert!(told == 200_000 || lost > 0, "{told} {lost}");
        assert_eq!(why, "over");
    }
}
