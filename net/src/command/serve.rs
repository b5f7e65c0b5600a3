//! `serve`: configuration, data directory, ids, listeners; then the supervisor keeps the rest running.
//!
//! All that can be wrong with a start is found here, before anything runs, and said in one line.

use super::nfs_listener;
use crate::stdio::{self, Lasts};
use crate::supervisor::{self, DataDir, Identities, Unheld};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use workspace_core::config::{CORES_MAX, Config, McpMode};

/// Connections that the kernel holds for one core before the server takes them.
pub(super) const BACKLOG_MAX: i32 = 1024;

/// What becomes of the sandboxes when the service ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// They live on, the next service finds them.
    Keep,
    /// They are deleted.
    Delete,
}

/// Serves until a signal ends it, or its clients over stdio have gone. Prints one line to standard error when it cannot
/// start. Where MCP is to be served over stdio, and this is not the server that was started for that, it serves the
/// client at its own pipes.
pub fn run(at_end: AtEnd, lasts: Lasts) -> ExitCode {
    if lasts == Lasts::WhileUsed {
        detach();
    }
    match start(at_end, lasts) {
        Ok(code) => code,
        Err(line) => {
            eprintln!("workspace-server: {line}");
            ExitCode::FAILURE
        }
    }
}

fn start(at_end: AtEnd, lasts: Lasts) -> Result<ExitCode, String> {
    let config = Config::from_env(std::env::vars_os())?;
    if config.mcp_mode == McpMode::Stdio && lasts == Lasts::UntilStopped {
        return super::stdio::run(&config, at_end);
    }
    if lasts == Lasts::UntilStopped {
        crate::logging::start(&config.log)?;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    let data_dir = match DataDir::open(&config.data_dir) {
        // Whoever started this one finds that out by itself.
        Err(Unheld::InUse(_)) if lasts == Lasts::WhileUsed => return Ok(ExitCode::from(stdio::IN_USE as u8)),
        opened => opened.map_err(Unheld::line)?,
    };
    let shard_count = config.cores.unwrap_or_else(cores);
    let (listeners, nfs) = match lasts {
        Lasts::UntilStopped => (listen_on(config.http_address(), shard_count)?, nfs_listener::bind(&config)?),
        // Nobody asked for a port.
        Lasts::WhileUsed => (Vec::new(), None),
    };
    let ids = supervisor::establish(&data_dir)?;
    data_dir.prepare(&ids)?;
    let address = listeners.first().map(local_address).transpose()?;
    publish(&data_dir, &ids, "http.address", address)?;
    publish(&data_dir, &ids, "nfs.address", nfs.as_ref().map(nfs_listener::address).transpose()?)?;
    let clients = match (config.mcp_mode, lasts) {
        (McpMode::Disabled, Lasts::UntilStopped) => data_dir.withdraw(stdio::SOCKET).map(|()| None)?,
        (_, Lasts::UntilStopped) => {
            stdio::bind_in(&data_dir).inspect_err(|line| tracing::warn!("MCP is not served over stdio: {line}")).ok()
        }
        (_, Lasts::WhileUsed) => Some(stdio::bind_in(&data_dir)?),
    };
    match (lasts, address) {
        (Lasts::UntilStopped, Some(address)) => say_who_may_call(&config, address),
        _ => crate::logging::start_in_file(&data_dir, &config.log)?,
    }
    let bound = Bound { address, listeners, nfs, clients };
    let ended = supervisor::run(&data_dir, &ids, shard_count, |sockets, serves| {
        serve(&config, &bound, &ids, (at_end, lasts), sockets, serves)
    });
    data_dir.withdraw(stdio::SOCKET)?;
    ended
}

/// A server that was started by a client's program lives on when that ends, and keeps nothing that it had open.
fn detach() {
    crate::sys::fork::close_from(3);
    // Refused to the leader of a group, who was started by hand.
    let _ = rustix::process::setsid();
}

/// Says in the data directory where something listens, or that nothing does.
fn publish(data_dir: &DataDir, ids: &Identities, name: &str, address: Option<SocketAddr>) -> Result<(), String> {
    match address {
        Some(address) => data_dir.publish(name, &format!("{address}\n"), ids),
        None => data_dir.withdraw(name),
    }
}

/// A login gives 1,024 descriptors and lets a program take many more; the server and the launcher, which inherit this,
/// hold two for each sandbox. What commands get does not depend on it.
fn raise_file_limit() {
    let hard = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard }) {
        tracing::warn!(%error, "the limit of descriptors could not be raised");
    }
}

