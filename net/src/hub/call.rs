//! One gRPC call over a link: a request out, messages in, a status at the end. And what a failed one means.
//!
//! Source: gRPC over HTTP/2. What an agent sends is hostile: sizes are bounded by `proto::grpc_frame`.

use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use std::marker::PhantomData;
use std::pin::pin;
use std::time::Duration;
use workspace_core::{Error, Reason};
use workspace_proto::grpc_frame::{self, Decoder};
use workspace_proto::{Message, method};

/// A message that may wait in h2 for the agent's window; a larger one waits for it before it is handed over.
const WITH_HEAD_BYTES_MAX: usize = 16 << 10;

/// Sends a request with its one message and ends our side of the stream.
pub(super) async fn open_stream<M: Message>(
    requests: SendRequest<Bytes>,
    path: &'static str,
    message: &M,
) -> Result<ResponseFuture, Error> {
    let (response, mut stream) = begin(requests, path).await?;
    let message = grpc_frame::encode(message);
    if message.len() <= WITH_HEAD_BYTES_MAX {
        // Before the link is polled: head and message are one write, and the agent is woken once.
        stream.send_data(message, true).map_err(lost)?;
    } else {
        send(&mut stream, message, End::Close).await?;
    }
    Ok(response)
}

/// Begins a call whose messages are still to be sent.
pub(super) async fn begin(
    requests: SendRequest<Bytes>,
    path: &'static str,
) -> Result<(ResponseFuture, SendStream<Bytes>), Error> {
    let mut requests = requests.ready().await.map_err(lost)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://agent{path}").parse().map_err(|_| nonsense("method path"))?;
    let headers = request.headers_mut();
    headers.insert("te", http::HeaderValue::from_static("trailers"));
    headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
    requests.send_request(request, false).map_err(lost)
}

/// What becomes of our side of a stream behind some bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// More may follow.
    Open,
    /// They were the last.
    Close,
}

/// Sends bytes as far as the agent's window goes, waiting for it.
pub(super) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes, end: End) -> Result<(), Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(bytes.len()),
            Some(Err(error)) => return Err(lost(error)),
            None => return Err(lost("stream closed while sending")),
        };
        if room > 0 {
            let piece = bytes.split_to(room);
            stream.send_data(piece, end == End::Close && bytes.is_empty()).map_err(lost)?;
        }
    }
    Ok(())
}

/// One request, one reply, status 0.
pub(super) async fn unary<M: Message, R: Message + Default>(
    requests: SendRequest<Bytes>,
    path: &'static str,
    message: &M,
) -> Result<R, Error> {
    let response = open_stream(requests, path, message).await?.await.map_err(lost)?;
    let mut messages = Messages::new(path, response)?;
    let reply = messages.next().await?.ok_or_else(|| nonsense("no reply"))?;
    match messages.next().await? {
        None => Ok(reply),
        Some(_) => Err(nonsense("a second reply to a unary call")),
    }
}

/// The messages of an answer, in order.
pub(super) struct Messages<R> {
    path: &'static str,
    body: RecvStream,
    decoder: Decoder,
    kind: PhantomData<R>,
}

impl<R: Message + Default> Messages<R> {
    /// Refuses an answer that says at once that the call failed.
    pub(super) fn new(path: &'static str, response: Response<RecvStream>) -> Result<Messages<R>, Error> {
        let status = grpc_status(response.headers());
        if response.status() != StatusCode::OK || status.is_some() {
            return Err(refused(path, status));
        }
        Ok(Messages { path, body: response.into_body(), decoder: Decoder::default(), kind: PhantomData })
    }

    /// The trailers must say that all went well.
    async fn finish(&mut self) -> Result<(), Error> {
        let trailers = self.body.trailers().await.map_err(lost)?;
        match trailers.as_ref().and_then(grpc_status) {
            Some(0) => Ok(()),
            status => Err(refused(self.path, status)),
        }
    }

    /// `None` behind the last, where the status says that all went well. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Option<R>, Error> {
        loop {
            if let Some(message) = self.decoder.next_message::<R>().map_err(nonsense)? {
                return Ok(Some(message));
            }
            match next_piece(&mut self.body).await? {
                Some(piece) => self.decoder.push(&piece),
                None => {
                    self.finish().await?;
                    return Ok(None);
                }
            }
        }
    }
}

