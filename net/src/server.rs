//! The server's process: one pinned thread per core, each with a ring, a shard, a listener; and what starts and ends them.
//!
//! ```text
//! store opened ─► shards up ─► launcher ready ─► inventory joined with records ─► recovered ─► listeners accept
//! SIGTERM ─► no new connection, running requests end (10 s) ─► store drained ─► exit
//! ```

mod edge;
mod ring;

use crate::command::serve::AtEnd;
use crate::hub::Hub;
use crate::mcp::Sessions;
use crate::stdio::{Clients, Lasts};
use crate::supervisor::{DATA_DIR, EXIT_FATAL, EXIT_UNUSED, Identities};
use crate::sys::signal;
use crate::{heap, http, nfs, trash};
use futures_util::future::join_all;
use monoio::net::UnixStream;
use std::convert::Infallible;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use workspace_core::Error;
use workspace_core::config::Config;
use workspace_core::disk::Usage;
use workspace_core::files::{Files, Numbering};
use workspace_core::runtime::Runtime;
use workspace_core::runtime::namespace::{Launcher, Namespaces};
use workspace_core::shard::mailbox::{Inbox, Mailbox, mailbox};
use workspace_core::shard::{Blocks, MAILBOX_CALLS_MAX, Parts, Recovery, Settings, Shard};
use workspace_core::store::{Record, Store};
use workspace_proto::launcher::{Entry, Mode};

/// What the server process is given.
pub struct Start {
    /// Checked.
    pub config: Config,
    /// Where the listeners listen.
    pub address: Option<SocketAddr>,
    /// One for each core; none where HTTP is not served.
    pub listeners: Vec<TcpListener>,
    /// Of NFS, where that is served.
    pub nfs: Option<TcpListener>,
    /// Of MCP over stdio, where that is served.
    pub clients: Option<OwnedFd>,
    /// Who is who.
    pub ids: Identities,
    /// What becomes of the sandboxes.
    pub at_end: AtEnd,
    /// When it ends by itself.
    pub lasts: Lasts,
    /// One to the launcher for each core.
    pub sockets: Vec<OwnedFd>,
    /// Takes a byte once it serves.
    pub serves: std::io::PipeWriter,
}

/// What all cores share.
struct Shared {
    config: Config,
    address: Option<SocketAddr>,
    ids: Identities,
    at_end: AtEnd,
    store: Store,
    settings: Settings,
    peers: Vec<Mailbox<Shard>>,
    trash: flume::Sender<()>,
    usage: Usage,
    files: Files,
    mcp_sessions: Arc<Sessions>,
    clients: Arc<Clients>,
    /// Where they come in.
    clients_come: Option<OwnedFd>,
    stop: http::Stop,
    /// Dropped at SIGTERM, and when nobody uses a server that lasts while it is used.
    stopper: Mutex<Option<http::Stopper>>,
    /// Ends when every shard has resolved what the last server left. No core accepts before: it would not know
    /// sandboxes that run, and could give their ids to new ones.
    recovered: flume::Receiver<Infallible>,
    /// Dropped by the first core after the recovery.
    recovering: Mutex<Option<flume::Sender<Infallible>>>,
    /// Ends when every core has drained. No shard ends before: requests on other cores may still wait for its answer.
    drained: flume::Receiver<Infallible>,
    /// Sandboxes of all shards at the end.
    left: AtomicUsize,
    serves: Mutex<std::io::PipeWriter>,
}

impl Shared {
    /// Tells all cores to end.
    fn stop(&self) {
        drop(self.stopper.lock().map(|mut stopper| stopper.take()));
    }
}

