//! A sandbox on the shard that owns it: its record, the link to its agent, and who waits for its end.

use crate::agent::Agent;
use crate::store::Record;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// One sandbox of this shard.
pub(super) struct Slot {
    /// As last written, or about to be.
    pub(super) record: RefCell<Record>,
    /// Absent before Hello, after an end, and while nobody has asked for a lost link again.
    pub(super) agent: RefCell<Option<Rc<dyn Agent>>>,
    /// Why its first process ended, as the runtime told it.
    pub(super) ended: RefCell<Option<String>>,
    /// A delete is under way.
    pub(super) deleting: Cell<bool>,
    /// Disconnected when the runtime has told that the first process ended.
    pub(super) end: (RefCell<Option<flume::Sender<()>>>, flume::Receiver<()>),
    /// Disconnected when the slot is forgotten or its delete has failed.
    pub(super) delete_done: RefCell<Option<flume::Receiver<()>>>,
}

impl Slot {
    pub(super) fn new(record: Record) -> Rc<Slot> {
        let (alive, end) = flume::bounded(1);
        Rc::new(Slot {
            record: RefCell::new(record),
            agent: RefCell::default(),
            ended: RefCell::default(),
            deleting: Cell::new(false),
            end: (RefCell::new(Some(alive)), end),
            delete_done: RefCell::default(),
        })
    }

    /// Notes the end and wakes who waits for it.
    pub(super) fn mark_ended(&self, why: String) {
        self.ended.replace(Some(why));
        self.agent.replace(None);
        self.end.0.replace(None);
    }

    /// Why it ended, once that is known; at most `timeout_ms`.
    pub(super) async fn why_ended(&self, timeout_ms: u64) -> Option<String> {
        let end = self.end.1.clone();
        let timeout = monoio::time::sleep(std::time::Duration::from_millis(timeout_ms));
        futures_util::future::select(std::pin::pin!(end.recv_async()), std::pin::pin!(timeout)).await;
        self.ended.borrow().clone()
    }
}
