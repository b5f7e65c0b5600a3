//! Which server does a client's program talk to? The one that holds the data directory; where there is none, one that is
//! started here and ends with its last client.
//!
//! Many may look at once: all start one, the lock on the data directory lets one of these live, and the others connect
//! to it. A server that is about to end lets nobody in, and whoever was sent away looks again. Nothing of the client's is
//! read before a server has said hello, so nothing of it is lost.

use super::listen::SOCKET;
use super::packet::{self, FromServer, PACKET_BYTES_MAX};
use crate::command::serve::AtEnd;
use crate::sys::peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};
use workspace_core::config::{Config, McpProfile};

/// The exit code of a start that found the data directory held.
pub const IN_USE: i32 = 75;
/// From the first look to a hello.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a server that holds the data directory may have no socket: it makes one within moments of its start, and
/// has none in the moments of its end.
const NO_SOCKET_AT_START_MAX: Duration = Duration::from_secs(10);
const NO_SOCKET_MAX: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(10);
/// Between starts where somebody else holds the data directory and has no socket.
const HELD: Duration = Duration::from_millis(200);
/// Of the log of a server that did not start.
const LOG_BYTES_SHOWN_MAX: usize = 4096;

/// A server that listens.
#[derive(Debug)]
pub struct Found {
    /// Connected.
    pub(super) socket: OwnedFd,
    /// The whole of it: readable when it has ended. `None` where it cannot be seen from here.
    pub(super) process: Option<OwnedFd>,
}

/// Why one look found none.
enum Missing {
    /// There is no socket, or nobody behind it.
    Nobody,
    /// It ends just now, or is too busy.
    NotYet,
    /// Looking again would not help.
    Never(String),
}

/// Finds the server, or starts it. One line on failure.
pub fn server(config: &Config, at_end: AtEnd) -> Result<Found, String> {
    let (begun, begun_at) = (Instant::now(), SystemTime::now());
    let (mut started, mut alone_since) = (None::<Child>, None);
    loop {
        match look(config) {
            Ok(found) => return Ok(found),
            Err(Missing::Never(line)) => return Err(line),
            Err(Missing::NotYet) => alone_since = None,
            Err(Missing::Nobody) => {
                let since = *alone_since.get_or_insert_with(Instant::now);
                match ended(&mut started).map_err(|code| not_started(config, begun_at, code))? {
                    Ended::No => {}
                    Ended::InUse if since.elapsed() > no_socket_max(config) => return Err(no_socket(config)),
                    Ended::NeverStarted => started = Some(start(at_end)?),
                    Ended::InUse => {
                        std::thread::sleep(HELD);
                        started = Some(start(at_end)?);
                    }
                }
            }
        }
        if begun.elapsed() > START_MAX {
            return Err(format!("no server answered within {} s; {}", START_MAX.as_secs(), log_of(config, begun_at)));
        }
        std::thread::sleep(LOOK);
    }
}

enum Ended {
    NeverStarted,
    No,
    InUse,
}

/// What has become of the server that was started here. An error is the exit code of one that failed.
fn ended(started: &mut Option<Child>) -> Result<Ended, i32> {
    let Some(child) = started else { return Ok(Ended::NeverStarted) };
    match child.try_wait() {
        Ok(None) => Ok(Ended::No),
        Ok(Some(status)) if status.code() == Some(IN_USE) => Ok(Ended::InUse),
        // Its clients had all gone before this one was let in.
        Ok(Some(status)) if status.success() => Ok(Ended::NeverStarted),
        Ok(Some(status)) => Err(status.code().unwrap_or(-1)),
        Err(_) => Err(-1),
    }
}

/// Its standard error is this program's until it serves: what is wrong with a start is said there.
fn start(at_end: AtEnd) -> Result<Child, String> {
    // By its name, which its processes then have; by itself, where that is gone.
    let program = std::env::current_exe().ok().filter(|program| program.exists());
    let mut command = Command::new(program.unwrap_or_else(|| "/proc/self/exe".into()));
    command.arg0("workspace-server").args(["serve", "--while-used"]);
    if at_end == AtEnd::Delete {
        command.arg("--ephemeral");
    }
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().map_err(|error| format!("the server could not be started: {error}"))
}

