//! The other side of a WebSocket under test: it says what it hears, and counts itself.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};
use workspace_server::operation::*;
use workspace_server::websocket::{Close, CloseCode, Conversation, Message};

pub static SOCKETS: &[Entry] = &[entry::<Echo>(), entry::<Plain>()];

/// Largest message that is echoed.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Heard and not said yet.
const HELD_MAX: usize = 16;

/// Conversations of `/echo` that are under way, by `slot`.
pub static UNDER_WAY: [AtomicU32; 16] = [const { AtomicU32::new(0) }; 16];

#[derive(Debug, Deserialize, JsonSchema)]
pub struct Wanted {
    #[serde(default)]
    slot: usize,
    /// Stop listening after so many messages.
    full_after: Option<u32>,
    /// Fail instead.
    #[serde(default)]
    refuse: bool,
}

struct Echoing {
    wanted: Wanted,
    heard: VecDeque<Message>,
}

impl Drop for Echoing {
    fn drop(&mut self) {
        UNDER_WAY[self.wanted.slot].fetch_sub(1, Ordering::SeqCst);
    }
}

impl Conversation for Echoing {
    fn message_bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let full = self.heard.len() >= HELD_MAX || self.wanted.full_after == Some(0);
        if full { Poll::Pending } else { Poll::Ready(()) }
    }

    fn take(&mut self, message: Message) -> Result<(), Close> {
        if message == Message::Text("enough".into()) {
            return Err(Close::new(CloseCode::Normal, "as you say"));
        }
        if let Some(left) = &mut self.wanted.full_after {
            *left -= 1;
        }
        self.heard.push_back(message);
        Ok(())
    }

    fn poll_next(&mut self, _: &mut Context<'_>) -> Poll<Result<Message, Close>> {
        self.heard.pop_front().map_or(Poll::Pending, |message| Poll::Ready(Ok(message)))
    }
}

/// Says what it hears.
struct Echo;

impl Operation for Echo {
    const NAME: &'static str = "echo";
    const SUMMARY: &'static str = "Echo.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/echo")];
    const STATUS: u16 = 101;
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const SOCKET: Option<&'static [&'static str]> = Some(&["echo.v1"]);
    const ERRORS: &'static [Reason] = &[Reason::PtyNotFound];
    type Input = Wanted;
    type Output = Socket;

    async fn call(_: &Shard, call: Call<Wanted>) -> Result<Socket, Error> {
        if call.input.refuse {
            return Err(Error::new(Reason::PtyNotFound, "refused, as asked"));
        }
        UNDER_WAY[call.input.slot].fetch_add(1, Ordering::SeqCst);
        Ok(Socket(Box::new(Echoing { wanted: call.input, heard: VecDeque::new() })))
    }
}

/// A route beside it that is no WebSocket.
struct Plain;

impl Operation for Plain {
    const NAME: &'static str = "plain";
    const SUMMARY: &'static str = "Plain.";
    const ROUTES: &'static [Route] = &[workspace_server::operation::get("/plain")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = &[];
    type Input = Nothing;
    type Output = Json<u64>;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Json<u64>, Error> {
        Ok(Json(0))
    }
}
