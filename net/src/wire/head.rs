//! Where does a request's head end, and may its bytes be given to the head decoder at all?
//!
//! ```text
//!  bytes ──► Scan::feed ──► head of N bytes, each line ended by CRLF, ASCII, within bounds ──► RequestHeadDecoder
//!                      └──► Bad: status and message, then the connection closes
//! ```
//! The decoder behind it swallows bytes after a bare LF and knows no bounds, so every head is walked here first.
//! The walk remembers where it stopped: a head that comes byte by byte costs as much as one that comes at once.
//! Source: RFC 9112 sections 2 to 5.

/// Of the whole head; more is 431.
pub const HEAD_BYTES_MAX: usize = 32 << 10;
/// Of the request line; more is 414.
pub const LINE_BYTES_MAX: usize = 16 << 10;
/// Header fields; more is 431.
pub const FIELDS_MAX: usize = 96;
const LEADING_CRLF_MAX: usize = 2;

/// Bytes that are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    /// The status to answer with.
    pub status: u16,
    /// What is wrong.
    pub message: &'static str,
}

const fn bad(message: &'static str) -> Bad {
    Bad { status: 400, message }
}

/// How far the walk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Partial,
    /// The head: where it starts (after empty lines) and where it ends (after its last CRLF).
    Complete {
        /// Of the first byte of the request line.
        start: usize,
        /// Of the first byte of the body.
        end: usize,
    },
}

/// A walk over one head. Start a new one for each request.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    start: usize,
    line_start: usize,
    lines: usize,
    after_cr: bool,
}

impl Scan {
    /// Walks what is new in `bytes`, which always starts at the same byte of the stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Progress, Bad> {
        let window = &bytes[..bytes.len().min(self.start + HEAD_BYTES_MAX)];
        while let Some(&byte) = window.get(self.at) {
            // Most of a head is plain, and needs no look at each byte.
            if self.inside_line()
                && let plain @ 1.. = window[self.at..].first_chunk().map_or(0, plain_bytes)
            {
                self.advance(plain)?;
                continue;
            }
            if self.after_cr {
                if byte != b'\n' {
                    return Err(bad("a carriage return that ends no line"));
                }
                self.after_cr = false;
                if self.end_line(self.at + 1)? {
                    return self.complete(window);
                }
                self.at += 1;
                continue;
            }
            match byte {
                b'\r' => self.after_cr = true,
                b'\n' => return Err(bad("a line that ends without a carriage return")),
                // Horizontal tab separates words in field values only.
                b'\t' if self.lines > 0 => {}
                0x20..=0x7e => {}
                _ => return Err(bad("a byte that is not visible ASCII in the head")),
            }
            if self.at == self.line_start && self.lines > 0 && matches!(byte, b' ' | b'\t') {
                return Err(bad("a header field folded over several lines"));
            }
            self.advance(1)?;
        }
        if bytes.len() - self.start > HEAD_BYTES_MAX {
            return Err(Bad { status: 431, message: "the head is longer than 32 KiB" });
        }
        Ok(Progress::Partial)
    }

    /// True where a plain byte needs no look at what stands before it.
    fn inside_line(&self) -> bool {
        !self.after_cr && self.at != self.line_start
    }

    fn advance(&mut self, bytes: usize) -> Result<(), Bad> {
        self.at += bytes;
        if self.lines == 0 && self.at - self.start > LINE_BYTES_MAX {
            return Err(Bad { status: 414, message: "the request line is longer than 16 KiB" });
        }
        Ok(())
    }

    /// Takes the line that ends before `next`. True where it was the empty one that ends the head.
    fn end_line(&mut self, next: usize) -> Result<bool, Bad> {
        let empty = next - self.line_start == 2;
        self.line_start = next;
        if empty && self.lines == 0 {
            if next > 2 * LEADING_CRLF_MAX {
                return Err(bad("empty lines instead of a request"));
            }
            self.start = next;
            return Ok(false);
        }
        if empty {
            return Ok(true);
        }
        self.lines += 1;
        if self.lines > FIELDS_MAX + 1 {
            return Err(Bad { status: 431, message: "more than 96 header fields" });
        }
        Ok(false)
    }

    fn complete(&self, window: &[u8]) -> Result<Progress, Bad> {
        request_line(&window[self.start..self.line_start])?;
        Ok(Progress::Complete { start: self.start, end: self.line_start })
    }
}

