//! What is kept of a command's output, and where does a reader go on? A ring of bytes, each of one stream, under
//! absolute cursors that count both streams together in the order in which they were read.
//!
//! ```text
//!        kept_from                                        end
//!  gone ─────┼── block ──┼── block ──┼─ open: small writes ─┼──► append
//!            │  a piece: bytes of one stream in one block
//! ```
//! A big write is a block of its own, which readers share without a copy. Small ones are copied behind each other into
//! the open block (`block.rs`), which is closed when it is full or a big write comes.
//! Memory is taken for what is kept, and for at most one block that is kept in part.
//!
//! All rings of a sandbox together stay near [`RINGS_BYTES_MAX`]: above it a ring that grows drops its own oldest, down
//! to [`RING_FLOOR_BYTES`]. Pure.
//! Must not know: who reads and how fast (`pace.rs`), pipes, messages.

use super::block::{Block, OPEN_BYTES_MAX, Open, Piece, TAG_BYTES};
use super::output::Stream;
use bytes::Bytes;
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Of all rings of the sandbox together, in bytes.
pub(crate) const RINGS_BYTES_MAX: usize = 64 << 20;
/// What each ring may keep all the same, in bytes.
pub(crate) const RING_FLOOR_BYTES: usize = 64 << 10;
/// A write of so many bytes is a block of its own.
pub(crate) const BLOCK_BYTES_MIN: usize = 4096;

/// What all rings of the sandbox hold together.
#[derive(Debug, Default)]
pub(crate) struct RingsTotal {
    bytes: Cell<usize>,
    freed: Cell<u64>,
}

impl RingsTotal {
    /// How many bytes were dropped since this was last asked.
    pub(crate) fn take_freed(&self) -> u64 {
        self.freed.take()
    }
}

/// The latest output of one command.
#[derive(Debug)]
pub(crate) struct Ring {
    total: Rc<RingsTotal>,
    bytes_max: usize,
    /// Kept beyond all bounds.
    extra: usize,
    blocks: VecDeque<Block>,
    open: Open,
    kept_from: u64,
    end: u64,
    /// In all blocks and the open one.
    tag_count: usize,
    /// What of `total` is ours.
    counted: usize,
}

/// What a reader finds at its cursor.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// So many bytes are not kept any more: go on behind them.
    Dropped(u64),
    /// The bytes that follow.
    Piece(Piece<'a>),
    /// Nothing yet.
    Nothing,
}

impl Ring {
    /// An empty one that keeps at most `bytes_max`. It takes no memory yet.
    pub(crate) fn new(bytes_max: usize, total: &Rc<RingsTotal>) -> Ring {
        Ring {
            total: Rc::clone(total),
            bytes_max,
            extra: 0,
            blocks: VecDeque::new(),
            open: Open::default(),
            kept_from: 0,
            end: 0,
            tag_count: 0,
            counted: 0,
        }
    }

    /// The cursor behind the last byte: how many there have been.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// The cursor of the oldest byte that is kept.
    pub(crate) fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// How many bytes it may keep at this moment. More that is appended takes the place of the oldest.
    pub(crate) fn capacity(&self) -> usize {
        let total = self.total.bytes.get();
        let (spare, over) = (RINGS_BYTES_MAX.saturating_sub(total), total.saturating_sub(RINGS_BYTES_MAX));
        (self.kept() + spare).saturating_sub(over).max(RING_FLOOR_BYTES).min(self.bytes_max) + self.extra
    }

    /// Lets it keep `bytes` more from now on, whatever the others hold.
    pub(crate) fn widen(&mut self, bytes: usize) {
        self.extra += bytes;
    }

    /// Appends what was read from `stream`. From [`BLOCK_BYTES_MIN`] on the memory of `bytes` is kept, not copied.
    pub(crate) fn append(&mut self, stream: Stream, bytes: Bytes) {
        if bytes.len() < BLOCK_BYTES_MIN {
            return self.append_copy(stream, &bytes);
        }
        self.close();
        let from = self.end;
        self.end += bytes.len() as u64;
        self.blocks.push_back(Block::new(from, stream, bytes));
        self.bound();
    }