/// Serves until SIGTERM. Returns the process's exit code.
pub fn run(start: Start) -> i32 {
    let store = match Store::open(&start.config.database_in(Path::new(DATA_DIR))) {
        Ok(store) => store,
        Err(error) => {
            tracing::error!("{error}");
            return EXIT_FATAL;
        }
    };
    if let Err(error) = heap::start() {
        tracing::warn!(%error, "no thread to give memory back");
    }
    let trash = match trash::start(Path::new(DATA_DIR)) {
        Ok(trash) => trash,
        Err(error) => {
            tracing::error!(%error, "the trash thread");
            return 1;
        }
    };
    let usage = match Usage::start(&Path::new(DATA_DIR).join("sandboxes")) {
        Ok(usage) => usage,
        Err(error) => {
            tracing::error!(%error, "the disk thread");
            return 1;
        }
    };
    let sandboxes = Path::new(DATA_DIR).join("sandboxes");
    let files = match Files::start(&sandboxes, numbering(&start.ids), start.sockets.len()) {
        Ok(files) => files,
        Err(error) => {
            tracing::error!(%error, "the file threads");
            return 1;
        }
    };
    let mut settings = settings(&start.config);
    let nfs = match start.nfs.map(|listener| nfs::serve(listener, &start.config, &store, &files)).transpose() {
        Ok(nfs) => nfs,
        Err(line) => {
            tracing::error!("{line}");
            return 1;
        }
    };
    if let Some((_, port)) = &nfs {
        settings.nfs_port = *port;
    }
    let (peers, inboxes): (Vec<_>, Vec<_>) = start.sockets.iter().map(|_| mailbox(MAILBOX_CALLS_MAX)).unzip();
    let (stopper, stop) = http::Stop::pair();
    let (recovering, recovered) = flume::bounded(1);
    let (draining, drained) = flume::bounded(1);
    let shared = Arc::new(Shared {
        settings,
        config: start.config,
        address: start.address,
        ids: start.ids,
        at_end: start.at_end,
        store: store.clone(),
        peers,
        trash: trash.tell.clone(),
        usage,
        files,
        mcp_sessions: Arc::default(),
        clients: Clients::new(start.lasts),
        clients_come: start.clients,
        left: AtomicUsize::new(0),
        serves: Mutex::new(start.serves),
        stop,
        stopper: Mutex::new(Some(stopper)),
        recovered,
        recovering: Mutex::new(Some(recovering)),
        drained,
    });
    let mut threads = Vec::new();
    let listeners = start.listeners.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
    for (index, ((socket, listener), inbox)) in start.sockets.into_iter().zip(listeners).zip(inboxes).enumerate() {
        let core = Core { index, shared: shared.clone(), socket, listener, inbox, draining: draining.clone() };
        match thread::Builder::new().name(format!("shard-{index}")).spawn(move || core.run()) {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                tracing::error!(%error, "a shard's thread");
                return 1;
            }
        }
    }
    drop(draining);
    let well = threads.into_iter().map(|thread| thread.join().unwrap_or(1)).fold(0, i32::max);
    let left = shared.left.load(Ordering::Relaxed);
    if left > 0 {
        tracing::info!(
            sandboxes = left,
            "sandboxes keep running and are found at the next start; `workspace-server serve --ephemeral`, then Ctrl-C, ends them"
        );
    }
    let unused = shared.clients.have_gone();
    drop(shared);
    if let Some((nfs, _)) = nfs {
        nfs.stop();
    }
    trash.finish();
    store.close();
    if well == 0 && unused { EXIT_UNUSED } else { well }
}

fn settings(config: &Config) -> Settings {
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Settings {
        nfs_host: config.nfs_host.clone(),
        nfs_port: config.nfs_port,
        base_image: config.base_image.clone(),
        agent_timeout_ms: u64::try_from(config.agent_timeout.as_millis()).unwrap_or(u64::MAX),
        boot_id: boot_id.trim().to_owned(),
    }
}

/// One core's thread.
struct Core {
    index: usize,
    shared: Arc<Shared>,
    socket: OwnedFd,
    listener: Option<TcpListener>,
    inbox: Inbox<Shard>,
    /// Dropped when this core has drained.
    draining: flume::Sender<Infallible>,
}

impl Core {
    fn run(self) -> i32 {
        ring::pin_to_core(self.index);
        let uring = monoio::utils::detect_uring();
        if self.index == 0 && !uring {
            tracing::warn!(
                "io_uring is refused on this machine; serving by epoll (`workspace-server doctor` says why)"
            );
        }
        match ring::ring() {
            Ok(mut runtime) => runtime.block_on(self.serve()).unwrap_or_else(|error| {
                tracing::error!("{error}");
                // The other cores would wait for this one, or serve without its sandboxes; the supervisor starts anew.
                std::process::exit(1)
            }),
            Err(error) => {
                tracing::error!(%error, "a shard's ring");
                1
            }
        }
    }

