//! How does a command tell of itself while it runs? Each output as a progress notification, its end as the answer.
//!
//! Made of the events that the streaming operation gives to browsers, so that there is one way to follow a command.
//! Bounded: an answer keeps what the call asked for, and after [`TOLD_BYTES_MAX`] only the answer follows.

use super::Era;
use super::call::{failed, structured};
use super::engine::Messages;
use super::message::{notification, response};
use super::session::Underway;
use crate::http::slot::Slot;
use crate::operation::Events;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, select};
use rmcp::model::{CallToolResult, ProgressNotificationParam, ProgressToken, RequestId};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::pin::pin;
use workspace_core::{Error, Reason};

/// Output that is told as progress, of one call.
const TOLD_BYTES_MAX: u64 = 1 << 20;

/// A command that is followed.
pub(super) struct Progress {
    events: Option<Box<dyn Events>>,
    page: Vec<u8>,
    waiting: VecDeque<Vec<u8>>,
    era: Era,
    id: RequestId,
    token: ProgressToken,
    stdout: String,
    stderr: String,
    output_bytes_max: u64,
    printed_bytes: u64,
    truncated: bool,
    underway: Option<Underway>,
    _slot: Slot,
}

impl Progress {
    pub(super) fn new(
        events: Box<dyn Events>,
        (era, id, token): (Era, RequestId, ProgressToken),
        output_bytes_max: u64,
        (slot, underway): (Slot, Option<Underway>),
    ) -> Progress {
        Progress {
            events: Some(events),
            page: Vec::new(),
            waiting: VecDeque::new(),
            era,
            id,
            token,
            stdout: String::new(),
            stderr: String::new(),
            output_bytes_max,
            printed_bytes: 0,
            truncated: false,
            underway,
            _slot: slot,
        }
    }

    async fn next_message(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(message) = self.waiting.pop_front() {
                return Some(message);
            }
            let events = self.events.as_mut()?;
            let more = match &self.underway {
                None => Some(events.write_next(&mut self.page).await),
                Some(underway) => match select(events.write_next(&mut self.page), pin!(underway.cancelled())).await {
                    Either::Left((more, _)) => Some(more),
                    Either::Right(_) => None,
                },
            };
            let Some(more) = more else {
                // Nothing answers a request that was canceled; dropping the events ends the command.
                self.events = None;
                return None;
            };
            let page = std::mem::take(&mut self.page);
            for event in page.split(|byte| *byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")) {
                if let Ok(event) = serde_json::from_slice(event) {
                    self.take(event);
                }
            }
            if !more && self.events.take().is_some() && self.waiting.is_empty() {
                let error = Error::new(Reason::AgentError, "the command's end was not told");
                self.finish(failed(&error));
            }
        }
    }

    fn take(&mut self, event: Value) {
        match event["type"].as_str() {
            Some(stream @ ("stdout" | "stderr")) => {
                let Some(text) = event["data"].as_str() else { return };
                self.keep(stream == "stdout", text);
                self.printed_bytes += text.len() as u64;
                if self.printed_bytes <= TOLD_BYTES_MAX {
                    let told = ProgressNotificationParam::new(self.token.clone(), self.printed_bytes as f64)
                        .with_message(text);
                    self.waiting.push_back(notification("notifications/progress", told));
                }
            }
            Some("exit") => {
                let outcome = json!({
                    "exit_code": event["code"], "exit_reason": event["exit_reason"], "signal": event["signal"],
                    "timed_out": event["timed_out"], "truncated": self.truncated || event["truncated"] == true,
                    "duration_ms": event["duration_ms"], "stdout": std::mem::take(&mut self.stdout),
                    "stderr": std::mem::take(&mut self.stderr),
                });
                self.finish(structured(outcome));
            }
            Some("error") => {
                let reason = Reason::ALL.iter().find(|reason| Some(reason.name()) == event["reason"].as_str());
                let message = event["message"].as_str().unwrap_or_default();
                self.finish(failed(&Error::new(*reason.unwrap_or(&Reason::Internal), message)));
            }
            _ => {}
        }
    }

    /// Keeps the first of what is printed, as a call that is not followed does.
    fn keep(&mut self, is_stdout: bool, text: &str) {
        let kept = (self.stdout.len() + self.stderr.len()) as u64;
        let room = usize::try_from(self.output_bytes_max.saturating_sub(kept)).unwrap_or(usize::MAX);
        let end = text.floor_char_boundary(room);
        self.truncated |= end < text.len();
        if is_stdout { &mut self.stdout } else { &mut self.stderr }.push_str(&text[..end]);
    }

    fn finish(&mut self, mut result: CallToolResult) {
        self.era.mark(&mut result);
        self.waiting.push_back(response(&self.id, result));
        self.events = None;
    }
}

impl Messages for Progress {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        self.next_message().boxed_local()
    }
}
