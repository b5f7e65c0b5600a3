//! A server of one test: the built program on its own port and data directory, and asking it things.

use super::client::{Client, Response};
use super::is_root;
use super::start::Builder;
use super::turn::Turn;
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::Mutex;

const START_S_MAX: u64 = 60;
/// Connections kept for further requests of the same test.
const IDLE_CLIENTS_MAX: usize = 64;

/// A running server; its end is told in `ending.rs`.
pub(crate) struct Server {
    pub(super) child: Child,
    /// Holds the data directory, stdout and stderr.
    pub(super) root: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) builder: Builder,
    pub(super) address: Mutex<SocketAddr>,
    pub(super) idle: Mutex<Vec<Client>>,
    /// Everything that was ever seen to be ours.
    pub(super) seen: Mutex<super::cgroup::Seen>,
    /// What Drop found, already told or asked for.
    pub(super) ended: bool,
    pub(super) _turn: Turn,
}

/// Who the servers run as, and the ids that subuid gives them, when `OUTSIDE_RANGED` is set.
const RANGED_USER: u32 = 54_321;
const RANGED_IDS: (u32, u32) = (1_600_000, 65_536);

/// Whether all tests are to be run with servers of an ordinary user who has a range of ids. Needs root and newuidmap.
pub(super) fn as_ranged_user() -> bool {
    std::env::var_os("OUTSIDE_RANGED").is_some()
}

impl Server {
    /// Starts one with defaults.
    #[track_caller]
    pub(crate) fn start() -> Server {
        Server::builder().start()
    }

    /// Says how to start one.
    pub(crate) fn builder() -> Builder {
        Builder {
            env: Vec::new(),
            args: Vec::new(),
            program: None,
            uid: as_ranged_user().then_some(RANGED_USER),
            data_dir: None,
            refuse_io_uring: false,
            subordinate_ids: as_ranged_user().then_some(RANGED_IDS),
            mount: None,
            descriptors: None,
        }
    }

