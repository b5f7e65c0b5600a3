//! How a restarted server finds a living agent: its socket, and the proof that it is the same process.
//!
//! SO_PEERCRED names the agent because it called listen(2) itself (unix(7)). The pid alone proves nothing after a
//! reboot or a wrap, so it is compared together with the process's start time, which the launcher read from a pidfd.

use crate::error::{Error, Reason};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::os::fd::OwnedFd;
use std::path::Path;
use workspace_proto::launcher::Identity;

/// Connects to the agent's socket; the stream is non-blocking. Fails with `AgentNotConnected`.
pub(super) fn to_agent(socket: &Path, identity: &Identity) -> Result<OwnedFd, Error> {
    let lost = |source: rustix::io::Errno| {
        Error::new(Reason::AgentNotConnected, "the sandbox's agent does not answer on its socket").source(source)
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(lost)?;
    let address = SocketAddrUnix::new(socket).map_err(lost)?;
    connect(&stream, &address).map_err(lost)?;
    let peer = sockopt::socket_peercred(&stream).map_err(lost)?;
    if peer.pid.as_raw_nonzero().get() as u32 != identity.pid {
        return Err(Error::new(Reason::AgentNotConnected, "a foreign process listens on the agent's socket"));
    }
    Ok(stream)
}
