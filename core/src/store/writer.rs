//! The only writer: takes what has gathered, commits it once, answers all.
//!
//! ```text
//!   put, remove, put_create ──► [ queue, bounded ] ──► batch ──► Log::commit ──► every waiting one is answered
//!                                                        └ failed: each alone, so that one does not doom the others
//! ```
//! A full disk refuses new records first, and keeps room for the rest (`reserve.rs`). [`settle`] is the rule, pure over [`Log`]; LMDB is one log, the simulation's faulty disk another. A write is
//! idempotent, so doing it again after a commit whose end is not known is right.

use super::env::{Failure, Gate};
use super::idempotency;
use super::record::Record;
use super::reserve::Reserve;
use super::sys::Lmdb;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::shard::mailbox::Reply;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Writes that wait for the writer.
pub const QUEUE_WRITES_MAX: usize = 1024;
/// Their bytes, those being written included.
pub const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Writes in one commit.
pub const BATCH_WRITES_MAX: usize = 256;
/// Times that a batch is tried again after the map grew.
const GROW_TRIES_MAX: usize = 12;

/// One change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Keeps a record, in place of the one before.
    Put(Row),
    /// Keeps a new record, unless its key has been used.
    PutCreate(Row, Once),
    /// Forgets a record. The key that made it stays used, so that a late retry does not make another sandbox.
    Remove(SandboxId),
    /// Forgets a record and frees its key: the create has failed and may be tried again.
    UndoCreate(SandboxId),
}

/// A record as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Whose.
    pub id: SandboxId,
    /// Its place in lists.
    pub created_at_us: u64,
    /// Encoded.
    pub bytes: Vec<u8>,
}

/// A key that makes one sandbox, however often it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    /// Within the caller's scope.
    pub key: Vec<u8>,
    /// Of the request; another one under the same key is a conflict.
    pub digest: u64,
    /// Wall time in µs.
    pub now_us: u64,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is kept.
    Done,
    /// The record is new, and kept.
    Created,
    /// The key was used before by the same request, which made this sandbox; nothing is written.
    Replayed(SandboxId),
    /// The key was used before by another request; nothing is written.
    Conflict,
}

/// What makes writes durable: all of a batch, or none of it.
pub trait Log {
    /// Commits in the order given; one answer for each. After an error nothing of the batch may be taken for kept,
    /// and it may be tried again.
    fn commit(&mut self, batch: &[&Write]) -> Result<Vec<Written>, Error>;
}

/// Commits a batch at once, or, where that fails, each write alone; gives the answers in order.
pub fn settle(log: &mut impl Log, batch: &[&Write]) -> Vec<Result<Written, Error>> {
    match log.commit(batch) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) if batch.len() <= 1 => vec![Err(error)],
        Err(_) => batch
            .iter()
            .map(|write| log.commit(&[write]).and_then(|answers| answers.first().copied().ok_or_else(no_answer)))
            .collect(),
    }
}

fn no_answer() -> Error {
    Error::new(Reason::DatabaseError, "The server's database failed.").source("a commit gave no answer")
}

impl Write {
    /// What it counts for in [`QUEUE_BYTES_MAX`].
    pub(super) fn bytes(&self) -> usize {
        match self {
            Write::Put(row) => row.bytes.len(),
            Write::PutCreate(row, once) => row.bytes.len() + once.key.len(),
            Write::Remove(_) | Write::UndoCreate(_) => 0,
        }
    }
}

/// A write that waits, and who waits for it.
pub(super) struct Waiting {
    pub(super) write: Write,
    pub(super) reply: Reply<Result<Written, Error>>,
}

/// What the writer's thread takes from its queue.
pub(super) enum Job {
    Write(Waiting),
    /// Everything before it is written; then the thread ends.
    Close,
}

/// The writer's end of the queue.
pub(super) struct Queue {
    pub(super) jobs: flume::Receiver<Job>,
    pub(super) bytes: Arc<AtomicUsize>,
    /// Set before the queue is emptied for the last time, so that who comes later can see that nobody will.
    pub(super) closed: Arc<AtomicBool>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.jobs.try_recv().is_ok() {}
    }
}

/// The thread's whole life.
pub(super) fn run(gate: &Gate, queue: &Queue) {
    let mut log = LmdbLog::new(gate);
    let mut open = true;
    let mut alarmed = false;
    while open {
        let Ok(first) = queue.jobs.recv() else { return };
        let mut batch = Vec::new();
        for job in std::iter::once(first).chain(queue.jobs.try_iter().take(BATCH_WRITES_MAX - 1)) {
            match job {
                Job::Write(waiting) => batch.push(waiting),
                Job::Close => open = false,
            }
        }
        let writes: Vec<&Write> = batch.iter().map(|waiting| &waiting.write).collect();
        let bytes: usize = writes.iter().map(|write| write.bytes()).sum();
        let answers = settle(&mut log, &writes);
        queue.bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (waiting, answer) in batch.into_iter().zip(answers) {
            if let Err(error) = &answer {
                tracing::error!(%error, "a write to the database failed");
            }
            waiting.reply.send(answer);
        }
        alarmed = alarm(gate, alarmed);
    }
}

