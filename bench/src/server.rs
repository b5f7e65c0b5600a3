//! Which server is measured, how is it started, and what is left when it ends?
//!
//! A started server has a directory of its own below `--dir`, port 0, and says in `data/http.address` where it listens. It is ended by SIGTERM.
//! Its sandboxes were deleted before by the herds that made them; `--ephemeral` takes those that a herd could not.

use crate::client::Connection;
use crate::failure::Failure;
use crate::kernel;
use crate::nfs;
use crate::options::{Options, Question};
use crate::process;
use crate::stop;
use crate::sys::signal;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take until it answers.
const START_MS_MAX: u64 = 30_000;
/// How long it may take to end after SIGTERM, before SIGKILL.
const END_MS_MAX: u64 = 30_000;
/// How often a directory is tried to be removed.
const REMOVE_TRIES_MAX: u32 = 20;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How much of a server's log is shown when it fails.
const LOG_LINES_MAX: usize = 20;

/// Where requests go, and whose CPU and memory are read.
#[derive(Debug)]
pub(crate) struct Target {
    /// `HOST:PORT`.
    pub(crate) address: String,
    /// The supervisor's process id, where it is known.
    pub(crate) supervisor: Option<u32>,
    /// Its control group parents; of a server that was named, those of all servers here.
    pub(crate) groups: BTreeSet<PathBuf>,
    /// Sent as `Authorization: Bearer`.
    pub(crate) key: Option<String>,
}

impl Target {
    /// A new connection.
    pub(crate) fn connect(&self) -> Result<Connection, Failure> {
        Connection::open(&self.address, self.key.as_deref())
    }

    /// The bytes of a GET.
    pub(crate) fn get_request(&self, path: &str) -> Vec<u8> {
        crate::client::request("GET", path, &self.address, self.key.as_deref(), "")
    }

    /// Supervisor, server and launcher; the agents are the launcher's children and not among them.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let Some(supervisor) = self.supervisor else { return Vec::new() };
        let mut all = vec![supervisor];
        all.extend(process::children(supervisor));
        all
    }
}

/// A server for one question.
pub(crate) struct Server {
    target: Target,
    started: Option<Started>,
}

struct Started {
    child: Child,
    home: PathBuf,
    ended: bool,
}

impl Server {
    /// Where it is.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Ends what was started and removes its directory.
    pub(crate) fn end(mut self) -> Result<(), Failure> {
        self.started.as_mut().map_or(Ok(()), Started::end)
    }
}

/// Starts a server, or takes the one that was named.
pub(crate) fn reach(options: &Options, question: Question) -> Result<Server, Failure> {
    if let Some(address) = &options.address {
        let (address, key, groups) = (address.clone(), options.api_key.clone(), kernel::group_parents());
        let target = Target { address, supervisor: options.pid, groups, key };
        healthy(&target)?;
        return Ok(Server { target, started: None });
    }
    let others = kernel::group_parents();
    let mut started = start(options, question)?;
    let (address, supervisor) = (started.listening()?, Some(started.child.id()));
    let mut target = Target { address, supervisor, groups: BTreeSet::new(), key: None };
    healthy(&target)?;
    target.groups = kernel::group_parents().difference(&others).cloned().collect();
    Ok(Server { target, started: Some(started) })
}

