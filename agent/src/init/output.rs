//! How does output travel? In Run each piece of a pipe becomes one `RunEvent`, laid out in place: the pipe is read behind
//! the room for the header, so that no byte is copied on its way. In Attach a head goes before bytes that stay where they
//! are, for several readers share them. And how much of a Run is kept: a budget.
//!
//! Pure. `yes` into a reader that stops is not here: no window, no read (`drive.rs`).

use bytes::Bytes;
use workspace_proto::OUTPUT_CHUNK_BYTES_MAX;

/// Room for gRPC's prefix (5), the field's key (1) and its length (at most 3), rounded up.
pub(crate) const HEADER_BYTES: usize = 16;
/// The same for an `AttachEvent`: also the cursor's key (1) and number (at most 10).
pub(crate) const ATTACH_HEAD_BYTES_MAX: usize = 20;
const PREFIX_BYTES: usize = 5;
/// Field 1, a number.
const CURSOR_KEY: u8 = 1 << 3;
/// Most bytes of output in one piece: with its header it fills one frame of 64 KiB and no tiny second one.
pub(crate) const PIECE_BYTES_MAX: usize = OUTPUT_CHUNK_BYTES_MAX - HEADER_BYTES;

/// Which stream a piece is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// Number of the field that holds its bytes in `RunEvent`.
    fn run_field(self) -> u8 {
        match self {
            Stream::Stdout => 2,
            Stream::Stderr => 3,
        }
    }

    /// As above, in `AttachEvent`.
    fn attach_field(self) -> u8 {
        self.run_field() + 1
    }
}

/// An empty buffer with room for the header and `length` bytes behind it.
pub(crate) fn room(length: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(HEADER_BYTES + length);
    buffer.resize(HEADER_BYTES, 0);
    buffer
}

/// Writes the header in front of what was put into a [`room`].
pub(crate) fn seal(stream: Stream, mut buffer: Vec<u8>) -> Bytes {
    let length = buffer.len().saturating_sub(HEADER_BYTES);
    let mut head = Head::new();
    head.field(stream.run_field(), length);
    let head = head.finish(length);
    let start = HEADER_BYTES - head.len();
    buffer[start..HEADER_BYTES].copy_from_slice(head.as_bytes());
    Bytes::from(buffer).slice(start..)
}

/// Appends what stands before `length` bytes of output in their `AttachEvent`; behind them lies `cursor`.
pub(crate) fn push_attach_head(buffer: &mut Vec<u8>, cursor: u64, stream: Stream, length: usize) {
    let mut head = Head::new();
    head.put(CURSOR_KEY);
    head.varint(cursor);
    head.field(stream.attach_field(), length);
    buffer.extend_from_slice(head.finish(length).as_bytes());
}

/// What stands before the bytes of one message.
struct Head {
    bytes: [u8; ATTACH_HEAD_BYTES_MAX],
    used: usize,
}

impl Head {
    fn new() -> Head {
        Head { bytes: [0; ATTACH_HEAD_BYTES_MAX], used: PREFIX_BYTES }
    }

    fn put(&mut self, byte: u8) {
        self.bytes[self.used] = byte;
        self.used += 1;
    }

