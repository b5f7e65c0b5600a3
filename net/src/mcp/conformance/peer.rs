//! What is known of the client of a legacy session, and how is it asked? A request goes out on the stream of the call
//! that needs the answer; the answer comes by a POST of its own, on any core, and is handed to who waits.

use super::outlet::Outlet;
use super::questions::{Question, Reply};
use super::resume::Streams;
use futures_util::future::{Either, select};
use rmcp::model::{ClientCapabilities, JsonRpcVersion2_0, RequestId};
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Levels of a log, from the least.
pub(super) const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];
/// For a client, and whoever sits before it.
const WAIT: Duration = Duration::from_secs(60);
/// Questions of one session at once.
const ASKED_MAX: usize = 16;

/// The client of one session.
#[derive(Debug)]
pub(in crate::mcp) struct Peer {
    capabilities: Value,
    /// The least that it wants to hear, as an index.
    level: AtomicUsize,
    asked: Mutex<Asked>,
    pub(super) streams: Streams,
}

#[derive(Debug, Default)]
struct Asked {
    last: i64,
    waiting: HashMap<i64, flume::Sender<Value>>,
}

impl Peer {
    /// One that has said that it can do this.
    pub(in crate::mcp) fn new(capabilities: &ClientCapabilities) -> Arc<Peer> {
        // A struct of names and values is always JSON.
        let capabilities = serde_json::to_value(capabilities).unwrap_or(Value::Null);
        let (level, asked, streams) = (AtomicUsize::new(0), Mutex::default(), Streams::default());
        Arc::new(Peer { capabilities, level, asked, streams })
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From this level on it wants to hear; false where there is no such level.
    pub(super) fn hear(&self, level: &str) -> bool {
        let index = LEVELS.iter().position(|one| *one == level);
        index.map(|index| self.level.store(index, Ordering::Relaxed)).is_some()
    }

    pub(super) fn level(&self) -> usize {
        self.level.load(Ordering::Relaxed)
    }

    /// Asks, and waits for the answer. An error says why there is none.
    pub(super) async fn ask(&self, outlet: &Outlet, question: &Question) -> Result<Reply, String> {
        #[derive(Serialize)]
        struct Request<'a> {
            jsonrpc: JsonRpcVersion2_0,
            id: i64,
            method: &'a str,
            params: &'a Value,
        }
        let method = question.method;
        if !self.capabilities[question.capability()].is_object() {
            return Err(format!("the client cannot answer {method}"));
        }
        let (id, answered, _waits) = self.wait().ok_or("too many questions are open")?;
        let request = Request { jsonrpc: JsonRpcVersion2_0, id, method, params: &question.params };
        // Texts and numbers are always JSON.
        if !outlet.tell(serde_json::to_vec(&request).unwrap_or_default()) {
            return Err(format!("{method} needs a client that accepts text/event-stream"));
        }
        match select(pin!(answered.recv_async()), pin!(monoio::time::sleep(WAIT))).await {
            Either::Left((Ok(answer), _)) if answer["error"].is_object() => {
                Err(format!("the client refused {method}: {}", answer["error"]["message"]))
            }
            Either::Left((Ok(answer), _)) => question
                .read(&answer["result"])
                .ok_or_else(|| format!("this answers no {method}: {}", answer["result"])),
            _ => Err(format!("the client did not answer {method} within {} s", WAIT.as_secs())),
        }
    }

    fn wait(&self) -> Option<(i64, flume::Receiver<Value>, Waits<'_>)> {
        let (answer, answered) = flume::bounded(1);
        let mut asked = self.asked();
        if asked.waiting.len() >= ASKED_MAX {
            return None;
        }
        asked.last += 1;
        let id = asked.last;
        asked.waiting.insert(id, answer);
        Some((id, answered, Waits { peer: self, id }))
    }

    /// Hands an answer to who asked. What was never asked, or is not waited for any more, is nobody's.
    pub(super) fn answered(&self, id: &RequestId, answer: Value) {
        let RequestId::Number(id) = id else { return };
        if let Some(waiting) = self.asked().waiting.remove(id) {
            let _ = waiting.try_send(answer);
        }
    }
}

/// Someone waits for an answer. Dropping it: nobody does.
struct Waits<'a> {
    peer: &'a Peer,
    id: i64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.peer.asked().waiting.remove(&self.id);
    }
}
