//! How do the bytes of two streams lie in memory? In blocks: a big write is one of its own, small ones are copied
//! behind each other, and tags say what is of which stream.
//!
//! A closed block is shared with readers; from an open one they take copies, for it still grows.
//! Must not know: how many blocks there are, which are dropped (`ring.rs`).

use super::output::Stream;
use bytes::Bytes;
use workspace_proto::OUTPUT_CHUNK_BYTES_MAX;

/// An open block is closed at this size; it grows to it by doubling.
pub(crate) const OPEN_BYTES_MAX: usize = 16 << 10;
/// Of its first memory.
pub(crate) const OPEN_BYTES_MIN: usize = 64;
/// What a tag costs.
pub(crate) const TAG_BYTES: usize = size_of::<Tag>();

/// A closed one.
#[derive(Debug)]
pub(crate) struct Block {
    from: u64,
    bytes: Bytes,
    tags: Tags,
}

#[derive(Debug)]
enum Tags {
    All(Stream),
    /// Ascending; the last one ends where the block ends.
    Each(Box<[Tag]>),
}

/// From the end of the one before up to `end` it is all of one stream.
#[derive(Debug, Clone, Copy)]
struct Tag {
    end: u16,
    stream: Stream,
}

/// One that grows.
#[derive(Debug, Default)]
pub(crate) struct Open {
    bytes: Vec<u8>,
    tags: Vec<Tag>,
}

/// Bytes of one stream, from 1 to 64 KiB.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) stream: Stream,
    pub(crate) bytes: &'a [u8],
    block: Option<&'a Bytes>,
}

impl<'a> Piece<'a> {
    fn new(stream: Stream, bytes: &'a [u8], block: Option<&'a Bytes>) -> Piece<'a> {
        Piece { stream, bytes: &bytes[..bytes.len().min(OUTPUT_CHUNK_BYTES_MAX)], block }
    }

    /// The first `length` bytes, without a copy where they lie in a closed block.
    pub(crate) fn share(&self, length: usize) -> Bytes {
        let bytes = &self.bytes[..length.min(self.bytes.len())];
        self.block.map_or_else(|| Bytes::copy_from_slice(bytes), |block| block.slice_ref(bytes))
    }
}

impl Block {
    /// One write, not copied.
    pub(crate) fn new(from: u64, stream: Stream, bytes: Bytes) -> Block {
        Block { from, bytes, tags: Tags::All(stream) }
    }

    /// The cursor behind its last byte.
    pub(crate) fn end(&self) -> u64 {
        self.from + self.bytes.len() as u64
    }

    /// How many tags it holds.
    pub(crate) fn tag_count(&self) -> usize {
        if let Tags::Each(tags) = &self.tags { tags.len() } else { 0 }
    }

    /// What lies at `cursor`, which must be inside.
    pub(crate) fn piece(&self, cursor: u64) -> Piece<'_> {
        let at = (cursor - self.from) as usize;
        match &self.tags {
            Tags::All(stream) => Piece::new(*stream, &self.bytes[at..], Some(&self.bytes)),
            Tags::Each(tags) => tagged(&self.bytes, tags, at, Some(&self.bytes)),
        }
    }
}

impl Open {
    /// Of its bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Of the memory for its bytes.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Copies what it has room for. Returns how much that is, and how many tags were added.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) -> (usize, usize) {
        let taken = bytes.len().min(OPEN_BYTES_MAX - self.bytes.len());
        let length = self.bytes.len() + taken;
        if length > self.bytes.capacity() {
            let capacity = length.max(2 * self.bytes.len()).clamp(OPEN_BYTES_MIN, OPEN_BYTES_MAX);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        let tag = Tag { end: length as u16, stream };
        match self.tags.last_mut() {
            Some(last) if last.stream == stream => *last = tag,
            _ => {
                self.tags.push(tag);
                return (taken, 1);
            }
        }
        (taken, 0)
    }

    /// Closed, its last byte before the cursor `end`. `None`: it is empty.
    pub(crate) fn into_block(self, end: u64) -> Option<Block> {
        let tags = match self.tags.as_slice() {
            [] => return None,
            [tag] => Tags::All(tag.stream),
            _ => Tags::Each(self.tags.into_boxed_slice()),
        };
        let bytes = Bytes::from(self.bytes.into_boxed_slice());
        Some(Block { from: end - bytes.len() as u64, bytes, tags })
    }

    /// What lies at the offset `at`, which must be inside.
    pub(crate) fn piece(&self, at: u64) -> Piece<'_> {
        tagged(&self.bytes, &self.tags, at as usize, None)
    }
}

/// What lies at offset `at` up to where its tag ends.
fn tagged<'a>(bytes: &'a [u8], tags: &[Tag], at: usize, block: Option<&'a Bytes>) -> Piece<'a> {
    let tag = tags[tags.partition_point(|tag| usize::from(tag.end) <= at)];
    Piece::new(tag.stream, &bytes[at..usize::from(tag.end)], block)
}
