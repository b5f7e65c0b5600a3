//! How many answers a second does a server give, when the client is not the limit?
//!
//! Some threads, each with many non-blocking keep-alive connections on one epoll, one request outstanding on each (no pipelining). The requests are
//! made once, and asked one after the other, over and over; an answer is framed and its status looked at, nothing more. The same code loads both sides.

use crate::client;
use crate::failure::Failure;
use crate::process;
use crate::spread::Samples;
use crate::stop;
use rustix::event::{Timespec, epoll};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Before a round is counted.
const WARM_MS: u64 = 200;
/// A thread that hears nothing for so long gives up.
const SILENCE_S_MAX: i64 = 10;
/// Events taken at once.
const EVENTS_MAX: usize = 256;
/// Of every answer's latency one in so many is kept.
const KEEP_ONE_IN: u64 = 8;

const WARMING: u8 = 0;
const COUNTING: u8 = 1;
const OVER: u8 = 2;

/// One side of the comparison.
pub(crate) struct Side<'a> {
    /// `HOST:PORT`.
    address: &'a str,
    /// Sent in turns, again and again.
    requests: &'a [Vec<u8>],
    /// Which one is next.
    next: AtomicUsize,
    /// Whose CPU time is read.
    processes: Vec<u32>,
}

impl<'a> Side<'a> {
    /// From the first request on.
    pub(crate) fn new(address: &'a str, requests: &'a [Vec<u8>], processes: Vec<u32>) -> Side<'a> {
        Side { address, requests, next: AtomicUsize::new(0), processes }
    }

    fn request(&self) -> &[u8] {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        self.requests.get(next % self.requests.len().max(1)).map_or(b"", Vec::as_slice)
    }
}

/// What one round gave.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Answers a second.
    pub(crate) rate: f64,
    /// CPU of the server's processes for one answer, µs.
    pub(crate) server_us: f64,
    /// CPU of the client for one answer, µs.
    pub(crate) client_us: f64,
    /// Latency in ms, of some of the answers.
    pub(crate) latency: Samples,
}

#[derive(Default)]
struct Counted {
    answers: u64,
    latency: Samples,
}

struct Link {
    stream: TcpStream,
    asked: Instant,
    buffer: Vec<u8>,
    filled: usize,
}

/// Loads a side for a while.
pub(crate) fn round(side: &Side<'_>, connections: u64, threads: u64, time: Duration) -> Result<Round, Failure> {
    let threads = threads.min(connections).max(1);
    let phase = AtomicU8::new(WARMING);
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for index in 0..threads {
            let share = connections / threads + u64::from(index < connections % threads);
            let phase = &phase;
            running.push(scope.spawn(move || drive(side, share, phase)));
        }
        stop::pause(Duration::from_millis(WARM_MS));
        let me = [std::process::id()];
        let (server, client, begin) = (process::cpu_us(&side.processes), process::cpu_us(&me), Instant::now());
        phase.store(COUNTING, Ordering::Relaxed);
        stop::pause(time);
        phase.store(OVER, Ordering::Relaxed);
        let took = begin.elapsed().as_secs_f64();
        let server = process::cpu_us(&side.processes).saturating_sub(server) as f64;
        let client = process::cpu_us(&me).saturating_sub(client) as f64;

        let mut all = Counted::default();
        for thread in running {
            let counted = thread.join().unwrap_or_else(|_| Err(Failure::new("a client thread panicked")))?;
            all.answers += counted.answers;
            all.latency.append(counted.latency);
        }
        let answers = all.answers.max(1) as f64;
        Ok(Round {
            rate: all.answers as f64 / took,
            server_us: server / answers,
            client_us: client / answers,
            latency: all.latency,
        })
    })
}

fn drive(side: &Side<'_>, connections: u64, phase: &AtomicU8) -> Result<Counted, Failure> {
    let failed = |error: std::io::Error| Failure::io(format!("load {}", side.address), &error);
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut links = Vec::new();
    for index in 0..connections {
        let mut stream = TcpStream::connect(side.address).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        stream.set_nonblocking(true).map_err(failed)?;
        let event = epoll::EventData::new_u64(index);
        epoll::add(&poll, &stream, event, epoll::EventFlags::IN).map_err(|error| failed(error.into()))?;
        // A request of some kilobytes always fits into an empty socket buffer.
        stream.write_all(side.request()).map_err(failed)?;
        links.push(Link { stream, asked: Instant::now(), buffer: vec![0; 8 << 10], filled: 0 });
    }
    let mut counted = Counted::default();
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let silence = Timespec { tv_sec: SILENCE_S_MAX, tv_nsec: 0 };
    while phase.load(Ordering::Relaxed) != OVER && !stop::requested() {
        events.clear();
        match epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&silence)) {
            Ok(0) => return Err(Failure::new(format!("{}: no answer for {SILENCE_S_MAX} s", side.address))),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(failed(error.into())),
        }
        for event in &events {
            let data = event.data;
            let Some(link) = usize::try_from(data.u64()).ok().and_then(|index| links.get_mut(index)) else { continue };
            if let Some(latency) = link.take(side)?
                && phase.load(Ordering::Relaxed) == COUNTING
            {
                counted.answers += 1;
                if counted.answers % KEEP_ONE_IN == 0 {
                    counted.latency.push_ms(latency);
                }
            }
        }
    }
    Ok(counted)
}

impl Link {
    /// Takes what has come; where that makes an answer whole, asks again and tells how long it took.
    fn take(&mut self, side: &Side<'_>) -> Result<Option<Duration>, Failure> {
        if self.filled == self.buffer.len() {
            return Err(Failure::new(format!("{}: an answer over {} bytes", side.address, self.buffer.len())));
        }
        match self.stream.read(&mut self.buffer[self.filled..]) {
            Ok(0) => return Err(Failure::new(format!("{} closed a connection", side.address))),
            Ok(length) => self.filled += length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(None),
            Err(error) => return Err(Failure::io(format!("read from {}", side.address), &error)),
        }
        let Some(frame) = client::frame(&self.buffer[..self.filled])? else { return Ok(None) };
        let end = frame.head_bytes + frame.body_bytes;
        if self.filled < end {
            return Ok(None);
        }
        if !matches!(frame.status, 200..=204) || self.filled > end {
            return Err(Failure::new(format!(
                "{}: status {}, {} bytes more",
                side.address,
                frame.status,
                self.filled - end
            )));
        }
        self.filled = 0;
        let now = Instant::now();
        let latency = now - std::mem::replace(&mut self.asked, now);
        self.stream.write_all(side.request()).map_err(|error| Failure::io(format!("ask {}", side.address), &error))?;
        Ok(Some(latency))
    }
}
