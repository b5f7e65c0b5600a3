//! One HTTP/2 connection to an agent: handshake, Hello, unary calls, and its end.
//!
//! The connection is driven by a task of its own on the owner's shard. Every received frame's flow-control credit is
//! given back, also of frames that are dropped: a stream that is not drained would stall all others.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use monoio::io::IntoPollIo;
use monoio::net::UnixStream;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use workspace_core::agent::{Agent, Connector};
use workspace_core::process::Finished;
use workspace_core::{Error, Reason, SandboxId};
use workspace_proto::agent::{HelloReply, HelloRequest, ListReply, ListRequest, RunRequest};
use workspace_proto::grpc_frame::{self, Decoder};
use workspace_proto::{Message, PROTOCOL, method};

const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
const FRAME_BYTES_MAX: u32 = 64 << 10;
/// What small unread DATA frames may add up to before h2 takes them for an attack and ends the link: a command that
/// prints a byte at a time is none. Bounds what a hostile agent can make the server hold beyond the windows.
const UNREAD_FRAMES_BUDGET: usize = 32 << 20;
const HEADER_BYTES_MAX: u32 = 16 << 10;
const SEND_BUFFER_BYTES_MAX: usize = 256 << 10;

/// Makes links to agents on the shard it is called on.
pub struct Hub;

impl Connector for Hub {
    fn connect(
        &self,
        stream: OwnedFd,
        id: SandboxId,
        timeout_ms: u64,
    ) -> LocalBoxFuture<'static, Result<Rc<dyn Agent>, Error>> {
        async move {
            let link = Link::open(stream, timeout_ms).await?;
            within(timeout_ms, link.hello(id)).await?;
            Ok(Rc::new(link) as Rc<dyn Agent>)
        }
        .boxed_local()
    }
}

/// A live connection to one agent.
pub(super) struct Link {
    requests: SendRequest<Bytes>,
    /// Never sent to: disconnected when the connection's task has ended.
    ended: flume::Receiver<()>,
    /// How long the agent may take to answer.
    patience_ms: u64,
}

impl Link {
    async fn open(stream: OwnedFd, patience_ms: u64) -> Result<Link, Error> {
        let stream = std::os::unix::net::UnixStream::from(stream);
        stream.set_nonblocking(true).map_err(lost)?;
        let stream = UnixStream::from_std(stream).map_err(lost)?.into_poll_io().map_err(lost)?;
        let (requests, connection) = h2::client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES_MAX)
            .max_header_list_size(HEADER_BYTES_MAX)
            .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
            .enable_push(false)
            .data_frame_budget(UNREAD_FRAMES_BUDGET)
            .handshake::<_, Bytes>(stream)
            .await
            .map_err(lost)?;
        let (alive, ended) = flume::bounded::<()>(1);
        monoio::spawn(async move {
            match AssertUnwindSafe(connection).catch_unwind().await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "agent link ended"),
                Err(_) => tracing::error!("agent link panicked"),
            }
            drop(alive);
        });
        Ok(Link { requests, ended, patience_ms })
    }

    async fn hello(&self, id: SandboxId) -> Result<(), Error> {
        let request = HelloRequest { protocol: PROTOCOL, sandbox_id: id.as_str().to_owned() };
        let reply: HelloReply = unary(self.requests.clone(), method::HELLO, &request).await?;
        if reply.sandbox_id != id.as_str() || reply.protocol != PROTOCOL {
            return Err(nonsense("hello for another sandbox or protocol"));
        }
        Ok(())
    }
}

impl Agent for Link {
    fn run(&self, request: RunRequest) -> LocalBoxFuture<'static, Result<Finished, Error>> {
        super::run::run(self.requests.clone(), request, self.patience_ms).boxed_local()
    }

    fn process_count(&self, timeout_ms: u64) -> LocalBoxFuture<'static, Result<u64, Error>> {
        let requests = self.requests.clone();
        async move {
            let list = async { unary::<_, ListReply>(requests, method::LIST, &ListRequest {}).await };
            Ok(within(timeout_ms, list).await?.alive)
        }
        .boxed_local()
    }

    fn closed(&self) -> LocalBoxFuture<'static, ()> {
        let ended = self.ended.clone();
        async move {
            let _ = ended.recv_async().await;
        }
        .boxed_local()
    }
}

