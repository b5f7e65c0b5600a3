//! A WebSocket by hand over one connection: frames masked as RFC 6455 asks, none answered unless the test says so.

use super::client::{Client, Response};
use super::server::Server;
use std::io;
use std::time::{Duration, Instant};

/// For output that must come.
const SEE_MAX: Duration = Duration::from_secs(20);
/// Pings in a row: a minute in which nothing else came.
const PINGS_MAX: u32 = 3;
const MASK: [u8; 4] = [0x11, 0x92, 0xe3, 0x04];

/// What the server sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Text(String),
    Binary(Vec<u8>),
    /// Code and reason.
    Close(u16, String),
}

/// A client after its 101.
pub(crate) struct WebSocket {
    client: Client,
    /// All output that [`WebSocket::see`] has read.
    pub(crate) seen: String,
    pings: u32,
}

impl WebSocket {
    /// Upgrades; gives the answer where that is not 101.
    pub(crate) fn try_connect(server: &Server, path: &str, fields: &[(&str, &str)]) -> Result<WebSocket, Response> {
        WebSocket::upgrade(server.client(), server, path, fields)
    }

    /// Upgrades a connection whose buffers are small.
    #[track_caller]
    pub(crate) fn connect_narrow(server: &Server, path: &str) -> WebSocket {
        let client = Client::connect_narrow(server.address()).expect("connect");
        WebSocket::upgrade(client, server, path, &[]).unwrap_or_else(|answer| panic!("{}", answer.text()))
    }

    fn upgrade(
        mut client: Client,
        server: &Server,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<WebSocket, Response> {
        let own = [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let fields: Vec<(&str, &str)> = own.iter().chain(fields).copied().collect();
        let head = super::client::encode(&server.address().to_string(), "GET", path, &fields, b"");
        client.send(&head).expect("send the upgrade");
        let answer = client.any_response("GET").expect("an answer to the upgrade");
        if answer.status != 101 {
            return Err(answer);
        }
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        Ok(WebSocket { client, seen: String::new(), pings: 0 })
    }

    /// Upgrades.
    #[track_caller]
    pub(crate) fn connect(server: &Server, path: &str, fields: &[(&str, &str)]) -> WebSocket {
        WebSocket::try_connect(server, path, fields)
            .unwrap_or_else(|answer| panic!("{} {}", answer.status, answer.text()))
    }

    /// Sends a binary message.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.frame(0x82, bytes.as_ref());
    }

    /// Sends a text.
    pub(crate) fn text(&mut self, text: impl AsRef<str>) {
        self.frame(0x81, text.as_ref().as_bytes());
    }

    /// Sends bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.client.send(bytes).expect("send");
    }

    fn frame(&mut self, first: u8, payload: &[u8]) {
        // The server may have ended it meanwhile, which the next read shows.
        let _ = self.client.send(&WebSocket::masked(first, payload));
    }

    /// A frame as a client sends it.
    pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
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

    /// The next message; pings are answered.
    pub(crate) fn next(&mut self) -> io::Result<Message> {
        loop {
            let head = self.client.exactly(2)?;
            assert_eq!((head[0] & 0x70, head[1] & 0x80), (0, 0), "no extension, no mask");
            let length = match head[1] {
                126 => u16::from_be_bytes(self.client.exactly(2)?.try_into().expect("2 bytes")).into(),
                127 => u64::from_be_bytes(self.client.exactly(8)?.try_into().expect("8 bytes")),
                length => length.into(),
            };
            let payload = self.client.exactly(length as usize)?;
            self.pings = if head[0] == 0x89 { self.pings } else { 0 };
            match head[0] {
                0x81 => return Ok(Message::Text(String::from_utf8(payload).expect("UTF-8"))),
                0x82 => return Ok(Message::Binary(payload)),
                0x88 => {
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    return Ok(Message::Close(code, String::from_utf8_lossy(&payload[2..]).into_owned()));
                }
                0x89 => {
                    self.frame(0x8a, &payload);
                    self.pings += 1;
                    assert!(self.pings < PINGS_MAX, "nothing but pings behind {:?}", self.seen);
                }
                first => panic!("a frame that begins with {first:#x}"),
            }
        }
    }

    /// Reads output until `wanted` says that it has come; gives what came since the last call.
    #[track_caller]
    pub(crate) fn see_until(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let (from, deadline) = (self.seen.len(), Instant::now() + SEE_MAX);
        while !wanted(&self.seen[from..]) {
            // The server's pings come for ever, so that a read alone would not give up.
            assert!(Instant::now() < deadline, "no {what} within {SEE_MAX:?}, behind {:?}", &self.seen[from..]);
            match self.next() {
                Ok(Message::Binary(bytes)) => self.seen += &String::from_utf8_lossy(&bytes),
                other => panic!("{other:?} instead of {what}, behind {:?}", &self.seen[from..]),
            }
        }
        self.seen[from..].to_owned()
    }

    /// Reads output until `text` has come.
    #[track_caller]
    pub(crate) fn see(&mut self, text: &str) -> String {
        self.see_until(text, |seen| seen.contains(text))
    }

    /// Everything up to the close, which must come: all output, the texts, and the close.
    #[track_caller]
    pub(crate) fn until_closed(&mut self) -> (String, Vec<String>, (u16, String)) {
        let (mut output, mut texts) = (Vec::new(), Vec::new());
        loop {
            match self.next().expect("a close before the end") {
                Message::Binary(bytes) => output.extend(bytes),
                Message::Text(text) => texts.push(text),
                Message::Close(code, reason) => {
                    return (String::from_utf8_lossy(&output).into_owned(), texts, (code, reason));
                }
            }
        }
    }
}
