//! A shard with a store of its own and one sandbox in it, on a machine that can hold none.

use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use workspace_core::agent::{Agent, Connector};
use workspace_core::files::Numbering;
use workspace_core::runtime::{Ended, Files, Launched, Plan, Runtime};
use workspace_core::sandbox::{Enforced, Enforcement, Resources, State};
use workspace_core::shard::mailbox::mailbox;
use workspace_core::shard::{Blocks, Parts, Settings, Shard};
use workspace_core::store::{Record, Store};
use workspace_core::{Error, Reason, SandboxId};
use workspace_proto::launcher::{Entry, Identity};

/// The sandbox that the store holds.
pub const HERE: &str = "abcdefghijklmnopqrstuvwxyz234567";
/// One that it does not hold.
pub const NOWHERE: &str = "zyxwvutsrqponmlkjihgfedcba765432";

/// A store in a directory of its own, both gone when dropped.
pub struct Stored {
    pub store: Store,
    directory: PathBuf,
}

impl Stored {
    pub fn new() -> Stored {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("workspace-edge-{}-{count}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let store = Store::open(&directory.join("workspace.mdb")).unwrap();
        Stored { store, directory }
    }
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.store.clone().close();
        let _ = std::fs::remove_dir_all(&self.directory as &Path);
    }
}

/// A machine's runtime, and what reaches its agents.
pub type Machine = (Rc<dyn Runtime>, Rc<dyn Connector>);

/// Nothing can live on it.
pub fn no_machine() -> Machine {
    (Rc::new(NoRoom), Rc::new(NoRoom))
}

/// A shard over `store`; the thread's runtime must be running.
pub async fn shard(store: Store, (runtime, connector): Machine) -> Shard {
    store.put(record()).await.unwrap();
    let (peer, inbox) = mailbox(64);
    let settings = Settings {
        nfs_host: "127.0.0.1".to_owned(),
        nfs_port: 2049,
        base_image: "workspace-base:latest".to_owned(),
        agent_timeout_ms: 1000,
        boot_id: String::new(),
    };
    let (trash, _) = flume::bounded(1);
    let usage = workspace_core::disk::Usage::start(&std::env::temp_dir()).unwrap();
    let files = workspace_core::files::Files::start(&std::env::temp_dir(), Numbering::Same, 1).unwrap();
    let blocks = Blocks::shared();
    let shard = Shard::new(Parts {
        index: 0,
        peers: vec![peer],
        store,
        runtime,
        connector,
        settings,
        blocks,
        blanks_max: 0,
        trash,
        usage,
        files,
    });
    shard.serve(inbox);
    shard
}

fn record() -> Record {
    let none = Enforcement::None;
    Record {
        id: SandboxId::parse(HERE).unwrap(),
        name: "here".to_owned(),
        template: "workspace-base:latest".to_owned(),
        state: State::Stopped,
        env: [("A".to_owned(), "b".to_owned())].into(),
        metadata: [("owner".to_owned(), "edge".to_owned())].into(),
        created_at_us: 1_700_000_000_000_000,
        updated_at_us: 1_700_000_000_000_000,
        timeout: 0,
        idle_timeout: 0,
        expires_at_us: None,
        error_message: None,
        runtime: "namespace".to_owned(),
        workspace_id: None,
        network: "none".to_owned(),
        resources: Resources {
            memory_bytes: 1 << 30,
            cpus: None,
            pids: 2048,
            disk_bytes: 4 << 30,
            enforced: Enforced { memory: none, cpu: none, disk: none, pids: none },
        },
        block: 0,
        identity: None,
        dying: false,
        idempotency_key: None,
    }
}

/// A machine that holds nothing, and a connector that reaches nothing.
struct NoRoom;

fn no_room<T>() -> LocalBoxFuture<'static, Result<T, Error>> {
    Box::pin(async { Err(Error::new(Reason::AgentNotConnected, "this machine holds no sandboxes")) })
}

impl Runtime for NoRoom {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn create(&self, _: Plan) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        no_room()
    }

    fn destroy(&self, _: SandboxId, _: Files) -> LocalBoxFuture<'_, Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn inventory(&self) -> LocalBoxFuture<'_, Result<Vec<Entry>, Error>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn adopt(&self, _: SandboxId, _: Identity) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        no_room()
    }

    fn ended(&self) -> LocalBoxFuture<'_, Ended> {
        Box::pin(std::future::pending())
    }
}

impl Connector for NoRoom {
    fn connect(&self, _: OwnedFd, _: SandboxId, _: u64) -> LocalBoxFuture<'static, Result<Rc<dyn Agent>, Error>> {
        no_room()
    }
}
