//! The end of a test's server: sandboxes deleted, the unit stopped, what is left counted and removed.
//!
//! Whatever the test did, nothing of it stays on the machine. What had to be removed by force fails the test.

use super::server::Server;
use super::{cgroup, wait};
use rustix::process::Signal;
use std::{fs, io};

const DELETE_S_MAX: u64 = 30;
/// Requests without an answer, after which it is held for dead; one may be an old connection that has ended.
const SILENT_MAX: usize = 3;
const STOP_S_MAX: u64 = 20;
const GONE_S_MAX: u64 = 5;
const LOG_BYTES_SHOWN_MAX: usize = 32 * 1024;

impl Server {
    /// For tests that leave on purpose what Drop would call a leak: cleans up without judging.
    pub(crate) fn end_quietly(mut self) {
        self.end();
        self.ended = true;
    }

    /// Ends everything; gives what was left that should not have been.
    fn end(&mut self) -> Vec<String> {
        let mut leaks = Vec::new();
        self.remember();
        // Only a server can delete sandboxes properly; a test that left it dead or stopping gets one more.
        let running = self.child.try_wait().ok().flatten().is_none();
        let deleted = running && self.delete_all().is_none();
        if !deleted && !self.own_processes().is_empty() {
            self.stop_within(&mut leaks);
            self.try_restart();
            leaks.extend(self.delete_all());
        }
        self.stop_within(&mut leaks);
        if !wait::within(GONE_S_MAX, || self.own_processes().is_empty()) {
            for process in self.own_processes() {
                leaks.push(format!("process left: {process:?} {}", process.command_line()));
                process.signal(Signal::KILL);
            }
        }
        self.child.kill().ok();
        self.child.wait().ok();
        wait::within(GONE_S_MAX, || self.own_processes().is_empty());
        leaks.extend(self.remove_cgroups());
        if let Err(e) = fs::remove_dir_all(&self.root) {
            leaks.push(format!("{} can't be removed: {e}", self.root.display()));
        }
        leaks
    }

    fn stop_within(&mut self, leaks: &mut Vec<String>) {
        self.remember();
        self.signal(Signal::TERM);
        if !wait::within(STOP_S_MAX, || self.child.try_wait().ok().flatten().is_some()) {
            leaks.push(format!("the server did not stop within {STOP_S_MAX} s of SIGTERM"));
        }
    }

    fn try_restart(&mut self) {
        let again = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.restart()));
        if again.is_err() {
            eprintln!("the server does not start again to clean up");
        }
    }

    /// Deletes by force until all are gone; gives why some are not. A server that takes no connection is not waited for.
    fn delete_all(&self) -> Option<String> {
        let (mut failed, mut silent) = (None, 0);
        wait::within(DELETE_S_MAX, || {
            failed = self.delete_listed().err();
            silent += usize::from(failed.as_ref().is_some_and(|why| why.kind() != io::ErrorKind::Other));
            failed.is_none() || silent >= SILENT_MAX
        });
        failed.map(|why| format!("sandboxes can't be deleted: {why}"))
    }

    fn delete_listed(&self) -> io::Result<()> {
        let key = self.key_header();
        let key: Vec<(&str, &str)> = key.iter().map(|k| ("x-api-key", k.as_str())).collect();
        let page = self.try_request("GET", "/api/v1/sandboxes?limit=1000", &key, b"")?;
        let sandboxes = page.json();
        for id in sandboxes["sandboxes"].as_array().into_iter().flatten().filter_map(|s| s["id"].as_str()) {
            let answer = self.try_request("DELETE", &format!("/api/v1/sandboxes/{id}?force=true"), &key, b"")?;
            if !matches!(answer.status, 200 | 404) {
                return Err(io::Error::other(format!("DELETE {id}: {} {}", answer.status, answer.text())));
            }
        }
        if page.status == 200 { Ok(()) } else { Err(io::Error::other(format!("list: {}", page.text()))) }
    }

    fn remove_cgroups(&self) -> Vec<String> {
        let dirs = self.cgroup_dirs();
        let lasting = |last: &str| last.starts_with("workspace-") || last == "agents" || last == "s";
        let stray = dirs.iter().filter(|d| !d.file_name().is_some_and(|n| lasting(&n.to_string_lossy())));
        let mut leaks: Vec<String> = stray.map(|d| format!("cgroup left: {}", d.display())).collect();
        if let Err(e) = cgroup::remove(dirs) {
            leaks.push(format!("a cgroup can't be removed: {e}"));
        }
        leaks
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let panicking = std::thread::panicking();
        let log = self.log();
        let leaks = self.end();
        if panicking || !leaks.is_empty() {
            let from = log.len().saturating_sub(LOG_BYTES_SHOWN_MAX);
            let from = (from..=log.len()).find(|at| log.is_char_boundary(*at)).unwrap_or(0);
            eprintln!("--- the server's log ---\n{}--- end of the log ---", &log[from..]);
            eprintln!("{}", leaks.join("\n"));
            let kept = self.root.with_extension("log");
            if fs::write(&kept, &log).is_ok() {
                eprintln!("kept: {}", kept.display());
            }
        }
        assert!(panicking || leaks.is_empty(), "left behind:\n{}", leaks.join("\n"));
    }
}
