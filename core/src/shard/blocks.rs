//! Which host id blocks this shard may give to a new sandbox. A block is in one shard's list at a time.

use std::collections::VecDeque;

/// Free blocks, the one longest unused first: what a sandbox left behind on the host has time to go.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    free: VecDeque<u32>,
    shared: bool,
}

impl Blocks {
    /// The part of all blocks that belongs to shard `index` of `shards`.
    pub fn of_shard(all: impl Iterator<Item = u32>, index: usize, shards: usize) -> Blocks {
        Blocks { free: all.filter(|block| *block as usize % shards.max(1) == index).collect(), shared: false }
    }

    /// One range for all sandboxes: block 0, as often as asked.
    pub fn shared() -> Blocks {
        Blocks { free: VecDeque::new(), shared: true }
    }

    /// A free block, or `None` when all are in use.
    pub fn take(&mut self) -> Option<u32> {
        if self.shared { Some(0) } else { self.free.pop_front() }
    }

    /// Gives a block back that nothing uses any more.
    pub fn give_back(&mut self, block: u32) {
        if !self.shared && block != 0 && !self.free.contains(&block) {
            self.free.push_back(block);
        }
    }

    /// Takes a block that a sandbox found at the start already uses.
    pub fn occupy(&mut self, block: u32) {
        self.free.retain(|free| *free != block);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_one_shard_and_comes_back_last() {
        let mut all: Vec<u32> = (0..3).flat_map(|i| Blocks::of_shard(9..19, i, 3).free).collect();
        all.sort_unstable();
        assert_eq!(all, (9..19).collect::<Vec<_>>());
        let mut blocks = Blocks::of_shard(9..12, 0, 1);
        blocks.occupy(10);
        let first = blocks.take().unwrap();
        blocks.give_back(first);
        blocks.give_back(first);
        assert_eq!((blocks.take(), blocks.take(), blocks.take()), (Some(11), Some(first), None));
        assert_eq!(Blocks::shared().take(), Some(0));
    }
}
