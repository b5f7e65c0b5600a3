//! How do requests come and answers go? As gRPC messages over a socket at descriptors 0 and 1; the agent carries the
//! bytes and looks at none.

use super::Fault;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::time::{Duration, Instant};
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileReply, FileRequest, FileWorking};
use workspace_proto::grpc_frame::{self, Decoder};

const PIECE_BYTES: usize = 64 << 10;
/// How often work that lasts is looked up from: whether somebody waits for it, and to say that it goes on.
const LOOK: Duration = Duration::from_secs(1);
/// Steps of such work between two looks at the clock.
const STEPS: u32 = 64;

/// The caller, as far as a worker knows it.
#[derive(Default)]
pub(super) struct Link {
    decoder: Decoder,
    piece: Vec<u8>,
    /// Encoded, not sent yet.
    queued: Vec<u8>,
    looked: Option<Instant>,
    steps: u32,
}

impl Link {
    /// The next request; `None` where no more will come.
    pub(super) fn receive(&mut self) -> Result<Option<Request>, Fault> {
        loop {
            match self.decoder.next_message::<FileRequest>() {
                Ok(Some(message)) => {
                    self.looked = None;
                    return message.request.map(Some).ok_or(Fault::Gone);
                }
                Ok(None) => {}
                Err(_) => return Err(Fault::Gone),
            }
            self.piece.resize(PIECE_BYTES, 0);
            match rustix::io::retry_on_intr(|| rustix::io::read(rustix::stdio::stdin(), &mut self.piece[..])) {
                Ok(0) => return Ok(None),
                Ok(read) => self.decoder.push(&self.piece[..read]),
                Err(_) => return Err(Fault::Gone),
            }
        }
    }

    /// Sends a message; waits for as long as its reader does not take it.
    pub(super) fn send(&mut self, reply: Reply) -> Result<(), Fault> {
        self.queue(reply)?;
        self.flush()
    }

    /// Sends a message with those that follow, or before them where they are many.
    pub(super) fn queue(&mut self, reply: Reply) -> Result<(), Fault> {
        self.queued.extend_from_slice(&grpc_frame::encode(&FileReply { reply: Some(reply) }));
        if self.queued.len() < PIECE_BYTES { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let mut rest = &self.queued[..];
        while !rest.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::write(rustix::stdio::stdout(), rest)) {
                Ok(written) => rest = &rest[written..],
                Err(_) => return Err(Fault::Gone),
            }
        }
        self.queued.clear();
        Ok(())
    }

    /// One step of work that may last. An error when its caller has gone.
    pub(super) fn step(&mut self) -> Result<(), Fault> {
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(STEPS) { self.look() } else { Ok(()) }
    }

    /// As [`Link::step`], for a step that is long itself.
    pub(super) fn look(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        match self.looked {
            Some(looked) if now - looked < LOOK => return Ok(()),
            Some(_) => {}
            // The first look of this request only starts the clock.
            None => {
                self.looked = Some(now);
                return Ok(());
            }
        }
        self.looked = Some(now);
        let stdin = rustix::stdio::stdin();
        let mut polled = [PollFd::new(&stdin, PollFlags::RDHUP)];
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = rustix::event::poll(&mut polled, Some(&none));
        if polled[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR) {
            return Err(Fault::Gone);
        }
        self.send(Reply::Working(FileWorking {}))
    }
}