/// Sends a request with its one message and ends our side of the stream.
pub(super) async fn open_stream<M: Message>(
    requests: SendRequest<Bytes>,
    path: &str,
    message: &M,
) -> Result<ResponseFuture, Error> {
    let mut requests = requests.ready().await.map_err(lost)?;
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = format!("http://agent{path}").parse().map_err(|_| nonsense("method path"))?;
    let headers = request.headers_mut();
    headers.insert("te", http::HeaderValue::from_static("trailers"));
    headers.insert("content-type", http::HeaderValue::from_static("application/grpc"));
    let (response, stream) = requests.send_request(request, false).map_err(lost)?;
    send_all(stream, grpc_frame::encode(message)).await?;
    Ok(response)
}

async fn send_all(mut stream: SendStream<Bytes>, mut bytes: Bytes) -> Result<(), Error> {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(Ok(room)) => room.min(bytes.len()),
            Some(Err(error)) => return Err(lost(error)),
            None => return Err(lost("stream closed while sending")),
        };
        if room > 0 {
            let piece = bytes.split_to(room);
            stream.send_data(piece, bytes.is_empty()).map_err(lost)?;
        }
    }
    Ok(())
}

/// One request, one reply, status 0.
async fn unary<M: Message, R: Message + Default>(
    requests: SendRequest<Bytes>,
    path: &str,
    message: &M,
) -> Result<R, Error> {
    let response = open_stream(requests, path, message).await?.await.map_err(lost)?;
    let status = grpc_status(response.headers());
    if response.status() != StatusCode::OK || status.is_some() {
        return Err(refused(status));
    }
    let mut body = response.into_body();
    let mut decoder = Decoder::default();
    let mut reply = None;
    while let Some(piece) = next_piece(&mut body).await? {
        decoder.push(&piece);
        while let Some(message) = decoder.next_message::<R>().map_err(nonsense)? {
            if reply.replace(message).is_some() {
                return Err(nonsense("a second reply to a unary call"));
            }
        }
    }
    finish(&mut body).await?;
    reply.ok_or_else(|| nonsense("no reply"))
}

/// The next DATA frame, its credit given back.
pub(super) async fn next_piece(body: &mut RecvStream) -> Result<Option<Bytes>, Error> {
    match body.data().await {
        None => Ok(None),
        Some(Ok(piece)) => {
            body.flow_control().release_capacity(piece.len()).map_err(lost)?;
            Ok(Some(piece))
        }
        Some(Err(error)) => Err(lost(error)),
    }
}

/// The trailers must say that all went well.
pub(super) async fn finish(body: &mut RecvStream) -> Result<(), Error> {
    let trailers = body.trailers().await.map_err(lost)?;
    match trailers.as_ref().and_then(grpc_status) {
        Some(0) => Ok(()),
        status => Err(refused(status)),
    }
}

pub(super) fn grpc_status(headers: &HeaderMap) -> Option<u32> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// What the agent refused, by its gRPC status: 8 RESOURCE_EXHAUSTED, 9 FAILED_PRECONDITION, 14 UNAVAILABLE.
pub(super) fn refused(status: Option<u32>) -> Error {
    match status {
        Some(8) => Error::new(Reason::RateLimited, "this sandbox runs as many commands as it may; wait for one to end"),
        Some(9) => Error::new(
            Reason::InvalidParameter,
            "user: this server has one id for each sandbox, so there is no root in it; run the server as root, or give its user a range in /etc/subuid",
        )
        .details("user"),
        Some(14) => Error::new(
            Reason::ProcessExecutionFailed,
            "it is not known whether the command was started: something inside the sandbox stopped what starts commands",
        ),
        status => nonsense(format!("grpc-status {status:?}")),
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
            assert!(!refused(Some(status)).message.is_empty());
        }
    }

    #[test]
    fn any_status_is_a_number_or_none() {
        crate::fuzz::run(status, &[b"0", b"8", b"014", b"+9", b"-1", b"4294967296", b"8, 8", b""]);
    }
}
