//! A real kernel's NFS client, as `tests/kit/nfs/vm` gives it: mounts our exports, runs a script there.

use super::{Builder, Server, wait};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

/// What `vm` and `check` answer where there can be no guest.
const NO_GUEST: i32 = 125;
/// Of one guest, from its first boot: some hang in it and are booted again after a minute.
const GUEST_S_MAX: u64 = 600;
/// For a step of its script.
const STEP_S_MAX: u64 = 240;

/// Why there can be no guest here; said, as a skip is.
pub(crate) fn has_no_guest() -> bool {
    static WHY: OnceLock<Option<String>> = OnceLock::new();
    if super::needs_root() {
        return true;
    }
    let why = WHY.get_or_init(|| {
        let tried = Command::new(kit("vm")).args(["run", "--timeout", "300", "--", "true"]).output().expect("vm");
        (!tried.status.success()).then(|| String::from_utf8_lossy(&tried.stderr).trim().to_owned())
    });
    if let Some(why) = why {
        println!("skipped: no guest kernel for an NFS client here: {why}");
    }
    why.is_some()
}

/// A server whose exports a guest may mount, on a port that stays the same when it starts again.
pub(crate) fn server() -> (Builder, u16) {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr()).expect("a free port").port();
    (Server::builder().nfs().env("WORKSPACE_NFS_PORT", &port.to_string()), port)
}

/// The scripts of the kit.
pub(crate) fn kit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kit/nfs").join(name)
}

/// A guest that runs a script of bash.
pub(crate) struct Guest {
    child: Child,
    printed: Printed,
    errors: Printed,
    /// A directory that is the same on both sides.
    pub(crate) shared: PathBuf,
}

impl Guest {
    /// Boots one; the script finds the shared directory in `$1`.
    pub(crate) fn start(server: &Server, port: u16, script: &str) -> Guest {
        let shared = server.data_dir().with_file_name("shared");
        fs::create_dir_all(&shared).expect("shared");
        let mut vm = Command::new(kit("vm"));
        vm.args(["run", "--port", &port.to_string(), "--timeout", &GUEST_S_MAX.to_string(), "--rw"]).arg(&shared);
        vm.args(["--", "bash", "-euc", script, "guest"]).arg(&shared);
        let mut child = vm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vm");
        let printed = Printed::of(child.stdout.take().expect("stdout"));
        let errors = Printed::of(child.stderr.take().expect("stderr"));
        Guest { child, printed, errors, shared }
    }

    /// Whether a name stands in the shared directory.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.shared.join(name).exists()
    }

    /// Waits until a name stands there; panics with what the guest said where it ends before, or takes too long.
    #[track_caller]
    pub(crate) fn until(&mut self, name: &str) {
        let mut ended = None;
        let is_there = wait::within(STEP_S_MAX, || {
            ended = self.child.try_wait().expect("wait");
            self.has(name) || ended.is_some()
        });
        if !(is_there && self.has(name)) {
            let how = ended.map_or_else(|| format!("not within {STEP_S_MAX} s"), |status| status.to_string());
            panic!("{name}: {how}\n{}\n{}", self.printed.so_far(), self.errors.so_far());
        }
    }

    /// Makes one.
    pub(crate) fn tell(&self, name: &str) {
        fs::write(self.shared.join(name), "").expect("tell");
    }

    /// Waits for its end; what it printed.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        let status = self.child.wait().expect("wait");
        let (printed, errors) = (self.printed.whole(), self.errors.whole());
        assert_ne!(status.code(), Some(NO_GUEST), "no guest: {errors}");
        assert!(status.success(), "{status}\n{printed}\n{errors}");
        printed
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // By TERM it takes its guest along.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), rustix::process::Pid::from_raw(self.child.id() as i32)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// What comes out of a pipe, read while it comes.
struct Printed {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Printed {
    fn of(mut pipe: impl Read + Send + 'static) -> Printed {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut piece) {
                into.lock().expect("bytes").extend_from_slice(&piece[..read]);
            }
        });
        Printed { bytes, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("bytes")).into_owned()
    }

    fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader");
        }
        self.so_far()
    }
}
