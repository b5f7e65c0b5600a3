//! The server's side of terminals, small: open, attach, type, look.

use crate::client::{Client, command, status};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use std::time::Duration;
use workspace_proto::agent::{
    Exited, Pty, PtyAttachRequest, PtyCloseReply, PtyCloseRequest, PtyEvent, PtyListReply, PtyListRequest,
    PtyOpenRequest, PtyResizeReply, PtyResizeRequest, PtySize, PtyViewer, RunRequest, Variable,
    pty_attach_request::Message, pty_event::Event,
};
use workspace_proto::grpc_frame::{Decoder, encode};
use workspace_proto::method;

/// For one thing to happen on a busy machine.
const WAIT: Duration = Duration::from_secs(8);

/// One attached viewer.
pub(crate) struct Viewer {
    send: SendStream<Bytes>,
    body: RecvStream,
    decoder: Decoder,
    pub(crate) pty: Pty,
    /// All that it has been sent.
    pub(crate) seen: Vec<u8>,
    /// Up to where [`Self::until`] has looked.
    looked: usize,
}

impl Client {
    /// A terminal of 80 by 24 with `run` on it.
    pub(crate) async fn open(&mut self, run: RunRequest) -> Result<Pty, u16> {
        let request = PtyOpenRequest { run: Some(run), cols: 80, rows: 24 };
        self.call(method::PTY_OPEN, &request).await
    }

    /// A shell on a terminal, which prints `$ ` where it waits, and a viewer.
    pub(crate) async fn terminal(&mut self) -> Viewer {
        let pty = self.open(bash()).await.unwrap();
        let mut viewer = self.attach(pty.id).await.unwrap();
        viewer.until("$ ").await;
        viewer
    }

    /// `sh -c` on a terminal, and a viewer.
    pub(crate) async fn watch(&mut self, script: &str) -> Viewer {
        let pty = self.open(crate::client::shell(script)).await.unwrap();
        self.attach(pty.id).await.unwrap()
    }

    pub(crate) async fn attach(&mut self, id: u64) -> Result<Viewer, u16> {
        let (response, mut send) = self.stream(method::PTY_ATTACH).await;
        send.send_data(message(Message::Attach(PtyViewer { id })), false).unwrap();
        let response = response.await.map_err(|_| 0u16)?;
        if let Some(code) = status(response.headers()) {
            return Err(code);
        }
        let (body, decoder) = (response.into_body(), Decoder::default());
        let mut viewer = Viewer { send, body, decoder, pty: Pty::default(), seen: Vec::new(), looked: 0 };
        let Ok(Some(Event::Pty(pty))) = viewer.event().await else { panic!("`pty` comes first") };
        viewer.pty = pty;
        Ok(viewer)
    }

    pub(crate) async fn ptys(&mut self) -> Vec<Pty> {
        self.call::<_, PtyListReply>(method::PTY_LIST, &PtyListRequest {}).await.unwrap().ptys
    }

    pub(crate) async fn close(&mut self, id: u64) -> Result<(), u16> {
        self.call::<_, PtyCloseReply>(method::PTY_CLOSE, &PtyCloseRequest { id }).await.map(drop)
    }

    pub(crate) async fn resize(&mut self, id: u64, cols: u32, rows: u32) -> Result<(), u16> {
        let request = PtyResizeRequest { id, size: Some(PtySize { cols, rows }) };
        self.call::<_, PtyResizeReply>(method::PTY_RESIZE, &request).await.map(drop)
    }
}

impl Viewer {
    /// The next event, `None` behind the last one, or the status that ended the stream.
    pub(crate) async fn event(&mut self) -> Result<Option<Event>, u16> {
        loop {
            if let Some(message) = self.decoder.next_message::<PtyEvent>().unwrap() {
                return Ok(Some(message.event.expect("an event that says what it is")));
            }
            match tokio::time::timeout(WAIT, self.body.data()).await.expect("something comes") {
                Some(piece) => {
                    let piece = piece.map_err(|_| 0u16)?;
                    self.body.flow_control().release_capacity(piece.len()).unwrap();
                    self.decoder.push(&piece);
                }
                None => {
                    self.decoder.finish().unwrap();
                    let trailers = self.body.trailers().await.unwrap().expect("trailers");
                    return match status(&trailers).unwrap() {
                        0 => Ok(None),
                        code => Err(code),
                    };
                }
            }
        }
    }

    /// Looks until `text` comes, behind what was looked for before; returns what came between.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut from = self.looked;
        loop {
            let mut new = self.seen[from..].windows(text.len());
            if let Some(at) = new.position(|window| window == text.as_bytes()) {
                let found = String::from_utf8_lossy(&self.seen[self.looked..from + at]).into_owned();
                self.looked = from + at + text.len();
                return found;
            }
            from = self.looked.max((self.seen.len() + 1).saturating_sub(text.len()));
            match self.event().await {
                Ok(Some(Event::Output(bytes))) => self.seen.extend_from_slice(&bytes),
                other => panic!("{other:?} before {text:?}, after {:?}", self.text()),
            }
        }
    }

    /// Looks until the end.
    pub(crate) async fn exited(&mut self) -> Exited {
        loop {
            match self.event().await.unwrap().expect("`exited` comes last") {
                Event::Output(bytes) => self.seen.extend_from_slice(&bytes),
                Event::Exited(exited) => {
                    assert_eq!(self.event().await, Ok(None), "nothing behind `exited`");
                    return exited;
                }
                Event::Pty(_) => panic!("`pty` comes once"),
            }
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Types `keys`; what does not fit the window waits in memory.
    pub(crate) fn keys(&mut self, keys: &str) {
        self.say(Message::Input(Bytes::copy_from_slice(keys.as_bytes())));
    }

    pub(crate) fn size(&mut self, cols: u32, rows: u32) {
        self.say(Message::Size(PtySize { cols, rows }));
    }

    pub(crate) fn say(&mut self, said: Message) {
        self.send.send_data(message(said), false).unwrap();
    }

    /// How many more bytes the agent would take at once.
    pub(crate) async fn window(&mut self, wanted: usize) -> usize {
        self.send.reserve_capacity(wanted);
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.send.capacity()
    }

    /// Ends this half, as who has nothing more to say.
    pub(crate) fn leave(&mut self) {
        self.send.send_data(Bytes::new(), true).unwrap();
    }

    /// Goes away.
    pub(crate) fn reset(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

fn message(message: Message) -> Bytes {
    encode(&PtyAttachRequest { message: Some(message) })
}

/// An interactive shell with nothing of this machine's.
pub(crate) fn bash() -> RunRequest {
    let mut request = command(&["bash", "--norc", "--noprofile", "-i"]);
    for (name, value) in [("PS1", "$ "), ("TERM", "dumb"), ("LANG", "C.UTF-8"), ("HISTFILE", "")] {
        request.env.push(Variable { name: Bytes::from(name), value: Bytes::from(value) });
    }
    request
}
