//! What does hyper on tokio need for the very same answer?
//!
//! A process of its own, with one worker a core, that answers every request with the bytes that our server gave for the sandbox: the same fields
//! in the same order as far as hyper lets one, the same body. It routes nothing and reads nothing. It ends when its standard input does.

use crate::client::Answer;
use crate::failure::Failure;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

/// The first argument of the process.
pub(crate) const ROLE: &str = "floor-http";
/// The longest answer that it is given.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The floor's process, ended when dropped.
pub(crate) struct HttpFloor {
    child: Child,
    _alive: ChildStdin,
    /// `HOST:PORT`.
    pub(crate) address: String,
}

impl HttpFloor {
    /// Starts one that repeats this answer.
    pub(crate) fn start(answer: &Answer) -> Result<HttpFloor, Failure> {
        let failed = |error| Failure::io("start the floor's process", &error);
        let program = std::env::current_exe().map_err(failed)?;
        let mut child =
            Command::new(program).arg(ROLE).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut alive), Some(stdout)) = (stdin, stdout) else {
            return Err(Failure::new("the floor's process has no pipes"));
        };
        let mut message = ((answer.head.len() + answer.body.len()) as u64).to_le_bytes().to_vec();
        message.extend_from_slice(&answer.head);
        message.extend_from_slice(&answer.body);
        let mut address = String::new();
        let told = alive.write_all(&message).and_then(|()| BufReader::new(stdout).read_line(&mut address));
        let floor = HttpFloor { child, _alive: alive, address: address.trim().to_owned() };
        told.map_err(failed)?;
        Ok(floor)
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for HttpFloor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The process: reads the answer, says its address, serves until its standard input ends.
pub(crate) fn serve() -> Result<(), Failure> {
    let failed = |error| Failure::io("floor", &error);
    let mut stdin = std::io::stdin().lock();
    let mut length = [0; 8];
    stdin.read_exact(&mut length).map_err(failed)?;
    let length = u64::from_le_bytes(length).min(ANSWER_BYTES_MAX);
    let mut bytes = Vec::new();
    Read::take(&mut stdin, length).read_to_end(&mut bytes).map_err(failed)?;
    let (fields, body) = parse(&bytes)?;

    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(cores).enable_io().build().map_err(failed)?;
    let _guard = runtime.enter();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    println!("{}", listener.local_addr().map_err(failed)?);
    let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
    // hyper writes a Date of its own; only where ours does too.
    let date = fields.contains_key(DATE);
    runtime.spawn(accept(listener, fields, body, date));
    // The pipe's other end is the bench.
    let _ = stdin.read(&mut [0]);
    runtime.shutdown_background();
    Ok(())
}

async fn accept(listener: tokio::net::TcpListener, mut fields: HeaderMap, body: Bytes, date: bool) {
    for name in [DATE, CONTENT_LENGTH, CONNECTION] {
        fields.remove(name);
    }
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let (fields, body) = (fields.clone(), body.clone());
        let answer = service_fn(move |_: Request<Incoming>| {
            let mut response = Response::new(Full::new(body.clone()));
            *response.headers_mut() = fields.clone();
            async { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(async move {
            let mut http = http1::Builder::new();
            // An end by the client is the ordinary one.
            let _ = http.auto_date_header(date).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

fn parse(bytes: &[u8]) -> Result<(HeaderMap, Bytes), Failure> {
    let bad = || Failure::new("floor: not an answer");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or_else(bad)?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| bad())?;
    let mut fields = HeaderMap::new();
    for line in head.split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
        fields.append(name, HeaderValue::from_str(value.trim()).map_err(|_| bad())?);
    }
    Ok((fields, Bytes::copy_from_slice(&bytes[end + 4..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_taken_apart() {
        let (fields, body) = parse(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: now\r\n\r\nhello").unwrap();
        assert_eq!(fields["content-type"], "text/plain");
        assert!(fields.contains_key(DATE));
        assert_eq!(body, "hello");
        assert!(parse(b"HTTP/1.1 200 OK\r\nfield\r\n\r\n").is_err());
    }

    /// The body is what stands behind the head, and no field is lost.
    fn any_answer(input: &[u8]) {
        let Ok((fields, body)) = parse(input) else { return };
        let end = input.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        assert_eq!(body, &input[end + 4..]);
        assert_eq!(fields.len(), input[..end].windows(2).filter(|two| two == b"\r\n").count());
    }

    #[test]
    fn any_bytes_are_taken_apart_or_refused() {
        let corpus: [&[u8]; 3] = [
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: now\r\nDate: then\r\n\r\nhello",
            b"\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: x\r\nA:\x00\r\n\r\n",
        ];
        crate::fuzz::run(any_answer, &corpus);
    }
}