fn look(config: &Config) -> Result<Found, Missing> {
    let socket = connected(&config.data_dir)?;
    let peer = peer::credentials(&socket).map_err(|error| Missing::Never(format!("{SOCKET}: {error}")))?;
    if peer.uid != geteuid().as_raw() {
        let line = format!("{}/{SOCKET} is another user's", config.data_dir.display());
        return Err(Missing::Never(line));
    }
    let process = Pid::from_raw(peer.pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let tools = match config.mcp_profile {
        McpProfile::Executor => "executor",
        McpProfile::Developer => "developer",
        McpProfile::Full => "full",
    };
    send(&socket, &packet::hello(tools), SendFlags::NOSIGNAL).map_err(|_| Missing::NotYet)?;
    let limit = Timespec { tv_sec: START_MAX.as_secs() as i64, tv_nsec: 0 };
    // A server that has just begun answers when it has found its sandboxes again.
    let _ = poll(&mut [PollFd::new(&socket, PollFlags::IN)], Some(&limit));
    let mut answer = vec![0; PACKET_BYTES_MAX];
    let bytes = recv(&socket, &mut answer[..], RecvFlags::DONTWAIT).map_or(0, |(bytes, _)| bytes);
    match packet::from_server(&answer[..bytes]) {
        Some(FromServer::Hello) => Ok(Found { socket, process }),
        Some(FromServer::Refused(why)) => Err(Missing::Never(why)),
        _ => Err(Missing::NotYet),
    }
}

fn connected(data_dir: &Path) -> Result<OwnedFd, Missing> {
    let failed = |error: Errno| match error {
        Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR => Missing::Nobody,
        Errno::AGAIN | Errno::INTR => Missing::NotYet,
        error => Missing::Never(format!(
            "{}/{SOCKET}: {error}; it is for the user who runs the server there, set WORKSPACE_DATA_DIR to another \
             directory for one of your own",
            data_dir.display()
        )),
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = openat(CWD, data_dir, flags, Mode::empty()).map_err(failed)?;
    // Through the descriptor: a path in an address has 107 bytes at most.
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd())).map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed)?;
    connect(&socket, &address).map_err(failed)?;
    Ok(socket)
}

/// The lock is written at a server's start.
fn no_socket_max(config: &Config) -> Duration {
    let written = std::fs::metadata(config.data_dir.join("lock")).and_then(|lock| lock.modified());
    let age = written.ok().and_then(|written| written.elapsed().ok());
    if age.is_some_and(|age| age > NO_SOCKET_AT_START_MAX) { NO_SOCKET_MAX } else { NO_SOCKET_AT_START_MAX }
}

fn no_socket(config: &Config) -> String {
    let holder = std::fs::read_to_string(config.data_dir.join("lock")).unwrap_or_default();
    format!(
        "the data directory {} is in use by another workspace-server, pid {}, that serves no MCP over stdio: it is of an \
         earlier version or has WORKSPACE_MCP_MODE=disabled; stop it or set WORKSPACE_DATA_DIR",
        config.data_dir.display(),
        holder.trim()
    )
}

fn not_started(config: &Config, begun: SystemTime, code: i32) -> String {
    format!("the server that was started ended with code {code}; {}", log_of(config, begun))
}

/// Where the log is, and how it ends. Until there is one, a server says on this program's standard error what is wrong.
fn log_of(config: &Config, begun: SystemTime) -> String {
    let path = config.data_dir.join(crate::logging::FILE);
    let written = std::fs::metadata(&path).and_then(|log| log.modified());
    if !written.is_ok_and(|written| written >= begun) {
        return "a line above may say why".to_owned();
    }
    let log = std::fs::read(&path).unwrap_or_default();
    let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_SHOWN_MAX)..]).into_owned();
    format!("its log is {}\n{end}", path.display())
}
