//! The server's end of the launcher's socket: requests out, answers matched by number, events kept in order.
//!
//! One SOCK_SEQPACKET socket a shard (see launcher.proto). The socket is non-blocking; the ring only waits for
//! readiness, so nothing is lost when a future is dropped. A launcher that goes away ends the server: the supervisor
//! starts both again as one unit.

use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::runtime::Ended;
use monoio::net::UnixStream;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use workspace_proto::launcher::{Failed, Ready, Reply, Request, reply::Op as Answer, request::Op};
use workspace_proto::{Message, PACKET_BYTES_MAX};

/// Requests of one shard that may wait for the launcher at once.
pub const PENDING_MAX: usize = 4096;

type Answered = (Answer, Vec<OwnedFd>);

/// One shard's socket to the launcher.
pub struct Launcher {
    fd: OwnedFd,
    /// The same socket, to wait on.
    socket: UnixStream,
    seq: Cell<u64>,
    pending: RefCell<HashMap<u64, flume::Sender<Answered>>>,
    events: (flume::Sender<Ended>, flume::Receiver<Ended>),
    ready: (flume::Sender<Ready>, flume::Receiver<Ready>),
    unsent: RefCell<VecDeque<Vec<u8>>>,
}

impl Launcher {
    /// Takes a connected seqpacket socket. Call on the shard's own thread, within its runtime.
    pub fn new(socket: OwnedFd) -> std::io::Result<Rc<Launcher>> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let fd = socket.try_clone()?;
        // Only readiness is asked of it: the type's stream semantics are never used.
        let socket = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
        Ok(Rc::new(Launcher {
            fd,
            socket,
            seq: Cell::new(1),
            pending: RefCell::default(),
            events: flume::unbounded(), // bounded by the number of sandboxes: one event each
            ready: flume::bounded(1),
            unsent: RefCell::default(),
        }))
    }

    /// What the machine gives; the launcher's first packet.
    pub async fn ready(&self) -> Option<Ready> {
        self.ready.1.recv_async().await.ok()
    }

    /// The next sandbox that ended.
    pub async fn ended(&self) -> Ended {
        match self.events.1.recv_async().await {
            Ok(ended) => ended,
            // The sender lives in self.
            Err(_) => std::future::pending().await,
        }
    }

    /// Asks and waits for the answer. `Failed` becomes `RuntimeError`; a full queue is `Overloaded`.
    /// Dropping the future drops the answer and its descriptors; what was asked happens all the same.
    pub async fn call(&self, op: Op) -> Result<Answered, Error> {
        if self.pending.borrow().len() >= PENDING_MAX {
            return Err(Error::new(Reason::Overloaded, "too many sandboxes are being started or ended; try again"));
        }
        let seq = self.seq.replace(self.seq.get() + 1);
        let packet = Request { seq, op: Some(op) }.encode_to_vec();
        if packet.len() > PACKET_BYTES_MAX {
            return Err(Error::new(Reason::Internal, "a request to the launcher was over its limit"));
        }
        let (answered, answer) = flume::bounded(1);
        self.pending.borrow_mut().insert(seq, answered);
        self.send(packet).await.map_err(|e| gone().source(e))?;
        match answer.recv_async().await {
            Ok((Answer::Failed(failed), _)) => Err(refused(&failed)),
            Ok(answered) => Ok(answered),
            Err(_) => Err(gone()),
        }
    }

    /// Reads packets until the launcher goes away, which is an error to end the program with.
    pub async fn serve(&self) -> Result<std::convert::Infallible, std::io::Error> {
        let mut buf = vec![0u8; PACKET_BYTES_MAX];
        loop {
            self.socket.readable(false).await?;
            while let Some((len, fds)) = receive(self.fd(), &mut buf)? {
                if len == 0 {
                    self.pending.borrow_mut().clear();
                    return Err(std::io::Error::other("the launcher has gone"));
                }
                self.take(&buf[..len], fds);
            }
        }
    }

    fn take(&self, packet: &[u8], fds: Vec<OwnedFd>) {
        let Ok(reply) = Reply::decode(packet) else {
            tracing::error!(bytes = packet.len(), "unreadable packet from the launcher");
            return;
        };
        match (reply.seq, reply.op) {
            (0, Some(Answer::Ready(ready))) => drop(self.ready.0.try_send(ready)),
            (0, Some(Answer::Ended(ended))) => {
                let why = if ended.step.is_empty() {
                    format!("the sandbox's agent ended ({})", wait_status(ended.wait_status))
                } else {
                    let error = std::io::Error::from_raw_os_error(ended.errno);
                    format!("set-up failed at {}: {error}", ended.step)
                };
                if let Some(id) = SandboxId::parse(&ended.id) {
                    drop(self.events.0.send(Ended { id, why }));
                }
            }
            (seq, Some(op)) => {
                let waiting = self.pending.borrow_mut().remove(&seq);
                if let Some(waiting) = waiting {
                    drop(waiting.try_send((op, fds)));
                }
            }
            (seq, None) => tracing::error!(seq, "empty packet from the launcher"),
        }
    }

    /// Packets leave in the order of the calls, also when the socket is full.
    async fn send(&self, packet: Vec<u8>) -> std::io::Result<()> {
        self.unsent.borrow_mut().push_back(packet);
        loop {
            let Some(packet) = self.unsent.borrow_mut().pop_front() else { return Ok(()) };
            let mut control = SendAncillaryBuffer::default();
            match sendmsg(self.fd(), &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)
            {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.unsent.borrow_mut().push_front(packet);
                    self.socket.writable(false).await?;
                }
                Err(rustix::io::Errno::INTR) => self.unsent.borrow_mut().push_front(packet),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One packet and its descriptors; `None` when nothing waits. Length 0 is the end.
fn receive(socket: BorrowedFd<'_>, buf: &mut [u8]) -> std::io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let message = match recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags) {
        Ok(message) => message,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            fds.extend(rights);
        }
    }
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(std::io::Error::other("a packet from the launcher was over its limit"));
    }
    Ok(Some((message.bytes, fds)))
}

fn refused(failed: &Failed) -> Error {
    let reason = match failed.errno {
        libc::ENOSPC | libc::EDQUOT => Reason::NoSpace,
        libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOMEM => Reason::SandboxLimitExceeded,
        _ => Reason::RuntimeError,
    };
    let message = match reason {
        Reason::NoSpace => "no space is left for another sandbox".to_owned(),
        Reason::SandboxLimitExceeded => {
            format!("this machine is at a limit ({}); `workspace-server doctor` names it", failed.step)
        }
        _ => format!("the sandbox could not be set up ({}); `workspace-server doctor` may say why", failed.step),
    };
    let errno = std::io::Error::from_raw_os_error(failed.errno);
    Error::new(reason, message).source(format!("{}: {errno}: {}", failed.step, failed.message))
}

fn gone() -> Error {
    Error::new(Reason::RuntimeError, "the launcher has gone; the service is starting it again, try again")
}

fn wait_status(status: i32) -> String {
    match status {
        -1 => "its exit status is not known".to_owned(),
        status if status & 0x7f == 0 => format!("exit code {}", (status >> 8) & 0xff),
        status => format!("signal {}", status & 0x7f),
    }
}
