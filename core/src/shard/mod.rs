//! One core's view of the whole service: a handle that answers on any core, wherever the sandbox lives.
//!
//! ```text
//!   create   always here: the id is drawn until it belongs to this shard
//!   get list the store, read on this core: what it holds was committed before anybody was told
//!   delete run  the owner's core: a plain call here, else one bounded message there and one answer back
//! ```
//! `drive.rs` is what the owner does with a life, `process.rs` with commands, `pty.rs` with terminals; `recover.rs` what a start finds; `blocks.rs` who has which host ids.

mod blocks;
mod command;
mod disk;
mod drive;
mod elsewhere;
mod files;
pub mod mailbox;
mod pool;
mod process;
mod pty;
mod record;
mod recover;
mod slot;

pub use blocks::Blocks;
pub use process::Follow;
pub use pty::Viewer;
pub use recover::Recovery;

use crate::agent::Connector;
use crate::disk::Usage;
use crate::error::{Error, Reason};
use crate::files::Files;
use crate::id::SandboxId;
use crate::runtime::Runtime;
use crate::sandbox::deadlines::Deadlines;
use crate::sandbox::{CreateSandbox, Force, ListFilter, Page, Sandbox};
use crate::store::Store;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{Either, select};
use mailbox::{Inbox, Mailbox, oneshot};
use pool::Pool;
use slot::Slot;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Calls that may wait for one shard.
pub const MAILBOX_CALLS_MAX: usize = 4096;

/// Answers that one core keeps, and how large each may be, in bytes.
const SHOWN_MAX: usize = 4096;
const SHOWN_BYTES_MAX: usize = 4096;

/// How often deadlines are looked at: they are told in seconds.
const DEADLINE_LOOK: Duration = Duration::from_millis(500);

/// What every shard must know of the service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The host and port in `nfs_url`.
    pub nfs_host: String,
    /// As `nfs_host`.
    pub nfs_port: u16,
    /// The template of a create that names none.
    pub base_image: String,
    /// How long an agent may take to answer.
    pub agent_timeout_ms: u64,
    /// Of this boot of the machine.
    pub boot_id: String,
}

/// A handle to the service on one core.
#[derive(Clone)]
pub struct Shard(Rc<Inner>);

struct Inner {
    index: usize,
    peers: Vec<Mailbox<Shard>>,
    store: Store,
    runtime: Rc<dyn Runtime>,
    connector: Rc<dyn Connector>,
    settings: Settings,
    slots: RefCell<BTreeMap<SandboxId, Rc<Slot>>>,
    blocks: RefCell<Blocks>,
    pool: RefCell<Pool>,
    deadlines: RefCell<Deadlines>,
    trash: flume::Sender<()>,
    usage: Usage,
    files: Files,
    /// Answers to GET by the store's version: what is asked again and again is not decoded again.
    shown: RefCell<HashMap<SandboxId, (u64, Bytes)>>,
}

/// What a shard is made of.
pub struct Parts {
    /// Its number, below the length of `peers`.
    pub index: usize,
    /// Every shard's mailbox, its own too.
    pub peers: Vec<Mailbox<Shard>>,
    /// Shared by all.
    pub store: Store,
    /// Its own.
    pub runtime: Rc<dyn Runtime>,
    /// Its own.
    pub connector: Rc<dyn Connector>,
    /// Shared by all.
    pub settings: Settings,
    /// The host id blocks that this shard gives out.
    pub blocks: Blocks,
    /// How many sandboxes this shard makes ahead; 0: none.
    pub blanks_max: usize,
    /// Told when files were moved to the trash.
    pub trash: flume::Sender<()>,
    /// Shared by all.
    pub usage: Usage,
    /// Shared by all.
    pub files: Files,
}

impl Shard {
    /// Makes a shard's handle. Its mailbox is served by [`Shard::serve`].
    pub fn new(parts: Parts) -> Shard {
        Shard(Rc::new(Inner {
            index: parts.index,
            peers: parts.peers,
            store: parts.store,
            runtime: parts.runtime,
            connector: parts.connector,
            settings: parts.settings,
            slots: RefCell::default(),
            blocks: RefCell::new(parts.blocks),
            pool: RefCell::new(Pool::new(parts.blanks_max)),
            deadlines: RefCell::default(),
            trash: parts.trash,
            usage: parts.usage,
            files: parts.files,
            shown: RefCell::default(),
        }))
    }

    /// This core's number.
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// Takes messages, ends and deadlines until the program ends.
    pub fn serve(&self, inbox: Inbox<Shard>) {
        let shard = self.clone();
        spawn(async move {
            while let Some(call) = inbox.next().await {
                call(&shard);
            }
        });
        let shard = self.clone();
        spawn(async move {
            loop {
                let ended = shard.0.runtime.ended().await;
                shard.lost(ended);
            }
        });
        let shard = self.clone();
        spawn(async move {
            loop {
                monoio::time::sleep(DEADLINE_LOOK).await;
                shard.look_at_deadlines();
            }
        });
    }

