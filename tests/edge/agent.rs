//! A machine whose sandboxes are scripts: an agent that speaks the protocol of terminals, or breaks it, as it is told by
//! the program that a terminal is opened with.

use crate::shard::Machine;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use monoio::io::IntoPollIo;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;
use workspace_core::runtime::{Ended, Files, Launched, Plan, Runtime};
use workspace_core::{Error, SandboxId};
use workspace_proto::agent::*;
use workspace_proto::grpc_frame::{self, Decoder};
use workspace_proto::launcher::{Enforced, Entry, Identity};
use workspace_proto::{Message, method};
use workspace_server::hub::Hub;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

/// A machine of scripts.
pub fn machine() -> Machine {
    (Rc::new(Scripts::default()), Rc::new(Hub))
}

#[derive(Default)]
struct Scripts {
    links: RefCell<HashMap<SandboxId, OwnedFd>>,
}

impl Scripts {
    fn launch(&self, id: SandboxId) -> Launched {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.links.borrow_mut().insert(id, theirs.try_clone().unwrap().into());
        monoio::spawn(serve(theirs));
        let pidfd = std::fs::File::open("/dev/null").unwrap().into();
        Launched { link: ours.into(), pidfd, identity: Identity::default(), enforced: Enforced::default() }
    }
}

impl Runtime for Scripts {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn create(&self, plan: Plan) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        async move { Ok(self.launch(plan.id)) }.boxed_local()
    }

    /// As when all its processes are killed: its end of the link is gone.
    fn destroy(&self, id: SandboxId, _: Files) -> LocalBoxFuture<'_, Result<(), Error>> {
        if let Some(link) = self.links.borrow_mut().remove(&id) {
            let _ = rustix::net::shutdown(link, rustix::net::Shutdown::Both);
        }
        async { Ok(()) }.boxed_local()
    }

    fn inventory(&self) -> LocalBoxFuture<'_, Result<Vec<Entry>, Error>> {
        async { Ok(Vec::new()) }.boxed_local()
    }

    fn adopt(&self, id: SandboxId, _: Identity) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        async move { Ok(self.launch(id)) }.boxed_local()
    }

    fn ended(&self) -> LocalBoxFuture<'_, Ended> {
        std::future::pending().boxed_local()
    }
}

/// The terminals of one link: their programs.
type Ptys = Rc<RefCell<BTreeMap<u64, Pty>>>;

async fn serve(stream: UnixStream) {
    stream.set_nonblocking(true).unwrap();
    let cut = stream.try_clone().unwrap();
    let stream = monoio::net::UnixStream::from_std(stream).unwrap().into_poll_io().unwrap();
    // A window of input that a test can fill.
    let mut connection =
        h2::server::Builder::new().initial_window_size(64 << 10).handshake::<_, Bytes>(stream).await.unwrap();
    let ptys = Ptys::default();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        let (ptys, cut) = (ptys.clone(), cut.try_clone().unwrap());
        let path = head.uri.path().to_owned();
        monoio::spawn(async move {
            // A client that leaves in the middle is what some tests do.
            let _ = answer(&path, body, respond, ptys, cut).await;
        });
    }
}

pub(crate) struct Requests {
    body: RecvStream,
    decoder: Decoder,
}

impl Requests {
    pub(crate) async fn next<M: Message + Default>(&mut self) -> Option<M> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let piece = self.body.data().await?.ok()?;
            self.body.flow_control().release_capacity(piece.len()).ok()?;
            self.decoder.push(&piece);
        }
    }
}

pub(crate) struct Answers(SendStream<Bytes>);

impl Answers {
    fn begin(respond: &mut SendResponse<Bytes>) -> Option<Answers> {
        respond.send_response(Response::new(()), false).ok().map(Answers)
    }

    pub(crate) async fn say(&mut self, message: &impl Message) -> Option<()> {
        let mut bytes = grpc_frame::encode(message);
        while !bytes.is_empty() {
            self.0.reserve_capacity(bytes.len());
            let room = std::future::poll_fn(|cx| self.0.poll_capacity(cx)).await?.ok()?;
            self.0.send_data(bytes.split_to(room.min(bytes.len())), false).ok()?;
        }
        Some(())
    }

    async fn event(&mut self, event: pty_event::Event) -> Option<()> {
        self.say(&PtyEvent { event: Some(event) }).await
    }

    async fn output(&mut self, bytes: impl Into<Bytes>) -> Option<()> {
        self.event(pty_event::Event::Output(bytes.into())).await
    }

    pub(crate) fn end(mut self, status: u32) -> Option<()> {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.into());
        self.0.send_trailers(trailers).ok()
    }
}

