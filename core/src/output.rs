//! How does a reader see what a command prints? In pieces that never break a character, each with the position behind
//! it, from which another reader goes on without a gap or a repeat.
//!
//! ```text
//!   bytes of stdout, stderr, in any cuts ─► Seams ─► pieces of at most 8 KiB, whole characters, Position behind each
//! ```
//! A character that a read has cut is held until its other bytes come; what is held stands in the position itself,
//! because a reader that comes back elsewhere finds only what is behind the cursor. Pure.

use crate::process::Stream;
use std::fmt;

/// Most bytes of output in one piece.
pub const PIECE_BYTES_MAX: usize = 8 << 10;
/// Bytes of a character that are not all of it.
const HELD_BYTES_MAX: usize = 3;

/// Where a reader stands: a cursor, and the bytes before it that it has not been shown.
///
/// As text: the cursor in decimal, then `-o` or `-e` with the held bytes of stdout or stderr in hexadecimal where there
/// are any, or `-end` behind the last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Bytes of both streams together.
    pub cursor: u64,
    /// All was read, the command's end too.
    pub ended: bool,
    held: [Held; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Held {
    bytes: [u8; HELD_BYTES_MAX],
    len: u8,
}

impl Held {
    fn new(tail: &[u8]) -> Held {
        let mut held = Held { len: tail.len() as u8, ..Held::default() };
        held.bytes[..tail.len()].copy_from_slice(tail);
        held
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Position {
    /// At a cursor, with nothing held.
    pub fn at(cursor: u64) -> Position {
        Position { cursor, ..Position::default() }
    }

    /// Reads what [`fmt::Display`] writes; anything else is `None`.
    pub fn parse(text: &str) -> Option<Position> {
        let mut parts = text.split('-');
        let digits = parts.next()?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut position = Position::at(digits.parse().ok()?);
        for part in parts {
            if part == "end" {
                position.ended = true;
                continue;
            }
            let (stream, hex) = match part.as_bytes() {
                [b'o', hex @ ..] => (Stream::Stdout, hex),
                [b'e', hex @ ..] => (Stream::Stderr, hex),
                _ => return None,
            };
            position.held[stream as usize] = held(hex)?;
        }
        // One text for one position: `1-e80-oc3`, `01` or twice the same part are none.
        (position.to_string() == text).then_some(position)
    }
}

fn held(hex: &[u8]) -> Option<Held> {
    if hex.is_empty() || !hex.len().is_multiple_of(2) || hex.len() > 2 * HELD_BYTES_MAX {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> = hex.chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    let bytes = bytes?;
    (cut_tail(&bytes) == bytes.len()).then(|| Held::new(&bytes))
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.cursor)?;
        for (mark, held) in ['o', 'e'].iter().zip(&self.held) {
            if held.len > 0 {
                write!(f, "-{mark}")?;
                held.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
            }
        }
        if self.ended { f.write_str("-end") } else { Ok(()) }
    }
}

/// What pieces are cut at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The ends of characters.
    Characters,
    /// Anywhere.
    Bytes,
}

/// Cuts one command's output for one reader.
#[derive(Debug, Clone)]
pub struct Seams {
    position: Position,
    cut: Cut,
}

impl Seams {
    /// Goes on at a position.
    pub fn new(position: Position, cut: Cut) -> Seams {
        Seams { position, cut }
    }

    /// Where the reader stands.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Hands out what `bytes`, whose end is at `cursor`, make readable: pieces and the position behind each.
    pub fn output(&mut self, stream: Stream, bytes: &[u8], cursor: u64, mut piece: impl FnMut(&Position, &[u8])) {
        self.position.cursor = cursor.saturating_sub(bytes.len() as u64);
        let mut rest = bytes;
        let before = std::mem::take(&mut self.position.held[stream as usize]);
        if before.len > 0 {
            // The few bytes that end the character; no copy of the others.
            let taken = rest.len().min(HELD_BYTES_MAX + 1 - usize::from(before.len));
            let joined = [before.as_bytes(), &rest[..taken]].concat();
            let tail = self.tail(&joined);
            self.position.cursor += taken as u64;
            rest = &rest[taken..];
            // What is cut again goes with what follows, where something does.
            if tail > 0 && !rest.is_empty() && tail <= taken {
                rest = &bytes[taken - tail..];
                self.position.cursor -= tail as u64;
            } else {
                self.position.held[stream as usize] = Held::new(&joined[joined.len() - tail..]);
            }
            if joined.len() > tail {
                piece(&self.position, &joined[..joined.len() - tail]);
            }
        }
        while !rest.is_empty() {
            let window = &rest[..rest.len().min(PIECE_BYTES_MAX)];
            let tail = self.tail(window);
            let whole = window.len() - tail;
            let is_last = window.len() == rest.len();
            let used = if is_last { window.len() } else { whole };
            self.position.cursor += used as u64;
            if is_last {
                self.position.held[stream as usize] = Held::new(&window[whole..]);
            }
            if whole > 0 {
                piece(&self.position, &window[..whole]);
            }
            rest = &rest[used..];
        }
    }

    /// So much is not kept any more; the reader goes on at `cursor`. What was held will never be whole.
    pub fn dropped(&mut self, cursor: u64, piece: impl FnMut(Stream, &Position, &[u8])) {
        self.flush(piece);
        self.position.cursor = cursor;
    }

    /// There is no more output: what is held comes as it is.
    pub fn flush(&mut self, mut piece: impl FnMut(Stream, &Position, &[u8])) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let held = std::mem::take(&mut self.position.held[stream as usize]);
            if held.len > 0 {
                piece(stream, &self.position, held.as_bytes());
            }
        }
    }

    /// Behind the command's end.
    pub fn end(&mut self) -> &Position {
        self.position.ended = true;
        &self.position
    }

    fn tail(&self, bytes: &[u8]) -> usize {
        if self.cut == Cut::Characters { cut_tail(bytes) } else { 0 }
    }
}

