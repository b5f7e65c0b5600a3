//! Starts the built program as a launcher on a temporary data directory and speaks its protocol.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::{FdFlags, IoSlice, IoSliceMut, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use workspace_proto::launcher::{
    BlockSpan, Create, Destroy, Ended, Entry, Inventory, Mode, Ready, Reply, Request, Setup, reply, request,
};
use workspace_proto::{Message, PACKET_BYTES_MAX};

pub(crate) const BASE_ID: u32 = 1 << 30;
pub(crate) const OWNER_ID: u32 = BASE_ID + 65_535;
pub(crate) const FIRST_BLOCK: u32 = 20_000;
pub(crate) const BLOCKS: u32 = 200;

/// True with real root; else says why the test is not run.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: needs root");
    }
    root
}

/// A data directory as the supervisor leaves it; removed at the end.
pub(crate) struct DataDir {
    pub(crate) path: PathBuf,
    pub(crate) hash: String,
    pub(crate) owner_id: u32,
}

impl DataDir {
    pub(crate) fn new(owner_id: u32) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let hash = format!("{:08x}{number:08x}", std::process::id());
        let path = std::env::temp_dir().join(format!("workspace-launcher-{hash}"));
        for (name, mode) in [("", 0o700), ("run", 0o755), ("sandboxes", 0o770), ("trash", 0o770)] {
            let directory = path.join(name);
            fs::create_dir(&directory).unwrap();
            fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        }
        for name in ["", "sandboxes", "trash"] {
            chown(path.join(name), Some(owner_id), Some(owner_id)).unwrap();
        }
        DataDir { path, hash, owner_id }
    }

    /// Directories of ours in every hierarchy.
    pub(crate) fn cgroups(&self) -> Vec<PathBuf> {
        let name = format!("workspace-{}", self.hash);
        let hierarchies = fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        hierarchies.map(|entry| entry.path().join(&name)).filter(|path| path.exists()).collect()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        // Only a failed test leaves any.
        for pid in processes_of(self) {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).status();
        }
        for parent in self.cgroups() {
            remove_groups(&parent.join("s"));
        }
        Launcher::sweep(self);
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A running launcher and our end of its socket.
pub(crate) struct Launcher {
    pub(crate) process: Child,
    socket: Option<OwnedFd>,
    seq: u64,
    events: VecDeque<Ended>,
    pub(crate) ready: Ready,
}

/// How the launcher is started: `wrapper` comes before the program in the shell's exec.
pub(crate) struct Start<'a> {
    pub(crate) mode: Mode,
    pub(crate) base_id: u32,
    pub(crate) wrapper: &'a [String],
    /// What is at descriptor 3; the launcher itself is always the built program.
    pub(crate) program: Program<'a>,
}

/// What a sandbox runs as PID 1.
pub(crate) enum Program<'a> {
    Built,
    Bytes(&'a [u8]),
}

impl Launcher {
    pub(crate) fn start(data: &DataDir) -> Self {
        Self::start_as(data, &Start { mode: Mode::Root, base_id: BASE_ID, wrapper: &[], program: Program::Built })
    }

