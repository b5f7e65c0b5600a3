//! A part of a body on its way to a disk: in memory, or as references to pages in a pipe (splice(2)), so that of a large
//! one only the kernel makes the one copy that `cp` makes too.
//!
//! ```text
//!  socket ─► pipe ─► file
//! ```
//! Where there are no pipes, bytes go by memory. So they do from a file to a socket: there pages were no faster.

use super::failure;
use crate::error::Error;
use bytes::Bytes;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use std::os::fd::{AsFd, OwnedFd};

/// Of one pipe: what the kernel gives to anybody (pipe(7), `pipe-max-size`).
pub const PIPE_BYTES: usize = 1 << 20;
/// A body that is shorter is not worth its pipes.
pub const BY_PAGES_BYTES_MIN: u64 = 1 << 20;
/// One is filled, one waits, two are with threads that empty them.
pub const PIPES: usize = 4;

/// At most [`PIPE_BYTES`].
pub enum Piece {
    /// Bytes.
    Memory(Bytes),
    /// Pages.
    Pages(Pages),
}

impl Piece {
    /// How many bytes it has.
    pub fn bytes(&self) -> usize {
        match self {
            Piece::Memory(bytes) => bytes.len(),
            Piece::Pages(pages) => pages.bytes(),
        }
    }

    /// All of it in memory.
    pub fn into_memory(self) -> Result<Bytes, Error> {
        match self {
            Piece::Memory(bytes) => Ok(bytes),
            Piece::Pages(mut pages) => pages.pour().map(Bytes::from).map_err(failure::anywhere),
        }
    }
}

struct Pipe {
    exit: OwnedFd,
    entrance: OwnedFd,
}

impl Pipe {
    fn open() -> rustix::io::Result<Pipe> {
        let (exit, entrance) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&entrance, PIPE_BYTES)?;
        Ok(Pipe { exit, entrance })
    }
}

/// The pipes of one body.
pub struct Pipes {
    empty: flume::Receiver<Option<Pipe>>,
    home: flume::Sender<Option<Pipe>>,
}

impl Pipes {
    /// Opens them; `None` where this process may have no more.
    pub fn open() -> Option<Pipes> {
        let (home, empty) = flume::bounded(PIPES);
        for _ in 0..PIPES {
            home.try_send(Some(Pipe::open().ok()?)).ok()?;
        }
        Some(Pipes { empty, home })
    }

    /// An empty one; waits until there is one. `None` where one was lost and there can be no other.
    pub async fn next(&self) -> Option<Pages> {
        let pipe = match self.empty.recv_async().await.ok()? {
            Some(pipe) => pipe,
            None => Pipe::open().ok()?,
        };
        Some(Pages { pipe: Some(pipe), home: self.home.clone(), bytes: 0 })
    }
}

/// A pipe with some bytes. Dropped, it can be filled again.
pub struct Pages {
    pipe: Option<Pipe>,
    home: flume::Sender<Option<Pipe>>,
    bytes: usize,
}

impl Pages {
    /// How many bytes are in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes some from a socket; how many, 0 at the end. EAGAIN where it has none now, and where the pipe is full: of few
    /// bytes even, if they came in many packets.
    pub fn fill(&mut self, from: impl AsFd, bytes_max: usize) -> rustix::io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(Errno::PIPE)?;
        let taken = splice(from, None, &pipe.entrance, None, bytes_max, SpliceFlags::NONBLOCK)?;
        self.bytes += taken;
        Ok(taken)
    }

    /// Gives some to a file, at and behind `at`; how many are left.
    pub(super) fn empty(&mut self, to: impl AsFd, at: &mut u64) -> rustix::io::Result<usize> {
        let pipe = self.pipe.as_ref().ok_or(Errno::PIPE)?;
        match splice(&pipe.exit, None, to, Some(at), self.bytes, SpliceFlags::NONBLOCK)? {
            0 => Err(Errno::IO),
            given => {
                self.bytes -= given.min(self.bytes);
                Ok(self.bytes)
            }
        }
    }

    /// Puts all of it into memory.
    pub(super) fn pour(&mut self) -> rustix::io::Result<Vec<u8>> {
        let pipe = self.pipe.as_ref().ok_or(Errno::PIPE)?;
        let mut bytes = Vec::with_capacity(self.bytes);
        while self.bytes > 0 {
            match rustix::io::read(&pipe.exit, rustix::buffer::spare_capacity(&mut bytes)) {
                Ok(0) => return Err(Errno::IO),
                Ok(read) => self.bytes -= read.min(self.bytes),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(bytes)
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // One that has bytes in it can't be used again.
        let pipe = self.pipe.take().filter(|_| self.bytes == 0);
        let _ = self.home.try_send(pipe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::io::{Read, Seek, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn bytes_go_through_pipes_that_are_used_again() {
        let (from, mut client) = UnixStream::pair().unwrap();
        let all: Vec<u8> = (0..5 * PIPE_BYTES + 7).map(|at| (at / 5) as u8).collect();
        let (mut to, pipes, mut at) = (tempfile(), Pipes::open().unwrap(), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                client.write_all(&all).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            });
            loop {
                let mut pages = pipes.next().now_or_never().flatten().unwrap();
                match pages.fill(&from, PIPE_BYTES) {
                    Ok(0) => break,
                    Ok(taken) => assert_eq!(pages.bytes(), taken),
                    Err(Errno::AGAIN) => std::thread::yield_now(),
                    Err(errno) => panic!("{errno}"),
                }
                while pages.bytes() > 0 {
                    pages.empty(&to, &mut at).unwrap();
                }
            }
        });
        let mut got = Vec::new();
        to.rewind().unwrap();
        to.read_to_end(&mut got).unwrap();
        assert!(got == all);
    }

    #[test]
    fn all_are_out_until_one_is_dropped_and_one_with_bytes_in_it_is_replaced() {
        let pipes = Pipes::open().unwrap();
        let next = || pipes.next().now_or_never().flatten();
        let mut out: Vec<Pages> = std::iter::from_fn(next).collect();
        assert_eq!(out.len(), PIPES);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"left").unwrap();
        assert_eq!(out[0].fill(&ours, 100), Ok(4));
        drop(out);
        let mut out: Vec<Pages> = std::iter::from_fn(next).collect();
        assert!(out.len() == PIPES && out.iter().all(|pages| pages.bytes() == 0));
        theirs.write_all(b"poured").unwrap();
        let mut last = out.pop().unwrap();
        assert_eq!(last.fill(&ours, 100), Ok(6));
        assert_eq!(Piece::Pages(last).into_memory().unwrap(), &b"poured"[..]);
    }

    fn tempfile() -> std::fs::File {
        static MADE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = MADE.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("workspace-piece-{}-{number}", std::process::id()));
        let file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file
    }
}
