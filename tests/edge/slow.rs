//! Do slow clients cost more than their place? Attack T04 with deadlines of fractions of a second: hundreds that trickle,
//! readers that stop or take a byte at a time, of a large answer and of events without end.

use crate::kit::{Client, Driver, Server, eventually, get};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};
use workspace_server::http::{Deadlines, Settings};
use workspace_server::operation::*;

const CROWD: usize = 500;
const TRICKLE: Duration = Duration::from_millis(100);
/// For all of the crowd to be gone, on a machine that does other things as well.
const GONE_S_MAX: u64 = 30;
const BATCH_BYTES: usize = 64 << 10;

static OPERATIONS: &[Entry] = &[entry::<Flood>(), entry::<Echo>()];
/// Bytes of events that were made, and streams that are under way.
static MADE: AtomicU64 = AtomicU64::new(0);
static UNDER_WAY: AtomicU64 = AtomicU64::new(0);

/// Events without end, as fast as they are taken.
struct Endless;

impl Drop for Endless {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Events for Endless {
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool> {
        async move {
            // Others of the core get their turn, as they do while a real command prints.
            monoio::time::sleep(Duration::from_micros(10)).await;
            out.extend_from_slice(format!("data: {}\n\n", "x".repeat(BATCH_BYTES)).as_bytes());
            MADE.fetch_add(BATCH_BYTES as u64, Ordering::SeqCst);
            true
        }
        .boxed_local()
    }
}

struct Flood;

impl Operation for Flood {
    const NAME: &'static str = "flood";
    const SUMMARY: &'static str = "Flood.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/flood")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Follow;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Follow, Error> {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Ok(Follow(Some(Box::new(Endless))))
    }
}

struct Echo;

impl Operation for Echo {
    const NAME: &'static str = "echo";
    const SUMMARY: &'static str = "Echo.";
    const ROUTES: &'static [Route] =
        &[workspace_server::operation::get("/echo"), workspace_server::operation::post("/echo")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Json<u64>;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Json<u64>, Error> {
        Ok(Json(7))
    }
}

fn server(driver: Driver) -> Server {
    let ms = Duration::from_millis;
    let deadlines = Deadlines {
        head: ms(1000),
        body: ms(500),
        body_total: ms(1500),
        idle: ms(1000),
        write: ms(500),
        ..Deadlines::default()
    };
    Server::with(driver, Settings { deadlines, ..Settings::default() }, OPERATIONS)
}

/// How a slow client behaves: what it has sent at first, and what it sends now and then.
#[derive(Clone, Copy)]
enum Slow {
    Head,
    Body,
    Chunks,
    HalfClosed,
    Idle,
}

impl Slow {
    const ALL: [Slow; 5] = [Slow::Head, Slow::Body, Slow::Chunks, Slow::HalfClosed, Slow::Idle];

    fn begin(self, stream: &mut TcpStream) {
        const POST: &str = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
        let text = match self {
            Slow::Head => "GET /echo HTTP/1.1\r\nHost: a".to_owned(),
            Slow::Body => format!("{POST}Content-Length: 100000\r\n\r\n"),
            Slow::Chunks => format!("{POST}Transfer-Encoding: chunked\r\n\r\nffff\r\n"),
            Slow::HalfClosed => "GET /echo HTTP/1.1\r\n".to_owned(),
            Slow::Idle => String::new(),
        };
        // On a machine that is busy it may have been dropped by now.
        let _ = stream.write_all(text.as_bytes());
        if matches!(self, Slow::HalfClosed) {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// A byte more; false where the server has gone.
    fn trickle(self, stream: &mut TcpStream) -> bool {
        match self {
            Slow::Head | Slow::Body | Slow::Chunks => stream.write_all(b" ").is_ok(),
            Slow::HalfClosed | Slow::Idle => true,
        }
    }
}

#[test]
fn a_crowd_that_trickles_is_dropped_and_delays_nobody() {
    for driver in [Driver::Uring, Driver::Legacy] {
        let server = server(driver);
        let mut crowd: Vec<(Slow, TcpStream)> =
            (0..CROWD).map(|i| (Slow::ALL[i % Slow::ALL.len()], TcpStream::connect(server.address).unwrap())).collect();
        for (slow, stream) in &mut crowd {
            slow.begin(stream);
            stream.set_nonblocking(true).unwrap();
        }
        let (started, mut slowest) = (Instant::now(), Duration::ZERO);
        while !crowd.is_empty() {
            assert!(started.elapsed() < Duration::from_secs(GONE_S_MAX), "{} of the crowd are left", crowd.len());
            crowd.retain_mut(|(slow, stream)| slow.trickle(stream) && !is_closed(stream));
            let asked = Instant::now();
            assert_eq!(server.ask(get("/echo").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).0.status, 200);
            slowest = slowest.max(asked.elapsed());
            std::thread::sleep(TRICKLE);
        }
        assert!(slowest < Duration::from_secs(2), "others wait {slowest:?}");
    }
}

/// Reads what is there; true at the end of the stream.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut page = [0; 4096];
    loop {
        match stream.read(&mut page) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(e) => return e.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Nothing is read, or a byte now and then: what makes the events waits, and is dropped at the deadline.
#[test]
fn a_reader_of_events_that_stops_is_dropped() {
    for driver in [Driver::Uring, Driver::Legacy] {
        for bytes_at_a_time in [0, 1] {
            let server = server(driver);
            reads_on(&server);
            eventually("the other has gone", || UNDER_WAY.load(Ordering::SeqCst) == 0);
            let mut client: Client = server.client();
            // The least that the kernel gives: a byte read makes no room for a segment.
            rustix::net::sockopt::set_socket_recv_buffer_size(&client.stream, 4096).unwrap();
            client.send(get("/flood"));
            eventually("it begins", || UNDER_WAY.load(Ordering::SeqCst) == 1);
            let made = MADE.load(Ordering::SeqCst);
            client.stream.set_nonblocking(true).unwrap();
            eventually("it is dropped", || {
                if bytes_at_a_time > 0 {
                    // A reset is the end that is waited for.
                    let _ = client.stream.read(&mut [0; 1]);
                }
                UNDER_WAY.load(Ordering::SeqCst) == 0
            });
            let made = MADE.load(Ordering::SeqCst) - made;
            // The sender's buffer in the kernel, no more than 4 MiB by default, and what is on its way.
            assert!(made < 8 << 20, "{made} bytes were made for nobody");
            assert_eq!(server.ask(get("/echo")).0.status, 200);
        }
    }
}

/// The control: one that reads is not dropped, however long it takes.
fn reads_on(server: &Server) {
    let mut client = server.client();
    client.send(get("/flood"));
    let (started, mut page, mut read) = (Instant::now(), vec![0; 1 << 20], 0);
    while started.elapsed() < Duration::from_millis(800) {
        read += client.stream.read(&mut page).expect("it is served");
    }
    assert!(read > 4 << 20, "{read}");
}
