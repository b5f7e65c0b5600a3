//! Launcher and server as one unit: started together, ended together.

use super::confine;
use super::data_dir::DataDir;
use super::identity::Identities;
use crate::sys::fork::{self, Fork};
use crate::sys::signal;
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use workspace_proto::Message;
use workspace_proto::launcher::Setup;

/// The static program for everything that runs with privilege or inside sandboxes.
static AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workspace-agent"));

/// First descriptor that the launcher finds its own things at.
const LAUNCHER_FDS_AT: i32 = 3;

/// How long the removal of empty control groups may take.
const SWEEP_MAX: std::time::Duration = std::time::Duration::from_secs(2);

/// A running pair of processes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// The launcher's pid.
    pub(super) launcher: i32,
    /// The server's pid.
    pub(super) server: i32,
}

/// What stays the same over restarts of the unit.
pub(super) struct Parts<'a> {
    /// The program in a sealed memfd, shared by launcher and agents: one inode, one copy of its text.
    pub(super) agent: OwnedFd,
    /// The held data directory.
    pub(super) data_dir: &'a DataDir,
    /// Who is who.
    pub(super) ids: &'a Identities,
    /// How many shards, each with a socket of its own to the launcher.
    pub(super) shard_count: usize,
}

/// Puts the embedded program into a memfd that nobody can change.
pub(super) fn agent_memfd() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Since 6.3 a memfd says whether it may be executed; before, the flag is unknown.
    let fd = memfd_create("workspace-agent", flags | MemfdFlags::EXEC)
        .or_else(|_| memfd_create("workspace-agent", flags))?;
    rustix::fs::fchmod(&fd, rustix::fs::Mode::from_raw_mode(0o555))?;
    File::from(fd.try_clone()?).write_all(AGENT)?;
    fcntl_add_seals(&fd, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    // Only a read-only descriptor may be handed on: exec refuses a file that is open for writing.
    let read_only = rustix::fs::open(
        format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)),
        OFlags::RDONLY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    Ok(read_only)
}

/// Starts both. In the server's process `serve` is called with the shards' sockets and a pipe into which it writes a
/// byte once it serves; its result ends the process. The pipe's other end ends with the server.
pub(super) fn start(
    parts: &Parts<'_>,
    serve: impl FnOnce(Vec<OwnedFd>, io::PipeWriter) -> i32,
) -> io::Result<(Unit, io::PipeReader)> {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    for _ in 0..parts.shard_count {
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        ours.push(a);
        theirs.push(b);
    }
    let (setup, mut setup_in) = io::pipe()?;
    setup_in.write_all(&setup_message(parts).encode_to_vec())?; // some hundred bytes: never fills the pipe
    drop(setup_in);
    let launcher = match fork::fork()? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            let mut fds = vec![parts.agent.as_fd(), setup.as_fd()];
            fds.extend(theirs.iter().map(AsFd::as_fd));
            let error = become_launcher(&fds);
            eprintln!("workspace-server: the launcher could not be started: {error}");
            std::process::exit(1)
        }
    };
    drop(theirs);
    let (mapper, confined) = confine::handshake()?;
    let (served, serves) = io::pipe()?;
    let server = match fork::fork()? {
        Fork::Parent(pid) => pid,
        Fork::Child => {
            drop((mapper, served));
            // A session of its own: Ctrl-C reaches the supervisor alone, which then drains this one.
            let _ = rustix::process::setsid();
            if let Err(error) = confined.enter(parts.data_dir, parts.ids) {
                eprintln!("workspace-server: the server could not be confined: {error}");
                std::process::exit(1)
            }
            std::process::exit(serve(ours, serves))
        }
    };
    drop((confined, serves));
    if let Err(error) = mapper.map(server, parts.ids) {
        fork::kill(server, libc::SIGKILL);
        eprintln!("workspace-server: the server's ids could not be mapped: {error}");
    }
    Ok((Unit { launcher, server }, served))
}

/// Removes this service's empty control groups, which the launcher has no right to. Waits for it, bounded by its work.
pub(super) fn sweep(parts: &Parts<'_>) -> io::Result<()> {
    let hash = std::ffi::CString::new(parts.data_dir.hash()).map_err(io::Error::other)?;
    match fork::fork()? {
        Fork::Parent(pid) => {
            let deadline = std::time::Instant::now() + SWEEP_MAX;
            while std::time::Instant::now() < deadline {
                match fork::reap() {
                    Some((ended, _)) if ended == pid => return Ok(()),
                    Some(_) => {}
                    None => std::thread::sleep(std::time::Duration::from_millis(1)),
                }
            }
            fork::kill(pid, libc::SIGKILL);
            Err(io::Error::from(io::ErrorKind::TimedOut))
        }
        Fork::Child => {
            let _ = null_stdio();
            let error = fork::exec_fd(parts.agent.as_fd(), &[c"workspace-launcher", c"sweep", &hash]);
            eprintln!("workspace-server: {error}");
            std::process::exit(1)
        }
    }
}

fn setup_message(parts: &Parts<'_>) -> Setup {
    Setup {
        data_dir: parts.data_dir.path.as_os_str().as_encoded_bytes().to_vec().into(),
        hash: parts.data_dir.hash(),
        base_id: parts.ids.base_id,
        owner_id: parts.ids.owner_id,
        spans: parts.ids.spans.clone(),
        mode: parts.ids.mode.into(),
        shard_count: parts.shard_count as u32,
    }
}

fn become_launcher(fds: &[BorrowedFd<'_>]) -> io::Error {
    let prepared = set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from);
    signal::unblock_all();
    if let Err(error) = prepared.and_then(|()| null_stdio()).and_then(|()| fork::arrange_fds(fds, LAUNCHER_FDS_AT)) {
        return error;
    }
    // Arranged just above: descriptor 3 is the program.
    let program = File::open("/proc/self/fd/3").map(OwnedFd::from);
    match program {
        Ok(program) => fork::exec_fd(program.as_fd(), &[c"workspace-launcher", c"launcher"]),
        Err(error) => error,
    }
}

/// Standard input and output are nobody's: an MCP client's pipe must not reach privileged code. The log stays at 2.
fn null_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}
