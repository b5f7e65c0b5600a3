//! How the bytes that a command printed become a JSON string, a bounded piece at a time.
//!
//! Escaped, 64 MiB of control bytes are 384 MiB of JSON: only their length is ever known whole. What is not UTF-8 is
//! replaced, one U+FFFD for each broken sequence as the Unicode standard (3.9) recommends, or all is base64.

use super::base64;
use bytes::Bytes;

/// Of the printed bytes that are turned into one piece; a multiple of 3, so that base64 pads only at the end.
const PIECE_BYTES: usize = 48 << 10;
/// The longest UTF-8 sequence.
const SEQUENCE_BYTES_MAX: usize = 4;

/// How bytes are written into JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As text; what is not UTF-8 is replaced.
    Utf8,
    /// Exactly.
    Base64,
}

/// Printed bytes on their way into a JSON string, without its quotes.
#[derive(Debug, Clone)]
pub struct Printed {
    left: Bytes,
    encoding: Encoding,
}

impl Printed {
    /// All of `bytes` are still to be written.
    pub fn new(bytes: impl Into<Bytes>, encoding: Encoding) -> Printed {
        Printed { left: bytes.into(), encoding }
    }

    /// How long what is still to be written is in JSON.
    pub fn json_bytes(&self) -> u64 {
        match self.encoding {
            Encoding::Base64 => self.left.len().div_ceil(3) as u64 * 4,
            Encoding::Utf8 => self
                .left
                .utf8_chunks()
                .map(|chunk| escaped_bytes(chunk.valid()) + 3 * u64::from(!chunk.invalid().is_empty()))
                .sum(),
        }
    }

    /// Appends the next piece, at most 6 times [`PIECE_BYTES`]; false where all had been written.
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if self.left.is_empty() {
            return false;
        }
        let window = self.left.slice(..self.left.len().min(PIECE_BYTES));
        let written = match self.encoding {
            Encoding::Base64 => {
                out.extend_from_slice(base64::encode(&window).as_bytes());
                window.len()
            }
            Encoding::Utf8 => text(&window, window.len() == self.left.len(), out),
        };
        let _ = self.left.split_to(written);
        true
    }
}

/// Appends text as it stands in a JSON string, without quotes; what is not UTF-8 is replaced.
pub fn escape_lossy(bytes: &[u8], out: &mut Vec<u8>) {
    text(bytes, true, out);
}

/// Writes a window of text and returns how much of it: a sequence that its end cuts is left for the next window.
fn text(window: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
    let mut written = 0;
    for chunk in window.utf8_chunks() {
        escape(chunk.valid(), out);
        written += chunk.valid().len();
        let cut = written + chunk.invalid().len() == window.len() && chunk.invalid().len() < SEQUENCE_BYTES_MAX;
        if cut && !last && written > 0 {
            break;
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
            written += chunk.invalid().len();
        }
    }
    written
}

/// The letter after the backslash, `u` for six bytes, 0 for none. RFC 8259 section 7.
const fn escape_of(byte: u8) -> u8 {
    match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0..0x20 => b'u',
        _ => 0,
    }
}

fn escaped_bytes(text: &str) -> u64 {
    let extra = |byte: u8| match escape_of(byte) {
        0 => 0u64,
        b'u' => 5,
        _ => 1,
    };
    text.len() as u64 + text.bytes().map(extra).sum::<u64>()
}

fn escape(text: &str, out: &mut Vec<u8>) {
    out.reserve(text.len());
    let bytes = text.as_bytes();
    let mut plain_from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = escape_of(*byte);
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(&bytes[plain_from..at]);
        plain_from = at + 1;
        out.extend_from_slice(&[b'\\', escape]);
        if escape == b'u' {
            const HEX: &[u8; 16] = b"0123456789abcdef";
            out.extend_from_slice(&[b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.extend_from_slice(&bytes[plain_from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8], encoding: Encoding) -> Vec<u8> {
        let mut printed = Printed::new(bytes.to_vec(), encoding);
        let (length, mut out) = (printed.json_bytes(), Vec::new());
        while printed.write_next(&mut out) {}
        assert_eq!(out.len() as u64, length);
        out
    }

    #[test]
    fn says_what_serde_would_say() {
        let bytes: Vec<u8> = (0..=255).chain("é€😀\u{2028}".bytes()).chain([0xe2, 0x82]).collect();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!([b"\"", &whole(&bytes, Encoding::Utf8)[..], b"\""].concat(), serde_json::to_vec(&text).unwrap());
        assert_eq!(whole(&bytes, Encoding::Base64), base64::encode(&bytes).as_bytes());
    }

    /// A character that a piece's end cuts, at each of its bytes.
    #[test]
    fn pieces_never_break_a_character() {
        for (pad, tail) in (0..6).flat_map(|pad| ["😀€é😀", "\u{fffd}a"].map(|tail| (pad, tail))) {
            let mut bytes = vec![b'a'; PIECE_BYTES - pad];
            bytes.extend_from_slice(tail.as_bytes());
            bytes.extend_from_slice(&[0xf0, 0x9f]);
            bytes.extend_from_slice(&vec![0xff; PIECE_BYTES + 1]);
            let text = String::from_utf8_lossy(&bytes);
            assert_eq!(whole(&bytes, Encoding::Utf8), text.as_bytes(), "{pad}");
            assert_eq!(whole(&bytes, Encoding::Base64), base64::encode(&bytes).as_bytes());
        }
    }
}