/// How many of eight bytes are visible ASCII or a space, before the first that is not.
fn plain_bytes(bytes: &[u8; 8]) -> usize {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let word = u64::from_le_bytes(*bytes);
    // The top bit of a byte is set where it is below 0x20, 0x7f, or above. What one byte borrows or carries goes to later
    // ones only, so the first that is marked is right.
    let below = word.wrapping_sub(EACH * 0x20) & !word;
    let above = word | word.wrapping_add(EACH);
    (((below | above) & (EACH * 0x80)).trailing_zeros() / 8) as usize
}

/// Checks the form and the version of the request line, which the decoder takes for an error of any kind.
fn request_line(head: &[u8]) -> Result<(), Bad> {
    let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
    let mut words = line.split(|b| *b == b' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    if words.next().is_some() || method.is_none_or(<[u8]>::is_empty) || target.is_none_or(<[u8]>::is_empty) {
        return Err(bad("the request line is not METHOD TARGET HTTP/1.1"));
    }
    match version {
        Some(b"HTTP/1.1" | b"HTTP/1.0") => Ok(()),
        Some([b'H', b'T', b'T', b'P', b'/', major, b'.', minor])
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Bad { status: 505, message: "only HTTP/1.1 and HTTP/1.0 are spoken here" })
        }
        _ => Err(bad("the request line is not METHOD TARGET HTTP/1.1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Result<Progress, Bad> {
        Scan::default().feed(bytes)
    }

    #[test]
    fn every_cut_finds_the_same_end() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a\r\nX: b\tc\r\n\r\nrest";
        let expected = Progress::Complete { start: 2, end: bytes.len() - 4 };
        assert_eq!(whole(bytes), Ok(expected));
        for cut in 0..bytes.len() {
            let mut scan = Scan::default();
            match scan.feed(&bytes[..cut]).unwrap() {
                Progress::Partial => assert_eq!(scan.feed(bytes), Ok(expected), "cut at {cut}"),
                done => assert_eq!(done, expected, "cut at {cut}"),
            }
        }
    }

    #[test]
    fn plain_bytes_are_counted_to_the_first_other() {
        for byte in 0..=u8::MAX {
            let is_plain = (0x20..0x7f).contains(&byte);
            for at in 0..8 {
                // What follows may be anything.
                for after in [b'a', 0, 0x1f, 0x20, 0x7e, 0x7f, 0x80, 0xff] {
                    let mut bytes = [after; 8];
                    bytes[..at].fill(b'~');
                    bytes[at] = byte;
                    let counted = bytes.iter().take_while(|b| (0x20..0x7f).contains(*b)).count();
                    assert_eq!(plain_bytes(&bytes), counted, "{bytes:x?}");
                    assert_eq!(plain_bytes(&bytes) > at, is_plain);
                }
            }
        }
    }

    #[test]
    fn refuses_what_the_decoder_would_misread() {
        for (bytes, status) in [
            (&b"GET / HTTP/1.1\nHost: a\n\n"[..], 400),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nA: b\0\r\n\r\n", 400),
            (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
            (b"GET /a b HTTP/1.1\r\n\r\n", 400),
            (b"GET /\r\n\r\n", 400),
            (b"GET  HTTP/1.1\r\n\r\n", 400),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            (b"\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", 400),
        ] {
            assert_eq!(whole(bytes).map_err(|b| b.status), Err(status), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn bounds_hold_before_the_end_is_seen() {
        let long_line = [b"GET /".to_vec(), vec![b'a'; 1 << 20]].concat();
        assert_eq!(whole(&long_line).unwrap_err().status, 414);
        let long_field = [b"GET / HTTP/1.1\r\nA: ".to_vec(), vec![b'a'; 1 << 20]].concat();
        assert_eq!(whole(&long_field).unwrap_err().status, 431);
        for (fields, fits) in [(FIELDS_MAX, true), (FIELDS_MAX + 1, false)] {
            let head = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(fields));
            assert_eq!(whole(head.as_bytes()).is_ok(), fits, "{fields}");
        }
    }
}