    /// Makes a sandbox; answers when a command can run in it and its record is durable. Dropping the future leaves
    /// the sandbox to be made: it will be listed.
    pub async fn create(&self, request: CreateSandbox) -> Result<Sandbox, Error> {
        let shard = self.clone();
        detached(async move { shard.create_here(request).await }).await
    }

    /// One sandbox, as last committed.
    pub async fn get(&self, id: SandboxId) -> Result<Sandbox, Error> {
        match self.0.store.get(&id)? {
            Some(record) => Ok(self.show(&record)),
            None => Err(not_found(id)),
        }
    }

    /// One sandbox as it is shown, made by `show` or as it was made before, while nothing was committed since.
    pub async fn get_shown(
        &self,
        id: SandboxId,
        show: impl FnOnce(&Sandbox) -> Result<Bytes, Error>,
    ) -> Result<Bytes, Error> {
        let version = self.0.store.version();
        if let Some((of, shown)) = self.0.shown.borrow().get(&id)
            && *of == version
        {
            return Ok(shown.clone());
        }
        let shown = show(&self.get(id).await?)?;
        if shown.len() <= SHOWN_BYTES_MAX {
            let mut all = self.0.shown.borrow_mut();
            if all.len() >= SHOWN_MAX {
                all.clear();
            }
            all.insert(id, (version, shown.clone()));
        }
        Ok(shown)
    }

    /// A page of sandboxes, as last committed.
    pub async fn list(&self, filter: ListFilter) -> Result<Page, Error> {
        let page = self.0.store.list(filter).await?;
        let sandboxes = page.records.iter().map(|record| self.show(record)).collect();
        Ok(Page { sandboxes, total: page.total, next: page.next })
    }

    /// Ends a sandbox and forgets it; answers when nothing of it is left but files in the trash. Dropping the future
    /// does not stop the delete.
    pub async fn delete(&self, id: SandboxId, force: Force) -> Result<(), Error> {
        self.on_owner(id, move |shard| async move {
            let here = shard.clone();
            detached(async move { here.delete_here(id, force).await }).await
        })
        .await
    }

    /// Ends and forgets all sandboxes of this shard: what `--ephemeral` leaves behind.
    pub async fn delete_all(&self) {
        let ids: Vec<SandboxId> = self.0.slots.borrow().keys().copied().collect();
        for id in ids {
            if let Err(error) = self.delete_here(id, Force::Yes).await {
                tracing::warn!(sandbox = %id, %error, "not deleted");
            }
        }
    }

    /// How many sandboxes live on this shard.
    pub fn sandbox_count(&self) -> usize {
        self.0.slots.borrow().len()
    }

    /// Calls on the shard that owns the sandbox. Dropping the future drops the call there.
    async fn on_owner<R, C, F>(&self, id: SandboxId, call: C) -> Result<R, Error>
    where
        R: Send + 'static,
        C: FnOnce(Shard) -> F + Send + 'static,
        F: Future<Output = Result<R, Error>> + 'static,
    {
        let owner = id.shard_of(self.0.peers.len());
        if owner == self.0.index {
            return call(self.clone()).await;
        }
        let (reply, answer) = oneshot();
        // Never sent to: disconnected when this future is dropped.
        let (waiting, gone) = flume::bounded::<()>(1);
        self.0.peers[owner].tell(move |shard| {
            let call = call(shard.clone());
            spawn(async move {
                if let Either::Left((result, _)) = select(pin!(call), pin!(gone.recv_async())).await {
                    reply.send(result);
                }
            });
        })?;
        let result = answer.wait().await;
        drop(waiting);
        result.unwrap_or_else(Err)
    }

    /// A full channel means that the thread will look anyway.
    fn tell_trash(&self) {
        let _ = self.0.trash.try_send(());
    }

    fn show(&self, record: &crate::store::Record) -> Sandbox {
        record.sandbox(&self.0.settings.nfs_host, self.0.settings.nfs_port)
    }
}

/// Starts a task whose panic ends only itself.
fn spawn(task: impl Future<Output = ()> + 'static) {
    monoio::spawn(async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            tracing::error!("a task of the shard panicked");
        }
    });
}

/// Runs to the end even when the caller stops waiting.
async fn detached<R: 'static>(work: impl Future<Output = Result<R, Error>> + 'static) -> Result<R, Error> {
    let (reply, answer) = oneshot();
    spawn(async move { reply.send(work.await) });
    answer.wait().await.unwrap_or_else(Err)
}

/// Wall-clock time in µs since 1970: for what is kept and shown, never for measuring.
fn now_us() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Monotonic time in ms since this process first asked: for deadlines.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn panicked() -> Error {
    Error::new(Reason::Internal, "the call failed inside the server; its log says why")
}

fn not_found(id: SandboxId) -> Error {
    Error::new(Reason::SandboxNotFound, format!("no sandbox has the id {id}; GET /api/v1/sandboxes lists them"))
}
