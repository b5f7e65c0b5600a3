//! What does the server keep of a client that shook hands? Its version, what of it runs, and its own sandbox.
//!
//! A client's connections land on any core, so the table is one for all cores: a map behind a lock that is held for one
//! look-up and never across a wait. A session grants nothing: every request shows its key again, and a session is found
//! only by the caller who made it. Ends by DELETE, after [`IDLE`], or when [`SESSIONS_MAX`] are there and it idles.

use super::offer::Set;
use super::outbox::Outbox;
use super::subscription::Subscribed;
use futures_util::lock::Mutex as Turns;
use rmcp::model::{ProtocolVersion, RequestId};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use workspace_core::SandboxId;

/// On all cores together.
pub(super) const SESSIONS_MAX: usize = 10_000;
/// Without a request, until it is forgotten.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
/// Requests of one session at once.
const RUNNING_MAX: usize = 1024;
/// Looked at to find one that idles.
const LOOKED_AT_MAX: usize = 64;

/// The sessions of all cores.
#[derive(Debug, Default)]
pub struct Sessions {
    table: Mutex<HashMap<String, Session>>,
    /// Of all messages that wait for their clients.
    waiting_bytes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Session {
    facts: Facts,
    used: Instant,
    running: HashMap<RequestId, flume::Sender<()>>,
}

impl Session {
    /// Nothing is under way, and nobody listens.
    fn is_idle(&self) -> bool {
        self.running.is_empty() && !self.facts.outbox.is_heard()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.facts.outbox.end();
    }
}

/// The sandbox that a client has for itself, once it is made. Whoever makes it holds the lock, so that it is made once.
pub type Own = Arc<Turns<Option<SandboxId>>>;

/// What a request must know of its session.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) version: ProtocolVersion,
    pub(super) set: Set,
    /// A digest of who made it.
    pub(super) caller: u64,
    /// It wants a sandbox of its own where no other is named.
    pub(super) auto_sandbox: bool,
    /// That sandbox.
    pub(super) sandbox: Own,
    /// What its client is told without asking.
    pub(super) outbox: Arc<Outbox>,
    /// The resources that it is told of.
    pub(super) subscribed: Arc<Subscribed>,
    /// What the suite's fixtures know of their client.
    #[cfg(any(test, feature = "mcp-conformance"))]
    pub(super) peer: Arc<super::conformance::Peer>,
}

/// A request that is under way. Dropping it forgets it.
#[derive(Debug)]
pub(super) struct Underway {
    sessions: Arc<Sessions>,
    session: String,
    id: RequestId,
    cancelled: flume::Receiver<()>,
}

impl Underway {
    /// Returns when its client says that it does not want the answer any more.
    pub(super) async fn cancelled(&self) {
        if self.cancelled.recv_async().await.is_err() {
            // The session has ended: so does what it asked for.
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.table().get_mut(&self.session) {
            session.running.remove(&self.id);
            session.used = Instant::now();
        }
    }
}

impl Sessions {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<String, Session>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the messages to a session's client.
    pub(super) fn outbox(&self) -> Arc<Outbox> {
        Outbox::new(self.waiting_bytes.clone())
    }

