//! How does the bench speak HTTP/1.1?
//!
//! One blocking connection with keep-alive, one request at a time. `frame` is shared with `load`, which uses the same bytes without blocking.
//! It knows only what our server and the floor answer: a Content-Length, or a status without a body. RFC 9112.

use crate::failure::Failure;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// The longest answer that is taken, head and body.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// The longest wait for one answer.
const ANSWER_MS_MAX: u64 = 60_000;

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    host: String,
    key: Option<String>,
    /// More fields of each request.
    fields: String,
    buffer: Vec<u8>,
}

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 200, 201, …
    pub(crate) status: u16,
    /// Status line and fields, with the empty line.
    pub(crate) head: Vec<u8>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// Where an answer's parts end in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// 200, 201, …
    pub(crate) status: u16,
    /// Bytes of the head with its empty line.
    pub(crate) head_bytes: usize,
    /// Bytes of the body behind it.
    pub(crate) body_bytes: usize,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub(crate) fn open(address: &str, key: Option<&str>) -> Result<Connection, Failure> {
        let failed = |error| Failure::io(format!("connect to {address}"), &error);
        let stream = TcpStream::connect(address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_read_timeout(Some(Duration::from_millis(ANSWER_MS_MAX))).map_err(failed)?;
        stream.set_write_timeout(Some(Duration::from_millis(ANSWER_MS_MAX))).map_err(failed)?;
        Ok(Connection {
            stream,
            host: address.to_owned(),
            key: key.map(str::to_owned),
            fields: String::new(),
            buffer: Vec::with_capacity(8192),
        })
    }

    /// Sends these fields with each request from here on, each with its line's end.
    pub(crate) fn with_fields(&mut self, fields: String) {
        self.fields = fields;
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer, Failure> {
        let request = request_with(method, path, &self.host, self.key.as_deref(), &self.fields, body);
        self.send(&request, &format!("{method} {path}"))
    }

    /// Sends the bytes of a request and waits for its answer.
    pub(crate) fn send(&mut self, request: &[u8], what: &str) -> Result<Answer, Failure> {
        self.stream.write_all(request).map_err(|error| Failure::io(what, &error))?;
        self.answer(what)
    }

    /// Where the bytes of a body may be sent that are not in memory.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Waits for the answer to what was sent.
    pub(crate) fn answer(&mut self, what: &str) -> Result<Answer, Failure> {
        let deadline = Instant::now() + Duration::from_millis(ANSWER_MS_MAX);
        loop {
            if let Some(frame) = frame(&self.buffer)? {
                let end = frame.head_bytes + frame.body_bytes;
                if self.buffer.len() >= end {
                    let answer = Answer {
                        status: frame.status,
                        head: self.buffer[..frame.head_bytes].to_vec(),
                        body: self.buffer[frame.head_bytes..end].to_vec(),
                    };
                    self.buffer.drain(..end);
                    return Ok(answer);
                }
            }
            if self.buffer.len() > ANSWER_BYTES_MAX || Instant::now() > deadline {
                return Err(Failure::new(format!("{}: no end of the answer within the bounds", what)));
            }
            let mut piece = [0; 16 << 10];
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(Failure::new(format!("{}: the server closed the connection", what))),
                Ok(length) => self.buffer.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Failure::io(what, &error)),
            }
        }
    }
}

impl Answer {
    /// The value of a field; `name` in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name.as_bytes())
    }
}

/// The bytes of a request.
pub(crate) fn request(method: &str, path: &str, host: &str, key: Option<&str>, body: &str) -> Vec<u8> {
    request_with(method, path, host, key, "", body)
}

