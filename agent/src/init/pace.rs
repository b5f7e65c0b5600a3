//! How fast may a command print? As fast as its fastest reader takes it; and for a while it waits for one to come back.
//!
//! ```text
//!              readers                                  nobody
//!  ┌──────────────────────────────┐  last leaves  ┌────────────────────────┐  full for the hold  ┌───────────────────┐
//!  │ read while what the fastest  ├──────────────►│ read while what nobody ├────────────────────►│ read freely: the  │
//!  │ may still need fits the ring │◄──────────────┤ may have got fits it   │                     │ oldest is dropped │
//!  └──────────────────────────────┘  one comes    └────────────────────────┘                     └─────────┬─────────┘
//!                 ▲                                                          one comes                     │
//!                 └────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//! What was sent last may be lost on its way: with the link, or in the sockets of a reader that is cut off. So the last
//! three quarters of a ring that were sent are kept like what was not: whoever comes back within the hold finds it, if
//! no more than that was on its way.
//! A slower reader that falls behind the ring is told how much it has missed, and goes on.
//! Pure: it is given the time. Must not know: sockets, pipes, how a reader is told.

use super::ring::Ring;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// One who reads, as long as it is joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ReaderId(u64);

/// Whether more of the command's output may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// At most so many bytes, at least 1.
    Bytes(usize),
    /// Not before a reader was sent something, joins or leaves; or this moment, where there is one, has come.
    Wait(Option<Instant>),
}

/// The pace of one command.
#[derive(Debug)]
pub(crate) struct Pace {
    hold: Duration,
    /// Where each reader is.
    readers: BTreeMap<ReaderId, u64>,
    /// The furthest of `readers`.
    fastest: u64,
    /// How far any reader has ever been.
    sent: u64,
    next: u64,
    /// Since when the ring is full of what must not be dropped, and nobody reads.
    full_since: Option<Instant>,
    /// The hold is over: nothing waits for nobody.
    free: bool,
}

impl Pace {
    /// Nobody reads. A full ring holds its command back for `hold`; with zero it never does.
    pub(crate) fn new(hold: Duration) -> Pace {
        let readers = BTreeMap::new();
        Pace { hold, readers, fastest: 0, sent: 0, next: 0, full_since: None, free: hold.is_zero() }
    }

    /// Somebody reads from `cursor` on.
    pub(crate) fn join(&mut self, cursor: u64) -> ReaderId {
        let id = ReaderId(self.next);
        self.next += 1;
        self.fastest = if self.readers.is_empty() { cursor } else { self.fastest.max(cursor) };
        self.readers.insert(id, cursor);
        self.sent = self.sent.max(cursor);
        self.full_since = None;
        self.free = false;
        id
    }

    /// `reader` was sent all before `cursor`.
    pub(crate) fn advance(&mut self, reader: ReaderId, cursor: u64) {
        if let Some(at) = self.readers.get_mut(&reader) {
            *at = cursor;
            self.fastest = self.fastest.max(cursor);
            self.sent = self.sent.max(cursor);
        }
    }

    /// `reader` reads no more.
    pub(crate) fn leave(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
        self.fastest = self.readers.values().copied().max().unwrap_or(0);
        self.free = self.readers.is_empty() && self.hold.is_zero();
    }

    /// How far the fastest reader was sent; `None` where nobody reads.
    pub(crate) fn fastest(&self) -> Option<u64> {
        self.is_read().then_some(self.fastest)
    }

    /// Whether somebody reads.
    pub(crate) fn is_read(&self) -> bool {
        !self.readers.is_empty()
    }

