//! Bytes in, messages out, and the bytes that answer them. No socket, no clock.
//!
//! `frames` judges what arrives and cuts it into frames; tungstenite unmasks them, joins fragments, answers pings and
//! closes, over a pipe in memory that holds one frame. So it allocates for what has arrived, never for what was declared.

use super::frames::Scan;
use super::{Close, CloseCode, Message};
use bytes::{Buf, BytesMut};
use std::io::{self, Read, Write};
use tungstenite::Error;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};

/// What tungstenite reads at a time; each connection keeps as much.
const READ_BYTES: usize = 4 << 10;
/// Of a close's payload, beside its code.
const REASON_BYTES_MAX: usize = 123;

/// The protocol's state on one connection.
#[derive(Debug)]
pub struct Codec {
    scan: Scan,
    context: WebSocketContext,
}

/// Why no more messages come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The peer closed; it is answered.
    ByPeer,
    /// The peer did what it may not, and is told so.
    Broken(Close),
}

impl Codec {
    /// A server's side, after the upgrade.
    pub fn new(message_bytes_max: usize) -> Codec {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_frame_size(Some(message_bytes_max))
            .max_message_size(Some(message_bytes_max));
        Codec { scan: Scan::new(message_bytes_max), context: WebSocketContext::new(Role::Server, Some(config)) }
    }

    /// Of a message that goes on, in bytes.
    pub fn held_bytes(&self) -> usize {
        self.scan.message_bytes()
    }

    /// Takes whole frames off `input` up to the end of a message; `None` where more bytes are needed. What must be
    /// answered is appended to `out`, the last word too. Nothing may be called after an end.
    pub fn receive(&mut self, input: &mut BytesMut, out: &mut Vec<u8>) -> Result<Option<Message>, Ended> {
        loop {
            let bytes = match self.scan.frame(input) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => return Ok(None),
                Err(close) => return Err(self.refuse(close, out)),
            };
            let mut pipe = Pipe { frame: input.split_to(bytes), out };
            let read = self.context.read(&mut pipe);
            // A ping or a close has its answer now, not with the next message.
            let flushed = self.context.flush(&mut pipe);
            match (read, flushed) {
                (Ok(tungstenite::Message::Text(text)), _) => return Ok(Some(Message::Text(text))),
                (Ok(tungstenite::Message::Binary(bytes)), _) => return Ok(Some(Message::Binary(bytes))),
                (Ok(tungstenite::Message::Close(_)), _) => return Err(Ended::ByPeer),
                (Ok(_), _) => {}
                (Err(Error::Io(error)), _) if error.kind() == io::ErrorKind::WouldBlock => {}
                (Err(error), _) => return Err(self.refuse(reason_of(&error), out)),
            }
        }
    }

    fn refuse(&mut self, close: Close, out: &mut Vec<u8>) -> Ended {
        self.close(&close, out);
        Ended::Broken(close)
    }

    /// Appends a message.
    pub fn send(&mut self, message: Message, out: &mut Vec<u8>) {
        self.write(
            match message {
                Message::Text(text) => tungstenite::Message::Text(text),
                Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
            },
            out,
        );
    }

    /// Appends a ping.
    pub fn ping(&mut self, out: &mut Vec<u8>) {
        self.write(tungstenite::Message::Ping(Default::default()), out);
    }

    /// Appends the last word.
    pub fn close(&mut self, close: &Close, out: &mut Vec<u8>) {
        let code = close.code as u16;
        let reason = &close.reason[..close.reason.floor_char_boundary(REASON_BYTES_MAX)];
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.write(tungstenite::Message::Close(Some(frame)), out);
    }

    fn write(&mut self, message: tungstenite::Message, out: &mut Vec<u8>) {
        let mut pipe = Pipe { frame: BytesMut::new(), out };
        // A pipe into memory takes all; what fails is to speak after an end, which nobody would hear.
        if self.context.write(&mut pipe, message).is_ok() {
            let _ = self.context.flush(&mut pipe);
        }
    }
}

