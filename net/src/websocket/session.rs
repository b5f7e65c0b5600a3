//! Drives one client: its bytes, the operation's conversation, and the time that either may take.
//!
//! ```text
//!   ┌─► what arrived ─► codec ─► conversation.take      (only while it is ready: the client is not read from before)
//!   │   conversation.poll_next ─► codec ─► out ─► flush (at most OUT_BYTES_MAX at once: the client sets the pace)
//!   └── nothing more at once: wait for bytes, room, a message, the next ping, or the server's end
//! ```
//! Who is silent for two pings, or takes nothing within the write deadline, is dropped without a word.

use super::codec::{Codec, Ended};
use super::{Close, CloseCode, Conversation, Message};
use crate::http::socket::{Gone, Wire};
use monoio::time::{Instant, sleep, sleep_until};
use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Collected before it is sent.
const OUT_BYTES_MAX: usize = 64 << 10;
/// Rounds without a wait, before the core's other tasks get their turn.
const ROUNDS_MAX: u32 = 32;
/// Any wait lets the core's other tasks run; a shorter one is not kept by the timer.
const PAUSE: Duration = Duration::from_millis(1);

/// What the edge gives to a session.
pub(crate) struct Edge<'a> {
    /// Between two pings.
    pub(crate) heartbeat: Duration,
    /// Disconnected when the server stops.
    pub(crate) stop: flume::Receiver<Infallible>,
    /// What all clients of the core have sent that is not whole yet, in bytes.
    pub(crate) held_bytes: &'a Cell<usize>,
    /// The bound of that.
    pub(crate) held_bytes_max: usize,
}

/// Talks until either side has had enough. The last word is in the output and not sent yet; an error: the client has gone.
pub(crate) async fn run(
    wire: &mut Wire<'_>,
    mut conversation: Box<dyn Conversation>,
    edge: Edge<'_>,
) -> Result<(), Gone> {
    let mut codec = Codec::new(conversation.message_bytes_max());
    let mut held = Held { edge: &edge, counted: 0 };
    let mut session = Session { codec: &mut codec, conversation: &mut *conversation, rounds: 0 };
    let mut heard = Instant::now();
    let mut ping_at = heard + edge.heartbeat;
    loop {
        if edge.stop.is_disconnected() {
            return session.end(wire, Close::new(CloseCode::GoingAway, "the server stops"));
        }
        let progress = match session.round(wire, &mut heard).await {
            Ok(progress) => progress,
            Err(End::Said(close)) => return session.end(wire, close),
            Err(End::Heard) => return Ok(()),
            Err(End::Gone(gone)) => return Err(gone),
        };
        if !held.count(wire.input.len() + session.codec.held_bytes()) {
            let close = Close::new(CloseCode::TryAgain, "the server is receiving too much at once");
            return session.end(wire, close);
        }
        wire.flush().await?;
        if progress {
            session.pause().await;
            continue;
        }
        if wire.input.is_empty() {
            wire.rest();
        }
        match session.wait(wire, &edge, heard, ping_at).await {
            // Who had no room did not listen.
            Woken::Bytes | Woken::Room => heard = Instant::now(),
            Woken::Stop => {}
            Woken::Ping => {
                session.codec.ping(&mut wire.out);
                ping_at = Instant::now() + edge.heartbeat;
            }
            Woken::Said(Ok(message)) => session.codec.send(message, &mut wire.out),
            Woken::Said(Err(close)) => return session.end(wire, close),
            Woken::Gone(gone) => return Err(gone),
        }
    }
}

/// Why a session ends.
enum End {
    /// Our close has to be said.
    Said(Close),
    /// The peer closed, or was refused by the codec: all is said.
    Heard,
    Gone(Gone),
}

/// What ended a wait.
enum Woken {
    Bytes,
    Room,
    Said(Result<Message, Close>),
    Ping,
    Stop,
    Gone(Gone),
}

struct Session<'a> {
    codec: &'a mut Codec,
    conversation: &'a mut dyn Conversation,
    /// Since the last wait.
    rounds: u32,
}

