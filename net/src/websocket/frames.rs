//! May this frame arrive? Judged byte by byte, as soon as the bytes that decide it are here.
//!
//! ```text
//!  0                 1                 2 .. 9             .. 4           ..
//!  FIN RSV1-3 opcode │ MASK length:7 │ length:16 or :64 │ masking key │ masked payload
//! ```
//! What is refused here costs no memory: a length is only believed when its bytes have arrived. A text is refused at its
//! first wrong byte, not at its end. Source: RFC 6455 sections 5.2, 5.4, 5.5 and 8.1.

use super::{Close, CloseCode};

const CONTROL_BYTES_MAX: u64 = 125;
const TEXT: u8 = 1;
/// Unmasked at a time, on the stack.
const PIECE_BYTES: usize = 1024;

/// Looks at the frames of one client in their order.
#[derive(Debug)]
pub(super) struct Scan {
    message_bytes_max: usize,
    /// The frame at the start of the input, once its header is whole.
    current: Option<Header>,
    /// Of the current frame's payload, what was looked at as text.
    looked_at: usize,
    /// The opcode of the message that goes on in the next frame.
    begun: Option<u8>,
    /// Of the message that goes on: the payload of its whole frames.
    message_bytes: usize,
    text: Utf8,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    fin: bool,
    opcode: u8,
    mask: [u8; 4],
    bytes: usize,
    payload_bytes: usize,
}

impl Header {
    fn is_control(&self) -> bool {
        self.opcode & 8 != 0
    }
}

fn broken(reason: &'static str) -> Close {
    Close::new(CloseCode::Protocol, reason)
}

fn not_text() -> Close {
    Close::new(CloseCode::BadData, "a text that is not UTF-8")
}

impl Scan {
    pub(super) fn new(message_bytes_max: usize) -> Scan {
        Scan { message_bytes_max, current: None, looked_at: 0, begun: None, message_bytes: 0, text: Utf8::default() }
    }

    /// Of the message that goes on, in bytes.
    pub(super) fn message_bytes(&self) -> usize {
        self.message_bytes
    }

    /// How many bytes of `input` are its first frame; `None` until all of them are here. A frame that is told must be
    /// taken from the input before the next call.
    pub(super) fn frame(&mut self, input: &[u8]) -> Result<Option<usize>, Close> {
        let header = match self.current {
            Some(header) => header,
            None => match self.header(input)? {
                Some(header) => *self.current.insert(header),
                None => return Ok(None),
            },
        };
        let arrived = (input.len() - header.bytes).min(header.payload_bytes);
        let is_text = !header.is_control() && self.begun.unwrap_or(header.opcode) == TEXT;
        if is_text {
            self.text.look(&input[header.bytes..header.bytes + arrived], self.looked_at, header.mask)?;
            self.looked_at = arrived;
        }
        if arrived < header.payload_bytes {
            return Ok(None);
        }
        if is_text && header.fin && !self.text.is_whole() {
            return Err(not_text());
        }
        self.current = None;
        self.looked_at = 0;
        if !header.is_control() {
            self.message_bytes = if header.fin { 0 } else { self.message_bytes + header.payload_bytes };
            self.begun = if header.fin { None } else { self.begun.or(Some(header.opcode)) };
        }
        Ok(Some(header.bytes + header.payload_bytes))
    }

    /// The header at the start of `input`, once it is whole.
    fn header(&self, input: &[u8]) -> Result<Option<Header>, Close> {
        let Some(first) = input.first() else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        if first & 0x70 != 0 {
            return Err(broken("a reserved bit is set, and no extension was agreed on"));
        }
        match (opcode, self.begun) {
            (0, None) => return Err(broken("a continuation of nothing")),
            (1 | 2, Some(_)) => return Err(broken("a new message inside a fragmented one")),
            (3..=7 | 11.., _) => return Err(broken("a reserved opcode")),
            (8.., _) if !fin => return Err(broken("a fragmented control frame")),
            _ => {}
        }
        let Some(second) = input.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(broken("a client must mask its frames"));
        }
        let (length, bytes) = match second & 0x7f {
            126 => (input.get(2..4).map(|b| u64::from(u16::from_be_bytes([b[0], b[1]]))), 8),
            127 => (input.get(2..10).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes), 14),
            length => (Some(u64::from(length)), 6),
        };
        if opcode & 8 != 0 && u64::from(second & 0x7f) > CONTROL_BYTES_MAX {
            return Err(broken("a control frame of more than 125 bytes"));
        }
        let Some(length) = length else { return Ok(None) };
        if length >> 63 != 0 {
            return Err(broken("a length with its highest bit set"));
        }
        let left = self.message_bytes_max.saturating_sub(self.message_bytes);
        if opcode & 8 == 0 && length > left as u64 {
            let reason = format!("a message of more than {} bytes", self.message_bytes_max);
            return Err(Close::new(CloseCode::TooLarge, reason));
        }
        let Some(mask) = input.get(bytes - 4..bytes).and_then(|b| b.try_into().ok()) else { return Ok(None) };
        Ok(Some(Header { fin, opcode, mask, bytes, payload_bytes: length as usize }))
    }
}

