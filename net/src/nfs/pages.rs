//! The bytes of a file on their way into a socket, without a copy (splice(2)): references to its pages, in a pipe.
//!
//! ```text
//!  file's pages ─► pipe of this thread ─► socket        a copy less on each side of the pipe than by memory
//! ```
//! As in the kernel's own NFS server, what is written to the file until the client has it may be seen in the reply. How
//! many bytes there are is known before the head of the reply is sent. Where there is no pipe, bytes go by memory.

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Of a READ, and of a pipe that anybody may have.
const PIPE_BYTES: usize = 1 << 20;

/// A thread's pipe, and where in a reply its bytes stand.
#[derive(Default)]
pub(super) struct Pages {
    pipe: Option<(OwnedFd, OwnedFd)>,
    bytes: usize,
    at: usize,
}

impl Pages {
    /// Where a file's pages may be put; `None` where this process may have no such pipe now: uploads have some too.
    pub(super) fn entrance(&mut self) -> Option<BorrowedFd<'_>> {
        self.clear();
        if self.pipe.is_none() {
            let opened = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
                .and_then(|pipe| fcntl_setpipe_size(&pipe.1, PIPE_BYTES).map(|_| pipe));
            self.pipe = opened.ok();
        }
        self.pipe.as_ref().map(|(_, entrance)| entrance.as_fd())
    }

    /// So many bytes were put there; they stand behind the first `at` of a reply.
    pub(super) fn hold(&mut self, bytes: usize, at: usize) {
        (self.bytes, self.at) = (bytes, at);
    }

    /// Bytes that are to be sent.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where they stand.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Nothing is to be sent. What may be in the pipe goes with it.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.bytes) > 0 {
            self.pipe = None;
        }
    }

    /// There is one, which takes two descriptors and memory.
    pub(super) fn has_pipe(&self) -> bool {
        self.pipe.is_some()
    }

    /// Gives the pipe back: a try that failed may have left something in it, and a thread that rests needs none.
    pub(super) fn spoil(&mut self) {
        (self.pipe, self.bytes) = (None, 0);
    }

    /// Sends some; how many are left then. `more` follow behind the last.
    pub(super) fn send(&mut self, socket: impl AsFd, more: bool) -> rustix::io::Result<usize> {
        let (exit, _) = self.pipe.as_ref().ok_or(Errno::IO)?;
        let flags = if more { SpliceFlags::NONBLOCK | SpliceFlags::MORE } else { SpliceFlags::NONBLOCK };
        match splice(exit, None, socket, None, self.bytes, flags)? {
            0 => Err(Errno::IO),
            sent => {
                self.bytes -= sent.min(self.bytes);
                Ok(self.bytes)
            }
        }
    }

    /// Puts those that are left into memory.
    pub(super) fn pour(&mut self, into: &mut Vec<u8>) -> rustix::io::Result<()> {
        let (exit, _) = self.pipe.as_ref().ok_or(Errno::IO)?;
        let mut at = into.len();
        into.resize(at + self.bytes, 0);
        while at < into.len() {
            match rustix::io::read(exit, &mut into[at..]) {
                Ok(0) => return Err(Errno::IO),
                Ok(read) => at += read,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        self.bytes = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Connection;
    use super::*;
    use rustix::event::epoll;
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};

    fn fill(pages: &mut Pages, file: &std::fs::File, at: usize) {
        let entrance = pages.entrance().unwrap();
        let bytes = splice(file, Some(&mut 0), entrance, None, PIPE_BYTES, SpliceFlags::NONBLOCK).unwrap();
        pages.hold(bytes, at);
    }

    /// Taken at once or so slowly that most of it must wait, a reply arrives whole and in order.
    #[test]
    fn a_reply_with_pages_arrives_whole() {
        let path = std::env::temp_dir().join(format!("workspace-nfs-pages-{}", std::process::id()));
        // Not a multiple of four, so that padding follows.
        let data: Vec<u8> = (0..PIPE_BYTES - 4096 + 3).map(|at| (at / 3) as u8).collect();
        std::fs::File::create(&path).unwrap().write_all(&data).unwrap();
        let file = std::fs::File::open(&path).unwrap();
        for padding in [&b"\0"[..], b""] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let stream = listener.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            let connection = Connection::new(1, IpAddr::V4(Ipv4Addr::LOCALHOST), stream);
            connection.watch(&epoll).unwrap();
            let (mut pages, mut replies) = (Pages::default(), 0);
            // The last two find others before them.
            let mut behind_a_full_socket = 0;
            while behind_a_full_socket < 3 {
                fill(&mut pages, &file, 6);
                assert_eq!(pages.bytes(), data.len());
                let mut reply = [&b"header"[..], padding].concat();
                replies += 1;
                let all_was_sent = connection.reply(&epoll, &mut reply, &mut pages).unwrap();
                assert_eq!(pages.bytes(), 0);
                behind_a_full_socket += u32::from(!all_was_sent);
                assert!(all_was_sent || behind_a_full_socket > 0);
            }
            assert!(replies < 100, "a socket holds no 100 MiB");
            let one = [&b"header"[..], &data, padding].concat();
            let mut got = vec![0; one.len() * replies];
            let reads = std::thread::spawn(move || {
                client.read_exact(&mut got).unwrap();
                got
            });
            while !connection.flush().unwrap() {
                std::thread::yield_now();
            }
            let got = reads.join().unwrap();
            assert!(got.chunks(one.len()).all(|reply| reply == one));
        }
        std::fs::remove_file(path).unwrap();
    }
}
