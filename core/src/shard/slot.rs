//! A sandbox on the shard that owns it: its life, its record, the link to its agent, and who waits for an answer.

use super::mailbox::Reply;
use super::pool::Blank;
use crate::agent::Agent;
use crate::error::Error;
use crate::sandbox::Idempotency;
use crate::sandbox::state::{Kept, Machine};
use crate::store::Record;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Commands of one sandbox that can be told of a full disk at once; more are told at the next look.
const COMMANDS_MAX: usize = 1024;

/// One sandbox of this shard.
pub(super) struct Slot {
    /// Only `Shard::event` steps it.
    pub(super) machine: RefCell<Machine>,
    /// As last written, or about to be.
    pub(super) record: RefCell<Record>,
    /// The create's key, until it is kept.
    pub(super) idempotency: RefCell<Option<Idempotency>>,
    /// Absent before Hello, after an end, and while nobody has asked for a lost link again.
    pub(super) agent: RefCell<Option<Rc<dyn Agent>>>,
    /// The sandbox made ahead that it is, until it is launched.
    pub(super) blank: RefCell<Option<Blank>>,
    /// Who waits for the create.
    pub(super) created: RefCell<Option<Reply<Result<Kept, Error>>>>,
    /// Who waits for a delete.
    pub(super) deletes: RefCell<Vec<Reply<Result<(), Error>>>>,
    /// Told once it is at rest: what a start waits for.
    pub(super) settled: RefCell<Option<Reply<()>>>,
    /// It runs from a start on, not from a create.
    pub(super) adopted: Cell<bool>,
    /// Commands that run now.
    pub(super) running: Cell<u32>,
    /// Its disk use is looked at.
    pub(super) watched: Cell<bool>,
    /// The highest id of a terminal that was seen.
    pub(super) ptys_known: Cell<u64>,
    /// A word for each command that must end for want of space.
    pub(super) full: (flume::Sender<()>, flume::Receiver<()>),
    /// Why its first process ended; the sender is dropped when that is told.
    ended: (RefCell<Option<flume::Sender<()>>>, flume::Receiver<()>),
    why: RefCell<Option<String>>,
}

impl Slot {
    pub(super) fn new(machine: Machine, record: Record) -> Rc<Slot> {
        let (alive, ended) = flume::bounded(1);
        Rc::new(Slot {
            machine: RefCell::new(machine),
            record: RefCell::new(record),
            idempotency: RefCell::default(),
            agent: RefCell::default(),
            blank: RefCell::default(),
            created: RefCell::default(),
            deletes: RefCell::default(),
            settled: RefCell::default(),
            adopted: Cell::new(false),
            running: Cell::new(0),
            watched: Cell::new(false),
            ptys_known: Cell::new(0),
            full: flume::bounded(COMMANDS_MAX),
            ended: (RefCell::new(Some(alive)), ended),
            why: RefCell::default(),
        })
    }

    /// Notes the end and wakes who waits for the reason.
    pub(super) fn mark_ended(&self, why: String) {
        self.why.replace(Some(why));
        self.agent.replace(None);
        self.ended.0.replace(None);
    }

    /// Why it ended, once that is known; at most `timeout_ms`.
    pub(super) async fn why_ended(&self, timeout_ms: u64) -> Option<String> {
        let ended = self.ended.1.clone();
        let timeout = monoio::time::sleep(std::time::Duration::from_millis(timeout_ms));
        futures_util::future::select(std::pin::pin!(ended.recv_async()), std::pin::pin!(timeout)).await;
        self.why.borrow().clone()
    }
}
