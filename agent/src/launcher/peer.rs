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
            Ok(message) => match Request::decode(&packet[..message.bytes]) {
                Ok(request) if request.seq != 0 => Received::Request(request),
                _ => Received::Nonsense,
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
