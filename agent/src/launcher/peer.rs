//! One shard's socket: requests in, replies out, each a packet; descriptors travel with the reply that names them.
//!
//! A peer that does not read its replies is not read from any more: its queue has a bound.

use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::collections::VecDeque;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use workspace_proto::launcher::{Reply, Request};
use workspace_proto::{Message, PACKET_BYTES_MAX};

/// Replies that wait for a peer to read.
const REPLIES_MAX: usize = 4096;
/// Descriptors with one reply: a stream and a pidfd.
const DESCRIPTORS_MAX: usize = 2;

/// One connection to the server.
pub(crate) struct Peer {
    socket: OwnedFd,
    replies: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

/// What was read from a peer.
pub(crate) enum Received {
    Request(Request),
    /// Not a request: nothing can be answered, because its number is unknown.
    Nonsense,
    Nothing,
    Closed,
}

impl Peer {
    /// Takes over a connected, non-blocking seqpacket socket.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Peer { socket, replies: VecDeque::new() }
    }

    /// For epoll.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// True while replies wait for room in the socket.
    pub(crate) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// True while another request may be taken.
    pub(crate) fn has_room(&self) -> bool {
        self.replies.len() < REPLIES_MAX
    }

    /// Reads one packet. Descriptors are never expected: they are closed.
    pub(crate) fn receive(&self, packet: &mut [u8]) -> Received {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.socket, &mut [IoSliceMut::new(packet)], &mut control, flags);
        control.drain().for_each(drop);
        match received {
            Ok(message) if message.bytes == 0 => Received::Closed,
            Ok(message) if message.flags.contains(ReturnFlags::TRUNC) || message.bytes > PACKET_BYTES_MAX => {
                Received::Nonsense
            }
            Ok(message) => match read_request(&packet[..message.bytes]) {
                Some(request) => Received::Request(request),
                None => Received::Nonsense,
            },
            Err(Errno::AGAIN | Errno::INTR) => Received::Nothing,
            Err(_) => Received::Closed,
        }
    }

    /// Queues a reply; [`Peer::flush`] sends it.
    pub(crate) fn queue(&mut self, reply: &Reply, descriptors: Vec<OwnedFd>) {
        let bytes = reply.encode_to_vec();
        assert!(bytes.len() <= PACKET_BYTES_MAX && descriptors.len() <= DESCRIPTORS_MAX, "a reply beyond its bounds");
        self.replies.push_back((bytes, descriptors));
    }

    /// Sends what the socket takes; an error means that the peer is gone.
    pub(crate) fn flush(&mut self) -> Result<(), Errno> {
        while let Some((bytes, descriptors)) = self.replies.front() {
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !borrowed.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&borrowed));
            }
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, flags) {
                Ok(_) => {
                    self.replies.pop_front();
                }
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

/// A request that can be answered: it has a number.
fn read_request(packet: &[u8]) -> Option<Request> {
    Request::decode(packet).ok().filter(|request| request.seq != 0)
}

#[cfg(test)]
mod tests {
    use super::super::create::{self, Claims};
    use super::super::identity::Mode;
    use super::super::serve::start_after;
    use super::*;
    use workspace_proto::launcher::{Adopt, BlockSpan, Create, Destroy, Inventory, request::Op};

    const SPANS: [BlockSpan; 3] = [
        BlockSpan { first: 8, count: 128 },
        BlockSpan { first: 0, count: 2 },
        BlockSpan { first: u32::MAX - 1, count: u32::MAX },
    ];

    fn is_id(text: &str) -> bool {
        text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte))
    }

    /// What passes the checks is an id that is safe as a file name, the built-in template, and a block that is ours,
    /// free, and never the host's own ids nor "no id".
    fn packet(input: &[u8]) {
        let Some(request) = read_request(input) else { return };
        assert_eq!(read_request(&request.encode_to_vec()).as_ref(), Some(&request));
        match request.op {
            Some(Op::Create(asked)) => {
                for mode in [Mode::Root, Mode::Ranged, Mode::Single] {
                    let claims = Claims { mode, spans: &SPANS };
                    let Ok(id) = create::check(claims, &asked, |block| block == 9) else { continue };
                    assert!(is_id(&asked.id) && id.as_str() == asked.id && asked.template == "host");
                    match mode {
                        Mode::Root => assert!(asked.block == 1 || (8..136).contains(&asked.block) && asked.block != 9),
                        Mode::Ranged | Mode::Single => assert_eq!(asked.block, 0),
                    }
                }
            }
            Some(Op::Inventory(Inventory { after_id })) => match start_after(&after_id) {
                Ok(None) => assert!(after_id.is_empty()),
                Ok(Some(id)) => assert!(is_id(&after_id) && id.as_str() == after_id),
                Err(fault) => assert_eq!((fault.step, fault.errno), ("after_id", 0)),
            },
            Some(Op::Destroy(_) | Op::Adopt(_)) | None => {}
        }
    }

    #[test]
    fn any_packet_is_a_checked_request_or_nonsense() {
        let id = "aaq2wk57mzn4xcbdefghijklmnop3562".to_owned();
        let create =
            |block| Create { id: id.clone(), block, template: "host".into(), pids_max: 2048, ..Create::default() };
        let foreign = Create { template: "../host".into(), ..create(8) };
        let requests = [
            Op::Create(create(8)),
            Op::Create(create(1)),
            Op::Create(Create { memory_bytes: u64::MAX, cpu_quota_us: 50_000, tmp_bytes: 1, ..create(135) }),
            Op::Create(create(0)),
            Op::Create(create(9)),
            Op::Create(create(u32::MAX)),
            Op::Create(foreign),
            Op::Destroy(Destroy { id: id.clone(), keep_files: true }),
            Op::Inventory(Inventory { after_id: id.clone() }),
            Op::Inventory(Inventory { after_id: String::new() }),
            Op::Adopt(Adopt { id }),
        ];
        let packets: Vec<Vec<u8>> =
            requests.into_iter().map(|op| Request { seq: 300, op: Some(op) }.encode_to_vec()).collect();
        let mut corpus: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        corpus.push(b"\x08\x00");
        crate::fuzz::run(packet, &corpus);
    }
}
