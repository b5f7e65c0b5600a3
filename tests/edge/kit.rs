//! A server on a thread of its own, a client that speaks bytes, and operations that only tests need.

use crate::shard::{Machine, Stored, no_machine, shard};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};
use workspace_server::http::{App, Drained, Settings, Stop, Stopper, serve};
use workspace_server::operation::*;
use workspace_server::operations::OPERATIONS;

/// For anything that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Uring,
    Legacy,
}

pub struct Server {
    pub address: SocketAddr,
    stopper: Option<Stopper>,
    thread: Option<JoinHandle<Drained>>,
}

impl Server {
    /// Test operations, everyone let in.
    pub fn start() -> Server {
        Server::with(Driver::Uring, Settings::default(), EDGE)
    }

    /// THE list, with settings.
    pub fn product(settings: Settings) -> Server {
        Server::with(Driver::Uring, settings, OPERATIONS)
    }

    pub fn with(driver: Driver, settings: Settings, operations: &'static [Entry]) -> Server {
        take_descriptors();
        Server::on(no_machine, driver, settings, operations)
    }

    /// On a machine of its own, made on the server's thread.
    pub fn on(machine: fn() -> Machine, driver: Driver, settings: Settings, operations: &'static [Entry]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stopper, stop) = Stop::pair();
        let run = async move || {
            let stored = Stored::new();
            let shard = shard(stored.store.clone(), machine()).await;
            let app = Rc::new(App::with_operations(shard, settings, operations));
            serve(listener, app, stop).await.unwrap()
        };
        let thread = std::thread::spawn(move || match driver {
            // Where io_uring is refused, this is the legacy driver twice.
            Driver::Uring => {
                monoio::RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().build().unwrap().block_on(run())
            }
            Driver::Legacy => {
                monoio::RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build().unwrap().block_on(run())
            }
        });
        Server { address, stopper: Some(stopper), thread: Some(thread) }
    }

    pub fn client(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: Vec::new() }
    }

    /// One answer to `bytes`, and whether the connection ended after it.
    pub fn ask(&self, bytes: impl AsRef<[u8]>) -> (Answer, bool) {
        let mut client = self.client();
        client.send(bytes);
        let answer = client.answer();
        let closed = client.closed(Duration::from_millis(150));
        (answer, closed)
    }

    pub fn request_stop(&mut self) {
        self.stopper = None;
    }

    pub fn join(&mut self) -> Drained {
        self.stopper = None;
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopper = None;
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

pub struct Client {
    pub stream: TcpStream,
    /// Received, not yet looked at.
    pub buffer: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let first = values.next();
        assert!(values.next().is_none(), "{name} is there twice");
        first
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", String::from_utf8_lossy(&self.body)))
    }

    pub fn code(&self) -> u64 {
        self.json()["code"].as_u64().unwrap_or(0)
    }
}

