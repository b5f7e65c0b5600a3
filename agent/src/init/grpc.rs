//! How does one gRPC call look on h2, without a framework? A request message in, messages and a status out.
//!
//! gRPC over HTTP/2: status in the trailers, or, where nothing was sent, in the headers that end the stream.

use super::source::Gone;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use workspace_proto::Message;
use workspace_proto::grpc_frame::{self, Decoder};

/// Until a request has come whole.
const REQUEST_WAIT: Duration = Duration::from_secs(30);
const STATUS: &str = "grpc-status";
const STATUS_MESSAGE: &str = "grpc-message";

/// gRPC's codes that the agent uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    InvalidArgument = 3,
    NotFound = 5,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Unavailable = 14,
}

/// Why a call failed; the message is ASCII without line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(pub(crate) Code, pub(crate) &'static str);

/// Why a call got no answer that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// Nobody waits for one any more.
    Gone,
    /// It failed, and nothing was sent yet.
    Refused(Status),
}

impl From<Status> for Unanswered {
    fn from(status: Status) -> Unanswered {
        Unanswered::Refused(status)
    }
}

/// The one request message of a call.
pub(crate) async fn read_request<M: Message + Default>(mut body: RecvStream) -> Result<M, Unanswered> {
    let read = async {
        let mut decoder = Decoder::default();
        loop {
            match decoder.next_message::<M>() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(_) => return Err(Status(Code::InvalidArgument, "not a message of this method").into()),
            }
            match body.data().await {
                Some(Ok(piece)) => {
                    decoder.push(&piece);
                    body.flow_control().release_capacity(piece.len()).map_err(|_| Unanswered::Gone)?;
                }
                Some(Err(_)) => return Err(Unanswered::Gone),
                None => return Err(Status(Code::InvalidArgument, "the request ended too early").into()),
            }
        }
    };
    tokio::time::timeout(REQUEST_WAIT, read).await.map_err(|_| Unanswered::Gone)?
}

/// What `work` comes to, as long as the caller waits for it.
pub(crate) async fn while_wanted<T>(
    respond: &mut SendResponse<Bytes>,
    work: impl Future<Output = T>,
) -> Result<T, Unanswered> {
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Ok(result)),
        Poll::Pending => respond.poll_reset(cx).map(|_| Err(Unanswered::Gone)),
    })
    .await
}

/// Headers of a call that goes well so far.
pub(crate) fn begin(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>, h2::Error> {
    respond.send_response(headers(None), false)
}

/// Ends a call that has sent nothing.
pub(crate) fn refuse(respond: &mut SendResponse<Bytes>, status: Status) {
    let _ = respond.send_response(headers(Some(status)), true);
}

/// As [`refuse`], with a message of any bytes, which is written as gRPC wants it: percent-encoded.
pub(crate) fn refuse_with(respond: &mut SendResponse<Bytes>, code: Code, message: &[u8]) {
    let mut response = headers(Some(Status(code, "")));
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) && *byte != b'%';
    let encode = |byte: &u8| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    let text: String = message.trim_ascii_end().iter().map(encode).collect();
    if let Ok(text) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(STATUS_MESSAGE, text);
    }
    let _ = respond.send_response(response, true);
}

/// Ends a call that has sent something and failed.
pub(crate) fn fail(stream: &mut SendStream<Bytes>, status: Status) {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from(status.0 as u16));
    trailers.insert(STATUS_MESSAGE, HeaderValue::from_static(status.1));
    let _ = stream.send_trailers(trailers);
}

/// Ends a call that went well.
pub(crate) fn finish(stream: &mut SendStream<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert(STATUS, HeaderValue::from_static("0"));
    let _ = stream.send_trailers(trailers);
}

/// The whole answer of a unary call.
pub(crate) async fn reply<M: Message>(respond: &mut SendResponse<Bytes>, message: &M) {
    let Ok(mut stream) = begin(respond) else { return };
    if send(&mut stream, grpc_frame::encode(message)).await.is_some() {
        finish(&mut stream);
    }
}

/// Sends all of `bytes` as the window allows. `None`: the stream is gone.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut bytes: Bytes) -> Option<()> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let mut capacity = stream.capacity();
        if capacity == 0 {
            capacity = poll_fn(|cx| stream.poll_capacity(cx)).await?.ok()?;
        }
        stream.send_data(bytes.split_to(capacity.min(bytes.len())), false).ok()?;
    }
    Some(())
}

/// A window of at least `least` and at most what was reserved for `wanted` bytes.
pub(crate) fn poll_window(
    out: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    wanted: usize,
    least: usize,
) -> Poll<Result<usize, Gone>> {
    out.reserve_capacity(wanted);
    loop {
        let window = out.capacity();
        if window >= least {
            return Poll::Ready(Ok(window));
        }
        match ready!(out.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
        }
    }
}

/// Sends what is queued. Ready: all of it.
pub(crate) fn poll_queue(
    out: &mut SendStream<Bytes>,
    queue: &mut VecDeque<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Gone>> {
    while let Some(front) = queue.front_mut() {
        let window = ready!(poll_window(out, cx, front.len(), 1))?;
        let piece = front.split_to(window.min(front.len()));
        if front.is_empty() {
            queue.pop_front();
        }
        out.send_data(piece, false).map_err(|_| Gone)?;
    }
    Poll::Ready(Ok(()))
}

fn headers(status: Option<Status>) -> Response<()> {
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if let Some(Status(code, message)) = status {
        headers.insert(STATUS, HeaderValue::from(code as u16));
        headers.insert(STATUS_MESSAGE, HeaderValue::from_static(message));
    }
    response
}