async fn answer(
    path: &str,
    body: RecvStream,
    mut respond: SendResponse<Bytes>,
    ptys: Ptys,
    cut: UnixStream,
) -> Option<()> {
    let mut requests = Requests { body, decoder: Decoder::default() };
    if path == method::PTY_ATTACH {
        return attach(requests, respond, ptys, cut).await;
    }
    if path == method::FILES {
        return crate::workers::play(requests, Answers::begin(&mut respond)?).await;
    }
    let mut status = 0;
    let mut answers = Answers::begin(&mut respond)?;
    match path {
        method::HELLO => {
            let hello: HelloRequest = requests.next().await?;
            let (protocol, sandbox_id) = (hello.protocol, hello.sandbox_id);
            answers.say(&HelloReply { protocol, sandbox_id, ..HelloReply::default() }).await?;
        }
        method::LIST => answers.say(&ListReply::default()).await?,
        method::PTY_OPEN => {
            let open: PtyOpenRequest = requests.next().await?;
            let run = open.run?;
            match &run.command[..] {
                b"missing" => status = 5,
                b"one too many" => status = 8,
                b"text file" => status = 9,
                _ => {
                    let id = ptys.borrow().len() as u64 + 1;
                    let env = |name: &str| run.env.iter().find(|v| v.name == name).map(|v| v.value.clone());
                    let term = [env("TERM")?, env("COLORTERM")?];
                    // What it was opened with is shown as its command, but for scripts.
                    let shown = [&run.command[..], &term[0], &term[1]].join(&b' ');
                    let command = if run.args.is_empty() { run.command } else { shown.into() };
                    let pty = Pty { id, pid: 40 + id as u32, cols: open.cols, rows: open.rows, command, started_us: 1 };
                    ptys.borrow_mut().insert(id, pty.clone());
                    answers.say(&pty).await?;
                }
            }
        }
        method::PTY_LIST => {
            let list = ptys.borrow().values().filter(|pty| pty.pid > 0).cloned().collect();
            answers.say(&PtyListReply { ptys: list }).await?;
        }
        method::PTY_RESIZE => {
            let resize: PtyResizeRequest = requests.next().await?;
            let size = resize.size?;
            match ptys.borrow_mut().get_mut(&resize.id).filter(|pty| pty.pid > 0) {
                Some(pty) => (pty.cols, pty.rows) = (size.cols, size.rows),
                None => status = 5,
            }
            answers.say(&PtyResizeReply {}).await?;
        }
        method::PTY_CLOSE => {
            let close: PtyCloseRequest = requests.next().await?;
            match ptys.borrow_mut().get_mut(&close.id).filter(|pty| pty.pid > 0) {
                // The id stays used.
                Some(pty) => pty.pid = 0,
                None => status = 5,
            }
            answers.say(&PtyCloseReply {}).await?;
        }
        _ => status = 12,
    }
    answers.end(status)
}

fn exited(exit_code: i32) -> pty_event::Event {
    let reason = ExitReason::Exited.into();
    pty_event::Event::Exited(Exited { exit_code, reason, ..Exited::default() })
}

/// A viewer, by the script of its terminal.
async fn attach(mut requests: Requests, mut respond: SendResponse<Bytes>, ptys: Ptys, cut: UnixStream) -> Option<()> {
    use pty_attach_request::Message as Said;
    let first: PtyAttachRequest = requests.next().await?;
    let Some(Said::Attach(viewer)) = first.message else { panic!("attach comes first") };
    let mut answers = Answers::begin(&mut respond)?;
    let known = ptys.borrow().get(&viewer.id).filter(|pty| pty.pid > 0).cloned();
    let Some(mut pty) = known else { return answers.end(5) };
    let script = pty.command.clone();
    match &script[..] {
        b"silent" => monoio::time::sleep(FOR_EVER).await,
        b"output first" => answers.output("x").await?,
        b"another" => pty.id += 1,
        b"no size" => pty.cols = 0,
        b"crowded" => return answers.end(8),
        _ => {}
    }
    answers.event(pty_event::Event::Pty(pty)).await?;
    match &script[..] {
        b"flood" => loop {
            answers.output(vec![b'x'; 64 << 10]).await?;
        },
        b"too slow" => {
            answers.output("some").await?;
            return answers.end(11);
        }
        b"deaf" => monoio::time::sleep(FOR_EVER).await,
        b"large" => answers.output(vec![b'x'; (64 << 10) + 1]).await?,
        b"empty" => answers.output("").await?,
        b"after the exit" => {
            answers.event(exited(0)).await?;
            answers.output("x").await?;
        }
        b"no exit" => return answers.end(0),
        b"no reason" => answers.event(pty_event::Event::Exited(Exited::default())).await?,
        _ => {}
    }
    answers.output(Bytes::from_static(b"kept ")).await?;
    loop {
        match requests.next::<PtyAttachRequest>().await?.message? {
            Said::Input(bytes) if bytes == "exit" => {
                answers.event(exited(7)).await?;
                return answers.end(0);
            }
            Said::Input(bytes) if bytes == "cut" => {
                let _ = cut.shutdown(std::net::Shutdown::Both);
                return None;
            }
            Said::Input(bytes) => answers.output(bytes).await?,
            Said::Size(size) => answers.output(format!("{}x{}", size.cols, size.rows)).await?,
            Said::Attach(_) => panic!("attach comes once"),
        }
    }
}
