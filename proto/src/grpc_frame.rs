//! How one gRPC message lies on a stream: a compression byte, a 4-byte big-endian length, the message.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message". Compression is never used here and is refused.
//! Sans-io: bytes in, messages out. Bounded by [`MESSAGE_BYTES_MAX`].

use crate::MESSAGE_BYTES_MAX;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;

const PREFIX_BYTES: usize = 5;

/// Why a stream's bytes are not gRPC messages as this product speaks them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The compression flag was not 0.
    Compressed,
    /// The announced length is above [`MESSAGE_BYTES_MAX`].
    TooLarge,
    /// The stream ended inside a message.
    Truncated,
    /// The bytes are not a message of the expected type.
    Malformed,
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            FrameError::Compressed => "compressed gRPC message",
            FrameError::TooLarge => "gRPC message over the limit",
            FrameError::Truncated => "stream ended inside a gRPC message",
            FrameError::Malformed => "gRPC message of another type",
        })
    }
}

impl std::error::Error for FrameError {}

/// Encodes one message with its prefix.
pub fn encode<M: Message>(message: &M) -> Bytes {
    let len = message.encoded_len();
    let mut buf = BytesMut::with_capacity(PREFIX_BYTES + len);
    buf.put_u8(0);
    buf.put_u32(len as u32);
    message.encode_raw(&mut buf);
    buf.freeze()
}

/// Cuts a stream of bytes into messages. Holds at most one message and what came after it in the last piece.
#[derive(Debug, Default)]
pub struct Decoder {
    buf: BytesMut,
}

impl Decoder {
    /// Takes the next piece of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.buf.extend_from_slice(piece);
    }

    /// The next whole message, or `None` until more bytes come. An error is final for the stream.
    pub fn next_message<M: Message + Default>(&mut self) -> Result<Option<M>, FrameError> {
        if self.buf.len() < PREFIX_BYTES {
            return Ok(None);
        }
        if self.buf[0] != 0 {
            return Err(FrameError::Compressed);
        }
        let len = u32::from_be_bytes([self.buf[1], self.buf[2], self.buf[3], self.buf[4]]) as usize;
        if len > MESSAGE_BYTES_MAX {
            return Err(FrameError::TooLarge);
        }
        if self.buf.len() < PREFIX_BYTES + len {
            return Ok(None);
        }
        self.buf.advance(PREFIX_BYTES);
        let message = self.buf.split_to(len).freeze();
        M::decode(message).map(Some).map_err(|_| FrameError::Malformed)
    }

    /// Call at the end of the stream: nothing may be left.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.buf.is_empty() { Ok(()) } else { Err(FrameError::Truncated) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::HelloRequest;

    #[test]
    fn messages_survive_every_cut() {
        let one = HelloRequest { protocol: 1, sandbox_id: "a".repeat(32) };
        let two = HelloRequest { protocol: 2, sandbox_id: String::new() };
        let bytes = [encode(&one), encode(&two)].concat();
        for cut in 0..=bytes.len() {
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in [&bytes[..cut], &bytes[cut..]] {
                decoder.push(piece);
                while let Some(message) = decoder.next_message::<HelloRequest>().unwrap() {
                    seen.push(message);
                }
            }
            assert_eq!(seen, [one.clone(), two.clone()], "cut at {cut}");
            decoder.finish().unwrap();
        }
    }

    #[test]
    fn refuses_compression_and_size_before_the_body() {
        let mut decoder = Decoder::default();
        decoder.push(&[1, 0, 0, 0, 0]);
        assert_eq!(decoder.next_message::<HelloRequest>(), Err(FrameError::Compressed));
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(decoder.next_message::<HelloRequest>(), Err(FrameError::TooLarge));
        let mut decoder = Decoder::default();
        decoder.push(&[0, 0, 0]);
        assert_eq!(decoder.finish(), Err(FrameError::Truncated));
    }
}