    /// Where it keeps its files.
    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// Where it listens now.
    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().expect("address")
    }

    /// Where NFS listens now; the server must have been started with `Builder::nfs`.
    #[track_caller]
    pub(crate) fn nfs_address(&self) -> SocketAddr {
        let text = fs::read_to_string(self.data_dir.join("nfs.address")).expect("nfs.address");
        text.trim().parse().expect("an address")
    }

    /// All that it has printed.
    pub(crate) fn log(&self) -> String {
        let read =
            |name: &str| String::from_utf8_lossy(&fs::read(self.root.join(name)).unwrap_or_default()).into_owned();
        format!("{}{}", read("stdout"), read("stderr"))
    }

    /// Waits until `http.address` names a port that answers /health; panics with the log otherwise.
    #[track_caller]
    pub(crate) fn wait_ready(&mut self) {
        if let Err(status) = self.try_wait_ready() {
            panic!("the server stopped, {status}:\n{}", self.log());
        }
    }

    /// The same, but a server that has ended by itself is no panic.
    #[track_caller]
    pub(super) fn try_wait_ready(&mut self) -> Result<(), ExitStatus> {
        let mut stopped = None;
        let done = super::wait::within(START_S_MAX, || {
            stopped = self.child.try_wait().ok().flatten();
            stopped.is_some() || self.look_for_address()
        });
        assert!(done, "the server does not answer within {START_S_MAX} s:\n{}", self.log());
        self.remember();
        stopped.map_or(Ok(()), Err)
    }

    /// For threads that ask on while the unit dies and comes back: looks once where it listens now.
    pub(crate) fn find_again(&self) {
        self.look_for_address();
    }

    fn look_for_address(&self) -> bool {
        let Ok(text) = fs::read_to_string(self.data_dir.join("http.address")) else { return false };
        let Ok(address) = text.trim().parse::<SocketAddr>() else { return false };
        let health = Client::connect(address).and_then(|mut c| c.request("GET", "/api/v1/health", &[], b""));
        if !health.is_ok_and(|r| r.status == 200) {
            return false;
        }
        *self.address.lock().expect("address") = address;
        self.idle.lock().expect("idle").clear();
        true
    }

    /// One connection of its own.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address()).expect("connect")
    }

    /// A bare TCP connection.
    #[track_caller]
    pub(crate) fn raw(&self) -> TcpStream {
        TcpStream::connect(self.address()).expect("connect")
    }

    /// One request on a kept-alive connection; panics when there is no answer.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_request(method, path, headers, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"))
    }

    /// One request on a kept-alive connection.
    pub(crate) fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Response> {
        let kept = self.idle.lock().expect("idle").pop();
        let mut client = match kept {
            Some(client) => client,
            None => Client::connect(self.address())?,
        };
        let response = client.request(method, path, headers, body)?;
        if !response.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
            let mut idle = self.idle.lock().expect("idle");
            if idle.len() < IDLE_CLIENTS_MAX {
                idle.push(client);
            }
        }
        Ok(response)
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], b"")
    }

    /// POST of JSON.
    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Response {
        self.request("POST", path, &[], body.to_string().as_bytes())
    }

    /// Creates a sandbox; gives its id.
    #[track_caller]
    pub(crate) fn create(&self, body: Value) -> String {
        let sandbox = self.post("/api/v1/sandboxes", &body).expect(201).json();
        assert_eq!(sandbox["state"], "running", "{sandbox}");
        self.remember();
        sandbox["id"].as_str().expect("id").to_owned()
    }

    /// Runs a command; gives the answer, which must be 200.
    #[track_caller]
    pub(crate) fn run(&self, id: &str, body: Value) -> Value {
        self.post(&format!("/api/v1/sandboxes/{id}/process/run"), &body).expect(200).json()
    }

    /// Whether commands can be root here; a server with a single id refuses that by name, and the test says so.
    #[track_caller]
    pub(crate) fn has_root_inside(&self, id: &str) -> bool {
        let body = json!({"command": "true", "user": "root"});
        let answer = self.post(&format!("/api/v1/sandboxes/{id}/process/run"), &body);
        if answer.status != 200 {
            assert_eq!(answer.expect_error(400, 1002)["details"], "user");
            println!("skipped: no root inside, this server has a single id");
        }
        answer.status == 200
    }

    /// Runs a shell script that must succeed; gives its stdout without the last newline.
    #[track_caller]
    pub(crate) fn sh(&self, id: &str, script: &str) -> String {
        let answer = self.run(id, json!({"command": "/bin/sh", "args": ["-c", script]}));
        assert_eq!(answer["exit_code"], 0, "{script}\n{answer:#}");
        answer["stdout"].as_str().expect("stdout").trim_end_matches('\n').to_owned()
    }

    /// Deletes a sandbox by force; it must exist.
    #[track_caller]
    pub(crate) fn delete(&self, id: &str) {
        let answer = self.request("DELETE", &format!("/api/v1/sandboxes/{id}?force=true"), &[], b"");
        assert_eq!(answer.expect(200).json(), json!({"success": true}));
    }

    /// All sandboxes that it lists, over all pages.
    #[track_caller]
    pub(crate) fn list(&self) -> Vec<Value> {
        let (mut all, mut path) = (Vec::new(), "/api/v1/sandboxes?limit=1000".to_owned());
        loop {
            let page = self.get(&path).expect(200).json();
            all.extend(page["sandboxes"].as_array().expect("sandboxes").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("/api/v1/sandboxes?limit=1000&cursor={cursor}"),
                None => return all,
            }
        }
    }

    /// The first API key it was started with.
    pub(crate) fn key_header(&self) -> Option<String> {
        let keys = self.builder.env.iter().find(|(n, _)| n == "WORKSPACE_API_KEYS")?;
        keys.1.split(',').next().map(str::to_owned)
    }

    /// Whether it runs as root.
    pub(crate) fn runs_as_root(&self) -> bool {
        is_root() && self.builder.uid.is_none_or(|uid| uid == 0)
    }
}
