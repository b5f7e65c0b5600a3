//! Who starts commands? The spawner: a child of the agent that has gone to the commands' side once (`enter`) and
//! then clones each command as its own sibling, so that the agent is the parent that waits.
//!
//! It stands in the cgroup leaf of the next command, which is born there, and then goes to another.
//! It reads one request at a time from a stream socket and answers it. It holds three things: the socket, the stack
//! of its clones, and null at 0, 1 and 2. Root of the sandbox may kill it: the agent makes a new one.
//! Must not know: gRPC, runtimes, what a command is for.

pub(crate) mod enter;
pub(crate) mod frame;

use crate::sys::disposition;
use crate::sys::fixed_fds::{self, AtExec};
use crate::sys::newest::Newest;
use crate::sys::spawn::{self, Identity, Order, Stack, Step};
use enter::Gate;
use frame::{LENGTH_BYTES, Reply, Request};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Where the socket lies in the spawner.
const SOCKET: i32 = 3;
/// stdin, stdout, stderr, leaf.
const DESCRIPTORS_MAX: usize = 4;
const PIECE_BYTES: usize = 16 << 10;

/// The life of the spawner, in a process forked for it. First sends one reply that says whether it stands ready.
pub(crate) fn run(gate: &Gate, leaf: Option<BorrowedFd<'_>>, socket: OwnedFd) -> ! {
    disposition::reset_handlers();
    let mut ready = Reply { pid: 0, step: Step::Done, errno: 0 };
    let entered = disposition::set_mask(u64::MAX)
        .and_then(|()| rustix::process::setsid().map(drop))
        .and_then(|()| enter::enter(gate))
        // After the cgroup namespace has begun: its root is the sandbox's cgroup, not the first leaf.
        .map(|()| ready = leaf.map_or(ready, enter_leaf))
        .and_then(|()| fixed_fds::place(socket.as_raw_fd(), SOCKET, AtExec::Close))
        .and_then(|()| fixed_fds::close_from(SOCKET + 1))
        .and_then(|()| Stack::new());
    // Its number may be closed by now; the copy at SOCKET is the one we keep.
    std::mem::forget(socket);
    let mut stack = match entered {
        Ok(stack) => stack,
        Err(_) => spawn::exit(1),
    };
    let socket = spawn::placed(SOCKET);
    let _ = rustix::thread::set_name(c"spawner");
    if send(&socket, ready).is_err() {
        spawn::exit(1);
    }
    // The agent ends us by closing its end.
    while serve_one(&socket, &mut stack, &gate.newest).is_ok() {}
    spawn::exit(0)
}

fn serve_one(socket: &OwnedFd, stack: &mut Stack, newest: &Newest) -> Result<(), Errno> {
    let (bytes, mut descriptors) = receive(socket)?;
    let body = bytes.get(LENGTH_BYTES..).ok_or(Errno::BADMSG)?;
    let request = Request::parse(body).map_err(|_| Errno::BADMSG)?;
    let wanted = 3 + usize::from(request.leaf);
    let [input, output, error, ..] = descriptors.as_slice() else { return Err(Errno::BADMSG) };
    if descriptors.len() != wanted {
        return Err(Errno::BADMSG);
    }
    let order = Order {
        argv: &request.argv,
        env: &request.env,
        cwd: request.cwd,
        stdio: [input.as_fd(), output.as_fd(), error.as_fd()],
        terminal: request.terminal,
        // It is born where we stand.
        leaf: None,
        identity: identity(request.root),
        subreaper: request.subreaper,
    };
    let (pid, failure) = spawn::clone_sibling(&order, stack, newest);
    let reply = match failure {
        None => Reply { pid, step: Step::Done, errno: 0 },
        Some(failure) => Reply { pid, step: failure.step, errno: failure.errno },
    };
    // Our copies of the command's pipes would keep its output open.
    let next = if descriptors.len() > 3 { descriptors.pop() } else { None };
    drop(descriptors);
    send(socket, reply)?;
    match next {
        Some(next) if pid > 0 => send(socket, enter_leaf(next.as_fd())),
        _ => Ok(()),
    }
}

/// Off every command's way: on an idle host it takes 10-20 ms.
fn enter_leaf(procs: BorrowedFd<'_>) -> Reply {
    match rustix::io::write(procs, b"0") {
        Ok(_) => Reply { pid: 0, step: Step::Done, errno: 0 },
        Err(errno) => Reply { pid: 0, step: Step::Leaf, errno: errno.raw_os_error() },
    }
}

/// Who a command becomes, seen from a process that has gone through the gate. With one id only, the ids stay.
pub(crate) fn identity(root: bool) -> Identity {
    match (rustix::process::getuid().is_root(), root) {
        (false, _) => Identity::Same,
        (true, true) => Identity::Root,
        (true, false) => Identity::User,
    }
}

/// The next request with its length in front, and its descriptors.
fn receive(socket: &OwnedFd) -> Result<(Vec<u8>, Vec<OwnedFd>), Errno> {
    let mut bytes = Vec::new();
    let mut piece = [0u8; PIECE_BYTES];
    let mut descriptors = Vec::new();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut wanted = None;
    while wanted.is_none_or(|wanted| bytes.len() < wanted) {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut pieces = [IoSliceMut::new(&mut piece)];
        let received = rustix::net::recvmsg(socket, &mut pieces, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        if received.bytes == 0 {
            return Err(Errno::PIPE);
        }
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        bytes.extend_from_slice(&piece[..received.bytes]);
        if wanted.is_none()
            && let Some(prefix) = bytes.first_chunk::<LENGTH_BYTES>()
        {
            wanted = Some(LENGTH_BYTES + frame::body_length(*prefix).map_err(|_| Errno::BADMSG)?);
        }
    }
    Ok((bytes, descriptors))
}

fn send(socket: &OwnedFd, reply: Reply) -> Result<(), Errno> {
    let sent = rustix::net::send(socket, &reply.encode(), SendFlags::NOSIGNAL)?;
    if sent == frame::REPLY_BYTES { Ok(()) } else { Err(Errno::PIPE) }
}