    pub(crate) fn start_as(data: &DataDir, start: &Start<'_>) -> Self {
        let built = fs::read(env!("CARGO_BIN_EXE_workspace-agent")).unwrap();
        let launcher = sealed(&built);
        let program = match start.program {
            Program::Built => sealed(&built),
            Program::Bytes(bytes) => sealed(bytes),
        };
        let setup = Setup {
            data_dir: data.path.to_str().unwrap().as_bytes().to_vec().into(),
            hash: data.hash.clone(),
            base_id: start.base_id,
            owner_id: data.owner_id,
            spans: vec![BlockSpan { first: FIRST_BLOCK, count: BLOCKS }],
            mode: start.mode as i32,
            shard_count: 1,
        };
        let (read, write) = rustix::pipe::pipe().unwrap();
        File::from(write).write_all(&setup.encode_to_vec()).unwrap();
        let (socket, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let inherited: Vec<OwnedFd> = [&program, &read, &theirs, &launcher].map(inheritable).into();
        let mut command = Command::new("bash");
        // The numbers are fixed, and only a shell can set them without unsafe code.
        command.args(["-c", r#"exec 3<&"$1" 4<&"$2" 5<&"$3" 6<&"$4"; shift 4; exec "$@""#, "bash"]);
        command.args(inherited.iter().map(|descriptor| descriptor.as_raw_fd().to_string()));
        command.args(start.wrapper).arg("/proc/self/fd/6").arg("launcher").stdin(Stdio::null());
        let process = command.spawn().unwrap();
        drop((inherited, theirs));
        let mut launcher =
            Launcher { process, socket: Some(socket), seq: 0, events: VecDeque::new(), ready: Ready::default() };
        match launcher.receive() {
            Some((Reply { seq: 0, op: Some(reply::Op::Ready(ready)) }, _)) => launcher.ready = ready,
            other => panic!("no Ready: {other:?}"),
        }
        launcher
    }

    pub(crate) fn send(&mut self, op: request::Op) -> u64 {
        self.seq += 1;
        let request = Request { seq: self.seq, op: Some(op) };
        self.send_bytes(&request.encode_to_vec());
        self.seq
    }

    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        let mut none = SendAncillaryBuffer::default();
        let socket = self.socket.as_ref().unwrap();
        sendmsg(socket, &[IoSlice::new(bytes)], &mut none, SendFlags::NOSIGNAL).unwrap();
    }

    /// The next packet; None when the launcher has closed.
    pub(crate) fn receive(&self) -> Option<(Reply, Vec<OwnedFd>)> {
        let mut packet = vec![0; PACKET_BYTES_MAX];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let socket = self.socket.as_ref().unwrap();
        let received =
            recvmsg(socket, &mut [IoSliceMut::new(&mut packet)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        (received.bytes > 0).then(|| (Reply::decode(&packet[..received.bytes]).unwrap(), descriptors))
    }

    /// Waits for the answer to `seq`; events on the way are kept.
    pub(crate) fn answer(&mut self, seq: u64) -> (reply::Op, Vec<OwnedFd>) {
        loop {
            match self.receive().expect("the launcher is gone") {
                (Reply { seq: 0, op: Some(reply::Op::Ended(ended)) }, _) => self.events.push_back(ended),
                (Reply { seq: got, op: Some(op) }, descriptors) => {
                    assert_eq!(got, seq);
                    return (op, descriptors);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub(crate) fn ask(&mut self, op: request::Op) -> (reply::Op, Vec<OwnedFd>) {
        let seq = self.send(op);
        self.answer(seq)
    }

    /// The next `ended`.
    pub(crate) fn ended(&mut self) -> Ended {
        if let Some(ended) = self.events.pop_front() {
            return ended;
        }
        match self.receive() {
            Some((Reply { seq: 0, op: Some(reply::Op::Ended(ended)) }, _)) => ended,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create(&mut self, create: Create) -> Sandbox {
        let id = create.id.clone();
        match self.ask(request::Op::Create(create)) {
            (reply::Op::Created(created), descriptors) => {
                assert_eq!(descriptors.len(), 2);
                let pid = created.identity.unwrap().pid;
                Sandbox { id, pid, enforced: created.enforced.unwrap(), _held: descriptors }
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    pub(crate) fn destroy(&mut self, id: &str) {
        let (op, _) = self.ask(request::Op::Destroy(Destroy { id: id.to_owned(), keep_files: false }));
        assert!(matches!(op, reply::Op::Destroyed(_)), "{op:?}");
    }

    pub(crate) fn inventory(&mut self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let after_id = entries.last().map(|entry| entry.id.clone()).unwrap_or_default();
            match self.ask(request::Op::Inventory(Inventory { after_id })) {
                (reply::Op::Listed(listed), _) => {
                    entries.extend(listed.entries);
                    if !listed.more {
                        return entries;
                    }
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    /// Closes the socket and waits for a clean end.
    pub(crate) fn stop(mut self) {
        self.socket = None;
        assert!(self.process.wait().unwrap().success());
    }

    /// What the supervisor does after a clean end.
    pub(crate) fn sweep(data: &DataDir) {
        let status = Command::new(env!("CARGO_BIN_EXE_workspace-agent")).args(["sweep", &data.hash]).status();
        assert!(status.unwrap().success());
    }

    /// SIGKILL, as a crash.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One created sandbox.
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) enforced: workspace_proto::launcher::Enforced,
    /// The first connection and the pidfd, open as the server has them.
    _held: Vec<OwnedFd>,
}

impl Sandbox {
    /// A file of PID 1 in the host's /proc.
    pub(crate) fn proc(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.pid)).unwrap()
    }

    /// One line of /proc/PID/status, without its name.
    pub(crate) fn status(&self, name: &str) -> String {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).unwrap();
        line.trim().to_owned()
    }

    /// Output of a shell of the host's in the sandbox's mount and network namespaces.
    pub(crate) fn inside(&self, script: &str) -> String {
        let target = self.pid.to_string();
        let output = Command::new("nsenter")
            .args(["--target", &target, "--mount", "--net", "--", "/bin/sh", "-c", script])
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Waits until the agent program runs: it is undumpable only then, or never comes.
    pub(crate) fn wait_for_listen(&self, data: &DataDir) {
        let path = data.path.join("run").join(&self.id).join("sock");
        for _ in 0..500 {
            if std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("the agent of {} does not listen", self.id);
    }
}

/// A request for the `number`-th sandbox of a test.
pub(crate) fn plan(number: u32) -> Create {
    Create {
        id: id(number),
        block: FIRST_BLOCK + number,
        template: "host".into(),
        memory_bytes: 256 << 20,
        pids_max: 64,
        cpu_quota_us: 0,
        cpu_count: 0,
        tmp_bytes: 16 << 20,
    }
}

/// 32 characters that end with a number in base 26.
pub(crate) fn id(number: u32) -> String {
    let letter = |digit: u32| char::from(b'a' + (digit % 26) as u8);
    format!("{}{}{}", "a".repeat(30), letter(number / 26), letter(number))
}

/// Living processes whose cgroup path names this data directory; the dead may wait for the host's init to reap them.
pub(crate) fn processes_of(data: &DataDir) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let read = |pid: u32, name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    numbers
        .filter(|&pid: &u32| read(pid, "cgroup").contains(&data.hash))
        .filter(|&pid| !read(pid, "status").contains("State:\tZ"))
        .collect()
}

/// Removes a cgroup and those below it, waiting for killed processes to leave: the name comes again with the next
/// process of this number, and then a group of other owners would fail another test.
fn remove_groups(group: &Path) {
    for below in fs::read_dir(group).into_iter().flatten().flatten() {
        if below.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&below.path());
        }
    }
    for _ in 0..200 {
        match fs::remove_dir(group) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            _ => return,
        }
    }
}

/// Names in a directory, sorted.
pub(crate) fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn sealed(program: &[u8]) -> OwnedFd {
    let memory = memfd_create("workspace-agent", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let mut file = File::from(memory);
    file.write_all(program).unwrap();
    let memory = OwnedFd::from(file);
    fcntl_add_seals(&memory, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    memory
}

fn inheritable(descriptor: &OwnedFd) -> OwnedFd {
    let high = fcntl_dupfd_cloexec(descriptor, 20).unwrap();
    fcntl_setfd(&high, FdFlags::empty()).unwrap();
    high
}