impl Client {
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The server may have refused and gone while this is still being sent.
        let _ = self.stream.write_all(bytes.as_ref());
    }

    pub fn answer(&mut self) -> Answer {
        self.answer_to("GET").unwrap_or_else(|| panic!("closed without an answer: {:?}", self.buffer))
    }

    pub fn answer_to(&mut self, method: &str) -> Option<Answer> {
        let end = loop {
            match self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.more()?,
            }
        };
        let head = String::from_utf8(self.buffer[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: Vec::new() };
        let length = answer.field("content-length").map_or(0, |v| v.parse::<usize>().unwrap());
        let whole = if method == "HEAD" { end } else { end + length };
        while self.buffer.len() < whole {
            self.more()?;
        }
        answer.body = self.buffer[end..whole].to_vec();
        self.buffer.drain(..whole);
        Some(answer)
    }

    /// Receives a piece; `None` at the end.
    pub fn more(&mut self) -> Option<()> {
        let mut piece = [0; 65536];
        match self.stream.read(&mut piece) {
            Ok(0) => None,
            Ok(n) => {
                self.buffer.extend_from_slice(&piece[..n]);
                Some(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(e) => panic!("no answer: {e}; so far {:?}", String::from_utf8_lossy(&self.buffer)),
        }
    }

    /// True where the server ends the connection within `patience`, without another byte.
    pub fn closed(&mut self, patience: Duration) -> bool {
        assert!(self.buffer.is_empty(), "bytes after the answer: {:?}", String::from_utf8_lossy(&self.buffer));
        self.stream.set_read_timeout(Some(patience)).unwrap();
        let mut byte = [0];
        let closed = match self.stream.read(&mut byte) {
            Ok(0) => true,
            Ok(_) => panic!("a byte after the answer"),
            Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
        };
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        closed
    }
}

pub fn post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

/// Both sides of a crowd are in this process, and a login's limit is 1,024.
fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Waits for what must come to be.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The operations of tests.
pub static EDGE: &[Entry] =
    &[entry::<Echo>(), entry::<Big>(), entry::<Wait<true>>(), entry::<Wait<false>>(), entry::<Panics>()];

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Text {
    #[serde(default)]
    pub text: String,
    #[serde(default)]
    pub map: BTreeMap<String, String>,
}

/// Answers with what it was given.
struct Echo;

impl Operation for Echo {
    const NAME: &'static str = "echo";
    const SUMMARY: &'static str = "Echo.";
    const ROUTES: &'static [Route] =
        &[workspace_server::operation::post("/echo"), workspace_server::operation::get("/echo")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Text;
    type Output = Json<Text>;

    async fn call(_: &Shard, call: Call<Text>) -> Result<Json<Text>, Error> {
        Ok(Json(call.input))
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Size {
    bytes: u64,
    #[serde(default)]
    pieces: bool,
}

/// A JSON string of so many x, whole or made while it is sent.
struct Xs(Size);

impl Output for Xs {
    fn reply(self) -> Result<Reply, Error> {
        if self.0.pieces {
            return Ok(Reply::Pieces(Box::new(XsLeft { quote: true, xs: self.0.bytes })));
        }
        Ok(Reply::Whole(format!("\"{}\"", "x".repeat(self.0.bytes as usize)).into()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<String>())
    }
}

struct XsLeft {
    quote: bool,
    xs: u64,
}

impl Pieces for XsLeft {
    fn bytes(&self) -> u64 {
        self.xs + 2
    }

    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        if std::mem::take(&mut self.quote) {
            out.push(b'"');
            return true;
        }
        let piece = self.xs.min(50_000);
        out.extend_from_slice("x".repeat(piece as usize).as_bytes());
        self.xs -= piece;
        if self.xs == 0 && piece > 0 {
            out.push(b'"');
        }
        piece > 0
    }
}

/// Answers with many bytes.
struct Big;

impl Operation for Big {
    const NAME: &'static str = "big";
    const SUMMARY: &'static str = "Big.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/big")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Size;
    type Output = Xs;

    async fn call(_: &Shard, call: Call<Size>) -> Result<Xs, Error> {
        Ok(Xs(call.input))
    }
}

/// Calls of `Wait<true>` that are under way, by the first letter of their sandbox.
static UNDER_WAY: [AtomicU32; 26] = [const { AtomicU32::new(0) }; 26];

/// How many wait in sandboxes whose id starts with `letter`.
pub fn waiting(letter: u8) -> u32 {
    UNDER_WAY[usize::from(letter - b'a')].load(Ordering::SeqCst)
}

struct Present(usize);

impl Drop for Present {
    fn drop(&mut self) {
        UNDER_WAY[self.0].fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Pause {
    ms: u64,
}

/// Answers later: canceled with its client, or finished without it.
struct Wait<const CANCEL: bool>;

impl<const CANCEL: bool> Operation for Wait<CANCEL> {
    const NAME: &'static str = if CANCEL { "wait" } else { "finish" };
    const SUMMARY: &'static str = "Wait.";
    const ROUTES: &'static [Route] = if CANCEL {
        &[workspace_server::operation::post("/sandboxes/{id}/wait")]
    } else {
        &[workspace_server::operation::post("/sandboxes/{id}/finish")]
    };
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = if CANCEL { Abandoned::Cancel } else { Abandoned::Finish };
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 4 };
    const ERRORS: &'static [Reason] = &[];
    type Input = Pause;
    type Output = Json<u64>;

    async fn call(_: &Shard, call: Call<Pause>) -> Result<Json<u64>, Error> {
        let letter = usize::from(call.sandbox()?.as_str().as_bytes()[0] - b'a');
        UNDER_WAY[letter].fetch_add(1, Ordering::SeqCst);
        let _present = Present(letter);
        monoio::time::sleep(Duration::from_millis(call.input.ms)).await;
        Ok(Json(call.input.ms))
    }
}

/// A bug.
struct Panics;

impl Operation for Panics {
    const NAME: &'static str = "panics";
    const SUMMARY: &'static str = "Panic.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/panic")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Json<u64>;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Json<u64>, Error> {
        panic!("a bug, on purpose");
    }
}
