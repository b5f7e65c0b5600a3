//! The port of NFS: bound before any privilege is dropped, or the line that says what mends it.
//!
//! Somebody who chose a port gets it, or no start. Port 2049 that nobody chose may be the kernel's own NFS server's:
//! then everything else is served, and a warning says how to have NFS too.

use super::serve::{BACKLOG_MAX, bound};
use rustix::io::Errno;
use rustix::net::listen;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use workspace_core::config::{Config, NfsMode};

/// The listener; `None` where NFS is not served.
pub(super) fn bind(config: &Config) -> Result<Option<TcpListener>, String> {
    if config.nfs_mode == NfsMode::Disabled {
        return Ok(None);
    }
    let address = config.nfs_address();
    match listener(address) {
        Ok(listener) => Ok(Some(listener)),
        Err(Errno::ADDRINUSE) if !config.nfs_port_was_set => {
            tracing::warn!(
                "NFS is not served: another program has port {}, perhaps this machine's own NFS server; set \
                 WORKSPACE_NFS_PORT to another port, or WORKSPACE_NFS_MODE=disabled to be rid of this line",
                address.port()
            );
            Ok(None)
        }
        Err(error) => {
            let hint = match error {
                Errno::ADDRINUSE => "another program has this port: stop it, or set WORKSPACE_NFS_PORT",
                Errno::ACCESS => "this user may not use this port: set WORKSPACE_NFS_PORT to one above 1023",
                _ => "check WORKSPACE_NFS_HOST and WORKSPACE_NFS_PORT, or set WORKSPACE_NFS_MODE=disabled",
            };
            Err(format!("cannot listen on {address} for NFS: {error}; {hint}"))
        }
    }
}

/// Where it listens.
pub(super) fn address(listener: &TcpListener) -> Result<SocketAddr, String> {
    listener.local_addr().map_err(|error| format!("the NFS listener's address: {error}"))
}

fn listener(address: SocketAddr) -> rustix::io::Result<TcpListener> {
    let socket = match bound(address, false) {
        // A machine without IPv6.
        Err(Errno::AFNOSUPPORT) if address.ip().is_unspecified() => {
            bound(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()), false)?
        }
        other => other?,
    };
    listen(&socket, BACKLOG_MAX)?;
    Ok(TcpListener::from(socket))
}
