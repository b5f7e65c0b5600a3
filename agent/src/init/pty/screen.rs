//! What do a terminal's viewers see, and whose keys come next? The kept output with each viewer's place in it, and one
//! message of input per viewer, in the order in which they came.
//!
//! ```text
//! master ─► print ─► ring ─► next(cursor) of each viewer        the fastest one sets the pace, see pace.rs
//! master ◄─ taken ◄─ queue ◄─ type_in, one message a viewer     a second one waits until the first is taken
//! ```
//! A viewer that joins starts among what is kept: what it is sent first and what comes later are one sequence, so that no
//! byte comes twice and none is missed.
//! Without a reader or a writer of its own: pure but for the wakers of the tasks that wait.

use super::super::pace::{Pace, ReaderId, Room};
use super::super::ring::{Next, Ring, RingsTotal};
use crate::init::output::Stream;
use bytes::{Buf, Bytes};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::task::Waker;
use std::time::{Duration, Instant};
use workspace_proto::agent::Exited;

/// Of a terminal's output, kept for who comes later, in bytes.
pub(crate) const RING_BYTES: usize = 1 << 20;
/// Of that, a new viewer is sent at most so much: the rest is its time to catch up.
const REPLAY_BYTES: usize = 512 << 10;
/// How far the program may be ahead of its fastest viewer. What is left of the ring is how far others may be behind:
/// more than lies in a viewer's window, so that of equally fast ones none is dropped.
const LEAD_BYTES: usize = 256 << 10;

/// One terminal's output and input.
pub(crate) struct Screen {
    ring: Ring,
    pace: Pace,
    viewers: BTreeMap<ReaderId, Viewer>,
    /// Whose message is written next. Who has left is passed by.
    queue: VecDeque<ReaderId>,
    exited: Option<Exited>,
    joined: bool,
    pump: Option<Waker>,
}

#[derive(Default)]
struct Viewer {
    waker: Option<Waker>,
    /// What the master has not taken yet of its message.
    typed: Bytes,
}

impl Screen {
    /// Nothing printed, nobody there. Takes no memory yet.
    pub(crate) fn new(total: &Rc<RingsTotal>) -> Screen {
        Screen {
            ring: Ring::new(RING_BYTES, total),
            // A terminal that nobody looks at goes on.
            pace: Pace::new(Duration::ZERO),
            viewers: BTreeMap::new(),
            queue: VecDeque::new(),
            exited: None,
            joined: false,
            pump: None,
        }
    }

    /// A new viewer, and the cursor of the first byte that it is to be sent.
    pub(crate) fn join(&mut self) -> (ReaderId, u64) {
        let replayed = REPLAY_BYTES.min(self.ring.capacity() / 2) as u64;
        let cursor = self.ring.end().saturating_sub(replayed).max(self.ring.kept_from());
        let viewer = self.pace.join(cursor);
        self.viewers.insert(viewer, Viewer::default());
        self.joined = true;
        (viewer, cursor)
    }

    /// Whether anybody has ever seen it.
    pub(crate) fn was_joined(&self) -> bool {
        self.joined
    }

    /// The viewer has gone, and what it typed last with it, where that was not taken.
    pub(crate) fn leave(&mut self, viewer: ReaderId) {
        self.viewers.remove(&viewer);
        self.queue.retain(|waiting| *waiting != viewer);
        self.pace.leave(viewer);
        self.wake_pump();
    }