/// How many bytes at the end are the beginning of a character whose rest is missing.
fn cut_tail(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(HELD_BYTES_MAX);
    (from..bytes.len())
        .find(|at| std::str::from_utf8(&bytes[*at..]).is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none()))
        .map_or(0, |at| bytes.len() - at)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a reader has been shown, and where it stands.
    fn read(
        seams: &mut Seams,
        pieces: &[(Stream, &[u8])],
        mut cursor: u64,
        shown: &mut [Vec<u8>; 2],
    ) -> Vec<(Position, [usize; 2])> {
        let mut positions = Vec::new();
        for (stream, bytes) in pieces {
            cursor += bytes.len() as u64;
            seams.output(*stream, bytes, cursor, |position, piece| {
                assert!(piece.len() <= PIECE_BYTES_MAX && !piece.is_empty());
                shown[*stream as usize].extend_from_slice(piece);
                positions.push((*position, [shown[0].len(), shown[1].len()]));
            });
            assert_eq!(seams.position().cursor, cursor);
        }
        positions
    }

    #[test]
    fn no_cut_breaks_a_character() {
        let text = "a€😀é\u{2028}z".repeat(3);
        let bytes = text.as_bytes();
        for (first, second) in (0..=bytes.len()).flat_map(|a| (a..=bytes.len()).map(move |b| (a, b))) {
            let mut seams = Seams::new(Position::default(), Cut::Characters);
            let mut whole = String::new();
            let mut at = 0;
            for piece in [&bytes[..first], &bytes[first..second], &bytes[second..]] {
                at += piece.len() as u64;
                seams.output(Stream::Stdout, piece, at, |_, shown| whole += std::str::from_utf8(shown).unwrap());
            }
            seams.flush(|_, _, _| panic!("nothing is held behind whole characters"));
            assert_eq!(whole, text, "cut at {first} and {second}");
        }
    }

    /// Both streams interleaved, what is no UTF-8 among it: from each position another reader goes on, byte for byte.
    #[test]
    fn from_every_position_the_rest_is_read_without_gap_or_repeat() {
        let pieces: [(Stream, &[u8]); 7] = [
            (Stream::Stdout, b"a\xe2\x82"),
            (Stream::Stderr, b"x\xf0\x9f\x98"),
            (Stream::Stdout, b"\xac\xff\xe2"),
            (Stream::Stderr, b"\x80y\xc3"),
            (Stream::Stdout, b"\x28"),
            (Stream::Stderr, b"\xa9\xf0"),
            (Stream::Stdout, b"\xf0\x9f\x98\x80\xf0\x9f"),
        ];
        for cut in [Cut::Characters, Cut::Bytes] {
            let mut shown = [Vec::new(), Vec::new()];
            let mut seams = Seams::new(Position::default(), cut);
            let all: Vec<u8> = pieces.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
            let mut begun = vec![(Position::default(), [0, 0])];
            let mut cursor = 0;
            for piece in &pieces {
                begun.extend(read(&mut seams, &[*piece], cursor, &mut shown));
                cursor += piece.1.len() as u64;
            }
            seams.flush(|stream, _, bytes| shown[stream as usize].extend_from_slice(bytes));
            let whole =
                |stream| pieces.iter().filter(|p| p.0 == stream).flat_map(|p| p.1.to_vec()).collect::<Vec<u8>>();
            assert_eq!(shown, [whole(Stream::Stdout), whole(Stream::Stderr)]);
            assert!(all.len() as u64 == cursor && begun.len() > 5);
            for (position, lengths) in begun {
                assert_eq!(Position::parse(&position.to_string()), Some(position));
                let mut again = [shown[0][..lengths[0]].to_vec(), shown[1][..lengths[1]].to_vec()];
                let mut seams = Seams::new(position, cut);
                let mut at = 0u64;
                for (stream, bytes) in &pieces {
                    let end = at + bytes.len() as u64;
                    let skipped = position.cursor.saturating_sub(at).min(bytes.len() as u64) as usize;
                    read(&mut seams, &[(*stream, &bytes[skipped..])], end - (bytes.len() - skipped) as u64, &mut again);
                    at = end;
                }
                seams.flush(|stream, _, bytes| again[stream as usize].extend_from_slice(bytes));
                assert_eq!(again, shown, "from {position}");
            }
        }
    }

    #[test]
    fn a_large_piece_is_cut_into_bounded_ones() {
        let bytes = "€".repeat(10_000);
        let mut count = 0;
        let mut seams = Seams::new(Position::at(7), Cut::Characters);
        seams.output(Stream::Stdout, bytes.as_bytes(), 30_007, |_, piece| {
            assert!(piece.len() <= PIECE_BYTES_MAX && std::str::from_utf8(piece).is_ok());
            count += piece.len();
        });
        assert_eq!((count, *seams.position()), (30_000, Position::at(30_007)));
    }

    #[test]
    fn only_positions_are_positions() {
        for text in ["0", "7", "18446744073709551615", "5-oe282", "5-ec3", "5-oe2-ef09f98", "9-end"] {
            assert_eq!(Position::parse(text).map(|p| p.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "-1",
            "+1",
            "01",
            "1.5",
            "18446744073709551616",
            "1-",
            "1-o",
            "1-o8",
            "1-o41",
            "1-oe28261",
            "1-ec3-oe2",
            "1-oE2",
            "1-oe2-oe2",
            "1-end-end",
            "1-end-oe2",
            "x",
            " 1",
            "1\n",
            "1-oe282ac",
            "\u{661}",
        ] {
            assert_eq!(Position::parse(text), None, "{text}");
        }
    }

    #[test]
    fn any_text_is_one_position_or_none() {
        let target = |input: &[u8]| {
            let Ok(text) = std::str::from_utf8(input) else { return };
            if let Some(position) = Position::parse(text) {
                assert_eq!(position.to_string(), text);
            }
        };
        crate::fuzz::run(
            target,
            &[b"0", b"18446744073709551615", b"5-oe282-ec3", b"5-ef09f98", b"9-end", b"1-oe2-ec3-end"],
        );
    }

    /// Bytes of either stream in any cuts: nothing is lost, and each text is whole characters where all of it is.
    #[test]
    fn any_cuts_show_the_same_bytes() {
        let target = |input: &[u8]| {
            let mut seams = Seams::new(Position::default(), Cut::Characters);
            let (mut shown, mut whole, mut at) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()], 0);
            for piece in input.chunk_by(|a, b| a % 7 != b % 5) {
                let stream = if piece.len().is_multiple_of(2) { Stream::Stdout } else { Stream::Stderr };
                at += piece.len() as u64;
                whole[stream as usize].extend_from_slice(piece);
                seams.output(stream, piece, at, |_, text| shown[stream as usize].extend_from_slice(text));
            }
            seams.flush(|stream, _, text| shown[stream as usize].extend_from_slice(text));
            assert_eq!(shown, whole);
        };
        crate::fuzz::run(target, &["a€😀é".as_bytes(), b"\xf0\x9f\x98\xe2\x82\xff\xc3", b""]);
    }
}
