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
        match read(packet) {
            Ok(Packet::Ready(ready)) => drop(self.ready.0.try_send(ready)),
            Ok(Packet::Ended(ended)) => drop(self.events.0.send(ended)),
            Ok(Packet::Answer(seq, op)) => {
                let waiting = self.pending.borrow_mut().remove(&seq);
                if let Some(waiting) = waiting {
                    drop(waiting.try_send((op, fds)));
                }
            }
            Err(what) => tracing::error!(bytes = packet.len(), "a packet from the launcher {what}"),
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

/// What a packet says.
#[derive(Debug, PartialEq)]
enum Packet {
    Ready(Ready),
    Ended(Ended),
    /// To the request of this number, which is not 0.
    Answer(u64, Answer),
}

/// Reads a packet, or says what is wrong with it.
fn read(packet: &[u8]) -> Result<Packet, &'static str> {
    let reply = Reply::decode(packet).map_err(|_| "can't be read")?;
    match (reply.seq, reply.op) {
        (0, Some(Answer::Ready(ready))) => Ok(Packet::Ready(ready)),
        (0, Some(Answer::Ended(ended))) => {
            let why = if ended.step.is_empty() {
                format!("the sandbox's agent ended ({})", wait_status(ended.wait_status))
            } else {
                let error = std::io::Error::from_raw_os_error(ended.errno);
                format!("set-up failed at {}: {error}", ended.step)
            };
            let id = SandboxId::parse(&ended.id).ok_or("tells the end of what is no sandbox")?;
            Ok(Packet::Ended(Ended { id, why }))
        }
        (0, Some(_)) => Err("answers nobody"),
        (_, Some(Answer::Ready(_) | Answer::Ended(_))) => Err("answers with an event"),
        (seq, Some(op)) => Ok(Packet::Answer(seq, op)),
        (_, None) => Err("is empty"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::launcher::{Created, Destroyed, Ended as Told, Enforced, Identity, Listed};

    /// Events and answers are told apart, and an answer means what was sent: it can be sent again.
    fn packet(input: &[u8]) {
        match read(input) {
            Ok(Packet::Answer(seq, op)) => {
                assert!(seq != 0 && !matches!(op, Answer::Ready(_) | Answer::Ended(_)));
                if let Answer::Failed(failed) = &op {
                    assert!(!refused(failed).message.is_empty());
                }
                let again = Reply { seq, op: Some(op.clone()) }.encode_to_vec();
                assert_eq!(read(&again), Ok(Packet::Answer(seq, op)));
            }
            Ok(Packet::Ended(ended)) => {
                assert_eq!(SandboxId::parse(ended.id.as_str()), Some(ended.id));
                assert!(!ended.why.is_empty());
            }
            Ok(Packet::Ready(_)) => assert_eq!(Reply::decode(input).unwrap().seq, 0),
            Err(what) => assert!(!what.is_empty()),
        }
    }

    #[test]
    fn any_packet_is_an_event_an_answer_or_nothing() {
        let id = SandboxId::from_random([3; 20]).as_str().to_owned();
        let identity = Some(Identity { pid: 7, start_time_ticks: 8, pidfd_inode: 9 });
        let enforced = Some(Enforced { memory: true, pids: true, cpu: false, tree_kill: true });
        let entry =
            workspace_proto::launcher::Entry { id: id.clone(), block: 9, alive: true, identity, enforced, files: true };
        let failed = Failed { step: "cgroup".into(), errno: libc::ENOSPC, message: "no space".into() };
        let ended = |step: &str, wait_status| Told { id: id.clone(), step: step.into(), errno: -5, wait_status };
        let replies = [
            (0, Answer::Ready(Ready { enforced, idmapped: true, notes: vec!["no memory limit".into()] })),
            (0, Answer::Ended(ended("", -1))),
            (0, Answer::Ended(ended("", 0x0100))),
            (0, Answer::Ended(ended("child_proc", 9))),
            (0, Answer::Ended(Told { id: "../x".into(), ..ended("", 0) })),
            (1, Answer::Created(Created { identity, enforced })),
            (2, Answer::Destroyed(Destroyed {})),
            (3, Answer::Listed(Listed { entries: vec![entry.clone(), entry], more: true })),
            (u64::MAX, Answer::Failed(failed)),
        ];
        let packets: Vec<Vec<u8>> =
            replies.into_iter().map(|(seq, op)| Reply { seq, op: Some(op) }.encode_to_vec()).collect();
        let corpus: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        crate::fuzz::run(packet, &corpus);
    }
}