/// Says once that the map is four fifths full.
fn alarm(gate: &Gate, alarmed: bool) -> bool {
    let Ok((used, reserved)) = gate.fill() else { return alarmed };
    let high = used / 4 >= reserved / 5;
    if high && !alarmed {
        tracing::warn!(used, reserved, "the database's map is four fifths full");
    }
    high
}

/// LMDB as a log: one transaction a batch, synced.
struct LmdbLog<'g> {
    gate: &'g Gate,
    reserve: Reserve,
}

impl<'g> LmdbLog<'g> {
    fn new(gate: &'g Gate) -> LmdbLog<'g> {
        LmdbLog { gate, reserve: Reserve::of(gate.path()) }
    }
}

impl Log for LmdbLog<'_> {
    fn commit(&mut self, batch: &[&Write]) -> Result<Vec<Written>, Error> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let used_bytes = self.gate.fill().map_or(0, |(used, _)| used as u64);
        let new_fit = self.reserve.fill_up(used_bytes);
        for _ in 0..GROW_TRIES_MAX {
            let committed = self.gate.with(|lmdb| transaction(lmdb, batch, new_fit));
            self.gate.committed();
            match committed {
                Ok(answers) => return Ok(answers),
                Err(Failure::MapFull) => self.gate.grow().map_err(Failure::at_use)?,
                Err(Failure::GivenUp(why)) => {
                    self.gate.reopen().map_err(Failure::at_use)?;
                    return Err(Failure::GivenUp(why).at_use());
                }
                Err(Failure::IoError) => {
                    let bytes = batch.iter().map(|write| write.bytes() as u64).sum();
                    return Err(self.gate.explain_io_error(bytes).at_use());
                }
                Err(failure) => return Err(failure.at_use()),
            }
        }
        Err(Failure::MapFull.at_use())
    }
}

fn transaction(lmdb: &Lmdb, batch: &[&Write], new_fit: bool) -> Result<Vec<Written>, Failure> {
    let mut txn = lmdb.write()?;
    let mut answers = Vec::with_capacity(batch.len());
    for write in batch {
        answers.push(match write {
            Write::Put(row) => {
                put(lmdb, &mut txn, row, new_fit)?;
                Written::Done
            }
            Write::PutCreate(row, once) => match idempotency::claim(lmdb, &mut txn, row, once)? {
                Written::Created => {
                    put(lmdb, &mut txn, row, new_fit)?;
                    Written::Created
                }
                other => other,
            },
            Write::Remove(id) => {
                remove(lmdb, &mut txn, id)?;
                Written::Done
            }
            Write::UndoCreate(id) => {
                if let Some(key) = remove(lmdb, &mut txn, id)? {
                    idempotency::release(lmdb, &mut txn, id, &key)?;
                }
                Written::Done
            }
        });
    }
    txn.commit()?;
    Ok(answers)
}

fn put(lmdb: &Lmdb, txn: &mut heed::RwTxn<'_>, row: &Row, new_fit: bool) -> Result<(), Failure> {
    let key = row.id.as_str().as_bytes();
    match lmdb.sandbox().get(txn, key)? {
        Some(before) => {
            let before = Record::decode(row.id, before).map_err(|bad| Failure::Answer(bad.into()))?;
            if before.created_at_us != row.created_at_us {
                lmdb.sandbox_order().delete(txn, &order_key(before.created_at_us, row.id))?;
            }
        }
        None if !new_fit => return Err(Failure::NoSpace),
        None => {}
    }
    lmdb.sandbox().put(txn, key, &row.bytes)?;
    Ok(lmdb.sandbox_order().put(txn, &order_key(row.created_at_us, row.id), &[])?)
}

/// Gives the removed record's idempotency key.
fn remove(lmdb: &Lmdb, txn: &mut heed::RwTxn<'_>, id: &SandboxId) -> Result<Option<String>, Failure> {
    let key = id.as_str().as_bytes();
    let Some(before) = lmdb.sandbox().get(txn, key)? else { return Ok(None) };
    let before = Record::decode(*id, before).map_err(|bad| Failure::Answer(bad.into()))?;
    lmdb.sandbox_order().delete(txn, &order_key(before.created_at_us, *id))?;
    lmdb.sandbox().delete(txn, key)?;
    Ok(before.idempotency_key)
}

/// Ascending by time, then id.
pub(super) fn order_key(created_at_us: u64, id: SandboxId) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&created_at_us.to_be_bytes());
    key[8..].copy_from_slice(id.as_str().as_bytes());
    key
}
