//! Starting the built program: its environment, arguments and user, and what it says when it stops by itself.

use super::server::Server;
use super::turn;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

const STOP_S_MAX: u64 = 20;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// How to start one.
pub(crate) struct Builder {
    pub(super) env: Vec<(String, String)>,
    pub(super) args: Vec<String>,
    /// Instead of the program that people build.
    pub(super) program: Option<PathBuf>,
    pub(super) uid: Option<u32>,
    pub(super) data_dir: Option<PathBuf>,
    pub(super) refuse_io_uring: bool,
    /// First and count of the ids that subuid and subgid give to the user.
    pub(super) subordinate_ids: Option<(u32, u32)>,
    /// Shell that mounts something at `$root/data`, in a mount namespace that only this server sees.
    pub(super) mount: Option<String>,
    pub(super) descriptors: Option<(u32, u32)>,
}

/// A start that ended by itself.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Builder {
    /// Sets a variable of the server's environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Builder {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Serves NFS, on a port that the kernel chooses, also to the guests of `tests/kit/nfs`.
    pub(crate) fn nfs(self) -> Builder {
        self.env("WORKSPACE_NFS_MODE", "embedded")
            .env("WORKSPACE_NFS_PORT", "0")
            .env("WORKSPACE_NFS_ALLOW", "127.0.0.0/8,10.213.0.0/16")
    }

    /// Adds an argument after `serve`.
    pub(crate) fn arg(mut self, arg: &str) -> Builder {
        self.args.push(arg.to_owned());
        self
    }

    /// Starts this program instead of the one that people build.
    pub(crate) fn program(mut self, path: &Path) -> Builder {
        self.program = Some(path.to_owned());
        self
    }

    /// Runs it as this user, with no other group: the rootless way. Only root can ask for it.
    pub(crate) fn user(mut self, uid: u32) -> Builder {
        self.uid = Some(uid);
        self
    }

    /// Uses this data directory instead of a new one.
    pub(crate) fn data_dir(mut self, path: impl Into<PathBuf>) -> Builder {
        self.data_dir = Some(path.into());
        self
    }

    /// Refuses io_uring_setup with EPERM, as a container's seccomp filter does.
    pub(crate) fn refuse_io_uring(mut self) -> Builder {
        self.refuse_io_uring = true;
        self
    }

    /// Gives the user these ids by /etc/subuid and /etc/subgid, in a mount namespace that only this server sees.
    pub(crate) fn subordinate_ids(mut self, first: u32, count: u32) -> Builder {
        self.subordinate_ids = Some((first, count));
        self
    }

    /// Puts the data directory on a file system of its own of this size, in a mount namespace that only this server
    /// sees. It lives as long as the supervisor. Needs root.
    pub(crate) fn disk_bytes(mut self, bytes: u64) -> Builder {
        self.mount = Some(format!("mount -t tmpfs -o size={bytes} disk \"$root/data\""));
        self
    }

    /// Puts the data directory on an overlay, which cannot be idmapped: what a container without a volume has.
    pub(crate) fn on_overlay(mut self) -> Builder {
        self.mount = Some(
            "mkdir \"$root/o\" && mount -t tmpfs o \"$root/o\" && cd \"$root/o\" && mkdir lower upper work && \
             mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work o \"$root/data\" && cd /"
                .to_owned(),
        );
        self
    }

    /// Lets each of its processes have this many descriptors, and no more.
    pub(crate) fn descriptors_max(mut self, count: u32) -> Builder {
        self.descriptors = Some((count, count));
        self
    }

    /// Lets each of its processes have `now` descriptors, and `on_request` when it asks, as a login does.
    pub(crate) fn descriptors_on_request(mut self, now: u32, on_request: u32) -> Builder {
        self.descriptors = Some((now, on_request));
        self
    }

    /// Starts it and waits until it answers; panics with its log when it does not.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        self.try_start().unwrap_or_else(|ended| panic!("the server stopped: {ended:#?}"))
    }

    /// Starts it and waits until it answers or has ended by itself.
    #[track_caller]
    pub(crate) fn try_start(self) -> Result<Server, Ended> {
        let turn = turn::shared();
        take_descriptors();
        let root = self.make_root();
        let data_dir = self.data_dir.clone().unwrap_or_else(|| root.join("data"));
        let child = self.spawn(&root, &data_dir);
        let data_dir = self.seen_from_outside(data_dir, child.id());
        let address = Mutex::new(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (idle, seen) = (Mutex::default(), Mutex::default());
        let mut server =
            Server { child, root, data_dir, builder: self, address, idle, seen, ended: false, _turn: turn };
        match server.try_wait_ready() {
            Ok(()) => Ok(server),
            Err(status) => {
                let ended = read_ended(&server.root, status);
                server.end_quietly();
                Err(ended)
            }
        }
    }

    /// Starts it where it must stop by itself; panics when it does not within 20 s.
    #[track_caller]
    pub(crate) fn start_fails(self) -> Ended {
        let _turn = turn::shared();
        let root = self.make_root();
        let data_dir = self.data_dir.clone().unwrap_or_else(|| root.join("data"));
        let mut child = self.spawn(&root, &data_dir);
        let waited = super::wait::within(STOP_S_MAX, || child.try_wait().ok().flatten().is_some());
        if !waited {
            let _ = child.kill();
        }
        let status = child.wait().expect("wait for the server");
        let ended = read_ended(&root, status);
        fs::remove_dir_all(&root).ok();
        assert!(waited, "it should have stopped by itself: {ended:?}");
        ended
    }

    fn make_root(&self) -> PathBuf {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let root = std::env::temp_dir().join(format!("workspace-test-{}-{number}", std::process::id()));
        fs::create_dir(&root).expect("make the test's directory");
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).expect("chmod");
        if let Some(uid) = self.uid {
            std::os::unix::fs::chown(&root, Some(uid), Some(uid)).expect("chown");
        }
        root
    }

    pub(super) fn spawn(&self, root: &Path, data_dir: &Path) -> Child {
        let log = |name: &str| File::options().create(true).append(true).open(root.join(name)).expect("open the log");
        let mut command = self.command(root);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WORKSPACE_") || name == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command
            .current_dir(root)
            .env("WORKSPACE_HTTP_PORT", "0")
            .env("WORKSPACE_DATA_DIR", data_dir)
            .env("WORKSPACE_NFS_MODE", "disabled")
            .env("WORKSPACE_POOL_BLANKS", "0")
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(log("stderr"));
        if self.refuse_io_uring {
            super::sys::refuse_io_uring(&mut command);
        }
        command.spawn().expect("start the server")
    }

    /// A mount that only the server sees is reached through its root.
    fn seen_from_outside(&self, data_dir: PathBuf, pid: u32) -> PathBuf {
        match self.mount {
            Some(_) => PathBuf::from(format!("/proc/{pid}/root{}", data_dir.display())),
            None => data_dir,
        }
    }

    /// The program with its arguments, as the user that was asked for.
    fn command(&self, root: &Path) -> Command {
        let program = self.program_for(root);
        let own_mounts = |script: &str| {
            let mut command = Command::new("unshare");
            command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", script, "sh"]).arg(root);
            command
        };
        let mut command = match (self.uid, self.subordinate_ids) {
            (None, _) if self.mount.is_some() => {
                let mut command = own_mounts(WITH_OWN_DISK);
                command.arg(self.mount.clone().unwrap_or_default()).arg(program);
                command
            }
            (Some(uid), Some((first, count))) => {
                write_user_files(root, uid, first, count);
                let mut command = own_mounts(AS_USER_WITH_RANGE);
                command.arg(uid.to_string()).arg(program);
                command
            }
            (Some(uid), None) => {
                let mut command = Command::new(program);
                command.uid(uid).gid(uid);
                command
            }
            (None, _) => match self.descriptors {
                Some((soft, hard)) => {
                    let mut command = Command::new("prlimit");
                    command.arg(format!("--nofile={soft}:{hard}")).arg(program);
                    command
                }
                None => Command::new(program),
            },
        };
        if self.uid.is_some() {
            command.env("HOME", root);
        }
        command.arg("serve").args(&self.args);
        command
    }

    /// Another user may not reach the build directory: it gets the program by another name.
    fn program_for(&self, root: &Path) -> PathBuf {
        let ordinary = Path::new(env!("CARGO_BIN_EXE_workspace-server"));
        let built = self.program.clone().unwrap_or_else(|| ordinary.to_owned());
        if self.uid.is_none() {
            return built;
        }
        let copy = root.join("workspace-server");
        if !copy.exists() && fs::hard_link(&built, &copy).is_err() {
            // By a process of its own: a child that another test forks while this one had the copy open for writing
            // keeps it so until it executes, and no such file can be started (ETXTBSY).
            let copied = Command::new("cp").args([&built, &copy]).status().expect("start cp");
            assert!(copied.success(), "copy the server: {copied}");
        }
        copy
    }
}