/// A server inherits our limit of descriptors, and so do 100 connections.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused means that fewer sandboxes fit; the question that needs them says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn start(options: &Options, question: Question) -> Result<Started, Failure> {
    let program = program(options)?;
    let home = options.dir.join(format!("workspace-bench-{}", std::process::id()));
    let failed = |what: &str, error| Failure::io(format!("{what} {}", home.display()), &error);
    std::fs::create_dir(&home).map_err(|error| failed("make", error))?;
    let log = File::create(home.join("log")).map_err(|error| failed("write into", error))?;
    let copy = log.try_clone().map_err(|error| failed("write into", error))?;
    let mut command = Command::new(&program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WORKSPACE_")) {
        command.env_remove(name);
    }
    command
        // Ephemeral, so that even a bench that ends badly leaves no sandbox running.
        .args(["serve", "--ephemeral"])
        .current_dir(&home)
        .env("WORKSPACE_HTTP_HOST", "127.0.0.1")
        .env("WORKSPACE_HTTP_PORT", port().to_string())
        .env("WORKSPACE_DATA_DIR", home.join("data"))
        .envs(
            if question == Question::Nfs { &nfs::SERVED[..] } else { &[("WORKSPACE_NFS_MODE", "disabled")] }
                .iter()
                .copied(),
        )
        .env("RUST_LOG", &options.log)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(copy)
        // A Ctrl-C at the terminal is for the bench, which then ends the server.
        .process_group(0);
    if let Some(blanks) = options.blanks {
        command.env("WORKSPACE_POOL_BLANKS", blanks.to_string());
    }
    signal::end_with_us(&mut command);
    match command.spawn() {
        Ok(child) => Ok(Started { child, home, ended: false }),
        Err(error) => {
            let _ = std::fs::remove_dir_all(&home);
            Err(Failure::io(format!("start {}", program.display()), &error))
        }
    }
}

/// Port 0 wants `data/http.address` read, and an ordinary user may not look into the directory of a server that has ids of its own.
fn port() -> u16 {
    if rustix::process::geteuid().is_root() {
        return 0;
    }
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    free.map_or(0, |address| address.port())
}

fn program(options: &Options) -> Result<PathBuf, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.parent()?.join("workspace-server"));
    let program = options.server.clone().or_else(beside).unwrap_or_else(|| "target/release/workspace-server".into());
    // Absolute, because the server starts in a directory of its own.
    std::fs::canonicalize(&program).map_err(|error| {
        Failure::io(
            format!("{} (build it: cargo build --release, or name it: --server PATH)", program.display()),
            &error,
        )
    })
}

impl Started {
    fn listening(&mut self) -> Result<String, Failure> {
        let file = self.home.join("data/http.address");
        let deadline = Instant::now() + Duration::from_millis(START_MS_MAX);
        while Instant::now() < deadline && !stop::requested() {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(Failure::new(format!("the server ended at once, {status}\n{}", self.log())));
            }
            // Written in one piece; the line end says that it is all of it, or an address that parses.
            let address = std::fs::read_to_string(&file).unwrap_or_default().trim().to_owned();
            if address.parse::<std::net::SocketAddr>().is_ok() {
                return Ok(address);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Err(Failure::new(format!("no address in {} after {START_MS_MAX} ms\n{}", file.display(), self.log())))
    }

    fn log(&self) -> String {
        let text = std::fs::read_to_string(self.home.join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_MAX)..].join("\n")
    }

    fn end(&mut self) -> Result<(), Failure> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let mut trouble = None;
        if let Ok(Some(status)) = self.child.try_wait() {
            trouble = Some(format!("the server had ended by itself, {status}\n{}", self.log()));
        } else if !self.terminate() {
            trouble = Some(format!("the server did not end within {END_MS_MAX} ms of SIGTERM"));
        }
        if let Err(error) = remove(&self.home) {
            trouble.get_or_insert(format!("remove {}: {error}", self.home.display()));
        }
        trouble.map_or(Ok(()), |text| Err(Failure::new(text)))
    }

    /// True where SIGTERM was enough.
    fn terminate(&mut self) -> bool {
        let Ok(pid) = i32::try_from(self.child.id()) else { return false };
        if let Some(pid) = Pid::from_raw(pid) {
            // Not reaped yet, so the id is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + Duration::from_millis(END_MS_MAX);
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(LOOK_AGAIN),
                _ => return true,
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        false
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Err(failure) = self.end() {
            eprintln!("{failure}");
        }
    }
}

fn remove(home: &Path) -> std::io::Result<()> {
    let mut last = std::fs::remove_dir_all(home);
    for _ in 1..REMOVE_TRIES_MAX {
        if last.is_ok() {
            break;
        }
        std::thread::sleep(LOOK_AGAIN);
        last = std::fs::remove_dir_all(home);
    }
    last
}

fn healthy(target: &Target) -> Result<(), Failure> {
    let answer = target.connect()?.ask("GET", "/api/v1/health", "")?;
    match answer.status {
        200 => Ok(()),
        status => Err(Failure::new(format!("{}: health answers {status}", target.address))),
    }
}
