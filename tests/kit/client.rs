//! HTTP/1.1 by hand over one kept-alive connection: the test sees each byte that the server sends.
//!
//! It reads strictly: an answer with two lengths, or none where one must be, fails the test.

use rustix::net::{AddressFamily, SocketType};
use serde_json::Value;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Longer than any command that a test waits for.
const READ_TIMEOUT_S: u64 = 150;

/// An answer, whole.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// 100..=599.
    pub(crate) status: u16,
    /// Names in lower case, in the server's order.
    pub(crate) headers: Vec<(String, String)>,
    /// Decoded from chunks where it came so.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first header of this name (lower case).
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The body as JSON; panics with the body where it is none.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {} {}", self.status, self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Panics unless the status is this one; gives itself.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Response {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// Panics unless this is an error of the contract's form with this status and code; gives the body.
    #[track_caller]
    pub(crate) fn expect_error(&self, status: u16, code: u64) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        self.assert_error_form();
        body
    }

    /// Panics unless the body is an error of the contract's form.
    #[track_caller]
    pub(crate) fn assert_error_form(&self) {
        let body = self.json();
        let text = |key: &str| body[key].as_str().is_some_and(|s| !s.is_empty());
        assert!(body["code"].is_u64() && body["retryable"].is_boolean(), "{body}");
        assert!(text("reason") && text("message") && text("request_id"), "{body}");
        assert!(body.get("details").is_none_or(Value::is_string), "details is a string or absent: {body}");
        assert_eq!(self.header("content-type").map(|t| t.starts_with("application/json")), Some(true), "{body}");
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    received: Vec<u8>,
    host: String,
}

impl Client {
    /// Connects; every read gives up after a minute.
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Client> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(READ_TIMEOUT_S)))?;
        stream.set_write_timeout(Some(Duration::from_secs(READ_TIMEOUT_S)))?;
        Ok(Client { stream, received: Vec::new(), host: address.to_string() })
    }

    /// Connects with so small a receive buffer that a server soon notices that nobody reads.
    pub(crate) fn connect_narrow(address: SocketAddr) -> io::Result<Client> {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
        rustix::net::sockopt::set_socket_recv_buffer_size(&socket, 4096)?;
        rustix::net::connect(&socket, &address)?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(READ_TIMEOUT_S)))?;
        Ok(Client { stream, received: Vec::new(), host: address.to_string() })
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The same connection for another thread that sends on it.
    #[track_caller]
    pub(crate) fn sender(&self) -> TcpStream {
        self.stream.try_clone().expect("a second descriptor")
    }

    /// Says that nothing more will be sent.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.stream.shutdown(std::net::Shutdown::Write)
    }

    /// Sends one request with a length, and reads its answer.
    pub(crate) fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Response> {
        self.send(&encode(&self.host, method, path, headers, body))?;
        self.response(method)
    }

    /// Reads the answer to a request of this method; 1xx answers are skipped.
    pub(crate) fn response(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let response = self.any_response(method)?;
            if response.status >= 200 {
                return Ok(response);
            }
        }
    }

    /// Reads the next answer, also a 1xx one.
    pub(crate) fn any_response(&mut self, method: &str) -> io::Result<Response> {
        let mut response = self.head()?;
        let status = response.status;
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return Ok(response);
        }
        let lengths = response.headers.iter().filter(|(n, _)| n == "content-length").count();
        let chunked = response.header("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"));
        response.body = match (lengths, chunked) {
            (0, true) => self.chunks()?,
            (1, false) => {
                let length = response.header("content-length").and_then(|v| v.parse().ok());
                self.exactly(length.ok_or_else(|| bad("content-length is no number"))?)?
            }
            (0, false) => self.rest()?,
            _ => return Err(bad(format!("two framings: {:?}", response.headers))),
        };
        Ok(response)
    }

    /// Reads the head of an answer whose body is read in another way.
    pub(crate) fn head(&mut self) -> io::Result<Response> {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                break at;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.received[..end]).into_owned();
        self.received.drain(..end + 4);
        let (status, headers) = parse_head(&head)?;
        Ok(Response { status, headers, body: Vec::new() })
    }

    /// All bytes until the server closes.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match self.read_more() {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(std::mem::take(&mut self.received)),
                Err(e) => return Err(e),
            }
        }
    }

    /// True when the server closes without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.rest() {
            Ok(rest) => rest.is_empty(),
            Err(e) => e.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// The next chunk of a body; `None` behind the last.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = usize::from_str_radix(&line, 16).map_err(|_| bad(format!("chunk size {line:?}")))?;
        if size == 0 {
            while !self.line()?.is_empty() {}
            return Ok(None);
        }
        let data = self.exactly(size)?;
        if !self.line()?.is_empty() {
            return Err(bad("no CRLF after a chunk"));
        }
        Ok(Some(data))
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(data) = self.chunk()? {
            body.extend(data);
        }
        Ok(body)
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.received.windows(2).position(|w| w == b"\r\n") {
                let line = String::from_utf8_lossy(&self.received[..at]).into_owned();
                self.received.drain(..at + 2);
                return Ok(line);
            }
            self.read_more()?;
        }
    }

    /// So many bytes.
    pub(crate) fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.received.len() < length {
            self.read_more()?;
        }
        Ok(self.received.drain(..length).collect())
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")),
            n => {
                self.received.extend_from_slice(&buffer[..n]);
                Ok(())
            }
        }
    }
}

/// One request as bytes; a body without a type is JSON, a POST, PUT or PATCH has a length.
pub(crate) fn encode(host: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let mut add = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
    if !has("host") {
        add("Host", host);
    }
    for (name, value) in headers {
        add(name, value);
    }
    if !body.is_empty() && !has("content-type") {
        add("Content-Type", "application/json");
    }
    if !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        add("Content-Length", &body.len().to_string());
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// A path with a query, every value percent-encoded byte by byte.
pub(crate) fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let encoded = |value: &str| value.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    format!("{path}?{}", pairs.join("&"))
}

fn parse_head(head: &str) -> io::Result<(u16, Vec<(String, String)>)> {
    let mut lines = head.split("\r\n");
    let start = lines.next().unwrap_or_default();
    let status = start.strip_prefix("HTTP/1.1 ").or_else(|| start.strip_prefix("HTTP/1.0 "));
    let status = status.and_then(|s| s.get(..3)).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| bad(format!("status line {start:?}")))?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| bad(format!("header {line:?}")))?;
        Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    Ok((status, lines.map(header).collect::<io::Result<_>>()?))
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