    /// How much may be appended to `ring` now. To be asked again after each change.
    pub(crate) fn room(&mut self, ring: &Ring, now: Instant) -> Room {
        let capacity = ring.capacity();
        if self.free {
            return Room::Bytes(capacity);
        }
        let sent = if self.is_read() { self.fastest } else { self.sent };
        let wanted_from = sent.saturating_sub(capacity as u64 / 4 * 3).max(ring.kept_from());
        let wanted = usize::try_from(ring.end().saturating_sub(wanted_from)).unwrap_or(usize::MAX);
        if wanted < capacity {
            self.full_since = None;
            return Room::Bytes(capacity - wanted);
        }
        if self.is_read() {
            return Room::Wait(None);
        }
        let until = *self.full_since.get_or_insert(now) + self.hold;
        if now < until {
            return Room::Wait(Some(until));
        }
        self.free = true;
        Room::Bytes(capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::Stream;
    use super::*;
    use std::rc::Rc;

    const HOLD: Duration = Duration::from_secs(10);
    const SIZE: usize = 1000;

    /// A command that prints all it may, and the time.
    struct World {
        ring: Ring,
        pace: Pace,
        now: Instant,
    }

    impl World {
        fn new(hold: Duration) -> World {
            World { ring: Ring::new(SIZE, &Rc::default()), pace: Pace::new(hold), now: Instant::now() }
        }

        /// Prints at most `most` bytes; returns how many it could.
        fn print(&mut self, most: usize) -> usize {
            let mut printed = 0;
            while printed < most {
                let Room::Bytes(room) = self.pace.room(&self.ring, self.now) else { break };
                assert!(room > 0 && room <= SIZE);
                let length = room.min(most - printed);
                self.ring.append_copy(Stream::Stdout, &vec![b'x'; length]);
                printed += length;
            }
            printed
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    #[test]
    fn nobody_reads_a_full_ring_holds_then_runs_free() {
        let mut world = World::new(HOLD);
        assert_eq!(world.print(5000), SIZE);
        assert_eq!(world.ring.kept_from(), 0);
        world.pass(9);
        assert_eq!(world.print(1), 0);
        world.pass(1);
        assert_eq!(world.print(50_000), 50_000);
        assert_eq!(world.ring.kept_from(), 50_000);
        // It stays free until somebody comes.
        world.pass(100);
        assert_eq!(world.print(1), 1);
    }

    #[test]
    fn the_hold_counts_from_when_it_became_full() {
        let mut world = World::new(HOLD);
        assert_eq!(world.print(SIZE - 1), SIZE - 1);
        world.pass(100);
        assert_eq!(world.print(5), 1);
        world.pass(9);
        assert_eq!(world.print(1), 0);
        assert_eq!(world.pace.room(&world.ring, world.now), Room::Wait(Some(world.now + Duration::from_secs(1))));
        world.pass(1);
        assert_eq!(world.print(1), 1);
    }

    #[test]
    fn the_fastest_reader_sets_the_pace() {
        let mut world = World::new(HOLD);
        let (fast, slow) = (world.pace.join(0), world.pace.join(0));
        assert_eq!(world.print(5000), SIZE);
        world.pass(1000);
        assert_eq!(world.pace.room(&world.ring, world.now), Room::Wait(None), "a reader that stops holds it for ever");
        world.pace.advance(fast, 800);
        assert_eq!(world.print(5000), 50);
        assert_eq!(world.ring.kept_from(), 50, "the slow one misses 50 bytes");
        world.pace.advance(slow, 700);
        assert_eq!(world.print(5000), 0);
        world.pace.leave(fast);
        assert_eq!(world.print(1), 0, "the slow one is the fastest now");
        world.pace.advance(slow, 1050);
        assert_eq!(world.print(5000), 250);
    }

    #[test]
    fn what_was_sent_last_is_there_for_who_comes_back() {
        let mut world = World::new(HOLD);
        let reader = world.pace.join(0);
        for sent in (0..5000).step_by(100) {
            world.print(5000);
            world.pace.advance(reader, sent);
            assert!(world.ring.kept_from() <= sent.saturating_sub(750), "the link may be cut now");
        }
        world.print(5000);
        world.pace.leave(reader);
        assert_eq!((world.print(5000), world.ring.kept_from()), (0, 4150));
        world.pass(9);
        assert_eq!(world.print(5000), 0);
        let again = world.pace.join(4150);
        world.pass(100);
        assert_eq!(world.print(5000), 0);
        world.pace.advance(again, 5150);
        assert_eq!((world.print(5000), world.ring.kept_from()), (250, 4400));
    }

    #[test]
    fn a_reader_that_comes_ends_the_freedom() {
        let mut world = World::new(HOLD);
        world.print(SIZE);
        world.print(1);
        world.pass(10);
        assert_eq!(world.print(10_000), 10_000);
        let reader = world.pace.join(world.ring.kept_from());
        assert_eq!(world.print(10_000), 0);
        world.pace.leave(reader);
        assert_eq!(world.print(10_000), 0);
        world.pass(10);
        assert_eq!(world.print(10_000), 10_000);
    }

    #[test]
    fn with_no_hold_nothing_waits_for_nobody() {
        let mut world = World::new(Duration::ZERO);
        assert_eq!(world.print(10_000), 10_000);
        let viewer = world.pace.join(world.ring.end());
        assert_eq!(world.print(10_000), SIZE / 4);
        world.pace.leave(viewer);
        assert_eq!(world.print(10_000), 10_000);
    }

    /// Calls as bytes against the promise: where somebody reads, the fastest one misses nothing.
    fn calls(input: &[u8]) {
        let mut world = World::new(HOLD);
        let mut readers: Vec<(ReaderId, u64)> = Vec::new();
        for call in input.chunks_exact(2) {
            let number = usize::from(call[1]);
            match call[0] % 5 {
                0 => drop(world.print(number * 10)),
                1 => world.pass(number as u64 / 16),
                2 if readers.len() < 20 => {
                    let cursor =
                        world.ring.kept_from() + number as u64 % (world.ring.end() - world.ring.kept_from() + 1);
                    readers.push((world.pace.join(cursor), cursor));
                }
                3 if !readers.is_empty() => world.pace.leave(readers.swap_remove(number % readers.len()).0),
                4 if !readers.is_empty() => {
                    let count = readers.len();
                    let (reader, cursor) = &mut readers[number % count];
                    *cursor = (*cursor + number as u64 * 8).max(world.ring.kept_from()).min(world.ring.end());
                    world.pace.advance(*reader, *cursor);
                }
                _ => {}
            }
            assert_eq!(world.pace.is_read(), !readers.is_empty());
            let fastest = readers.iter().map(|(_, cursor)| *cursor).max();
            if let Some(fastest) = fastest
                && call[0] % 5 == 0
            {
                let wanted = world.ring.end().saturating_sub(fastest.max(world.ring.kept_from()));
                assert!(wanted <= SIZE as u64);
                assert!(fastest >= world.ring.kept_from() || wanted == SIZE as u64);
            }
        }
    }

    #[test]
    fn no_calls_break_the_promise_to_the_fastest() {
        crate::fuzz::run(
            calls,
            &[b"\x00\xff\x02\x00\x04\x20\x00\xff\x03\x00\x01\xff\x00\xff", &[2, 0, 0, 9, 4, 1, 0, 9]],
        );
    }
}
