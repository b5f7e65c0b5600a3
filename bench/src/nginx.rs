//! How fast does nginx serve and take the same files?
//!
//! A process of its own with one worker a core, in a directory below `--dir`: the same disk as ours. Its PUT (the WebDAV module) writes a temporary
//! file and renames it, as ours does, but syncs nothing. Ended when dropped, its directory removed.

use crate::failure::Failure;
use crate::process;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_MS_MAX: u64 = 10_000;
const END_MS_MAX: u64 = 5_000;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const PROGRAMS: [&str; 3] = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"];

/// A running one.
pub(crate) struct Nginx {
    child: Child,
    home: PathBuf,
    /// `HOST:PORT`.
    pub(crate) address: String,
}

impl Nginx {
    /// Starts one over an empty directory; `None` where it is not installed.
    pub(crate) fn start(dir: &Path) -> Result<Option<Nginx>, Failure> {
        let Some(program) = PROGRAMS.iter().find(|program| Path::new(program).is_file()) else { return Ok(None) };
        let home = dir.join(format!("workspace-bench-nginx-{}", std::process::id()));
        let failed = |error| Failure::io(format!("start nginx in {}", home.display()), &error);
        std::fs::create_dir_all(home.join("files")).map_err(failed)?;
        let address = TcpListener::bind(("127.0.0.1", 0)).and_then(|free| free.local_addr()).map_err(failed)?;
        std::fs::write(home.join("conf"), configuration(&home, &address.to_string())).map_err(failed)?;
        let log = std::fs::File::create(home.join("log")).map_err(failed)?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&home).arg("-c").arg(home.join("conf")).args(["-e", "stderr", "-g", "daemon off;"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().map_err(failed)?;
        let nginx = Nginx { child, home: home.clone(), address: address.to_string() };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begin.elapsed() > Duration::from_millis(START_MS_MAX) {
                let said = std::fs::read_to_string(home.join("log")).unwrap_or_default();
                return Err(Failure::new(format!("nginx does not answer: {}", said.trim())));
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        Ok(Some(nginx))
    }

    /// Itself and its workers.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let mut all = vec![self.child.id()];
        all.extend(process::children(self.child.id()));
        all
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let begin = Instant::now();
        while !matches!(self.child.try_wait(), Ok(Some(_))) {
            if begin.elapsed() > Duration::from_millis(END_MS_MAX) {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(LOOK_AGAIN);
        }
        if let Err(error) = std::fs::remove_dir_all(&self.home) {
            eprintln!("cannot remove {}: {error}", self.home.display());
        }
    }
}

fn configuration(home: &Path, address: &str) -> String {
    let home = home.display();
    // As root it would give its workers to a user that may not write there.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    format!(
        "{user}worker_processes auto;\npid {home}/pid;\nevents {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n  sendfile on;\n  tcp_nodelay on;\n  keepalive_requests 1000000000;\n  \
         client_max_body_size 0;\n  client_body_temp_path {home}/temp;\n  proxy_temp_path {home}/proxy;\n  \
         fastcgi_temp_path {home}/fastcgi;\n  uwsgi_temp_path {home}/uwsgi;\n  scgi_temp_path {home}/scgi;\n  \
         default_type application/octet-stream;\n  \
         server {{ listen {address}; root {home}/files; dav_methods PUT; create_full_put_path on; }}\n}}\n"
    )
}
