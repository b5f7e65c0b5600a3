//! A viewer of a terminal over a WebSocket: what it types, what it sees, and the last word.
//!
//! Output is sent as binary messages, one for each piece of the agent's. Input is binary messages, and control messages
//! as text. With the subprotocol every text must be one: another ends the connection with 1007. Without it, a text that
//! is none is input, and a control message with a wrong field is dropped, as deployed clients expect.

use crate::websocket::{Close, CloseCode, Conversation, Message};
use crate::wire::terminal::{self, Control, Wrong};
use bytes::Bytes;
use flume::r#async::{RecvStream, SendSink};
use futures_util::{SinkExt, StreamExt};
use std::collections::VecDeque;
use std::task::{Context, Poll};
use workspace_core::process::{Ending, ExitReason};
use workspace_core::pty::{Away, Seen, Size, Typed};
use workspace_core::shard::Viewer;

/// The subprotocol.
pub(super) const PROTOCOL: &str = "workspace.pty.v1";
/// Of input, in one piece on its way to the agent.
const PIECE_BYTES_MAX: usize = 64 << 10;
/// Answers to pings that are not sent yet; with more, the client is not read from.
const ANSWERS_MAX: usize = 16;

/// What a text without a meaning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Texts {
    /// Input.
    Typed,
    /// The end: the client asked for the subprotocol.
    Control,
}

/// One viewer.
pub(super) struct Terminal {
    texts: Texts,
    typed: SendSink<'static, Typed>,
    seen: RecvStream<'static, Result<Seen, Away>>,
    /// Not handed on yet: the pieces of one message.
    pieces: VecDeque<Typed>,
    answers: VecDeque<Message>,
    close: Option<Close>,
}

impl Terminal {
    pub(super) fn new(viewer: Viewer, protocol: Option<&str>) -> Terminal {
        Terminal {
            texts: if protocol == Some(PROTOCOL) { Texts::Control } else { Texts::Typed },
            typed: viewer.typed.into_sink(),
            seen: viewer.seen.into_stream(),
            pieces: VecDeque::new(),
            answers: VecDeque::new(),
            close: None,
        }
    }

    fn input(&mut self, mut bytes: Bytes) {
        while !bytes.is_empty() {
            self.pieces.push_back(Typed::Input(bytes.split_to(bytes.len().min(PIECE_BYTES_MAX))));
        }
    }

    fn end(&mut self, ending: &Ending) {
        if self.texts == Texts::Control {
            self.answers.push_back(Message::Text(terminal::exit(ending.exit_code).into()));
        }
        let reason = match ending.reason {
            ExitReason::Canceled => "the terminal was closed".to_owned(),
            _ => format!("the program ended with code {}", ending.exit_code),
        };
        self.close = Some(Close::new(CloseCode::Normal, reason));
    }
}

fn sent_away(away: Away) -> Close {
    match away {
        Away::TooSlow => {
            Close::new(CloseCode::TryAgain, "too slow: more was printed than is kept for a viewer; connect again")
        }
        Away::SandboxEnded => Close::new(CloseCode::GoingAway, "the sandbox has ended"),
        Away::LinkLost => Close::new(CloseCode::Failed, "the link to the sandbox was lost; connect again"),
    }
}

