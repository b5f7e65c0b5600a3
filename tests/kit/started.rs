//! Commands that outlive their callers: start one, look at it, wait for its end, follow it, end it.

use super::client::Response;
use super::events::Events;
use super::process::Process;
use super::server::Server;
use serde_json::{Value, json};

/// For anything that ends by itself.
const WAIT_MS: u64 = 30_000;

impl Server {
    /// Where one process is asked about.
    pub(crate) fn process_path(&self, id: &str, pid: u64) -> String {
        format!("/api/v1/sandboxes/{id}/process/{pid}")
    }

    /// Starts a command; gives its pid in the sandbox.
    #[track_caller]
    pub(crate) fn launch(&self, id: &str, body: Value) -> u64 {
        let answer = self.post(&format!("/api/v1/sandboxes/{id}/process/start"), &body).expect(200).json();
        self.remember();
        answer["pid"].as_u64().unwrap_or_else(|| panic!("no pid: {answer}"))
    }

    /// Waits for the end of a started command; gives how it ended.
    #[track_caller]
    pub(crate) fn ended(&self, id: &str, pid: u64) -> Value {
        let path = format!("{}/wait?timeout={WAIT_MS}", self.process_path(id, pid));
        let process = self.get(&path).expect(200).json();
        assert_eq!(process["state"], "exited", "{process}");
        process
    }

    /// Follows a started command's output from its first byte that is kept.
    #[track_caller]
    pub(crate) fn follow(&self, id: &str, pid: u64) -> Events {
        self.events("GET", &format!("{}/stream", self.process_path(id, pid)), &Value::Null)
    }

    /// Sends a signal.
    #[track_caller]
    pub(crate) fn kill(&self, id: &str, pid: u64, signal: Value) -> Response {
        self.post(&format!("{}/kill", self.process_path(id, pid)), &json!({"signal": signal}))
    }

    /// PID 1 of the only sandbox, as the host sees it.
    #[track_caller]
    pub(crate) fn agent(&self) -> Process {
        let mut agents = self.own_processes().into_iter().filter(Process::is_init);
        let agent = agents.next().expect("the sandbox's PID 1");
        assert!(agents.next().is_none(), "there is one sandbox");
        agent
    }
}
