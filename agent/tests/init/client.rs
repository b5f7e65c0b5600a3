//! The server's side of the link, small: Hello, List, and Run with its events.

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request};
use std::os::unix::net::UnixStream;
use workspace_proto::agent::{
    Exited, HelloReply, HelloRequest, ListReply, ListRequest, RunEvent, RunRequest, Variable, run_event::Event,
};
use workspace_proto::grpc_frame::{Decoder, encode};
use workspace_proto::{Message, PROTOCOL, method};

#[derive(Clone)]
pub(crate) struct Client {
    send: SendRequest<Bytes>,
    pub(crate) hello: HelloReply,
}

/// A command that has ended, as the caller sees it.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) pid: u32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exited: Exited,
}

impl Finished {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }
}

/// A call that is being answered: a command that runs, or a follower.
pub(crate) struct Running {
    send: SendStream<Bytes>,
    body: RecvStream,
    decoder: Decoder,
}

impl Client {
    pub(crate) async fn greet(stream: UnixStream, sandbox_id: &str) -> Client {
        let mut client = Client { send: open(stream).await, hello: HelloReply::default() };
        let hello = HelloRequest { protocol: PROTOCOL, sandbox_id: sandbox_id.to_owned() };
        client.hello = client.call(method::HELLO, &hello).await.expect("hello");
        client
    }

    /// A connection on which Hello was not said.
    pub(crate) async fn silent(stream: UnixStream) -> Client {
        Client { send: open(stream).await, hello: HelloReply::default() }
    }

    /// A unary call, or the number of its status.
    pub(crate) async fn call<Q: Message, A: Message + Default>(&mut self, path: &str, request: &Q) -> Result<A, u16> {
        let mut running = self.begin(path, encode(request)).await?;
        let mut answer = None;
        while let Some(piece) = running.body.data().await {
            let piece = piece.map_err(|_| 0u16)?;
            running.body.flow_control().release_capacity(piece.len()).unwrap();
            running.decoder.push(&piece);
            answer = running.decoder.next_message::<A>().unwrap().or(answer);
        }
        answer.ok_or(0)
    }

    pub(crate) async fn list(&mut self) -> ListReply {
        self.call(method::LIST, &ListRequest {}).await.unwrap()
    }

    /// Opens a call whose request stays open.
    pub(crate) async fn stream(&mut self, path: &str) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await.unwrap();
        self.send.send_request(head(path), false).unwrap()
    }

    /// A call whose answer is a stream.
    pub(crate) async fn begin(&mut self, path: &str, body: Bytes) -> Result<Running, u16> {
        let request = head(path);
        std::future::poll_fn(|cx| self.send.poll_ready(cx)).await.map_err(|_| 0u16)?;
        let (response, mut send) = self.send.send_request(request, false).map_err(|_| 0u16)?;
        let mut body = body;
        while !body.is_empty() {
            send.reserve_capacity(body.len());
            let mut window = send.capacity();
            if window == 0 {
                window = std::future::poll_fn(|cx| send.poll_capacity(cx)).await.ok_or(0u16)?.map_err(|_| 0u16)?;
            }
            let piece = body.split_to(window.min(body.len()));
            send.send_data(piece, body.is_empty()).map_err(|_| 0u16)?;
        }
        let response = response.await.map_err(|_| 0u16)?;
        if let Some(code) = status(response.headers()) {
            return Err(code);
        }
        Ok(Running { send, body: response.into_body(), decoder: Decoder::default() })
    }

    pub(crate) async fn start(&mut self, request: &RunRequest) -> Result<Running, u16> {
        self.begin(method::RUN, encode(request)).await
    }

    /// Runs to the end; the order of the events is checked.
    pub(crate) async fn run(&mut self, request: &RunRequest) -> Finished {
        self.start(request).await.expect("a command that starts").finish().await
    }

    /// `sh -c`.
    pub(crate) async fn shell(&mut self, script: &str) -> Finished {
        self.run(&shell(script)).await
    }
}

impl Running {
    /// The next event; `None` at the end, where the status must be 0.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        let message = self.message::<RunEvent>().await?;
        Some(message.event.expect("an event that says what it is"))
    }

    /// As above, of any stream.
    pub(crate) async fn message<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.decoder.next_message::<M>().unwrap() {
                return Some(message);
            }
            match self.body.data().await {
                Some(piece) => {
                    let piece = piece.expect("the stream goes on");
                    self.body.flow_control().release_capacity(piece.len()).unwrap();
                    self.decoder.push(&piece);
                }
                None => {
                    self.decoder.finish().unwrap();
                    let trailers = self.body.trailers().await.unwrap().expect("trailers");
                    assert_eq!(status(&trailers), Some(0));
                    return None;
                }
            }
        }
    }

    pub(crate) async fn finish(mut self) -> Finished {
        let mut finished = Finished::default();
        let Some(Event::Started(started)) = self.event().await else { panic!("started comes first") };
        finished.pid = started.pid;
        loop {
            match self.event().await.expect("exited comes last") {
                Event::Stdout(bytes) => finished.stdout.extend_from_slice(&bytes),
                Event::Stderr(bytes) => finished.stderr.extend_from_slice(&bytes),
                Event::Exited(exited) => {
                    finished.exited = exited;
                    assert!(self.event().await.is_none(), "nothing after exited");
                    return finished;
                }
                Event::Started(_) => panic!("started twice"),
            }
        }
    }

    /// The caller goes away.
    pub(crate) fn cancel(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

fn head(path: &str) -> Request<()> {
    Request::post(format!("http://agent{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

pub(crate) fn status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().unwrap().parse().ok()
}

async fn open(stream: UnixStream) -> SendRequest<Bytes> {
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(16 << 20)
        .max_frame_size(64 << 10)
        .data_frame_budget(usize::MAX >> 1)
        .handshake(stream)
        .await
        .unwrap();
    tokio::spawn(connection);
    send
}

/// A command with the usual environment, as `user`.
pub(crate) fn command(argv: &[&str]) -> RunRequest {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    RunRequest {
        command: bytes(argv[0]),
        args: argv[1..].iter().map(|argument| bytes(argument)).collect(),
        env: vec![Variable { name: bytes("PATH"), value: bytes("/usr/local/bin:/usr/bin:/bin") }],
        cwd: bytes("/tmp"),
        output_bytes_max: u64::MAX,
        ..RunRequest::default()
    }
}

/// `sh -c` with `script`.
pub(crate) fn shell(script: &str) -> RunRequest {
    command(&["sh", "-c", script])
}
