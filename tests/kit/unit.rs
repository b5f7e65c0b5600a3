//! The processes of one server: which is which, killing them, stopping and starting again.

use super::process::{Process, descendants};
use super::server::Server;
use super::{until, until_some};
use rustix::process::Signal;
use std::fs;
use std::process::ExitStatus;

const STOP_S_MAX: u64 = 20;

impl Server {
    /// The process that was started: the supervisor.
    pub(crate) fn supervisor(&self) -> Option<Process> {
        Process::read(self.child.id().cast_signed())
    }

    /// The process that reads the network: a descendant that runs the same program.
    pub(crate) fn server_process(&self) -> Option<Process> {
        let program = self.supervisor()?.program()?;
        let tree = descendants(self.child.id().cast_signed());
        tree.into_iter().rfind(|p| p.state != 'Z' && p.program().as_ref() == Some(&program))
    }

    /// The privileged process: a descendant that says `launcher`.
    pub(crate) fn launcher(&self) -> Option<Process> {
        let tree = descendants(self.child.id().cast_signed());
        tree.into_iter().find(|p| p.state != 'Z' && p.command_line().split(' ').any(|a| a.ends_with("launcher")))
    }

    /// SIGKILL to the process that reads the network.
    #[track_caller]
    pub(crate) fn kill9_server(&self) {
        self.remember();
        until_some("the server process exists", 10, || self.server_process()).kill9();
    }

    /// SIGKILL to the launcher.
    #[track_caller]
    pub(crate) fn kill9_launcher(&self) {
        self.remember();
        until_some("the launcher exists", 10, || self.launcher()).kill9();
    }

    /// SIGKILL to supervisor, server and launcher; sandboxes live on.
    #[track_caller]
    pub(crate) fn kill9_all(&mut self) {
        self.kill9_unit();
        self.child.wait().expect("wait for the supervisor");
    }

    /// The same for tests whose threads use the server meanwhile; the supervisor stays a zombie until `restart`.
    #[track_caller]
    pub(crate) fn kill9_unit(&self) {
        self.remember();
        let unit = [self.supervisor(), self.server_process(), self.launcher()];
        for process in unit.iter().flatten() {
            process.signal(Signal::KILL);
        }
        for process in unit.iter().flatten() {
            until("the unit is dead", 10, || !process.is_alive());
        }
    }

    /// SIGTERM, and waits for the end; panics when it takes more than 20 s.
    #[track_caller]
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.remember();
        self.signal(Signal::TERM);
        self.wait_end()
    }

    /// Waits for the end; panics when it takes more than 20 s.
    #[track_caller]
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        until_some("the server stops", STOP_S_MAX, || self.child.try_wait().ok().flatten())
    }

    /// Sends the supervisor a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(supervisor) = self.supervisor() {
            supervisor.signal(signal);
        }
    }

    /// Starts it again on the same data directory; stops it first where it still runs.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            self.stop();
        }
        fs::remove_file(self.data_dir.join("http.address")).ok();
        self.child = self.builder.spawn(&self.root, &self.data_dir);
        self.wait_ready();
    }
}
