//! What does the program at a client's pipes do? It carries bytes: stdin to the server, the server's to stdout.
//!
//! One thread and one loop, which never waits in a read or a write: it asks what is ready, and writes no more than a
//! pipe that is ready takes (PIPE_BUF). It holds one packet each way, so that a client that does not read holds the
//! server back, and a server that does not read holds the client back. Its end is the client's: end of input, a signal,
//! a closed stdout. It waits for what it asked for to be gone, and for the server where that ends with it.
//! Source: pipe(7), poll(2).

use super::find::Found;
use super::packet::{self, FromServer, PACKET_BYTES_MAX};
use crate::sys::signal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::stdio::{stdin, stdout};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SIGNALS: [i32; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];
/// What a pipe that is ready takes at once.
const PIPE_BYTES: usize = 4096;
/// How long the server may take to clean up behind a client that has gone.
const ABORT_MAX: Duration = Duration::from_secs(12);
/// How long a server that ends with its last client may take.
const END_MAX: Duration = Duration::from_secs(15);

/// How it comes to its end.
enum Ended {
    /// The server has said its last word.
    Last { ends: bool },
    /// The server has gone without one.
    Lost,
    /// Nothing more is waited for.
    Enough,
}

struct Relay {
    found: Found,
    signals: OwnedFd,
    /// A packet to the server; empty: none.
    up: Vec<u8>,
    /// Bytes for the client, and how many of them it has.
    down: Vec<u8>,
    written: usize,
    input_ended: bool,
    /// Since when nobody is there to read answers.
    aborted: Option<Instant>,
}

/// Carries bytes until one side ends.
pub fn run(found: Found) -> ExitCode {
    signal::block(&SIGNALS);
    let signals = match signal::descriptor(&SIGNALS) {
        Ok(signals) => signals,
        Err(error) => {
            eprintln!("workspace-server: signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut relay =
        Relay { found, signals, up: Vec::new(), down: Vec::new(), written: 0, input_ended: false, aborted: None };
    let ended = loop {
        if let Some(ended) = relay.step() {
            break ended;
        }
    };
    match ended {
        Ended::Last { ends } => {
            if let (true, Some(process)) = (ends, &relay.found.process) {
                let limit = Timespec { tv_sec: END_MAX.as_secs() as i64, tv_nsec: 0 };
                let _ = poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit));
                // Of what this program has started itself nothing is left to its parent, who may not look.
                let _ = waitid(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            ExitCode::SUCCESS
        }
        Ended::Enough => ExitCode::SUCCESS,
        Ended::Lost if relay.aborted.is_some() => ExitCode::SUCCESS,
        Ended::Lost => {
            eprintln!(
                "workspace-server: the server has ended, and with it what was asked of it; its log says why. Start this \
                 program again"
            );
            ExitCode::FAILURE
        }
    }
}

impl Relay {
    /// Waits until something is ready, and does it.
    fn step(&mut self) -> Option<Ended> {
        let wanted = |is_wanted: bool, flags: PollFlags| if is_wanted { flags } else { PollFlags::empty() };
        let (idle_up, idle_down) = (self.up.is_empty(), self.down.is_empty());
        let (input, output) = (stdin(), stdout());
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(
                self.found.socket.as_fd(),
                wanted(idle_down, PollFlags::IN) | wanted(!idle_up, PollFlags::OUT),
            ),
        ];
        // Who has gone is neither read from nor written to.
        if self.aborted.is_none() {
            // Asked for nothing, it still tells that nobody reads it any more.
            fds.push(PollFd::from_borrowed_fd(output, wanted(!idle_down, PollFlags::OUT)));
            if idle_up && !self.input_ended {
                fds.push(PollFd::from_borrowed_fd(input, PollFlags::IN));
            }
        }
        let limit = self.aborted.map(|since| ABORT_MAX.saturating_sub(since.elapsed()));
        let limit = limit.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut fds, limit.as_ref()) {
            Ok(0) => return Some(Ended::Enough),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return Some(Ended::Lost),
        }
        let told: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let over = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
        if !told[0].is_empty() {
            if self.aborted.is_some() {
                return Some(Ended::Enough);
            }
            let _ = read(&self.signals, &mut [0; 128]);
            self.abort();
            return None;
        }
        if let Some(output) = told.get(2) {
            if output.intersects(over) {
                self.abort();
                return None;
            }
            if output.contains(PollFlags::OUT) {
                self.write_down();
            }
        }
        if told.get(3).is_some_and(|input| !input.is_empty()) {
            self.read_up();
        }
        if told[1].contains(PollFlags::OUT) {
            self.send_up();
        }
        if told[1].intersects(PollFlags::IN | over) && self.down.is_empty() {
            return self.receive_down();
        }
        None
    }

    /// Nobody reads answers any more: the server ends what is under way.
    fn abort(&mut self) {
        self.aborted = Some(Instant::now());
        self.down.clear();
        self.up = packet::ABORT.to_vec();
    }

    fn read_up(&mut self) {
        self.up.resize(PACKET_BYTES_MAX, packet::DATA);
        self.up[0] = packet::DATA;
        match read(stdin(), &mut self.up[1..]) {
            Ok(bytes) if bytes > 0 => self.up.truncate(1 + bytes),
            Err(Errno::INTR | Errno::AGAIN) => self.up.clear(),
            // A terminal that has gone is an end as well.
            Ok(_) | Err(_) => {
                self.input_ended = true;
                self.up = packet::END.to_vec();
            }
        }
    }

    fn send_up(&mut self) {
        match send(&self.found.socket, &self.up, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // What the server has still said is read behind this.
            Ok(_) | Err(_) => self.up.clear(),
        }
    }

    fn receive_down(&mut self) -> Option<Ended> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let bytes = match recv(&self.found.socket, &mut packet[..], RecvFlags::DONTWAIT) {
            Ok((bytes, _)) => bytes,
            Err(Errno::AGAIN | Errno::INTR) => return None,
            Err(_) => 0,
        };
        match packet::from_server(&packet[..bytes]) {
            Some(FromServer::Data(data)) => {
                if self.aborted.is_none() {
                    self.down.extend_from_slice(data);
                    self.written = 0;
                }
                None
            }
            Some(FromServer::Last { ends }) => Some(Ended::Last { ends }),
            Some(FromServer::Hello | FromServer::Refused(_)) | None => Some(Ended::Lost),
        }
    }

    fn write_down(&mut self) {
        let rest = &self.down[self.written..];
        match write(stdout(), &rest[..rest.len().min(PIPE_BYTES)]) {
            Ok(bytes) => {
                self.written += bytes;
                if self.written == self.down.len() {
                    self.down.clear();
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.abort(),
        }
    }
}