    /// Begins one and gives its id; `None` where all of too many are busy, or the system has no randomness.
    pub(super) fn begin(&self, facts: Facts) -> Option<String> {
        let mut random = [0u8; 16];
        let got = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        if got != Ok(random.len()) {
            return None;
        }
        let id = random.iter().fold(String::with_capacity(32), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        let mut table = self.table();
        if table.len() >= SESSIONS_MAX {
            let idle = table.iter().take(LOOKED_AT_MAX).filter(|(_, s)| s.is_idle() && !s.facts.auto_sandbox);
            let oldest = idle.min_by_key(|(_, session)| session.used).map(|(id, _)| id.clone())?;
            table.remove(&oldest);
        }
        table.insert(id.clone(), Session { facts, used: Instant::now(), running: HashMap::new() });
        Some(id)
    }

    /// The session of this id, of this caller and set.
    pub(super) fn find(&self, id: &str, caller: u64, set: Set) -> Option<Facts> {
        let mut table = self.table();
        let session = table.get_mut(id).filter(|s| s.facts.caller == caller && s.facts.set == set)?;
        session.used = Instant::now();
        Some(session.facts.clone())
    }

    /// Notes that a request is under way; `None` where one of this id is already, or too many are.
    pub(super) fn start(self: &Arc<Sessions>, session: &str, id: &RequestId) -> Option<Underway> {
        let (cancel, cancelled) = flume::bounded(1);
        let mut table = self.table();
        let running = &mut table.get_mut(session)?.running;
        if running.len() >= RUNNING_MAX || running.contains_key(id) {
            return None;
        }
        running.insert(id.clone(), cancel);
        Some(Underway { sessions: self.clone(), session: session.to_owned(), id: id.clone(), cancelled })
    }

    /// Cancels a request, where it is under way.
    pub(super) fn cancel(&self, session: &str, id: &RequestId) {
        if let Some(cancel) = self.table().get(session).and_then(|session| session.running.get(id)) {
            let _ = cancel.try_send(());
        }
    }

    /// Ends a session; gives its facts, whose sandbox the caller must remove.
    pub(super) fn end(&self, id: &str, caller: u64, set: Set) -> Option<Facts> {
        let mut table = self.table();
        table.get(id).filter(|s| s.facts.caller == caller && s.facts.set == set)?;
        table.remove(id).map(|session| session.facts.clone())
    }

    /// Ends those that idle since `idle`; gives their facts.
    pub(super) fn end_idle(&self, idle: Duration) -> Vec<Facts> {
        let mut table = self.table();
        let is_idle = |_: &String, s: &mut Session| s.is_idle() && s.used.elapsed() >= idle;
        table.extract_if(is_idle).map(|(_, session)| session.facts.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Set = Set(2);

    fn facts(caller: u64) -> Facts {
        Facts {
            version: ProtocolVersion::V_2025_11_25,
            set: FULL,
            caller,
            auto_sandbox: false,
            sandbox: Arc::default(),
            outbox: Outbox::new(Arc::default()),
            subscribed: Arc::default(),
            peer: crate::mcp::conformance::Peer::new(&Default::default()),
        }
    }

    #[test]
    fn a_session_is_its_makers() {
        let sessions = Sessions::default();
        let id = sessions.begin(facts(1)).unwrap();
        assert!(id.len() == 32 && sessions.find(&id, 1, FULL).is_some());
        assert!(sessions.find(&id, 2, FULL).is_none() && sessions.find(&id, 1, Set(0)).is_none());
        assert!(sessions.end(&id, 2, FULL).is_none() && sessions.end(&id, 1, FULL).is_some());
        assert!(sessions.find(&id, 1, FULL).is_none());
    }

    #[test]
    fn a_crowd_pushes_out_who_idles_and_nobody_who_works() {
        let sessions = Arc::new(Sessions::default());
        let busy = sessions.begin(facts(1)).unwrap();
        let _underway = sessions.start(&busy, &RequestId::Number(1)).unwrap();
        for _ in 0..SESSIONS_MAX + 100 {
            sessions.begin(facts(2)).unwrap();
        }
        assert_eq!(sessions.table().len(), SESSIONS_MAX);
        assert!(sessions.find(&busy, 1, FULL).is_some());
        assert_eq!(sessions.end_idle(Duration::ZERO).len(), SESSIONS_MAX - 1);
    }

    #[test]
    fn a_request_is_cancelled_by_its_id_once() {
        let sessions = Arc::new(Sessions::default());
        let id = sessions.begin(facts(1)).unwrap();
        let underway = sessions.start(&id, &RequestId::Number(7)).unwrap();
        assert!(sessions.start(&id, &RequestId::Number(7)).is_none(), "an id is used once at a time");
        sessions.cancel(&id, &RequestId::Number(8));
        assert!(underway.cancelled.is_empty());
        sessions.cancel(&id, &RequestId::Number(7));
        sessions.cancel(&id, &RequestId::Number(7));
        assert_eq!(underway.cancelled.len(), 1);
        drop(underway);
        assert!(sessions.start(&id, &RequestId::Number(7)).is_some());
    }
}