    async fn serve(self) -> Result<i32, String> {
        let shared = &self.shared;
        let launcher = Launcher::new(self.socket).map_err(|error| format!("the launcher's socket: {error}"))?;
        let packets = launcher.clone();
        monoio::spawn(async move {
            let Err(error) = packets.serve().await;
            // Crash-only: the supervisor starts both again; what was acknowledged is in the store and in the agents.
            tracing::error!(%error, "the launcher's socket ended");
            std::process::exit(1);
        });
        let ready = launcher.ready().await.ok_or("the launcher did not come up")?;
        if self.index == 0 {
            ready.notes.iter().for_each(|note| tracing::warn!("{note}"));
        }
        let run_dir = Path::new(DATA_DIR).join("run");
        let runtime = Rc::new(Namespaces::new(launcher, &run_dir));
        let shard = Shard::new(Parts {
            index: self.index,
            peers: shared.peers.clone(),
            store: shared.store.clone(),
            runtime: runtime.clone(),
            connector: Rc::new(Hub),
            settings: shared.settings.clone(),
            blocks: blocks(&shared.ids, self.index, shared.peers.len()),
            blanks_max: (shared.config.pool_blanks as usize).div_ceil(shared.peers.len()),
            trash: shared.trash.clone(),
            usage: shared.usage.clone(),
            files: shared.files.clone(),
        });
        shard.serve(self.inbox);
        if self.index == 0 {
            recover(shared, runtime.as_ref()).await.map_err(|error| error.to_string())?;
            let address = shared.address.map_or("over stdio".to_owned(), |address| address.to_string());
            tracing::info!(address, "serving");
            // A supervisor that has gone takes this process along.
            let _ = shared.serves.lock().map(|mut serves| serves.write_all(b"."));
            stop_at_signal(shared.clone())?;
            let unused = shared.clone();
            monoio::spawn(async move {
                unused.clients.unused().await;
                unused.stop();
            });
            drop(shared.recovering.lock().map(|mut recovering| recovering.take()));
        }
        // Nothing is ever sent: it returns when the sender is dropped.
        let _ = shared.recovered.recv_async().await;
        shard.keep_pool_full();
        let app = Rc::new(http::App::new(shard.clone(), edge::settings(shared)?));
        if let Some(mcp) = app.mcp().filter(|_| self.index == 0) {
            monoio::spawn(mcp.forget_idle());
        }
        let drained =
            futures_util::join!(edge::over_http(self.listener, app.clone(), shared), edge::over_stdio(&app, shared)).0;
        match drained {
            Ok(drained) if drained.cut > 0 => tracing::warn!(connections = drained.cut, "cut at the end of the drain"),
            Ok(_) => {}
            Err(error) => return Err(format!("the listener: {error}")),
        }
        drop(self.draining);
        // Nothing is ever sent: it returns when the last core is here, so that none ends while another may ask it.
        let _ = shared.drained.recv_async().await;
        shard.empty_pool().await;
        if shared.at_end == AtEnd::Delete {
            shard.delete_all().await;
        }
        shared.left.fetch_add(shard.sandbox_count(), Ordering::Relaxed);
        Ok(0)
    }
}

fn blocks(ids: &Identities, index: usize, shards: usize) -> Blocks {
    match ids.mode {
        Mode::Root => {
            Blocks::of_shard(ids.spans.iter().flat_map(|span| span.first..span.first + span.count), index, shards)
        }
        _ => Blocks::shared(),
    }
}

/// How the ids of sandboxes' files on disk look from this process.
fn numbering(ids: &Identities) -> Numbering {
    match ids.mode {
        Mode::Root if ids.files_in_spans => Numbering::Blocks,
        Mode::Root => Numbering::Same,
        Mode::Ranged => Numbering::Shifted,
        _ => Numbering::Single,
    }
}

/// Joins what the store knows with what stands on the machine, and has every shard resolve its part.
async fn recover(shared: &Shared, runtime: &dyn Runtime) -> Result<(), Error> {
    let entries: Vec<Entry> = runtime.inventory().await?;
    let records: Vec<Record> = shared.store.all()?;
    let used: Vec<u32> =
        records.iter().map(|record| record.block).chain(entries.iter().map(|entry| entry.block)).collect();
    let lists = Recovery::join(records, entries, shared.peers.len());
    let answers = shared.peers.iter().zip(lists).map(|(peer, list)| {
        let used = used.clone();
        peer.ask(move |shard: &Shard, reply| {
            let shard = shard.clone();
            monoio::spawn(async move {
                shard.occupy(&used);
                reply.send(shard.recover(list).await);
            });
        })
    });
    let mut adopted = 0;
    for answer in join_all(answers).await {
        adopted += answer?;
    }
    if adopted > 0 {
        tracing::info!(sandboxes = adopted, "running sandboxes found again");
    }
    Ok(())
}

/// SIGTERM stops all cores. The signal is blocked in every thread since the supervisor's start.
fn stop_at_signal(shared: Arc<Shared>) -> Result<(), String> {
    let signals = signal::descriptor(&[libc::SIGTERM]).map_err(|error| format!("signals: {error}"))?;
    // Only readiness is asked of it.
    let signals = UnixStream::from_std(std::os::unix::net::UnixStream::from(signals))
        .map_err(|error| format!("signals: {error}"))?;
    monoio::spawn(async move {
        let _ = signals.readable(false).await;
        tracing::info!("stopping: running requests have 10 s to end");
        shared.stop();
    });
    Ok(())
}
