//! Which sandboxes live, who asked for them, and how their end is noticed.
//!
//! Our own children are noticed by SIGCHLD and cost no descriptor; those of an earlier launcher by a pidfd.

use super::child::{REPORT_BYTES, read_report};
use super::record::SandboxId;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, pidfd_send_signal};
use std::collections::HashMap;
use std::os::fd::OwnedFd;

/// How the end of an agent is noticed.
pub(crate) enum Agent {
    /// Not reaped yet, so its number is still its own.
    Child(Pid),
    Adopted(OwnedFd),
}

/// One sandbox with a living PID 1.
pub(crate) struct Live {
    pub(crate) agent: Agent,
    /// Number in epoll tokens.
    pub(crate) serial: u64,
    /// The socket that created or adopted it.
    pub(crate) peer: usize,
    /// Open until the child executes.
    pub(crate) failure: Option<OwnedFd>,
    /// Which step of the child failed.
    pub(crate) report: Option<(&'static str, i32)>,
    /// True once a destroy has killed it: its end is told by `destroyed`.
    pub(crate) dying: bool,
}

impl Live {
    /// Sends SIGKILL; one that has ended already is what we want.
    pub(crate) fn kill(&self) -> Result<(), Errno> {
        let sent = match &self.agent {
            Agent::Child(pid) => kill_process(*pid, Signal::KILL),
            Agent::Adopted(pidfd) => pidfd_send_signal(pidfd, Signal::KILL),
        };
        if sent == Err(Errno::SRCH) { Ok(()) } else { sent }
    }

    /// Reads the failure pipe: a report is kept, and the pipe is let go when nothing more can come.
    pub(crate) fn read_failure(&mut self) {
        let Some(failure) = &self.failure else { return };
        let mut report = [0_u8; REPORT_BYTES];
        match rustix::io::read(failure, &mut report) {
            Ok(REPORT_BYTES) => self.report = Some(read_report(report)),
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(_) | Err(_) => {}
        }
        self.failure = None;
    }
}

/// All living sandboxes, found by id, by epoll number and by pid.
#[derive(Default)]
pub(crate) struct Watched {
    live: HashMap<SandboxId, Live>,
    by_serial: HashMap<u64, SandboxId>,
    by_pid: HashMap<i32, SandboxId>,
    last_serial: u64,
}

impl Watched {
    /// A number that no living sandbox has.
    pub(crate) fn next_serial(&mut self) -> u64 {
        self.last_serial += 1;
        self.last_serial
    }

    /// Takes a sandbox in.
    pub(crate) fn insert(&mut self, id: SandboxId, live: Live) {
        self.by_serial.insert(live.serial, id);
        if let Agent::Child(pid) = &live.agent {
            self.by_pid.insert(pid.as_raw_nonzero().get(), id);
        }
        self.live.insert(id, live);
    }

    /// Forgets a sandbox whose agent has ended.
    pub(crate) fn remove(&mut self, id: SandboxId) -> Option<Live> {
        let live = self.live.remove(&id)?;
        self.by_serial.remove(&live.serial);
        if let Agent::Child(pid) = &live.agent {
            self.by_pid.remove(&pid.as_raw_nonzero().get());
        }
        Some(live)
    }

    /// The sandbox of an id.
    pub(crate) fn live_mut(&mut self, id: SandboxId) -> Option<&mut Live> {
        self.live.get_mut(&id)
    }

    /// Whose epoll event it is.
    pub(crate) fn id_of_serial(&self, serial: u64) -> Option<SandboxId> {
        self.by_serial.get(&serial).copied()
    }

    /// Whose PID 1 has ended.
    pub(crate) fn id_of_pid(&self, pid: Pid) -> Option<SandboxId> {
        self.by_pid.get(&pid.as_raw_nonzero().get()).copied()
    }
}
