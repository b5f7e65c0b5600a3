//! A sandbox made of the agent alone: what the launcher would leave at its descriptors, and nothing else of it.

use crate::client::Client;
use rustix::fs::{Mode, OFlags};
use rustix::io::FdFlags;
use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use workspace_proto::Message;
use workspace_proto::launcher::AgentSetup;

pub(crate) const SANDBOX_ID: &str = "abcdefghijklmnopqrstuvwxyz234567";

/// Descriptors are inheritable for a moment: one start at a time.
static STARTING: Mutex<()> = Mutex::new(());
static NUMBER: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Sandbox {
    unshare: Child,
    link: Option<UnixStream>,
    pub(crate) socket: PathBuf,
    cgroups: Vec<PathBuf>,
    pub(crate) directory: PathBuf,
}

#[derive(Default)]
pub(crate) struct Options {
    /// No v2 directory: trees end by the walk through /proc.
    pub(crate) without_leaves: bool,
    /// A v1 memory cgroup with this limit.
    pub(crate) memory_bytes: Option<u64>,
    /// Commands have the agent's own id, 1000 inside.
    pub(crate) single_id: bool,
    /// A v1 pids cgroup with this limit.
    pub(crate) pids: Option<u32>,
}

/// Runs `test` against a fresh sandbox, in an event loop of its own.
pub(crate) fn with<F, T>(options: Options, test: F)
where
    F: FnOnce(Sandbox) -> T,
    T: Future<Output = ()>,
{
    if !rustix::process::getuid().is_root() {
        println!("skipped: needs root");
        return;
    }
    let sandbox = Sandbox::start(&options);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let deadline = Duration::from_secs(100);
    runtime.block_on(async { tokio::time::timeout(deadline, test(sandbox)).await.expect("the test hangs") });
}

impl Sandbox {
    fn start(options: &Options) -> Sandbox {
        let _one = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = format!("agent-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir(&directory).unwrap();
        let socket = directory.join("sock");
        let listener: OwnedFd = UnixListener::bind(&socket).unwrap().into();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs: OwnedFd = theirs.into();
        let namespace = inner_user_namespace(options.single_id);
        let mut cgroups = Vec::new();
        let mut setup = AgentSetup {
            sandbox_id: SANDBOX_ID.to_owned(),
            cpu_count: 1,
            single_id: options.single_id,
            ..AgentSetup::default()
        };
        let mut more: Vec<OwnedFd> = Vec::new();
        if !options.without_leaves {
            let path = mounted("cgroup2", None).join(&name);
            fs::create_dir(&path).unwrap();
            more.push(rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap());
            setup.leaf_dir_fd = 6 + more.len() as u32;
            cgroups.push(path);
        }
        if let Some(limit) = options.memory_bytes {
            let path = mounted("cgroup", Some("memory")).join(&name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("memory.limit_in_bytes"), limit.to_string()).unwrap();
            more.push(rustix::fs::open(path.join("cgroup.procs"), OFlags::WRONLY, Mode::empty()).unwrap());
            setup.procs_fds.push(6 + more.len() as u32);
            more.push(rustix::fs::open(path.join("memory.oom_control"), OFlags::RDONLY, Mode::empty()).unwrap());
            setup.oom_fd = 6 + more.len() as u32;
            cgroups.push(path);
        }
        if let Some(limit) = options.pids {
            let path = mounted("cgroup", Some("pids")).join(&name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("pids.max"), limit.to_string()).unwrap();
            more.push(rustix::fs::open(path.join("cgroup.procs"), OFlags::WRONLY, Mode::empty()).unwrap());
            setup.procs_fds.push(6 + more.len() as u32);
            cgroups.push(path);
        }
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        fs::File::from(writer).write_all(&setup.encode_to_vec()).unwrap();
        let all: Vec<OwnedFd> = [listener, theirs, namespace, reader].into_iter().chain(more).collect();
        let unshare = start_agent(&all);
        Sandbox { unshare, link: Some(ours), socket, cgroups, directory }
    }

    /// A client on the stream that the agent was born with. Once.
    pub(crate) async fn first_link(&mut self) -> Client {
        Client::greet(self.link.take().unwrap(), SANDBOX_ID).await
    }

    /// The raw stream that the agent was born with. Once.
    pub(crate) fn raw_link(&mut self) -> UnixStream {
        self.link.take().unwrap()
    }

    /// A client on a new connection, as after a restart of the server.
    pub(crate) async fn connect(&self) -> Client {
        Client::greet(self.connect_raw().await, SANDBOX_ID).await
    }

    /// A new connection on which nothing has been said.
    pub(crate) async fn connect_raw(&self) -> UnixStream {
        let start = Instant::now();
        loop {
            match UnixStream::connect(&self.socket) {
                Ok(stream) => return stream,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// The agent's pid on the host.
    pub(crate) fn agent_pid(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.unshare.id());
        fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }

    /// Host pids of all processes of the sandbox but the agent.
    pub(crate) fn others(&self) -> Vec<u32> {
        let agent = self.agent_pid();
        let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(agent);
        let entries = fs::read_dir("/proc").unwrap();
        let pids = entries.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        pids.filter(|pid| *pid != agent && namespace(*pid) == own && !is_zombie(*pid)).collect()
    }

    /// Open descriptors of the agent, but for the leaves that it keeps.
    pub(crate) fn agent_fds(&self) -> usize {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.agent_pid())).unwrap();
        let targets = entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        targets.filter(|target| !target.ends_with("cgroup.procs")).count()
    }

    /// Directories below the v2 one.
    pub(crate) fn leaf_count(&self) -> usize {
        fs::read_dir(&self.cgroups[0]).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir()).count()
    }
}

