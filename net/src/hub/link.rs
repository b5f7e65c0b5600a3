//! One HTTP/2 connection to an agent: handshake, Hello, what can be asked over it, and its end.
//!
//! The connection is driven by a task of its own on the owner's shard. Every received frame's flow-control credit is
//! given back, also of frames that are dropped: a stream that is not drained would stall all others.

use super::call::{lost, nonsense, unary, within};
use super::{files, follow, process, pty, run};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::client::SendRequest;
use monoio::io::IntoPollIo;
use monoio::net::UnixStream;
use std::os::fd::OwnedFd;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use workspace_core::agent::{Agent, Connector, FileWork, Follower, Viewing};
use workspace_core::process::{Finished, Process};
use workspace_core::pty::{Pty, Size};
use workspace_core::{Error, SandboxId};
use workspace_proto::agent::{
    HelloReply, HelloRequest, InputReply, InputRequest, ListReply, ListRequest, ProcessRequest, PtyCloseReply,
    PtyCloseRequest, PtyListRequest, PtyOpenRequest, PtyResizeReply, PtyResizeRequest, RunRequest, SignalReply,
    SignalRequest, StartRequest,
};
use workspace_proto::{Message, PROTOCOL, method};

/// What one command's output may be ahead of its reader here. A round trip takes some 50 µs, so this carries GB/s.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// As much as 2,048 streams may hold: with less, readers that stop would use up what the others need.
const CONNECTION_WINDOW_BYTES: u32 = 512 << 20;
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

    /// A unary call within the agent's patience.
    pub(super) fn asked<M: Message + 'static, R: Message + Default + 'static, T: 'static>(
        &self,
        path: &'static str,
        message: M,
        read: impl FnOnce(R) -> Result<T, Error> + 'static,
    ) -> LocalBoxFuture<'static, Result<T, Error>> {
        let (requests, patience_ms) = (self.requests.clone(), self.patience_ms);
        async move { read(within(patience_ms, unary(requests, path, &message)).await?) }.boxed_local()
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
        run::run(self.requests.clone(), request, self.patience_ms).boxed_local()
    }

    fn stream(&self, request: RunRequest) -> LocalBoxFuture<'static, Result<Box<dyn Follower>, Error>> {
        let (requests, patience_ms) = (self.requests.clone(), self.patience_ms);
        async move { within(patience_ms, follow::run(requests, request)).await }.boxed_local()
    }

    fn start(&self, request: StartRequest) -> LocalBoxFuture<'static, Result<Process, Error>> {
        self.asked(method::START, request, process::from_wire)
    }

    fn attach(&self, pid: u32, cursor: u64) -> LocalBoxFuture<'static, Result<Box<dyn Follower>, Error>> {
        let (requests, patience_ms) = (self.requests.clone(), self.patience_ms);
        async move { within(patience_ms, follow::attach(requests, pid, cursor)).await }.boxed_local()
    }

    fn processes(&self) -> LocalBoxFuture<'static, Result<Vec<Process>, Error>> {
        self.asked(method::LIST, ListRequest {}, process::list_from_wire)
    }

    fn process(&self, pid: u32) -> LocalBoxFuture<'static, Result<Process, Error>> {
        self.asked(method::GET, ProcessRequest { pid }, process::from_wire)
    }

    fn wait(&self, pid: u32) -> LocalBoxFuture<'static, Result<Process, Error>> {
        let requests = self.requests.clone();
        async move { process::from_wire(unary(requests, method::WAIT, &ProcessRequest { pid }).await?) }.boxed_local()
    }

    fn input(&self, pid: u32, data: Bytes, eof: bool) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.asked(method::INPUT, InputRequest { pid, data, eof }, |_: InputReply| Ok(()))
    }

    fn signal(&self, pid: u32, signal: u32) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.asked(method::SIGNAL, SignalRequest { pid, signal }, |_: SignalReply| Ok(()))
    }

    fn pty_open(&self, request: PtyOpenRequest) -> LocalBoxFuture<'static, Result<Pty, Error>> {
        self.asked(method::PTY_OPEN, request, pty::from_wire)
    }

    fn ptys(&self) -> LocalBoxFuture<'static, Result<Vec<Pty>, Error>> {
        self.asked(method::PTY_LIST, PtyListRequest {}, pty::list_from_wire)
    }

    fn pty_view(&self, id: u64) -> LocalBoxFuture<'static, Result<Viewing, Error>> {
        let (requests, patience_ms) = (self.requests.clone(), self.patience_ms);
        async move { within(patience_ms, pty::view(requests, id)).await }.boxed_local()
    }

    fn pty_resize(&self, id: u64, size: Size) -> LocalBoxFuture<'static, Result<(), Error>> {
        let request = PtyResizeRequest { id, size: Some(pty::size_to_wire(size)) };
        self.asked(method::PTY_RESIZE, request, |_: PtyResizeReply| Ok(()))
    }

    fn pty_close(&self, id: u64) -> LocalBoxFuture<'static, Result<(), Error>> {
        self.asked(method::PTY_CLOSE, PtyCloseRequest { id }, |_: PtyCloseReply| Ok(()))
    }

    fn files(&self) -> LocalBoxFuture<'static, Result<Box<dyn FileWork>, Error>> {
        let (requests, patience_ms) = (self.requests.clone(), self.patience_ms);
        async move { within(patience_ms, files::open(requests, patience_ms)).await }.boxed_local()
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