impl Session<'_> {
    /// Hands on what can be handed on at once, both ways. True where that was something.
    async fn round(&mut self, wire: &mut Wire<'_>, heard: &mut Instant) -> Result<bool, End> {
        let mut progress = false;
        if self.is_ready().await && wire.fill_at_once().map_err(End::Gone)? {
            *heard = Instant::now();
            progress = true;
        }
        while self.is_ready().await {
            let message = match self.codec.receive(&mut wire.input, &mut wire.out) {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(Ended::ByPeer) => return Err(End::Heard),
                Err(Ended::Broken(close)) => {
                    tracing::debug!(code = close.code as u16, reason = &*close.reason, "a client broke the protocol");
                    return Err(End::Heard);
                }
            };
            progress = true;
            self.conversation.take(message).map_err(End::Said)?;
            // What it answers is said before a close that may stand right behind the question.
            self.speak(wire).await?;
            if wire.out.len() >= OUT_BYTES_MAX {
                return Ok(true);
            }
        }
        Ok(self.speak(wire).await? || progress)
    }

    /// Collects what the conversation has to say at once. True where that was something.
    async fn speak(&mut self, wire: &mut Wire<'_>) -> Result<bool, End> {
        let mut progress = false;
        while wire.out.len() < OUT_BYTES_MAX {
            match poll_fn(|cx| Poll::Ready(self.conversation.poll_next(cx))).await {
                Poll::Pending => break,
                Poll::Ready(Ok(message)) => self.codec.send(message, &mut wire.out),
                Poll::Ready(Err(close)) => return Err(End::Said(close)),
            }
            progress = true;
        }
        Ok(progress)
    }

    async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| Poll::Ready(self.conversation.poll_ready(cx).is_ready())).await
    }

    /// Waits for anything. Dropping a wait loses nothing.
    async fn wait(&mut self, wire: &mut Wire<'_>, edge: &Edge<'_>, heard: Instant, ping_at: Instant) -> Woken {
        self.rounds = 0;
        let has_room = self.is_ready().await;
        let mut bytes = pin!(async {
            if has_room {
                return wire.fill(heard + 2 * edge.heartbeat).await;
            }
            // Who has no room is not read from, so the silence is ours; but a client that leaves is noticed.
            wire.left().await;
            Err(Gone::Left)
        });
        let mut ping = pin!(sleep_until(ping_at));
        let mut stop = pin!(edge.stop.recv_async());
        poll_fn(|cx| {
            if let Poll::Ready(said) = self.conversation.poll_next(cx) {
                return Poll::Ready(Woken::Said(said));
            }
            if !has_room && self.conversation.poll_ready(cx).is_ready() {
                return Poll::Ready(Woken::Room);
            }
            if let Poll::Ready(filled) = bytes.as_mut().poll(cx) {
                return Poll::Ready(filled.map_or_else(Woken::Gone, |()| Woken::Bytes));
            }
            if stop.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Woken::Stop);
            }
            ping.as_mut().poll(cx).map(|()| Woken::Ping)
        })
        .await
    }

    /// A client that is never waited for must not keep the core from the others.
    async fn pause(&mut self) {
        self.rounds += 1;
        if self.rounds >= ROUNDS_MAX {
            self.rounds = 0;
            sleep(PAUSE).await;
        }
    }

    fn end(&mut self, wire: &mut Wire<'_>, close: Close) -> Result<(), Gone> {
        self.codec.close(&close, &mut wire.out);
        Ok(())
    }
}

/// A session's part in what the core holds of unfinished input.
struct Held<'a> {
    edge: &'a Edge<'a>,
    counted: usize,
}

impl Held<'_> {
    /// False where it is too much.
    fn count(&mut self, bytes: usize) -> bool {
        let all = self.edge.held_bytes.get() - self.counted + bytes;
        self.edge.held_bytes.set(all);
        self.counted = bytes;
        all <= self.edge.held_bytes_max
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.edge.held_bytes.set(self.edge.held_bytes.get() - self.counted);
    }
}