/// A text that comes in pieces cut anywhere.
#[derive(Debug, Default)]
struct Utf8 {
    /// The start of a character whose end has not come.
    cut: [u8; 3],
    cut_bytes: usize,
}

impl Utf8 {
    fn is_whole(&self) -> bool {
        self.cut_bytes == 0
    }

    /// Looks at what of `payload` lies beyond `from`.
    fn look(&mut self, payload: &[u8], from: usize, mask: [u8; 4]) -> Result<(), Close> {
        let mut piece = [0; PIECE_BYTES];
        let mut at = from;
        while at < payload.len() {
            piece[..self.cut_bytes].copy_from_slice(&self.cut[..self.cut_bytes]);
            let bytes = (payload.len() - at).min(PIECE_BYTES - self.cut_bytes);
            for (i, byte) in payload[at..at + bytes].iter().enumerate() {
                piece[self.cut_bytes + i] = byte ^ mask[(at + i) % 4];
            }
            let seen = &piece[..self.cut_bytes + bytes];
            at += bytes;
            self.cut_bytes = match std::str::from_utf8(seen) {
                Ok(_) => 0,
                Err(error) if error.error_len().is_some() => return Err(not_text()),
                Err(error) => {
                    let cut = &seen[error.valid_up_to()..];
                    self.cut[..cut.len()].copy_from_slice(cut);
                    cut.len()
                }
            };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame with the masking key `mask`.
    fn frame(first: u8, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
        let mut bytes = vec![first, 0x80 | payload.len() as u8];
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        bytes
    }

    #[test]
    fn a_text_is_refused_at_its_first_wrong_byte() {
        let text = "κόσμε\u{10ffff}".as_bytes();
        let wrong = [text, b"\xf4\x90"].concat();
        let bytes = frame(0x81, &[&wrong[..], b" and more"].concat(), [1, 2, 3, 4]);
        let mut scan = Scan::new(1000);
        for end in 0..6 + wrong.len() {
            assert_eq!(scan.frame(&bytes[..end]), Ok(None), "{end}");
        }
        assert_eq!(scan.frame(&bytes[..6 + wrong.len()]).unwrap_err().code, CloseCode::BadData);
    }

    #[test]
    fn a_character_may_be_cut_by_frames_and_not_by_the_end() {
        let mut scan = Scan::new(1000);
        for (first, payload) in [(0x01, &b"\xe2"[..]), (0x00, b"\x82"), (0x89, b"\xff"), (0x80, b"\xac")] {
            let bytes = frame(first, payload, [9, 8, 7, 6]);
            assert_eq!(scan.frame(&bytes), Ok(Some(bytes.len())));
        }
        assert_eq!(scan.frame(&frame(0x81, b"\xe2\x82", [0; 4])).unwrap_err().code, CloseCode::BadData);
    }

    #[test]
    fn what_is_declared_is_judged_before_it_arrives() {
        for (bytes, code) in [
            (&[0xc1][..], CloseCode::Protocol),
            (&[0x83], CloseCode::Protocol),
            (&[0x8b], CloseCode::Protocol),
            (&[0x80], CloseCode::Protocol),
            (&[0x09], CloseCode::Protocol),
            (&[0x81, 0x05], CloseCode::Protocol),
            (&[0x89, 0xfe], CloseCode::Protocol),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], CloseCode::Protocol),
            (&[0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0], CloseCode::TooLarge),
            (&[0x82, 0xfe, 3, 233], CloseCode::TooLarge),
        ] {
            let mut scan = Scan::new(1000);
            assert_eq!(scan.frame(&bytes[..bytes.len() - 1]), Ok(None), "{bytes:?}");
            assert_eq!(scan.frame(bytes).unwrap_err().code, code, "{bytes:?}");
        }
    }

    #[test]
    fn the_fragments_of_a_message_are_counted_together() {
        let mut scan = Scan::new(200);
        let part = [0; 100];
        assert!(scan.frame(&frame(0x02, &part, [0; 4])).is_ok());
        assert!(scan.frame(&frame(0x00, &part, [0; 4])).is_ok());
        assert_eq!(scan.message_bytes(), 200);
        assert!(scan.frame(&frame(0x00, b"", [0; 4])).is_ok(), "nothing more is nothing too much");
        assert_eq!(scan.frame(&frame(0x80, b"1", [0; 4])).unwrap_err().code, CloseCode::TooLarge);
    }
}