impl Conversation for Terminal {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.typed.poll_ready_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => {}
                // Nobody takes it any more; what is seen tells why.
                Poll::Ready(Err(_)) => self.pieces.clear(),
            }
            match self.pieces.pop_front() {
                Some(piece) => drop(self.typed.start_send_unpin(piece)),
                None if self.answers.len() < ANSWERS_MAX => return Poll::Ready(()),
                // The session takes the answers before it asks again.
                None => return Poll::Pending,
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), Close> {
        let text = match message {
            Message::Binary(bytes) => {
                self.input(bytes);
                return Ok(());
            }
            Message::Text(text) => text,
        };
        match (terminal::read(&text), self.texts) {
            (Ok(Control::Input(data)), _) => self.input(data.into()),
            (Ok(Control::Resize { cols, rows }), _) => self.pieces.extend(Size::new(cols, rows).map(Typed::Size)),
            (Ok(Control::Ping), _) => self.answers.push_back(Message::Text(terminal::PONG.into())),
            (Err(wrong), Texts::Control) => return Err(Close::new(CloseCode::BadData, wrong.to_string())),
            (Err(Wrong::Unknown), Texts::Typed) => self.input(text.into()),
            (Err(Wrong::Field(field)), Texts::Typed) => {
                tracing::debug!(field, "a control message of a terminal with a wrong field was dropped");
            }
        }
        Ok(())
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Close>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Poll::Ready(Ok(answer));
            }
            if let Some(close) = &self.close {
                return Poll::Ready(Err(close.clone()));
            }
            match self.seen.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Seen::Output(bytes)))) => return Poll::Ready(Ok(Message::Binary(bytes))),
                Poll::Ready(Some(Ok(Seen::Ended(ending)))) => self.end(&ending),
                Poll::Ready(Some(Err(away))) => self.close = Some(sent_away(away)),
                Poll::Ready(None) => self.close = Some(Close::new(CloseCode::Failed, "the terminal was lost")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::task::noop_waker;
    use workspace_core::pty::Pty;

    type Ends = (Terminal, flume::Receiver<Typed>, flume::Sender<Result<Seen, Away>>);

    fn terminal(protocol: Option<&str>) -> Ends {
        let (typed, to_type) = flume::bounded(4);
        let (show, seen) = flume::bounded(4);
        let size = Size { cols: 80, rows: 24 };
        let pty = Pty { id: 1, pid: 2, size, command: String::new(), started_us: 0 };
        (Terminal::new(Viewer { pty, typed, seen }, protocol), to_type, show)
    }

    fn is_ready(terminal: &mut Terminal) -> bool {
        terminal.poll_ready(&mut Context::from_waker(&noop_waker())).is_ready()
    }

    fn next(terminal: &mut Terminal) -> Option<Result<Message, Close>> {
        match terminal.poll_next(&mut Context::from_waker(&noop_waker())) {
            Poll::Ready(said) => Some(said),
            Poll::Pending => None,
        }
    }

    fn text(text: &str) -> Message {
        Message::Text(text.into())
    }

    fn typed(to_type: &flume::Receiver<Typed>) -> Vec<Typed> {
        to_type.drain().collect()
    }

    #[test]
    fn without_the_subprotocol_a_text_may_be_input() {
        let (mut terminal, to_type, _show) = terminal(None);
        assert!(is_ready(&mut terminal));
        for message in [
            Message::Binary(Bytes::from_static(b"{\"type\":\"ping\"}")),
            text("ls\r"),
            text(r#"{"type":"resize","cols":0,"rows":1}"#),
            text(r#"{"type":"input","data":"x"}"#),
            text(r#"{"type":"resize","cols":9,"rows":8}"#),
        ] {
            terminal.take(message).unwrap();
        }
        assert!(is_ready(&mut terminal));
        let input = |text: &'static str| Typed::Input(Bytes::from_static(text.as_bytes()));
        let size = Typed::Size(Size { cols: 9, rows: 8 });
        assert_eq!(typed(&to_type), [input("{\"type\":\"ping\"}"), input("ls\r"), input("x"), size]);
        terminal.take(text(r#"{"type":"ping"}"#)).unwrap();
        assert_eq!(next(&mut terminal), Some(Ok(text(terminal::PONG))));
        assert_eq!(next(&mut terminal), None);
    }

    #[test]
    fn with_the_subprotocol_every_text_is_control() {
        let (mut terminal, to_type, show) = terminal(Some(PROTOCOL));
        terminal.take(text(r#"{"type":"input","data":"x"}"#)).unwrap();
        assert!(is_ready(&mut terminal));
        assert_eq!(typed(&to_type).len(), 1);
        for wrong in ["ls\r", "{}", r#"{"type":"resize","cols":80,"rows":0}"#] {
            assert_eq!(terminal.take(text(wrong)).unwrap_err().code, CloseCode::BadData, "{wrong}");
        }
        show.send(Ok(Seen::Output(Bytes::from_static(b"\xff")))).unwrap();
        let reason = ExitReason::Exited;
        let ending = Ending { exit_code: 3, signal: None, reason, truncated: false, duration_us: 0 };
        show.send(Ok(Seen::Ended(ending))).unwrap();
        assert_eq!(next(&mut terminal), Some(Ok(Message::Binary(Bytes::from_static(b"\xff")))));
        assert_eq!(next(&mut terminal), Some(Ok(text(r#"{"type":"exit","code":3}"#))));
        assert_eq!(next(&mut terminal).unwrap().unwrap_err().code, CloseCode::Normal);
    }

    #[test]
    fn a_large_message_waits_for_room_and_keeps_its_order() {
        let (mut terminal, to_type, _show) = terminal(None);
        let bytes: Vec<u8> = (0..1 << 20).map(|i| (i / 1000) as u8).collect();
        terminal.take(Message::Binary(bytes.clone().into())).unwrap();
        assert!(!is_ready(&mut terminal));
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            is_ready(&mut terminal);
            for piece in typed(&to_type) {
                let Typed::Input(piece) = piece else { panic!("input") };
                assert!(piece.len() <= PIECE_BYTES_MAX);
                got.extend_from_slice(&piece);
            }
        }
        assert_eq!(got, bytes);
        assert!(is_ready(&mut terminal));
    }

    #[test]
    fn each_way_to_be_sent_away_has_its_code() {
        for (away, code) in [
            (Some(Away::TooSlow), CloseCode::TryAgain),
            (Some(Away::SandboxEnded), CloseCode::GoingAway),
            (Some(Away::LinkLost), CloseCode::Failed),
            (None, CloseCode::Failed),
        ] {
            let (mut terminal, to_type, show) = terminal(None);
            away.into_iter().for_each(|away| show.send(Err(away)).unwrap());
            drop((to_type, show));
            terminal.take(text("into the void")).unwrap();
            assert!(is_ready(&mut terminal), "what nobody takes is dropped");
            assert_eq!(next(&mut terminal).unwrap().unwrap_err().code, code);
            assert_eq!(next(&mut terminal).unwrap().unwrap_err().code, code, "and stays so");
        }
    }

    #[test]
    fn a_flood_of_pings_is_held_back() {
        let (mut terminal, _to_type, _show) = terminal(None);
        for _ in 0..ANSWERS_MAX {
            assert!(is_ready(&mut terminal));
            terminal.take(text(r#"{"type":"ping"}"#)).unwrap();
        }
        assert!(!is_ready(&mut terminal));
        assert!(next(&mut terminal).is_some() && is_ready(&mut terminal));
    }
}