/// Mounts the user's own passwd, subuid and subgid, becomes the user, and then is the server: the pid stays.
const AS_USER_WITH_RANGE: &str = r#"
    root=$1 uid=$2; shift 2
    mount --bind "$root/passwd" /etc/passwd && mount --bind "$root/ids" /etc/subuid && mount --bind "$root/ids" /etc/subgid &&
    exec setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
"#;

/// Mounts something where the data directory will be, and then is the server: the pid stays.
const WITH_OWN_DISK: &str = r#"
    root=$1 mount=$2; shift 2
    mkdir "$root/data" && eval "$mount" && exec "$@"
"#;

fn write_user_files(root: &Path, uid: u32, first: u32, count: u32) {
    let passwd = fs::read_to_string("/etc/passwd").expect("read passwd");
    let line = format!("workspacetest:x:{uid}:{uid}::/:/bin/sh");
    fs::write(root.join("passwd"), format!("{passwd}{line}\n")).expect("write passwd");
    fs::write(root.join("ids"), format!("workspacetest:{first}:{count}\n")).expect("write ids");
}

fn read_ended(root: &Path, status: ExitStatus) -> Ended {
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap_or_default();
    Ended { status, stdout: read("stdout"), stderr: read("stderr") }
}

/// A crowd's clients are in this process, and a login's limit is 1,024.
fn take_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