    fn varint(&mut self, mut rest: u64) {
        while rest >= 0x80 {
            self.put((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        self.put(rest as u8);
    }

    /// Key and length of a field of bytes.
    fn field(&mut self, number: u8, length: usize) {
        self.put((number << 3) | 2);
        self.varint(length as u64);
    }

    /// With gRPC's prefix for a message that ends `length` bytes later.
    fn finish(mut self, length: usize) -> Head {
        let message = (self.used - PREFIX_BYTES + length) as u32;
        self.bytes[1..PREFIX_BYTES].copy_from_slice(&message.to_be_bytes());
        self
    }

    fn len(&self) -> usize {
        self.used
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }
}

/// How much of a command's output is still kept, of both streams together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    left: u64,
    truncated: bool,
}

impl Budget {
    /// Keeps at most `bytes_max`.
    pub(crate) fn new(bytes_max: u64) -> Budget {
        Budget { left: bytes_max, truncated: false }
    }

    /// How many of `available` bytes may be read to be kept: 0 when what comes must be dropped.
    pub(crate) fn piece(&self, available: usize) -> usize {
        let most = available.min(PIECE_BYTES_MAX);
        usize::try_from(self.left).unwrap_or(usize::MAX).min(most)
    }

    /// `length` bytes were kept.
    pub(crate) fn keep(&mut self, length: usize) {
        self.left = self.left.saturating_sub(length as u64);
    }

    /// `length` bytes were read and not kept.
    pub(crate) fn drop(&mut self, length: usize) {
        self.truncated |= length > 0;
    }

    /// Nothing more is kept.
    pub(crate) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Something was dropped.
    pub(crate) fn truncated(&self) -> bool {
        self.truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::agent::{AttachEvent, RunEvent, attach_event, run_event::Event};
    use workspace_proto::grpc_frame::Decoder;

    fn sealed(stream: Stream, length: usize) -> Bytes {
        let mut buffer = room(length);
        buffer.extend((0..length).map(|i| i as u8));
        seal(stream, buffer)
    }

    #[test]
    fn a_piece_is_the_message_that_the_proto_says() {
        for length in [0, 1, 127, 128, 16_383, 16_384, PIECE_BYTES_MAX] {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let mut decoder = Decoder::default();
                decoder.push(&sealed(stream, length));
                let event = decoder.next_message::<RunEvent>().unwrap().unwrap().event.unwrap();
                let bytes = match (stream, event) {
                    (Stream::Stdout, Event::Stdout(bytes)) | (Stream::Stderr, Event::Stderr(bytes)) => bytes,
                    other => panic!("{other:?}"),
                };
                assert!(bytes.iter().enumerate().all(|(i, byte)| *byte == i as u8) && bytes.len() == length);
                decoder.finish().unwrap();
            }
        }
    }

    #[test]
    fn a_head_and_its_bytes_are_the_message_that_the_proto_says() {
        for (cursor, length) in [(1, 1), (127, 127), (128, 128), (1 << 40, 16_384), (u64::MAX, 65_536)] {
            for stream in [Stream::Stdout, Stream::Stderr] {
                let mut buffer = Vec::new();
                push_attach_head(&mut buffer, cursor, stream, length);
                assert!(buffer.len() <= ATTACH_HEAD_BYTES_MAX);
                buffer.resize(buffer.len() + length, 7);
                let mut decoder = Decoder::default();
                decoder.push(&buffer);
                let message = decoder.next_message::<AttachEvent>().unwrap().unwrap();
                let bytes = match (stream, message.event.unwrap()) {
                    (Stream::Stdout, attach_event::Event::Stdout(bytes)) => bytes,
                    (Stream::Stderr, attach_event::Event::Stderr(bytes)) => bytes,
                    other => panic!("{other:?}"),
                };
                assert_eq!((message.cursor, bytes), (cursor, Bytes::from(vec![7; length])));
                decoder.finish().unwrap();
            }
        }
    }

    #[test]
    fn pieces_survive_every_cut() {
        let bytes = [sealed(Stream::Stdout, 300), sealed(Stream::Stderr, 3)].concat();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut count = 0;
            for piece in [&bytes[..cut], &bytes[cut..]] {
                decoder.push(piece);
                while decoder.next_message::<RunEvent>().unwrap().is_some() {
                    count += 1;
                }
            }
            assert_eq!(count, 2, "cut at {cut}");
        }
    }

    #[test]
    fn the_budget_keeps_exactly_what_it_was_given() {
        let mut budget = Budget::new(100_000);
        let mut kept = 0;
        loop {
            let piece = budget.piece(70_000);
            if piece == 0 {
                break;
            }
            assert!(piece <= PIECE_BYTES_MAX);
            budget.keep(piece);
            kept += piece;
        }
        assert_eq!(kept, 100_000);
        assert!(budget.is_spent() && !budget.truncated());
        budget.drop(1);
        assert!(budget.truncated());
        assert_eq!(Budget::new(u64::MAX).piece(10), 10);
        assert_eq!(Budget::new(0).piece(10), 0);
    }
}
