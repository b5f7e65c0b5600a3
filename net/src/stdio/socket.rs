//! The server's end of one conversation: whole packets, waited for by the ring, moved by direct calls.
//!
//! No buffer is lent to the kernel across a wait, so that any wait may be dropped and nothing is lost.

use super::packet::PACKET_BYTES_MAX;
use monoio::net::UnixStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::io;
use std::os::fd::OwnedFd;

/// A connected SOCK_SEQPACKET socket.
pub(super) struct Socket {
    fd: OwnedFd,
    /// The same socket, to wait on: the type's stream semantics are never used.
    ready: UnixStream,
}

impl Socket {
    /// Takes one that does not block.
    pub(super) fn new(fd: OwnedFd) -> io::Result<Socket> {
        let ready = UnixStream::from_std(fd.try_clone()?.into())?;
        Ok(Socket { fd, ready })
    }

    /// The next packet; `None`: the other side has gone.
    pub(super) async fn receive(&self) -> Option<Vec<u8>> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        loop {
            self.ready.readable(false).await.ok()?;
            match recv(&self.fd, &mut packet[..], RecvFlags::DONTWAIT) {
                // No packet is empty: this is the end.
                Ok((0, _)) => return None,
                Ok((bytes, _)) => {
                    packet.truncate(bytes);
                    return Some(packet);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends a packet as soon as there is room.
    pub(super) async fn send(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            match send(&self.fd, packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::AGAIN) => self.ready.writable(false).await?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