fn is_zombie(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // unshare --kill-child takes PID 1 with it, and that all others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        for path in &self.cgroups {
            let start = Instant::now();
            while remove_cgroup(path).is_err() && start.elapsed() < Duration::from_secs(5) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn remove_cgroup(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir(path)?;
        }
    }
    fs::remove_dir(path)
}

/// Starts the built program as PID 1 with `all` at 3, 4, 5 …
fn start_agent(all: &[OwnedFd]) -> Child {
    let agent = env!("CARGO_BIN_EXE_workspace-agent");
    // A devpts of its own, as the launcher mounts it; gid 6 is 5 inside.
    let options = "newinstance,ptmxmode=0666,mode=620,gid=6,max=64";
    let inside = format!("mount -t devpts -o {options} devpts /dev/pts; exec {agent} agent");
    let mut script = format!("exec unshare --pid --fork --mount-proc --kill-child sh -c '{inside}'");
    // First far above all numbers that are to be filled.
    let lifted: Vec<OwnedFd> = all.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 100).unwrap()).collect();
    for (i, fd) in lifted.iter().enumerate() {
        script += &format!(" {}<&{1} {1}<&-", 3 + i, fd.as_raw_fd());
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).unwrap();
    }
    Command::new("bash").arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
}

/// Inside 0 is the host's 1, and so on: as the launcher makes it, with the host in the place of a block.
fn inner_user_namespace(single_id: bool) -> OwnedFd {
    let mut holder = Command::new("unshare")
        .args(["--user", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    // What comes back says that the namespace is made.
    holder.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let path = |name: &str| format!("/proc/{}/{name}", holder.id());
    if single_id {
        fs::write(path("setgroups"), "deny").unwrap();
    }
    for map in ["gid_map", "uid_map"] {
        fs::write(path(map), if single_id { "1000 0 1" } else { "0 1 65535" }).unwrap();
    }
    let namespace = rustix::fs::open(path("ns/user"), OFlags::RDONLY, Mode::empty()).unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    namespace
}

/// Where a cgroup file system is mounted.
fn mounted(kind: &str, controller: Option<&str>) -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let line = mounts.lines().find(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        fields[2] == kind && controller.is_none_or(|c| fields[3].split(',').any(|option| option == c))
    });
    PathBuf::from(line.expect("a cgroup mount").split(' ').nth(1).unwrap())
}
