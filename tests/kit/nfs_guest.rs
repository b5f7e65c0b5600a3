//! A real kernel's NFS client, as `tests/kit/nfs/vm` gives it: mounts our exports, runs a script there.

use super::{Builder, Server};
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// What `vm` and `check` answer where there can be no guest.
const NO_GUEST: i32 = 125;

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
    /// A directory that is the same on both sides.
    pub(crate) shared: PathBuf,
}

impl Guest {
    /// Boots one; the script finds the shared directory in `$1`.
    pub(crate) fn start(server: &Server, port: u16, script: &str) -> Guest {
        let shared = server.data_dir().with_file_name("shared");
        fs::create_dir_all(&shared).expect("shared");
        let mut vm = Command::new(kit("vm"));
        vm.args(["run", "--port", &port.to_string(), "--timeout", "300", "--rw"]).arg(&shared);
        vm.args(["--", "bash", "-euc", script, "guest"]).arg(&shared);
        let child = vm.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("vm");
        Guest { child, shared }
    }

    /// Whether a name stands in the shared directory.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.shared.join(name).exists()
    }

    /// Makes one.
    pub(crate) fn tell(&self, name: &str) {
        fs::write(self.shared.join(name), "").expect("tell");
    }

    /// Waits for its end; what it printed.
    #[track_caller]
    pub(crate) fn finish(mut self) -> String {
        let mut printed = String::new();
        // The shared directory goes with the server's; both pipes are small beside what a guest prints.
        self.child.stdout.take().expect("stdout").read_to_string(&mut printed).expect("stdout");
        let mut errors = String::new();
        self.child.stderr.take().expect("stderr").read_to_string(&mut errors).expect("stderr");
        let status = self.child.wait().expect("wait");
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
