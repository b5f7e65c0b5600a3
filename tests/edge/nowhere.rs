//! A shard with an empty store and no runtime behind it: what passes the edge is told apart from what does not.

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use workspace_core::agent::{Agent, Connector};
use workspace_core::runtime::{Ended, Files, Launched, Plan, Runtime};
use workspace_core::shard::mailbox::mailbox;
use workspace_core::shard::{Blocks, Parts, Settings, Shard};
use workspace_core::store::Store;
use workspace_core::{Error, Reason, SandboxId};
use workspace_proto::launcher::{Entry, Identity};

struct Nowhere;

fn nowhere<T>() -> Result<T, Error> {
    Err(Error::new(Reason::AgentNotConnected, "this server has no runtime"))
}

impl Runtime for Nowhere {
    fn name(&self) -> &'static str {
        "namespace"
    }
    fn create(&self, _: Plan) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        async { nowhere() }.boxed_local()
    }
    fn destroy(&self, _: SandboxId, _: Files) -> LocalBoxFuture<'_, Result<(), Error>> {
        async { Ok(()) }.boxed_local()
    }
    fn inventory(&self) -> LocalBoxFuture<'_, Result<Vec<Entry>, Error>> {
        async { Ok(Vec::new()) }.boxed_local()
    }
    fn adopt(&self, _: SandboxId, _: Identity) -> LocalBoxFuture<'_, Result<Launched, Error>> {
        async { nowhere() }.boxed_local()
    }
    fn ended(&self) -> LocalBoxFuture<'_, Ended> {
        std::future::pending().boxed_local()
    }
}

impl Connector for Nowhere {
    fn connect(&self, _: OwnedFd, _: SandboxId, _: u64) -> LocalBoxFuture<'static, Result<Rc<dyn Agent>, Error>> {
        async { nowhere() }.boxed_local()
    }
}

/// Call within a runtime. The store's file is gone from its directory at once.
pub fn shard() -> Shard {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("edge-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let store = Store::open(&dir.join("workspace.mdb")).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    let (peer, inbox) = mailbox(16);
    let shard = Shard::new(Parts {
        index: 0,
        peers: vec![peer],
        store,
        runtime: Rc::new(Nowhere),
        connector: Rc::new(Nowhere),
        settings: Settings {
            nfs_host: "127.0.0.1".to_owned(),
            nfs_port: 2049,
            base_image: "workspace-base:latest".to_owned(),
            agent_timeout_ms: 1000,
            boot_id: String::new(),
        },
        blocks: Blocks::shared(),
        trash: flume::bounded(1).0,
    });
    shard.serve(inbox);
    shard
}
