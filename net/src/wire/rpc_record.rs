//! Records of RPC over TCP (RFC 5531 section 11): fragments in, whole records out, bounded at every byte.
//!
//! ```text
//!  bytes ─► [ head: last? length ][ fragment ] … ─► record
//! ```
//! What is held is at most one record of [`RECORD_BYTES_MAX`], and its memory grows by what has arrived and one piece.

/// The largest record: a WRITE of 1 MiB with all that can stand before its bytes.
pub const RECORD_BYTES_MAX: usize = (1 << 20) + (64 << 10);
/// Fragments of one record; clients send one.
pub const FRAGMENTS_MAX: u32 = 256;
/// Room that is made for bytes that are still to come.
const PIECE_BYTES_MAX: usize = 256 << 10;
const LAST: u32 = 0x8000_0000;

/// No record of ours: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// One record, in memory that is used again: what an earlier one has left behind the end of this one is written over,
/// so that a MiB is not filled with zeros before it is received.
#[derive(Debug, Default)]
pub struct Record {
    memory: Vec<u8>,
    length: usize,
}

impl Record {
    /// The record.
    pub fn bytes(&self) -> &[u8] {
        &self.memory[..self.length]
    }

    /// Memory that it takes, in bytes.
    pub fn capacity(&self) -> usize {
        self.memory.capacity()
    }

    fn append(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if end > self.memory.len() {
            self.memory.truncate(self.length);
            self.memory.extend_from_slice(bytes);
        } else {
            self.memory[self.length..end].copy_from_slice(bytes);
        }
        self.length = end;
    }

    fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.length + bytes;
        if end > self.memory.len() {
            self.memory.resize(end, 0);
        }
        &mut self.memory[self.length..end]
    }
}

/// Puts one record after another together.
#[derive(Debug, Default)]
pub struct Assembler {
    record: Record,
    head: [u8; 4],
    head_bytes: usize,
    fragment_left: usize,
    fragments: u32,
    last: bool,
    whole: bool,
}

impl Assembler {
    /// Takes bytes up to the end of a record; says how many.
    pub fn feed(&mut self, input: &[u8]) -> Result<usize, Broken> {
        let mut at = 0;
        while !self.whole && at < input.len() {
            if self.fragment_left > 0 {
                let taken = self.fragment_left.min(input.len() - at);
                self.record.append(&input[at..at + taken]);
                at += taken;
                self.took(taken);
                continue;
            }
            self.head[self.head_bytes] = input[at];
            self.head_bytes += 1;
            at += 1;
            if self.head_bytes == 4 {
                self.begin_fragment()?;
            }
        }
        Ok(at)
    }

    /// Room in the record for bytes that go there directly. Empty where a head comes next. What was put there is told
    /// by [`Assembler::filled`].
    pub fn room(&mut self) -> &mut [u8] {
        let bytes = if self.whole { 0 } else { self.fragment_left.min(PIECE_BYTES_MAX) };
        self.record.room(bytes)
    }

    /// So many bytes of the room were filled.
    pub fn filled(&mut self, bytes: usize) {
        self.record.length += bytes;
        self.took(bytes);
    }

    /// How many bytes the present fragment still lacks.
    pub fn missing(&self) -> usize {
        self.fragment_left
    }

    /// True where something of a record has arrived and something lacks.
    pub fn is_partial(&self) -> bool {
        !self.whole && (self.head_bytes > 0 || self.fragments > 0)
    }

    /// The whole record, if there is one; `spare` is its memory where none was lent.
    pub fn take(&mut self, spare: &mut Record) -> bool {
        if !self.whole {
            return false;
        }
        *spare = std::mem::take(&mut self.record);
        (self.fragments, self.last, self.whole) = (0, false, false);
        true
    }

    /// Uses this memory for the record that begins.
    pub fn lend(&mut self, memory: &mut Record) {
        if self.record.capacity() == 0 {
            self.record = Record { memory: std::mem::take(&mut memory.memory), length: 0 };
        }
    }

    fn begin_fragment(&mut self) -> Result<(), Broken> {
        let word = u32::from_be_bytes(self.head);
        let bytes = (word & !LAST) as usize;
        self.last = word & LAST != 0;
        self.head_bytes = 0;
        self.fragments += 1;
        let empty_and_more = bytes == 0 && !self.last;
        if empty_and_more || self.fragments > FRAGMENTS_MAX || bytes > RECORD_BYTES_MAX - self.record.length {
            return Err(Broken);
        }
        self.fragment_left = bytes;
        self.whole = bytes == 0;
        Ok(())
    }

    fn took(&mut self, bytes: usize) {
        self.fragment_left -= bytes;
        self.whole = self.fragment_left == 0 && self.last;
    }
}

/// Begins a record that will be sent as one fragment.
pub fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
}

/// Writes the length before a record that was begun; so many bytes of it are elsewhere.
pub fn finish(out: &mut [u8], elsewhere: usize) {
    let head = LAST | (out.len() - 4 + elsewhere) as u32;
    out[..4].copy_from_slice(&head.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<Vec<u8>>, bool) {
        let (mut assembler, mut records) = (Assembler::default(), Vec::new());
        for mut piece in pieces {
            while !piece.is_empty() {
                let Ok(taken) = assembler.feed(piece) else { return (records, true) };
                piece = &piece[taken..];
                let mut record = Record::default();
                if assembler.take(&mut record) {
                    records.push(record.bytes().to_vec());
                }
            }
        }
        (records, false)
    }

    /// Cut anywhere, the same records.
    fn any_bytes(input: &[u8]) {
        let whole = all(&mut std::iter::once(input));
        assert_eq!(all(&mut input.chunks(1)), whole);
        assert_eq!(all(&mut input.chunks(7)), whole);
        assert!(whole.0.iter().map(|record| record.len() + 4).sum::<usize>() <= input.len());
    }

    #[test]
    fn any_bytes_are_records_or_refused() {
        let corpus: [&[u8]; 5] = [
            b"\x80\0\0\x05hello\x80\0\0\x01x",
            b"\0\0\0\x02he\x80\0\0\x03llo",
            b"\x80\0\0\0\x80\0\0\x01x",
            b"\x7f\xff\xff\xffhello",
            b"\0\0\0\0\0\0\0\0",
        ];
        crate::fuzz::run(any_bytes, &corpus);
        assert_eq!(all(&mut std::iter::once(corpus[1])), (vec![b"hello".to_vec()], false));
        assert!(all(&mut std::iter::once(corpus[3])).1 && all(&mut std::iter::once(corpus[4])).1);
    }

    #[test]
    fn what_goes_directly_into_the_record_is_the_same() {
        let (mut assembler, mut record) = (Assembler::default(), Record::default());
        for (first, rest) in [(*b"he", *b"llo"), (*b"sh", *b"all")] {
            assembler.lend(&mut record);
            assert_eq!(assembler.feed(&[b"\x80\0\0\x05", &first[..1]].concat()), Ok(5));
            let room = assembler.room();
            assert_eq!(room.len(), 4);
            room[..2].copy_from_slice(&[first[1], rest[0]]);
            assembler.filled(2);
            assert_eq!(assembler.feed(&[&rest[1..], b"!"].concat()), Ok(2));
            assert!(assembler.take(&mut record));
            assert_eq!(record.bytes(), [&first[..], &rest].concat());
        }
        // A shorter one in the memory of a longer one.
        assembler.lend(&mut record);
        assert_eq!(assembler.feed(b"\x80\0\0\x01x"), Ok(5));
        assert!(assembler.take(&mut record));
        assert_eq!(record.bytes(), b"x");
    }
}
