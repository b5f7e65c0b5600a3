//! How does a client come back to an answer whose stream has ended before it? By the id of what it had last.
//!
//! ```text
//!  POST ─► id: 1-0, no data, retry ─► (the server ends the stream) ─► GET, Last-Event-ID: 1-0 ─► id: 1-1, the answer
//! ```
//! Source: the specification, 2025-11-25, transports: a server may end a stream that it has given an id to.

use crate::mcp::engine::{Mark, Messages};
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Of one session; the oldest goes.
const STREAMS_MAX: usize = 8;
/// When a client shall come back.
const RETRY: Duration = Duration::from_millis(100);

/// The streams of one session that can be come back to.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    streams: VecDeque<Arc<Stream>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Stream {
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first one has no data, so that there is an id to come back with.
    messages: Vec<Vec<u8>>,
    done: bool,
    /// Of who reads now. Dropped, the reading ends.
    bell: Option<flume::Sender<()>>,
}

impl Streams {
    /// Begins one, with who reads it first.
    pub(super) fn begin(&self) -> (Arc<Stream>, Reading) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last += 1;
        let state = Mutex::new(State { messages: vec![Vec::new()], ..State::default() });
        let stream = Arc::new(Stream { number: kept.last, state });
        if kept.streams.len() >= STREAMS_MAX {
            kept.streams.pop_front();
        }
        kept.streams.push_back(stream.clone());
        (stream.clone(), stream.read(0))
    }

    /// Goes on behind what has this id; `None` where it is of none of them.
    pub(super) fn resume(&self, id: &str) -> Option<Reading> {
        let (number, index) = id.split_once('-')?;
        let (number, index): (u64, usize) = (number.parse().ok()?, index.parse().ok()?);
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = kept.streams.iter().find(|stream| stream.number == number)?;
        let is_told = index < stream.state().messages.len();
        is_told.then(|| stream.read(index + 1))
    }
}

impl Stream {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: &Arc<Stream>, at: usize) -> Reading {
        let (bell, rung) = flume::bounded(1);
        // Who has read until now does so no more.
        self.state().bell = Some(bell);
        Reading { stream: self.clone(), at, rung }
    }

    /// Ends who reads now; what comes later waits for the client to come back.
    pub(super) fn cut(&self) {
        self.state().bell = None;
    }

    /// Puts the last message.
    pub(super) fn finish(&self, message: Option<Vec<u8>>) {
        let mut state = self.state();
        state.messages.extend(message);
        state.done = true;
        state.bell.as_ref().map(|bell| bell.try_send(()));
    }
}

/// Who reads a stream.
pub(super) struct Reading {
    stream: Arc<Stream>,
    /// What comes next.
    at: usize,
    rung: flume::Receiver<()>,
}

impl Reading {
    async fn next_message(&mut self) -> Option<Vec<u8>> {
        loop {
            {
                let state = self.stream.state();
                if let Some(message) = state.messages.get(self.at) {
                    self.at += 1;
                    return Some(message.clone());
                }
                if state.done {
                    return None;
                }
            }
            self.rung.recv_async().await.ok()?;
        }
    }
}

impl Messages for Reading {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Vec<u8>>> {
        self.next_message().boxed_local()
    }

    fn mark(&self) -> Option<Mark> {
        let index = self.at.checked_sub(1)?;
        Some(Mark { id: format!("{}-{index}", self.stream.number), retry: (index == 0).then_some(RETRY) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(reading: &mut Reading) -> Option<Option<Vec<u8>>> {
        reading.next_message().now_or_never()
    }

    #[test]
    fn who_comes_back_gets_what_came_after() {
        let streams = Streams::default();
        let (stream, mut first) = streams.begin();
        assert_eq!((next(&mut first), next(&mut first)), (Some(Some(Vec::new())), None));
        let mark = first.mark().unwrap();
        assert_eq!((mark.id.as_str(), mark.retry), ("1-0", Some(RETRY)));
        stream.cut();
        assert_eq!(next(&mut first), Some(None));
        let mut second = streams.resume("1-0").unwrap();
        assert_eq!(next(&mut second), None);
        stream.finish(Some(b"x".to_vec()));
        assert_eq!((next(&mut second), second.mark().unwrap().id), (Some(Some(b"x".to_vec())), "1-1".to_owned()));
        assert_eq!(next(&mut second), Some(None));
        assert_eq!(next(&mut streams.resume("1-0").unwrap()), Some(Some(b"x".to_vec())), "as often as needed");
        for wrong in ["", "1", "1-2", "2-0", "-", "1-x", "1-18446744073709551616"] {
            assert!(streams.resume(wrong).is_none(), "{wrong}");
        }
        for _ in 0..STREAMS_MAX {
            streams.begin();
        }
        assert!(streams.resume("1-0").is_none(), "the oldest has gone");
    }
}
