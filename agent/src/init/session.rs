//! Who may speak to the agent, and what may be said? Whoever holds the link: at first the stream that the launcher
//! left, later what connects to the listener. A new link replaces the old one. With a link end the commands that were
//! run over it; started ones live on.
//!
//! The server is the gRPC client, whoever opened the stream. Hello comes first on each link. Bytes that are not HTTP/2
//! end their link and nothing else.

use super::grpc::{self, Code, Status, Unanswered};
use super::{Agent, calls};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};
use workspace_proto::agent::{HelloReply, HelloRequest};
use workspace_proto::{PROTOCOL, PTY_VIEWERS_MAX, method};

/// Of requests: what the server may have on the way to us. A viewer whose program does not read leaves its window full,
/// and all of them together must leave room for other calls.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;
const LINK_WINDOW_BYTES: u32 = (4 << 20) + PTY_VIEWERS_MAX as u32 * STREAM_WINDOW_BYTES;
const FRAME_BYTES_MAX: u32 = 64 << 10;
const HEAD_BYTES_MAX: u32 = 16 << 10;
/// Of answers: what h2 may hold for one stream that the socket does not take.
const SEND_BUFFER_BYTES_MAX: usize = 128 << 10;
/// Two per command, a call and a follower, one per viewer, and some for the rest.
const STREAMS_MAX: u32 = 2 * super::COMMANDS_MAX as u32 + PTY_VIEWERS_MAX as u32 + 64;
const HANDSHAKE_WAIT: Duration = Duration::from_secs(10);
/// After an accept that failed, for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the first link at once, and each later one in place of the one before.
pub(crate) async fn serve(agent: Rc<Agent>, listener: OwnedFd, first: OwnedFd) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener.into())?;
    let first = UnixStream::from_std(first.into())?;
    let mut current = tokio::task::spawn_local(serve_link(Rc::clone(&agent), first));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                current.abort();
                current = tokio::task::spawn_local(serve_link(Rc::clone(&agent), stream));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn serve_link(agent: Rc<Agent>, stream: UnixStream) {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(LINK_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        // The server is trusted with its link: a client of it that cancels what it has just asked, many times at once,
        // must not cost everybody else their commands. h2's own bound ends the link at 20.
        .max_pending_accept_reset_streams(STREAMS_MAX as usize)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX);
    let Ok(Ok(mut link)) = timeout(HANDSHAKE_WAIT, builder.handshake(stream)).await else { return };
    let greeted = Rc::new(Cell::new(false));
    while let Some(Ok((request, respond))) = link.accept().await {
        tokio::task::spawn_local(answer(Rc::clone(&agent), Rc::clone(&greeted), request, respond));
    }
}

async fn answer(
    agent: Rc<Agent>,
    greeted: Rc<Cell<bool>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let result = match head.uri.path() {
        method::HELLO => hello(&agent, &greeted, body, &mut respond).await,
        _ if !greeted.get() => Err(Status(Code::FailedPrecondition, "the first call on a link is Hello").into()),
        path => calls::answer(&agent, path, body, &mut respond).await,
    };
    match result {
        Ok(()) => {}
        Err(Unanswered::Refused(status)) => grpc::refuse(&mut respond, status),
        Err(Unanswered::Gone) => respond.send_reset(Reason::CANCEL),
    }
}

async fn hello(
    agent: &Agent,
    greeted: &Cell<bool>,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    let request: HelloRequest = grpc::read_request(body).await?;
    if request.protocol != PROTOCOL {
        return Err(Status(Code::FailedPrecondition, "this agent speaks another protocol").into());
    }
    if request.sandbox_id != agent.sandbox_id {
        return Err(Status(Code::PermissionDenied, "this is another sandbox").into());
    }
    greeted.set(true);
    let reply = HelloReply {
        protocol: PROTOCOL,
        sandbox_id: agent.sandbox_id.clone(),
        process_count: agent.alive(),
        tree_kill: agent.leaves.borrow().work(),
    };
    grpc::reply(respond, &reply).await;
    Ok(())
}