fn reason_of(error: &Error) -> Close {
    match error {
        Error::Utf8(_) => Close::new(CloseCode::BadData, "a text that is not UTF-8"),
        Error::Capacity(_) => Close::new(CloseCode::TooLarge, "a message over the limit"),
        Error::Protocol(why) => Close::new(CloseCode::Protocol, why.to_string()),
        _ => Close::new(CloseCode::Failed, "the server failed at this message"),
    }
}

/// One frame to read, and memory to write to.
struct Pipe<'a> {
    frame: BytesMut,
    out: &'a mut Vec<u8>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.frame.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let bytes = into.len().min(self.frame.len());
        self.frame.copy_to_slice(&mut into[..bytes]);
        Ok(bytes)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            0..126 => bytes.push(0x80 | payload.len() as u8),
            126..65536 => bytes.extend([&[0xfe], &(payload.len() as u16).to_be_bytes()[..]].concat()),
            _ => bytes.extend([&[0xff], &(payload.len() as u64).to_be_bytes()[..]].concat()),
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ MASK[i % 4]));
        bytes
    }

    /// Messages, answers and the end of `bytes` that come in pieces of `piece` bytes.
    fn heard(bytes: &[u8], piece: usize) -> (Vec<Message>, Vec<u8>, Option<Ended>) {
        let (mut codec, mut input, mut out) = (Codec::new(100_000), BytesMut::new(), Vec::new());
        let mut messages = Vec::new();
        for piece in bytes.chunks(piece) {
            input.extend_from_slice(piece);
            loop {
                match codec.receive(&mut input, &mut out) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(ended) => return (messages, out, Some(ended)),
                }
            }
        }
        (messages, out, None)
    }

    #[test]
    fn fragments_pings_and_a_close() {
        let bytes = [
            frame(0x01, b"Hel"),
            frame(0x89, b"alive?"),
            frame(0x80, b"lo"),
            frame(0x82, &[7; 70_000]),
            frame(0x8a, b""),
            frame(0x88, b"\x03\xe8bye"),
        ]
        .concat();
        let whole = heard(&bytes, bytes.len());
        let messages = [Message::Text("Hello".into()), Message::Binary(vec![7; 70_000].into())];
        assert_eq!(whole.0, messages);
        assert_eq!(whole.1, [&b"\x8a\x06alive?"[..], b"\x88\x05\x03\xe8bye"].concat());
        assert_eq!(whole.2, Some(Ended::ByPeer));
        for piece in [1, 2, 3, 7, 1000] {
            assert_eq!(heard(&bytes, piece), whole, "{piece}");
        }
    }

    #[test]
    fn every_breach_has_its_code() {
        for (bytes, code) in [
            (frame(0x88, b"\x03"), 1002),
            (frame(0x88, b"\x03\xe8\xff"), 1007),
            (frame(0x81, b"\xff"), 1007),
            (frame(0x80, b""), 1002),
            (vec![0x82, 0xff, 0, 0, 0, 0, 0x40, 0, 0, 0], 1009),
        ] {
            let (_, out, ended) = heard(&bytes, bytes.len());
            assert!(matches!(ended, Some(Ended::Broken(_))), "{bytes:?}");
            assert_eq!((out[0], u16::from_be_bytes([out[2], out[3]])), (0x88, code), "{bytes:?}");
        }
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            let (_, out, ended) = heard(&frame(0x88, &code.to_be_bytes()), 100);
            assert_eq!(ended, Some(Ended::ByPeer));
            assert_eq!(u16::from_be_bytes([out[2], out[3]]), 1002, "{code} is answered as a breach");
        }
    }

    #[test]
    fn the_last_word_fits_and_is_the_last() {
        let (mut codec, mut out) = (Codec::new(100), Vec::new());
        codec.close(&Close::new(CloseCode::GoingAway, "é".repeat(100)), &mut out);
        assert_eq!((out[0], out[1]), (0x88, 2 + 122));
        let said = out.len();
        codec.send(Message::Text("too late".into()), &mut out);
        codec.ping(&mut out);
        assert_eq!(out.len(), said);
    }
}
