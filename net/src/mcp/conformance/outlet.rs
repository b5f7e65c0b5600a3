//! How does a tool tell of itself while it works? Its messages go out as they come, its answer is the last.
//!
//! The tool's work is polled by who sends its messages, so that it goes on no faster than they are taken, and ends with
//! its stream.

use crate::mcp::engine::Messages;
use crate::mcp::message::notification;
use crate::mcp::session::Underway;
use futures_util::FutureExt;
use futures_util::future::{Either, LocalBoxFuture, poll_fn, select};
use rmcp::model::{ProgressNotificationParam, ProgressToken};
use serde_json::json;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

/// Where a tool puts what it tells.
#[derive(Debug, Clone)]
pub(super) struct Outlet {
    waiting: Rc<RefCell<VecDeque<Vec<u8>>>>,
    /// More than the answer can be sent.
    open: bool,
}

impl Outlet {
    pub(super) fn new(open: bool) -> Outlet {
        Outlet { waiting: Rc::default(), open }
    }

    /// Tells a message; false where nobody will hear it.
    pub(super) fn tell(&self, message: Vec<u8>) -> bool {
        if self.open {
            self.waiting.borrow_mut().push_back(message);
        }
        self.open
    }

    /// Tells a line of the log, to who wants to hear this level.
    pub(super) fn log(&self, level: &str, text: &str) {
        let params = json!({"level": level, "logger": "conformance", "data": text});
        self.tell(notification("notifications/message", params));
    }

    /// Tells how far the call is, to who gave a token for that.
    pub(super) fn progress(&self, token: Option<&ProgressToken>, done: f64, all: f64) {
        if let Some(token) = token {
            let told = ProgressNotificationParam::new(token.clone(), done)
                .with_total(all)
                .with_message(format!("{done} of {all}"));
            self.tell(notification("notifications/progress", told));
        }
    }

    fn take(&self) -> Option<Vec<u8>> {
        self.waiting.borrow_mut().pop_front()
    }
}

/// A tool at work.
pub(super) struct Working {
    outlet: Outlet,
    /// Gives the answer.
    work: Option<LocalBoxFuture<'static, Vec<u8>>>,
    underway: Option<Underway>,
}

impl Working {
    pub(super) fn new(outlet: Outlet, work: LocalBoxFuture<'static, Vec<u8>>, underway: Option<Underway>) -> Working {
        Working { outlet, work: Some(work), underway }
    }

    async fn next_message(&mut self) -> Option<Vec<u8>> {
        let Working { outlet, work, underway } = self;
        let more = poll_fn(|context| {
            if let Some(message) = outlet.take() {
                return Poll::Ready(Some(message));
            }
            let Some(working) = work else { return Poll::Ready(None) };
            if let Poll::Ready(answer) = working.as_mut().poll(context) {
                *work = None;
                outlet.waiting.borrow_mut().push_back(answer);
            }
            outlet.take().map_or(Poll::Pending, |message| Poll::Ready(Some(message)))
        });
        let Some(underway) = underway else { return more.await };
        match select(more, pin!(underway.cancelled())).await {
            Either::Left((message, _)) => message,
            // Nothing answers a request that was canceled.
            Either::Right(_) => {
                *work = None;
                outlet.waiting.borrow_mut().clear();
                None
            }
        }
    }
}

impl Messages for Working {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        self.next_message().boxed_local()
    }
}
