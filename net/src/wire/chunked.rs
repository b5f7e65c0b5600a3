//! How a chunked body is taken apart, piece by piece, with extensions and trailers dropped.
//!
//! Consumes what it is given, so nothing but a line of at most 256 bytes is ever kept. What is not data is bounded
//! against the data: one-byte chunks with long extensions end early. Source: RFC 9112 section 7.1.

use bytes::{Buf, BytesMut};

const LINE_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 << 10;
const OVERHEAD_BYTES_MAX: u64 = 16 << 10;

/// Why the bytes are no chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Size,
    Data { left: u64 },
    DataEnd,
    Trailer { bytes: usize },
    Done,
}

/// A body being taken apart.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    data_bytes: u64,
    overhead_bytes: u64,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { state: State::Size, data_bytes: 0, overhead_bytes: 0 }
    }
}

impl Decoder {
    /// Moves data from `input` to `data`; true when the body has ended and `input` starts with what follows it.
    /// With false, all that could be used was used; an error is final.
    pub fn decode(&mut self, input: &mut BytesMut, data: &mut Vec<u8>) -> Result<bool, Malformed> {
        loop {
            match self.state {
                State::Size => {
                    let Some(line) = take_line(input)? else { return Ok(false) };
                    self.overhead(line.len() as u64 + 2)?;
                    self.state = match size(&line)? {
                        0 => State::Trailer { bytes: 0 },
                        left => State::Data { left },
                    };
                }
                State::Data { left } => {
                    if input.is_empty() {
                        return Ok(false);
                    }
                    let take = left.min(input.len() as u64) as usize;
                    data.extend_from_slice(&input[..take]);
                    input.advance(take);
                    self.data_bytes += take as u64;
                    self.state = match left - take as u64 {
                        0 => State::DataEnd,
                        left => State::Data { left },
                    };
                }
                State::DataEnd => {
                    match input.get(..2) {
                        Some(b"\r\n") => input.advance(2),
                        Some(_) => return Err(Malformed("a chunk longer than it said")),
                        None => return Ok(false),
                    }
                    self.overhead(2)?;
                    self.state = State::Size;
                }
                State::Trailer { bytes } => {
                    let Some(line) = take_line(input)? else { return Ok(false) };
                    if line.is_empty() {
                        self.state = State::Done;
                        return Ok(true);
                    }
                    let bytes = bytes + line.len() + 2;
                    if bytes > TRAILER_BYTES_MAX {
                        return Err(Malformed("trailers longer than 8 KiB"));
                    }
                    trailer(&line)?;
                    self.state = State::Trailer { bytes };
                }
                State::Done => return Ok(true),
            }
        }
    }

    fn overhead(&mut self, bytes: u64) -> Result<(), Malformed> {
        self.overhead_bytes += bytes;
        // A chunk of one byte costs 5 of overhead by itself.
        if self.overhead_bytes > OVERHEAD_BYTES_MAX + 8 * self.data_bytes {
            return Err(Malformed("more chunk framing than data"));
        }
        Ok(())
    }
}

/// Takes a line off the front, without its CRLF.
fn take_line(input: &mut BytesMut) -> Result<Option<BytesMut>, Malformed> {
    let window = &input[..input.len().min(LINE_BYTES_MAX + 2)];
    let end = window.iter().position(|b| matches!(b, b'\r' | b'\n'));
    if end.unwrap_or(window.len()) > LINE_BYTES_MAX {
        return Err(Malformed("a chunk line longer than 256 bytes"));
    }
    let Some(end) = end else { return Ok(None) };
    match (window[end], window.get(end + 1)) {
        (b'\r', Some(b'\n')) => {
            let line = input.split_to(end);
            input.advance(2);
            Ok(Some(line))
        }
        (b'\r', None) => Ok(None),
        _ => Err(Malformed("a line that ends without CRLF")),
    }
}

fn size(line: &[u8]) -> Result<u64, Malformed> {
    let digits = line.iter().take_while(|b| b.is_ascii_hexdigit()).count();
    if digits == 0 || digits > 15 {
        return Err(Malformed("a chunk size that is not 1 to 15 hexadecimal digits"));
    }
    let rest = line[digits..].trim_ascii_start();
    // An extension is dropped, but it must look like one, else two readers could see two sizes.
    if !(rest.is_empty() || rest[0] == b';') || line[digits..].iter().any(|b| *b != b'\t' && !(0x20..0x7f).contains(b))
    {
        return Err(Malformed("a chunk size followed by neither an extension nor the line's end"));
    }
    let mut size = 0u64;
    for digit in &line[..digits] {
        size = size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0));
    }
    Ok(size)
}

fn trailer(line: &[u8]) -> Result<(), Malformed> {
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    let framing = [&b"content-length"[..], b"transfer-encoding", b"host"];
    if name.len() == line.len() || name.is_empty() || !name.iter().all(|b| b.is_ascii_graphic()) {
        return Err(Malformed("a trailer that is no header field"));
    }
    if framing.iter().any(|f| name.eq_ignore_ascii_case(f)) {
        return Err(Malformed("a trailer that would change the framing"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> Result<(bool, Vec<u8>, BytesMut), Malformed> {
        let (mut decoder, mut input, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
        let mut done = false;
        for piece in pieces {
            input.extend_from_slice(piece);
            done = decoder.decode(&mut input, &mut data)?;
        }
        Ok((done, data, input))
    }

    #[test]
    fn every_cut_gives_the_same_body() {
        let bytes = b"5;name=\"v\"\r\nhello\r\n1 ; x\r\n \r\n00A\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nnext";
        for cut in 0..=bytes.len() {
            let (done, data, rest) = decode(&[&bytes[..cut], &bytes[cut..]]).unwrap();
            assert!(done);
            assert_eq!(data, b"hello 0123456789");
            assert_eq!(&rest[..], b"next");
        }
    }

    #[test]
    fn refuses_two_readings() {
        for bytes in [
            &b"10000000000000000\r\n"[..],
            b"+5\r\nhello\r\n",
            b"-5\r\n",
            b"0x5\r\n",
            b"5 5\r\nhello\r\n",
            b"5\nhello\r\n",
            b"5;a\nb\r\nhello\r\n",
            b"5\rhello",
            b"\r\n",
            b"5\r\nhello!\r\n",
            b"0\r\nContent-Length: 5\r\n\r\n",
            b"0\r\n folded\r\n\r\n",
        ] {
            assert!(decode(&[bytes]).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        assert!(decode(&[b"5;", &[b'e'; 4096]]).is_err());
        // Once taken for a line whose end was still to come, for ever.
        assert!(decode(&[&[b'f'; 257], b"\r\n"]).is_err());
    }

    #[test]
    fn framing_may_not_outweigh_data() {
        let chunk = [b"1;".to_vec(), vec![b'e'; 200], b"\r\nx\r\n".to_vec()].concat();
        let mut decoder = Decoder::default();
        let mut data = Vec::new();
        let ended = (0..1000).find(|_| decoder.decode(&mut BytesMut::from(&chunk[..]), &mut data).is_err());
        assert!(ended.is_some());
        let mut decoder = Decoder::default();
        for _ in 0..100_000 {
            decoder.decode(&mut BytesMut::from(&b"1\r\nx\r\n"[..]), &mut data).unwrap();
        }
    }
}