/// The next DATA frame, its credit given back.
async fn next_piece(body: &mut RecvStream) -> Result<Option<Bytes>, Error> {
    match body.data().await {
        None => Ok(None),
        Some(Ok(piece)) => {
            body.flow_control().release_capacity(piece.len()).map_err(lost)?;
            Ok(Some(piece))
        }
        Some(Err(error)) => Err(lost(error)),
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What the agent refused, by the call and its gRPC status: 3 INVALID_ARGUMENT, 5 NOT_FOUND, 8 RESOURCE_EXHAUSTED,
/// 9 FAILED_PRECONDITION, 11 OUT_OF_RANGE, 12 UNIMPLEMENTED, 14 UNAVAILABLE. Its own words are not shown: they may be anybody's.
fn refused(path: &str, status: Option<u32>) -> Error {
    match (path, status) {
        (method::RUN | method::START, Some(8)) => {
            Error::new(Reason::RateLimited, "this sandbox runs as many commands as it may; wait for one to end")
        }
        (method::RUN | method::START, Some(9)) => Error::new(
            Reason::InvalidParameter,
            "user: this server has one id for each sandbox, so there is no root in it; run the server as root, or give its user a range in /etc/subuid",
        )
        .details("user"),
        (method::START, Some(3)) => {
            Error::new(Reason::InvalidParameter, "args: arguments and environment are more strings than a process may have")
                .details("args")
        }
        (method::RUN | method::START, Some(14)) => Error::new(
            Reason::ProcessExecutionFailed,
            "it is not known whether the command was started: something inside the sandbox stopped what starts commands",
        ),
        (method::INPUT, Some(8)) => {
            Error::new(Reason::RateLimited, "the process has not read what was sent before; nothing of this was taken, try again")
        }
        (method::INPUT, Some(9)) => Error::new(
            Reason::InvalidParameter,
            "the process's stdin is closed, or belongs to the call that runs it; start it without `stdin` to keep it open",
        )
        .details("pid"),
        (method::ATTACH, Some(9)) => {
            Error::new(Reason::ProcessNotFound, "the output of this process goes to the call that runs it, and is not kept")
        }
        (method::ATTACH, Some(11)) => {
            Error::new(Reason::InvalidParameter, "cursor: the process has not printed as much").details("cursor")
        }
        (method::PTY_OPEN, Some(5)) => Error::new(
            Reason::InvalidParameter,
            "command: the program, or its working directory, was not found in the sandbox",
        )
        .details("command"),
        (method::PTY_OPEN, Some(8)) => Error::new(
            Reason::PtyLimitExceeded,
            "this sandbox has as many terminals as it may; DELETE one that is not used",
        ),
        (method::PTY_OPEN, Some(9)) => Error::new(
            Reason::InvalidParameter,
            "command: the program can't be executed, or not as root: a server with one id for each sandbox has no root in it",
        )
        .details("command"),
        (method::PTY_OPEN, Some(11)) => {
            Error::new(Reason::ProcessExecutionFailed, "the program's arguments and environment are longer than a process may have")
        }
        (method::PTY_OPEN, Some(14)) => Error::new(
            Reason::ProcessExecutionFailed,
            "no terminal could be made: something inside the sandbox stopped what makes them",
        ),
        (method::PTY_ATTACH | method::PTY_RESIZE | method::PTY_CLOSE, Some(5)) => {
            Error::new(Reason::PtyNotFound, "no terminal has this id; GET …/pty lists those that are open")
        }
        (method::PTY_ATTACH, Some(8)) => {
            Error::new(Reason::RateLimited, "this sandbox has as many viewers of terminals as it may; disconnect one")
        }
        (method::PTY_ATTACH, Some(11)) => {
            Error::new(Reason::RateLimited, "more was printed than is kept for this viewer; connect again")
        }
        (method::FILES, Some(8)) => {
            Error::new(Reason::RateLimited, "the sandbox's agent has as much open as it may; wait for calls to end")
        }
        (method::FILES, Some(14)) => Error::new(
            Reason::ProcessExecutionFailed,
            "what works on files inside could not be started: the sandbox has as many processes as it may, or something in it stopped that",
        ),
        (_, Some(5)) => Error::new(
            Reason::ProcessNotFound,
            "no such process; GET …/process lists those that are alive and those that ended a short while ago",
        ),
        (_, Some(12)) => Error::new(
            Reason::NotImplemented,
            "this sandbox was made by an older version, whose agent can't do this; create another",
        ),
        (_, status) => nonsense(format!("{path}: grpc-status {status:?}")),
    }
}

pub(super) fn lost(source: impl std::fmt::Display) -> Error {
    Error::new(Reason::AgentNotConnected, "the link to the sandbox's agent was lost; try again").source(source)
}

pub(super) fn nonsense(source: impl std::fmt::Display) -> Error {
    Error::new(Reason::AgentError, "the sandbox's agent broke its protocol; delete the sandbox and create another")
        .source(source)
}

pub(super) async fn within<T>(timeout_ms: u64, call: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    // h2's futures lose nothing when dropped: they read from the connection's own buffers.
    match select(pin!(call), pin!(monoio::time::sleep(Duration::from_millis(timeout_ms)))).await {
        Either::Left((result, _)) => result,
        Either::Right(_) => Err(Error::new(Reason::AgentTimeout, "the sandbox's agent did not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A status is the number that stands there, or none.
    fn status(input: &[u8]) {
        let Ok(value) = http::HeaderValue::from_bytes(input) else { return };
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", value);
        if let Some(status) = grpc_status(&headers) {
            let text = std::str::from_utf8(input).unwrap().trim_start_matches('+');
            assert_eq!(text.trim_start_matches('0'), status.to_string().trim_start_matches('0'));
            assert!(!refused(method::INPUT, Some(status)).message.is_empty());
        }
    }

    #[test]
    fn any_status_is_a_number_or_none() {
        crate::fuzz::run(status, &[b"0", b"8", b"014", b"+9", b"-1", b"4294967296", b"8, 8", b""]);
    }
}
