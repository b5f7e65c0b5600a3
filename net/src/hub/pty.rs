//! Terminals over a link: what an agent says of them, checked, and a viewer's stream in both directions.
//!
//! ```text
//!  Keys   ─► attach, then input and sizes ─► DATA as far as the agent's window goes
//!  Screen ◄─ pty, output…, exited, status ◄─ DATA, its credit given back when a message is asked for
//! ```
//! Dropping both ends resets the stream, which takes the viewer away and leaves the terminal.

use super::call::{End, Messages, begin, lost, nonsense, send};
use super::process::ending_from_wire;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use h2::SendStream;
use h2::client::SendRequest;
use workspace_core::Error;
use workspace_core::agent::{Keys, Screen, Viewing};
use workspace_core::pty::{Pty, Seen, Size, Typed};
use workspace_proto::agent::pty_attach_request::Message as Say;
use workspace_proto::agent::pty_event::Event;
use workspace_proto::agent::{self as wire, PtyAttachRequest, PtyEvent, PtyListReply, PtySize, PtyViewer};
use workspace_proto::{OUTPUT_CHUNK_BYTES_MAX, PTYS_MAX, grpc_frame, method};

const COMMAND_BYTES_MAX: usize = 4096;

/// One terminal.
pub(super) fn from_wire(pty: wire::Pty) -> Result<Pty, Error> {
    let size = Size::new(pty.cols, pty.rows).ok_or_else(|| nonsense("a terminal without a size"))?;
    if pty.id == 0 || pty.command.len() > COMMAND_BYTES_MAX || i32::try_from(pty.pid).is_err() {
        return Err(nonsense("a terminal that can't be"));
    }
    let command = String::from_utf8_lossy(&pty.command).into_owned();
    Ok(Pty { id: pty.id, pid: pty.pid, size, command, started_us: pty.started_us })
}

/// All of them, ascending.
pub(super) fn list_from_wire(list: PtyListReply) -> Result<Vec<Pty>, Error> {
    if list.ptys.len() > PTYS_MAX || !list.ptys.is_sorted_by(|a, b| a.id < b.id) {
        return Err(nonsense("a list of terminals out of order"));
    }
    list.ptys.into_iter().map(from_wire).collect()
}

/// A size as the agent takes it.
pub(super) fn size_to_wire(size: Size) -> PtySize {
    PtySize { cols: size.cols, rows: size.rows }
}

/// Attaches a viewer.
pub(super) async fn view(requests: SendRequest<Bytes>, id: u64) -> Result<Viewing, Error> {
    let (response, mut stream) = begin(requests, method::PTY_ATTACH).await?;
    send(&mut stream, message(Say::Attach(PtyViewer { id })), End::Open).await?;
    let mut messages = Messages::new(method::PTY_ATTACH, response.await.map_err(lost)?)?;
    let first = messages.next().await?.and_then(|event: PtyEvent| event.event);
    let Some(Event::Pty(pty)) = first else { return Err(nonsense("a terminal's stream that does not begin with it")) };
    let pty = from_wire(pty)?;
    if pty.id != id {
        return Err(nonsense("another terminal than was asked for"));
    }
    Ok(Viewing { pty, screen: Box::new(Reader { messages, ended: false }), keys: Box::new(Writer { stream }) })
}

fn message(say: Say) -> Bytes {
    grpc_frame::encode(&PtyAttachRequest { message: Some(say) })
}

struct Reader {
    messages: Messages<PtyEvent>,
    ended: bool,
}

impl Reader {
    async fn read(&mut self) -> Result<Option<Seen>, Error> {
        let Some(message) = self.messages.next().await? else {
            return if self.ended { Ok(None) } else { Err(nonsense("a terminal's stream without an exit")) };
        };
        match told(message, self.ended)? {
            Seen::Ended(ending) => {
                self.ended = true;
                Ok(Some(Seen::Ended(ending)))
            }
            output => Ok(Some(output)),
        }
    }
}

fn told(message: PtyEvent, ended: bool) -> Result<Seen, Error> {
    match message.event {
        _ if ended => Err(nonsense("a terminal's event after its exit")),
        Some(Event::Output(bytes)) if (1..=OUTPUT_CHUNK_BYTES_MAX).contains(&bytes.len()) => Ok(Seen::Output(bytes)),
        Some(Event::Exited(exited)) => Ok(Seen::Ended(ending_from_wire(&exited)?)),
        _ => Err(nonsense("a terminal's event out of order, or of no or too many bytes")),
    }
}

impl Screen for Reader {
    fn next(&mut self) -> LocalBoxFuture<'_, Result<Option<Seen>, Error>> {
        self.read().boxed_local()
    }
}

struct Writer {
    stream: SendStream<Bytes>,
}

impl Writer {
    async fn write(&mut self, typed: Typed) -> Result<(), Error> {
        match typed {
            Typed::Size(size) => send(&mut self.stream, message(Say::Size(size_to_wire(size))), End::Open).await,
            Typed::Input(mut bytes) => {
                while !bytes.is_empty() {
                    let piece = bytes.split_to(bytes.len().min(OUTPUT_CHUNK_BYTES_MAX));
                    send(&mut self.stream, message(Say::Input(piece)), End::Open).await?;
                }
                Ok(())
            }
        }
    }
}

impl Keys for Writer {
    fn press(&mut self, typed: Typed) -> LocalBoxFuture<'_, Result<(), Error>> {
        self.write(typed).boxed_local()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_core::Reason;

    fn pty(id: u64) -> wire::Pty {
        wire::Pty { id, pid: 7, cols: 80, rows: 24, command: Bytes::from_static(b"/bin/\xff"), started_us: 1 }
    }

    #[test]
    fn a_terminal_that_cannot_be_is_nonsense() {
        let good = from_wire(pty(1)).unwrap();
        assert_eq!((good.id, good.command.as_str()), (1, "/bin/\u{fffd}"));
        for bad in [
            pty(0),
            wire::Pty { cols: 0, ..pty(1) },
            wire::Pty { rows: 4097, ..pty(1) },
            wire::Pty { pid: u32::MAX, ..pty(1) },
            wire::Pty { command: vec![b'a'; 4097].into(), ..pty(1) },
        ] {
            assert_eq!(from_wire(bad).unwrap_err().reason, Reason::AgentError);
        }
    }

    #[test]
    fn a_list_is_bounded_and_in_order() {
        let list = |ids: Vec<u64>| list_from_wire(PtyListReply { ptys: ids.into_iter().map(pty).collect() });
        assert_eq!(list((1..=32).collect()).unwrap().len(), 32);
        for bad in [(1..=33).collect(), vec![2, 1], vec![1, 1]] {
            assert!(list(bad).is_err());
        }
    }

    #[test]
    fn events_are_of_the_right_size_and_order() {
        let event = |event| PtyEvent { event: Some(event) };
        let exited = || Event::Exited(wire::Exited { reason: wire::ExitReason::Exited.into(), ..Default::default() });
        assert!(matches!(told(event(Event::Output("a".into())), false), Ok(Seen::Output(_))));
        assert!(matches!(told(event(exited()), false), Ok(Seen::Ended(_))));
        assert!(told(event(Event::Output(Bytes::new())), false).is_err());
        assert!(told(event(Event::Output(vec![0; 65_537].into())), false).is_err());
        assert!(told(event(Event::Pty(pty(1))), false).is_err());
        assert!(told(event(Event::Output("a".into())), true).is_err() && told(event(exited()), true).is_err());
        assert!(told(PtyEvent { event: None }, false).is_err());
    }
}