fn request_with(method: &str, path: &str, host: &str, key: Option<&str>, fields: &str, body: &str) -> Vec<u8> {
    let fields = match body.len() {
        0 => fields.to_owned(),
        length => format!("{fields}Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    let mut bytes = head(method, path, host, key, &fields);
    bytes.extend_from_slice(body.as_bytes());
    bytes
}

/// The head of a request, with more fields.
pub(crate) fn head(method: &str, path: &str, host: &str, key: Option<&str>, fields: &str) -> Vec<u8> {
    let key = key.map(|key| format!("Authorization: Bearer {key}\r\n")).unwrap_or_default();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{key}{fields}\r\n").into_bytes()
}

/// Where the first answer in the buffer ends; `None` while its head is not whole.
pub(crate) fn frame(buffer: &[u8]) -> Result<Option<Frame>, Failure> {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = &buffer[..end];
    let bad = || Failure::new(format!("not an HTTP/1.1 answer: {:.80}", String::from_utf8_lossy(head)));
    let digits = head.strip_prefix(b"HTTP/1.1 ").and_then(|rest| rest.get(..3)).ok_or_else(bad)?;
    let status =
        std::str::from_utf8(digits).ok().and_then(number).and_then(|n| u16::try_from(n).ok()).ok_or_else(bad)?;
    let body_bytes = match field(head, b"content-length") {
        Some(value) => {
            let length = number(value).ok_or_else(bad)?;
            if length > ANSWER_BYTES_MAX {
                return Err(Failure::new(format!("an answer of {length} bytes is over the bound")));
            }
            length
        }
        None if matches!(status, 100..=199 | 204 | 304) => 0,
        None => return Err(Failure::new("an answer without Content-Length")),
    };
    Ok(Some(Frame { status, head_bytes: end + 4, body_bytes }))
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// The value of a field; `name` in lower case.
fn field<'a>(head: &'a [u8], name: &[u8]) -> Option<&'a str> {
    head.split(|byte| *byte == b'\n').skip(1).find_map(|line| {
        let (found, rest) = line.split_at_checked(name.len())?;
        let value = rest.strip_prefix(b":")?;
        found.eq_ignore_ascii_case(name).then(|| std::str::from_utf8(value).ok().map(str::trim))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 201 Created\r\nServer: x\r\nCONTENT-Length: 3 \r\n\r\nabc";

    #[test]
    fn an_answer_cut_anywhere_is_not_yet_whole() {
        let whole = Frame { status: 201, head_bytes: ANSWER.len() - 3, body_bytes: 3 };
        for cut in 0..=ANSWER.len() {
            let expected = (cut >= whole.head_bytes).then_some(whole);
            assert_eq!(frame(&ANSWER[..cut]).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_an_answer_is_refused() {
        for bad in [
            &b"\r\n\r\n"[..],
            b"HTTP/1.1 2\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        ] {
            assert!(frame(bad).is_err(), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(frame(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().unwrap().body_bytes, 0);
    }

    /// A frame lies within the bounds and names its status; what comes later changes nothing of it.
    fn any_answer(input: &[u8]) {
        let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
            return assert_eq!(frame(input).unwrap(), None);
        };
        let head = frame(&input[..end + 4]).ok();
        assert_eq!(frame(input).ok(), head);
        if let Some(Some(frame)) = head {
            assert!(frame.head_bytes == end + 4 && frame.body_bytes <= ANSWER_BYTES_MAX);
            assert!(input.starts_with(format!("HTTP/1.1 {:03}", frame.status).as_bytes()));
        }
    }

    #[test]
    fn any_bytes_are_an_answer_or_refused() {
        let corpus: [&[u8]; 6] = [
            ANSWER,
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 4194305\r\n\r\n",
            // Was status 20.
            b"HTTP/1.1 +20 OK\r\nContent-Length: +1\r\n\r\na",
            b"HTTP/1.1 200 OK\nContent-Length: 1\n\n",
            b"HTTP/1.1 200 OK\r\nContent-Length:\xff\r\ncontent-length: 2\r\n\r\n",
        ];
        crate::fuzz::run(any_answer, &corpus);
    }

    #[test]
    fn a_request_says_its_length() {
        let text = String::from_utf8(request("POST", "/x", "h:1", Some("k"), "{}")).unwrap();
        let expected = "POST /x HTTP/1.1\r\nHost: h:1\r\nAuthorization: Bearer k\r\n\
                        Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(text, expected);
    }
}