    /// What `viewer` finds at `cursor`; where there is nothing, or where it waits for its input, it is woken later.
    pub(crate) fn next(&self, cursor: u64) -> Next<'_> {
        self.ring.next(cursor)
    }

    /// The cursor behind what was printed.
    pub(crate) fn end(&self) -> u64 {
        self.ring.end()
    }

    /// `viewer` was sent all before `cursor`.
    pub(crate) fn sent(&mut self, viewer: ReaderId, cursor: u64) {
        self.pace.advance(viewer, cursor);
        self.wake_pump();
    }

    /// Wakes `viewer` when something is printed or its input was taken.
    pub(crate) fn wait(&mut self, viewer: ReaderId, waker: &Waker) {
        if let Some(viewer) = self.viewers.get_mut(&viewer) {
            set(&mut viewer.waker, waker);
        }
    }

    /// Takes a message of `viewer`; only when the one before [`Self::is_taken`].
    pub(crate) fn type_in(&mut self, viewer: ReaderId, message: Bytes) {
        let Some(typist) = self.viewers.get_mut(&viewer) else { return };
        if !message.is_empty() && self.exited.is_none() {
            typist.typed = message;
            self.queue.push_back(viewer);
            self.wake_pump();
        }
    }

    /// Whether the master has taken all that `viewer` has typed.
    pub(crate) fn is_taken(&self, viewer: ReaderId) -> bool {
        self.viewers.get(&viewer).is_none_or(|viewer| viewer.typed.is_empty())
    }

    /// How it ended, once all was printed.
    pub(crate) fn exited(&self) -> Option<Exited> {
        self.exited
    }

    /// Wakes the pump when there is input, or room for output.
    pub(crate) fn wait_as_pump(&mut self, waker: &Waker) {
        set(&mut self.pump, waker);
    }

    /// The pump has something else to look at.
    pub(crate) fn wake_pump(&mut self) {
        if let Some(waker) = self.pump.take() {
            waker.wake();
        }
    }

    /// How many bytes may be printed now; 0: the program waits for its viewers.
    pub(crate) fn room(&mut self, now: Instant) -> usize {
        // What a terminal sent is not kept for a cut link, as the output of a command is: the lead alone counts.
        if let Some(fastest) = self.pace.fastest() {
            let ahead = usize::try_from(self.ring.end().saturating_sub(fastest)).unwrap_or(usize::MAX);
            return LEAD_BYTES.min(self.ring.capacity()).saturating_sub(ahead);
        }
        match self.pace.room(&self.ring, now) {
            Room::Bytes(bytes) => bytes,
            Room::Wait(_) => 0,
        }
    }

    /// For the last of the output, which waits for nobody: lets it take nobody's place.
    pub(crate) fn widen(&mut self, bytes: usize) {
        self.ring.widen(bytes);
    }

    /// What the program has printed.
    pub(crate) fn print(&mut self, bytes: &[u8]) {
        self.ring.append_copy(Stream::Stdout, bytes);
        self.wake_viewers();
    }

    /// What is to be written next.
    pub(crate) fn typed(&self) -> Option<&[u8]> {
        let viewer = self.viewers.get(self.queue.front()?)?;
        Some(&viewer.typed)
    }

    /// The master has taken `length` bytes of [`Self::typed`].
    pub(crate) fn take(&mut self, length: usize) {
        let Some(viewer) = self.queue.front().and_then(|id| self.viewers.get_mut(id)) else { return };
        viewer.typed.advance(length.min(viewer.typed.len()));
        if viewer.typed.is_empty() {
            viewer.typed = Bytes::new();
            wake(&mut viewer.waker);
            self.queue.pop_front();
        }
    }

    /// Nothing more is printed or taken.
    pub(crate) fn finish(&mut self, exited: Exited) {
        self.exited = Some(exited);
        self.queue.clear();
        self.ring.close();
        self.viewers.values_mut().for_each(|viewer| viewer.typed = Bytes::new());
        self.wake_viewers();
    }

    fn wake_viewers(&mut self) {
        self.viewers.values_mut().for_each(|viewer| wake(&mut viewer.waker));
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn set(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(known) => known.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints as a program that never stops; returns how much it could.
    fn flood(screen: &mut Screen, most: usize) -> usize {
        let mut printed = 0;
        while printed < most {
            let room = screen.room(Instant::now()).min(4096).min(most - printed);
            if room == 0 {
                break;
            }
            screen.print(&vec![b'x'; room]);
            printed += room;
        }
        printed
    }

    fn screen() -> Screen {
        Screen::new(&Rc::default())
    }

    #[test]
    fn without_a_viewer_nothing_waits_and_the_latest_is_kept() {
        let mut screen = screen();
        assert_eq!(flood(&mut screen, 5 * RING_BYTES), 5 * RING_BYTES);
        let (_, cursor) = screen.join();
        assert_eq!(screen.end() - cursor, REPLAY_BYTES as u64);
        assert!(matches!(screen.next(cursor), Next::Piece(_)));
    }

    #[test]
    fn the_fastest_viewer_is_led_by_a_little_and_one_that_stops_is_left_behind() {
        let mut screen = screen();
        let (fast, mut cursor) = screen.join();
        let (_slow, behind) = screen.join();
        assert_eq!(flood(&mut screen, 5 * RING_BYTES), LEAD_BYTES);
        for _ in 0..2 {
            cursor += LEAD_BYTES as u64;
            screen.sent(fast, cursor);
            assert_eq!(flood(&mut screen, 5 * RING_BYTES), LEAD_BYTES);
        }
        assert!(matches!(screen.next(behind), Next::Piece(_)), "it is not a ring behind yet");
        for _ in 0..2 {
            cursor += LEAD_BYTES as u64;
            screen.sent(fast, cursor);
            assert_eq!(flood(&mut screen, 5 * RING_BYTES), LEAD_BYTES);
        }
        assert!(matches!(screen.next(behind), Next::Dropped(_)));
        // It was alone in the way of nothing; when the fast one goes, nobody holds the program back but it.
        screen.leave(fast);
        assert_eq!(flood(&mut screen, 1), 0);
    }

    /// T18: a viewer that reads nothing for an hour holds its program and no memory beyond the lead; once it is sent away,
    /// which its server does by its own clock, the program goes on.
    #[test]
    fn an_hour_without_reading_costs_no_more_than_the_lead() {
        let mut screen = screen();
        let (viewer, cursor) = screen.join();
        assert_eq!(flood(&mut screen, 5 * RING_BYTES), LEAD_BYTES);
        for minutes in 1..=60 {
            let later = Instant::now() + Duration::from_secs(60 * minutes);
            assert_eq!(screen.room(later), 0, "after {minutes} minutes");
        }
        assert_eq!(screen.end() - cursor, LEAD_BYTES as u64);
        screen.leave(viewer);
        assert_eq!(flood(&mut screen, 5 * RING_BYTES), 5 * RING_BYTES);
    }

    #[test]
    fn the_end_waits_for_nobody_and_takes_nothing_from_the_fastest() {
        let mut screen = screen();
        let (_, cursor) = screen.join();
        flood(&mut screen, RING_BYTES);
        screen.widen(64 << 10);
        screen.print(&[b'y'; 64 << 10]);
        assert!(matches!(screen.next(cursor), Next::Piece(_)));
        screen.finish(Exited::default());
        assert_eq!(screen.end(), (LEAD_BYTES + (64 << 10)) as u64);
        assert!(screen.exited().is_some());
    }

    #[test]
    fn messages_are_typed_in_order_and_whole_and_those_of_who_left_are_dropped() {
        let mut screen = screen();
        let (one, two, three) = (screen.join().0, screen.join().0, screen.join().0);
        screen.type_in(one, Bytes::from_static(b"first"));
        screen.type_in(two, Bytes::from_static(b"second"));
        screen.type_in(three, Bytes::from_static(b"third"));
        screen.take(2);
        assert_eq!(screen.typed(), Some(b"rst".as_slice()));
        assert!(!screen.is_taken(one));
        screen.take(3);
        assert!(screen.is_taken(one));
        screen.type_in(one, Bytes::from_static(b"fourth"));
        screen.leave(two);
        assert_eq!(screen.typed(), Some(b"third".as_slice()));
        screen.take(usize::MAX);
        assert_eq!(screen.typed(), Some(b"fourth".as_slice()));
        screen.finish(Exited::default());
        assert_eq!((screen.typed(), screen.is_taken(one)), (None, true));
        screen.type_in(one, Bytes::from_static(b"late"));
        assert_eq!((screen.typed(), screen.is_taken(one)), (None, true));
    }
}
