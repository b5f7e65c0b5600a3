//! How does the agent answer Files? It starts a worker as it starts a command, and carries bytes between it and the stream,
//! held back on both sides by who does not take; it reads none of them.

use super::Agent;
use super::grpc::{self, Code, Status, Unanswered, poll_window};
use super::launch;
use super::reap::Life;
use super::request::Listed;
use super::source::Gone;
use super::start::{Command, Started};
use super::tracked::{Birth, Extra, Tracked};
use crate::sys::spawn::above_stdio;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;

/// The worker is this program. A command's child shares the spawner's memory until it execs, so that this names it.
const PROGRAM: &[u8] = b"/proc/self/exe";
const ROLE: &[u8] = b"files";
const PIECE_BYTES_MAX: usize = 64 << 10;
/// For a worker to undo what it has begun, when its caller has gone.
const UNDO_WAIT: Duration = Duration::from_millis(500);

/// Answers one call.
pub(crate) async fn files(
    agent: &Rc<Agent>,
    body: RecvStream,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    let (socket, worker) = start(agent, respond).await?;
    let socket = Rc::new(socket);
    let up = tokio::task::spawn_local(to_worker(body, Rc::clone(&socket)));
    if let Ok(mut stream) = grpc::begin(respond)
        && from_worker(agent, &socket, &mut stream).await.is_ok()
    {
        grpc::finish(&mut stream);
    }
    up.abort();
    // It may be in the middle of a tree: it looks up from its work for this.
    let _ = rustix::net::shutdown(socket.as_fd(), Shutdown::Both);
    let _ = timeout(UNDO_WAIT, poll_fn(|cx| worker.poll_reaped(cx))).await;
    agent.end_and_reap(&worker).await;
    worker.give_leaf_back(agent);
    agent.give_heap_back();
    Ok(())
}

async fn start(agent: &Rc<Agent>, respond: &mut SendResponse<Bytes>) -> Result<(UnixStream, Tracked), Unanswered> {
    let none = |_| Status(Code::ResourceExhausted, "no descriptor or memory for a worker");
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
    let (ours, theirs) = pair.map_err(none)?;
    rustix::io::ioctl_fionbio(&ours, true).map_err(none)?;
    let theirs = Rc::new(above_stdio(theirs).map_err(none)?);
    let null = agent.null.as_ref().map(OwnedFd::try_clone).transpose().ok().flatten();
    let null = null.map_or_else(|| Rc::clone(&theirs), Rc::new);
    let command = Rc::new(Command {
        argv: vec![Bytes::from_static(PROGRAM), Bytes::from_static(ROLE)],
        env: Vec::new(),
        cwd: Bytes::from_static(b"/"),
        root: false,
        terminal: None,
    });
    let started = launch::start(agent, &command, [Rc::clone(&theirs), theirs, null], respond).await?;
    if started.failure.is_some() {
        agent.end_unwanted(started);
        return Err(Status(Code::Unavailable, "the worker could not be started").into());
    }
    let Started { pid, ended, leaf, at, .. } = started;
    let listed = Listed::new(&command);
    let birth = Birth { pid, listed, at, oom_kills: 0, life: ended.map(Life::new), leaf };
    let worker = Tracked::new(birth, Extra::default());
    match UnixStream::from_std(ours.into()) {
        Ok(socket) => Ok((socket, worker)),
        Err(_) => {
            agent.end_and_reap(&worker).await;
            worker.give_leaf_back(agent);
            Err(Status(Code::ResourceExhausted, "no descriptor or memory for a worker").into())
        }
    }
}

/// Until the caller ends its half, or either side is gone.
async fn to_worker(mut body: RecvStream, socket: Rc<UnixStream>) {
    while let Some(Ok(piece)) = body.data().await {
        let mut rest = &piece[..];
        while !rest.is_empty() {
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if socket.writable().await.is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        if body.flow_control().release_capacity(piece.len()).is_err() {
            return;
        }
    }
    let _ = rustix::net::shutdown(socket.as_fd(), Shutdown::Write);
}

/// Until the worker ends, or nobody waits for it.
async fn from_worker(agent: &Agent, socket: &UnixStream, stream: &mut SendStream<Bytes>) -> Result<(), Gone> {
    loop {
        let readable = poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            socket.poll_read_ready(cx).map_err(|_| Gone)
        });
        readable.await?;
        let lies = rustix::io::ioctl_fionread(socket.as_fd()).map_or(0, |bytes| bytes as usize);
        let wanted = lies.clamp(1, PIECE_BYTES_MAX);
        let window = poll_fn(|cx| {
            if stream.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Gone));
            }
            poll_window(stream, cx, wanted, 1)
        });
        let mut piece = vec![0; window.await?.min(wanted)];
        match socket.try_read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                piece.truncate(read);
                agent.carried(read as u64);
                stream.send_data(piece.into(), false).map_err(|_| Gone)?;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => stream.reserve_capacity(0),
            Err(_) => return Ok(()),
        }
    }
}