/// What was bound before any privilege was dropped. It belongs to the supervisor: a restarted server keeps the ports.
struct Bound {
    /// Of HTTP, where that is served.
    address: Option<SocketAddr>,
    listeners: Vec<TcpListener>,
    nfs: Option<TcpListener>,
    /// Of MCP over stdio.
    clients: Option<OwnedFd>,
}

/// In the server's own process.
fn serve(
    config: &Config,
    bound: &Bound,
    ids: &Identities,
    (at_end, lasts): (AtEnd, Lasts),
    sockets: Vec<OwnedFd>,
    serves: std::io::PipeWriter,
) -> i32 {
    let listeners: Result<Vec<TcpListener>, _> = bound.listeners.iter().map(TcpListener::try_clone).collect();
    let nfs = bound.nfs.as_ref().map(TcpListener::try_clone).transpose();
    let clients = bound.clients.as_ref().map(OwnedFd::try_clone).transpose();
    match listeners.and_then(|listeners| Ok((listeners, nfs?, clients?))) {
        Ok((listeners, nfs, clients)) => {
            let start = crate::server::Start {
                config: config.clone(),
                address: bound.address,
                listeners,
                nfs,
                clients,
                ids: ids.clone(),
                at_end,
                lasts,
                sockets,
                serves,
            };
            crate::server::run(start)
        }
        Err(error) => {
            tracing::error!(%error, "listeners");
            1
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(CORES_MAX)
}

/// One listener a core on the same port. A plain bind comes first: with SO_REUSEPORT alone, a second server would
/// take a part of the requests without a word. They belong to the supervisor: a restarted server keeps the port.
fn listen_on(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, String> {
    let failed = |error: rustix::io::Errno| {
        let hint = match error {
            rustix::io::Errno::ADDRINUSE => "; another program has this port: stop it, or set WORKSPACE_HTTP_PORT",
            rustix::io::Errno::ACCESS => "; this user may not use this port: set WORKSPACE_HTTP_PORT to one above 1023",
            _ => "; check WORKSPACE_HTTP_HOST and WORKSPACE_HTTP_PORT",
        };
        format!("cannot listen on {address}: {error}{hint}")
    };
    let alone = bound(address, false).map_err(failed)?;
    let address = match address.port() {
        0 => TcpListener::from(alone).local_addr().map_err(|e| format!("cannot listen on {address}: {e}"))?,
        _ => {
            drop(alone);
            address
        }
    };
    let mut listeners = Vec::new();
    for _ in 0..count {
        let socket = bound(address, true).map_err(failed)?;
        listen(&socket, BACKLOG_MAX).map_err(failed)?;
        listeners.push(TcpListener::from(socket));
    }
    Ok(listeners)
}

pub(super) fn bound(address: SocketAddr, shared: bool) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, shared)?;
    bind(&socket, &address)?;
    Ok(socket)
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("the listener's address: {error}"))
}

fn say_who_may_call(config: &Config, address: SocketAddr) {
    if !config.api_keys.is_empty() {
        return;
    }
    if address.ip().is_loopback() {
        tracing::warn!("no WORKSPACE_API_KEYS: every program on this machine may call, nobody else");
    } else {
        tracing::warn!(%address, "WORKSPACE_ALLOW_ANONYMOUS: everybody who reaches this address may run commands");
    }
}
