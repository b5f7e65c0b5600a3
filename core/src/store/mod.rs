//! What outlives the server: records in LMDB, one writer, durable before it is answered.
//!
//! [`Store`] is used from every core. A write goes to the writer's queue and is answered after the commit; a full
//! queue is [`Reason::Overloaded`]. A dropped future undoes nothing: what was queued is written.
//! The order of two writes of one sandbox is the order in which they were asked for.

pub mod check;
mod env;
pub mod idempotency;
mod reader;
pub mod record;
mod reserve;
mod stored;
mod sys;
pub mod writer;

use crate::error::{Error, Reason};
use crate::id::SandboxId;
use crate::sandbox::{Idempotency, ListFilter};
use crate::shard::mailbox::{Mailbox, mailbox, oneshot};
use env::Gate;
pub use reader::RecordPage;
pub use record::{Identity, Record};
use std::future::Future;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use writer::{Job, Once, QUEUE_BYTES_MAX, QUEUE_WRITES_MAX, Queue, Row, Write, Written};

/// The records of all sandboxes. A clone is the same store.
#[derive(Clone)]
pub struct Store {
    gate: Arc<Gate>,
    jobs: flume::Sender<Job>,
    lists: Mailbox<Gate>,
    queued_bytes: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    writer: Arc<Mutex<Option<JoinHandle<()>>>>,
}

/// What became of a create that carries an Idempotency-Key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutCreate {
    /// The record is kept.
    Created,
    /// The same request made this sandbox before. It may have been deleted since.
    Replayed(SandboxId),
    /// The key belongs to another request.
    Conflict,
}

impl Store {
    /// Opens or makes the database at a file. The error's message is one line for the user.
    pub fn open(path: &Path) -> Result<Store, Error> {
        Store::start(Gate::open(path)?)
    }

    fn start(gate: Gate) -> Result<Store, Error> {
        let gate = Arc::new(gate);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let (jobs, jobs_in) = flume::bounded(QUEUE_WRITES_MAX);
        let closed = Arc::new(AtomicBool::new(false));
        let (lists, lists_in) = mailbox(reader::QUEUE_LISTS_MAX);
        let (to_write, to_read) = (gate.clone(), gate.clone());
        let queue = Queue { jobs: jobs_in, bytes: queued_bytes.clone(), closed: closed.clone() };
        let writer = thread("store-writer", move || writer::run(&to_write, &queue))?;
        thread("store-reader", move || reader::run(&to_read, &lists_in))?;
        Ok(Store { gate, jobs, lists, queued_bytes, closed, writer: Arc::new(Mutex::new(Some(writer))) })
    }

    /// As long as this stays the same, [`Store::get`] gives the same. Ask for it before the read.
    pub fn version(&self) -> u64 {
        self.gate.version()
    }

    /// 32 random bytes that are made once and stay: what file handles that outlive the server are signed with. Blocks.
    pub fn handle_key(&self) -> Result<[u8; 32], Error> {
        self.gate.handle_key().map_err(env::Failure::at_use)
    }

    /// One record. Microseconds, on any thread.
    pub fn get(&self, id: &SandboxId) -> Result<Option<Record>, Error> {
        reader::get(&self.gate, id)
    }

    /// All records, oldest first; for the start. A record of another version is an error that names it.
    pub fn all(&self) -> Result<Vec<Record>, Error> {
        reader::all(&self.gate)
    }

    /// One page of those that match.
    pub fn list(&self, filter: ListFilter) -> impl Future<Output = Result<RecordPage, Error>> + Send + use<> {
        let page = self.lists.ask(move |gate, reply| {
            // Nobody may be waiting any more for what was queued long ago.
            if !reply.is_abandoned() {
                reply.send(reader::list(gate, &filter));
            }
        });
        async move { page.await? }
    }

    /// Keeps a record in place of the one before. Durable when it returns; on an error nothing has changed.
    /// It is queued by the call itself, not by the first poll.
    pub fn put(&self, record: Record) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let written = row(&record).and_then(|row| self.write(Write::Put(row)));
        async move { written?.await.map(|_| ()) }
    }

    /// Keeps a new record unless its key was used within a day. `key` must be scoped by who calls: two API keys never
    /// share one. Key and record are written together; the record's `idempotency_key` is set by this.
    pub fn put_create(
        &self,
        record: Record,
        idempotency: Idempotency,
    ) -> impl Future<Output = Result<PutCreate, Error>> + Send + use<> {
        let Idempotency { key, digest } = idempotency;
        let once = Once { key: key.clone().into_bytes(), digest, now_us: record.created_at_us };
        let record = Record { idempotency_key: Some(key), ..record };
        let written = row(&record).and_then(|row| self.write(Write::PutCreate(row, once)));
        async move {
            Ok(match written?.await? {
                Written::Done | Written::Created => PutCreate::Created,
                Written::Replayed(id) => PutCreate::Replayed(id),
                Written::Conflict => PutCreate::Conflict,
            })
        }
    }

    /// Forgets a record. Its Idempotency-Key stays used: a late retry is not a new sandbox.
    pub fn remove(&self, id: SandboxId) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let written = self.write(Write::Remove(id));
        async move { written?.await.map(|_| ()) }
    }

    /// Forgets a record whose create has failed, and frees its Idempotency-Key, so that the caller may try again.
    pub fn undo_create(&self, id: SandboxId) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let written = self.write(Write::UndoCreate(id));
        async move { written?.await.map(|_| ()) }
    }

    /// Used and reserved bytes, for metrics.
    pub fn fill_bytes(&self) -> Result<(usize, usize), Error> {
        self.gate.fill().map_err(env::Failure::at_use)
    }

    /// Writes all that was asked for, and ends the writer. Blocks; later writes of clones are errors.
    pub fn close(self) {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Waits for room where the queue is full: the writer is draining it.
        let _ = self.jobs.send(Job::Close);
        if writer.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the database's writer panicked");
        }
    }

    fn write(&self, write: Write) -> Result<impl Future<Output = Result<Written, Error>> + Send + use<>, Error> {
        let bytes = write.bytes();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES_MAX {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(overloaded());
        }
        let (reply, answer) = oneshot();
        if let Err(error) = self.jobs.try_send(Job::Write(writer::Waiting { write, reply })) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(refused(error));
        }
        // A job that was left while the writer ended may lie in the queue for ever, with its reply.
        if self.closed.load(Ordering::SeqCst) {
            return Err(stopping());
        }
        Ok(async move { answer.wait().await? })
    }
}

fn row(record: &Record) -> Result<Row, Error> {
    Ok(Row { id: record.id, created_at_us: record.created_at_us, bytes: record.encode()? })
}

fn thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(body)
        .map_err(|e| Error::new(Reason::DatabaseError, format!("the thread {name} cannot be started: {e}")))
}

fn overloaded() -> Error {
    Error::new(Reason::Overloaded, "The server's database has too much to do; try again.")
}

fn refused<T>(error: flume::TrySendError<T>) -> Error {
    match error {
        flume::TrySendError::Full(_) => overloaded(),
        flume::TrySendError::Disconnected(_) => stopping(),
    }
}

fn stopping() -> Error {
    Error::new(Reason::DatabaseError, "The server is stopping.")
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
