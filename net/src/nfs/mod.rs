//! NFSv3 and MOUNT3 over TCP on one port (RFC 1813, RFC 5531): every sandbox's /workspace as the export `/{id}`.
//!
//! ```text
//!  listen ─► connection ─► worker ─► dispatch ─┬─► mount
//!                                              ├─► looking, changing ─► workspace_core::export
//!                                              └─► duplicates
//! ```
//! It has threads of its own: `nfs-accept`, `nfs-guard` and `nfs-N`. Nothing of it runs on a shard's ring, and calls on files may
//! wait for a disk. Bytes become calls in `wire::{rpc_record, rpc, xdr}`; what a file is and who may do what with it
//! is decided in `core`. NFSv3 has no secrets: who may connect is a list of addresses.

mod answer;
mod arguments;
mod changing;
mod connection;
mod dispatch;
mod duplicates;
#[cfg(test)]
mod fuzz;
mod guard;
mod listen;
mod looking;
mod mount;
mod pages;
mod status;
mod worker;

use connection::Connection;
use dispatch::Dispatch;
use guard::Guard;
use rustix::event::epoll;
use std::collections::HashMap;
use std::io::PipeWriter;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use workspace_core::config::{Cidr, Config, NfsClients};
use workspace_core::export::{Clients, Exports};
use workspace_core::files::Files;
use workspace_core::store::Store;

const WORKERS_PER_CORE: usize = 4;
const WORKERS_MIN: usize = 8;
/// Also the most calls of one connection that are under way.
const WORKERS_MAX: usize = 64;

/// What all threads share.
struct Shared {
    epoll: OwnedFd,
    dispatch: Dispatch,
    allow: Vec<Cidr>,
    connections: Mutex<HashMap<u64, Arc<Connection>>>,
    guard: Guard,
    stopping: AtomicBool,
}

/// The running server.
pub struct Server {
    shared: Arc<Shared>,
    /// Readable at its other end once dropped.
    accepting: PipeWriter,
    threads: Vec<JoinHandle<()>>,
}

/// Serves what comes to a bound listener. Gives its port too; an error is a line for the log.
pub fn serve(listener: TcpListener, config: &Config, store: &Store, files: &Files) -> Result<(Server, u16), String> {
    let failed = |error: std::io::Error| format!("NFS: {error}");
    let port = listener.local_addr().map_err(failed)?.port();
    let key = store.handle_key().map_err(|error| error.message)?;
    let records = store.clone();
    let find = move |id| {
        let record = records.get(&id).ok().flatten().filter(|record| !record.dying)?;
        Some((record.block, record.resources.disk_bytes))
    };
    let clients = match config.nfs_clients {
        NfsClients::Guarded => Clients::Guarded,
        NfsClients::Trusted => Clients::Trusted,
    };
    let exports = Exports::new(files, key, Box::new(find), clients)
        .map_err(|error| format!("NFS: no thread could be started: {error}"))?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    start(listener, config.nfs_allow.clone(), exports, cores).map(|server| (server, port)).map_err(failed)
}

fn start(listener: TcpListener, allow: Vec<Cidr>, exports: Exports, cores: usize) -> std::io::Result<Server> {
    listener.set_nonblocking(true)?;
    let shared = Arc::new(Shared {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        dispatch: Dispatch::new(exports),
        allow,
        connections: Mutex::default(),
        guard: Guard::default(),
        stopping: AtomicBool::new(false),
    });
    let (stop, accepting) = std::io::pipe()?;
    let mut threads = Vec::new();
    for number in 0..(cores * WORKERS_PER_CORE).clamp(WORKERS_MIN, WORKERS_MAX) {
        let shared = shared.clone();
        threads.push(thread::Builder::new().name(format!("nfs-{number}")).spawn(move || worker::run(&shared))?);
    }
    let guards = shared.clone();
    threads.push(thread::Builder::new().name("nfs-guard".to_owned()).spawn(move || guard::run(&guards))?);
    let accepts = shared.clone();
    let accept = move || listen::run(&accepts, &listener, &stop);
    threads.push(thread::Builder::new().name("nfs-accept".to_owned()).spawn(accept)?);
    Ok(Server { shared, accepting, threads })
}

impl Server {
    /// Lets the calls that are under way end, and ends the connections. Their clients go on with the next server.
    pub fn stop(self) {
        drop(self.accepting);
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.guard.wake();
        // A connection that ends wakes a worker; one that is always ready wakes them all, one after another.
        let wake = std::io::pipe().and_then(|(reader, writer)| {
            epoll::add(&self.shared.epoll, &reader, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
            drop(writer);
            Ok(reader)
        });
        if wake.is_ok() {
            for thread in self.threads {
                if thread.join().is_err() {
                    tracing::error!("an NFS thread panicked");
                }
            }
        }
        self.shared.connections().values().for_each(|connection| connection.cut());
    }
}

impl Shared {
    fn connections(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self, number: u64) -> Option<Arc<Connection>> {
        self.connections().get(&number).cloned()
    }

    fn count(&self) -> usize {
        self.connections().len()
    }

    fn add(&self, connection: Connection) -> Result<(), rustix::io::Errno> {
        let connection = Arc::new(connection);
        self.connections().insert(connection.number, connection.clone());
        connection.watch(&self.epoll).inspect_err(|_| self.remove(connection.number))
    }

    fn remove(&self, number: u64) {
        self.connections().remove(&number);
    }

    fn remove_overdue(&self) {
        self.connections().retain(|_, connection| {
            let overdue = connection.is_overdue();
            if overdue {
                connection.cut();
            }
            !overdue
        });
    }
}