    /// Appends a copy of what was read from `stream`.
    pub(crate) fn append_copy(&mut self, stream: Stream, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.open.len() >= OPEN_BYTES_MAX {
                self.close();
            }
            let (taken, new_tags) = self.open.push(stream, bytes);
            bytes = &bytes[taken..];
            self.end += taken as u64;
            self.tag_count += new_tags;
        }
        self.bound();
    }

    /// Nothing more is appended for a while: gives spare memory back.
    pub(crate) fn close(&mut self) {
        if let Some(block) = std::mem::take(&mut self.open).into_block(self.end) {
            self.tag_count -= usize::from(block.tag_count() == 0);
            self.blocks.push_back(block);
            self.count();
        }
    }

    /// What lies at `cursor`.
    pub(crate) fn next(&self, cursor: u64) -> Next<'_> {
        if cursor < self.kept_from {
            return Next::Dropped(self.kept_from - cursor);
        }
        if cursor >= self.end {
            return Next::Nothing;
        }
        let open_from = self.end - self.open.len() as u64;
        if cursor >= open_from {
            return Next::Piece(self.open.piece(cursor - open_from));
        }
        let block = self.blocks.get(self.blocks.partition_point(|block| block.end() <= cursor));
        block.map_or(Next::Nothing, |block| Next::Piece(block.piece(cursor)))
    }

    fn kept(&self) -> usize {
        (self.end - self.kept_from) as usize
    }

    /// Drops the oldest beyond the capacity.
    fn bound(&mut self) {
        self.count();
        let excess = self.kept().saturating_sub(self.capacity());
        if excess == 0 {
            return;
        }
        self.kept_from += excess as u64;
        self.total.freed.set(self.total.freed.get() + excess as u64);
        while let Some(block) = self.blocks.pop_front_if(|block| block.end() <= self.kept_from) {
            self.tag_count -= block.tag_count();
        }
        self.count();
    }

    fn count(&mut self) {
        let now = self.kept() + self.tag_count * TAG_BYTES;
        self.total.bytes.set(self.total.bytes.get() - self.counted + now);
        self.counted = now;
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        self.total.bytes.set(self.total.bytes.get() - self.counted);
        self.total.freed.set(self.total.freed.get() + self.counted as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::OPEN_BYTES_MIN;
    use super::*;
    use Stream::{Stderr, Stdout};

    /// All from `cursor` on: what was dropped first, then each byte with its stream.
    fn read(ring: &Ring, mut cursor: u64) -> (u64, Vec<(Stream, u8)>) {
        let (mut dropped, mut seen) = (0, Vec::new());
        loop {
            match ring.next(cursor) {
                Next::Dropped(bytes) => {
                    assert_eq!((dropped, seen.len()), (0, 0), "only the oldest are dropped");
                    dropped = bytes;
                    cursor += bytes;
                }
                Next::Piece(piece) => {
                    assert!((1..=workspace_proto::OUTPUT_CHUNK_BYTES_MAX).contains(&piece.bytes.len()));
                    assert_eq!(piece.share(usize::MAX), piece.bytes);
                    assert_eq!(piece.share(1), piece.bytes[..1]);
                    seen.extend(piece.bytes.iter().map(|byte| (piece.stream, *byte)));
                    cursor += piece.bytes.len() as u64;
                }
                Next::Nothing => {
                    assert!(cursor >= ring.end());
                    return (dropped, seen);
                }
            }
        }
    }

    fn ring(bytes_max: usize) -> Ring {
        Ring::new(bytes_max, &Rc::default())
    }

    #[test]
    fn every_cursor_goes_on_without_gap_or_repeat() {
        let mut ring = ring(1 << 20);
        let mut all = Vec::new();
        for (i, length) in [1, 1, 5000, 3, 0, 4096, 4095, 70_000, 2, 20_000, 1].into_iter().enumerate() {
            let stream = if i % 3 == 0 { Stdout } else { Stderr };
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 + i) as u8).collect();
            all.extend(bytes.iter().map(|byte| (stream, *byte)));
            ring.append(stream, bytes.into());
        }
        for cursor in (0..200).chain((200..all.len()).step_by(61)).chain([all.len()]) {
            assert_eq!(read(&ring, cursor as u64), (0, all[cursor..].to_vec()), "from {cursor}");
        }
        assert_eq!(read(&ring, u64::MAX), (0, Vec::new()));
    }

    #[test]
    fn what_is_dropped_is_told_exactly() {
        for (bytes_max, piece) in [(4096, 1), (4096, 100), (10_000, 4096), (10_000, 6000), (5000, 60_000)] {
            let mut ring = ring(bytes_max);
            for i in 0..100u32 {
                ring.append(if i % 2 == 0 { Stdout } else { Stderr }, vec![i as u8; piece].into());
                let length = u64::from(i + 1) * piece as u64;
                let kept_from = length.saturating_sub(bytes_max as u64);
                assert_eq!((ring.kept_from(), ring.end()), (kept_from, length));
                let (dropped, seen) = read(&ring, 0);
                assert_eq!((dropped, seen.len() as u64), (kept_from, length - kept_from));
                assert_eq!(seen.last().map(|(_, byte)| *byte), Some(i as u8));
            }
        }
    }

    #[test]
    fn big_writes_are_shared_and_small_ones_merged() {
        let mut ring = ring(1 << 20);
        let big = Bytes::from(vec![1; 60_000]);
        ring.append(Stdout, big.clone());
        let Next::Piece(piece) = ring.next(10) else { panic!("a piece") };
        assert_eq!(piece.share(100).as_ptr(), big[10..].as_ptr());
        for _ in 0..100_000 {
            ring.append_copy(Stdout, b"x");
        }
        assert!(ring.blocks.len() <= 1 + 100_000 / OPEN_BYTES_MAX, "{} blocks", ring.blocks.len());
        assert_eq!(ring.tag_count, 1);
        let Next::Piece(piece) = ring.next(60_000) else { panic!("a piece") };
        assert_eq!(piece.bytes.len(), OPEN_BYTES_MAX);
        ring.close();
        assert_eq!((ring.open.capacity(), ring.tag_count), (0, 0));
        assert_eq!(read(&ring, 159_999).1, [(Stdout, b'x')]);
    }

    #[test]
    fn an_empty_ring_and_a_few_bytes_take_next_to_no_memory() {
        let mut ring = ring(16 << 20);
        assert_eq!((ring.blocks.capacity(), ring.open.capacity()), (0, 0));
        ring.append_copy(Stdout, b"hello\n");
        assert_eq!((ring.blocks.capacity(), ring.open.capacity()), (0, OPEN_BYTES_MIN));
    }

    #[test]
    fn all_rings_together_are_bounded_and_each_has_its_floor() {
        let total = Rc::<RingsTotal>::default();
        let mut rings: Vec<Ring> = (0..10).map(|_| Ring::new(16 << 20, &total)).collect();
        let block = Bytes::from(vec![0; 60_000]);
        for _ in 0..300 {
            rings.iter_mut().for_each(|ring| ring.append(Stdout, block.clone()));
        }
        let most = RINGS_BYTES_MAX + rings.len() * RING_FLOOR_BYTES;
        assert!((RINGS_BYTES_MAX..=most).contains(&total.bytes.get()), "{}", total.bytes.get());
        let mut late = Ring::new(16 << 20, &total);
        for _ in 0..10 {
            late.append(Stdout, block.clone());
        }
        assert_eq!(late.kept(), RING_FLOOR_BYTES);
        drop(rings);
        assert_eq!((total.bytes.get(), late.capacity()), (RING_FLOOR_BYTES, 16 << 20));
        late.append(Stdout, block);
        assert_eq!(late.kept(), RING_FLOOR_BYTES + 60_000);
        drop(late);
        assert_eq!(total.bytes.get(), 0);
    }

    #[test]
    fn a_widened_ring_drops_nothing_of_what_it_was_widened_for() {
        let mut ring = ring(5000);
        ring.append(Stdout, vec![1; 5000].into());
        ring.widen(6000);
        ring.append(Stderr, vec![2; 6000].into());
        assert_eq!(ring.kept_from(), 0);
    }

    /// Calls as bytes: how much is appended to which stream, and what is read between.
    fn calls(input: &[u8]) {
        let [size, calls @ ..] = input else { return };
        let mut ring = ring(usize::from(*size) * 64 + 1);
        let mut all = Vec::new();
        for (i, call) in calls.chunks_exact(2).take(64).enumerate() {
            let stream = if call[0] & 1 == 0 { Stdout } else { Stderr };
            let length = usize::from(call[1]) * if call[0] & 0xe0 == 0xe0 { 40 } else { 1 };
            let bytes: Vec<u8> = (0..length).map(|n| (n + i) as u8).collect();
            all.extend(bytes.iter().map(|byte| (stream, *byte)));
            match call[0] & 6 {
                0 => ring.append_copy(stream, &bytes),
                2 => ring.close(),
                _ => ring.append(stream, bytes.into()),
            }
            if call[0] & 6 == 2 {
                all.truncate(all.len() - length);
            }
            assert_eq!(ring.end(), all.len() as u64);
            assert!(ring.kept() <= ring.capacity());
        }
        for cursor in [0, all.len() / 2, all.len()] {
            let (dropped, seen) = read(&ring, cursor as u64);
            assert_eq!(seen, all[cursor + dropped as usize..]);
        }
    }

    #[test]
    fn no_calls_lose_or_repeat_a_byte() {
        crate::fuzz::run(calls, &[b"\x20\x00\x05\x01\x07\x40\xff\x02\x00\xe5\x30\x01\x01", &[0; 40], &[0xff; 12]]);
    }
}
