//! How does the agent talk to its spawner? Over one end of a stream socket pair, one request and one reply at a time.
//!
//! The other end is on the commands' side: root of the sandbox may kill it, stop it, or make it answer anything. So
//! each wait here has an end, and a reply is only numbers (`start.rs` checks them).

use super::Agent;
use super::leaf::Leaf;
use super::reap::Ended;
use crate::spawner;
use crate::spawner::enter::Gate;
use crate::spawner::frame::{REPLY_BYTES, Reply};
use crate::sys::newest::{Newest, Told};
use crate::sys::spawn::{Step, fork};
use crate::sys::watched::{Watched, watch};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::pin;
use std::time::Duration;
use tokio::io::Interest;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, timeout};

/// Until a new spawner has entered its cgroups: on an idle host one entry may take 20 ms.
const READY_WAIT: Duration = Duration::from_secs(5);
/// Until a child has exec'd: under a CPU quota that busy commands use up, the spawner waits for its turn too.
const REPLY_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether somebody inside has stopped the spawner, or the child on its way.
const STOPPED_LOOK: Duration = Duration::from_millis(200);
/// Until a killed spawner is gone.
const END_WAIT: Duration = Duration::from_secs(1);

/// Whether a spawner can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ready {
    Yes,
    /// It could not enter its leaf: there must be no leaves.
    NoLeaf,
    No,
}

/// A spawner that was just forked and is not waited for yet.
pub(crate) struct Forked {
    pid: i32,
    socket: OwnedFd,
    leaf: Option<Leaf>,
}

/// A living spawner, as far as we know.
pub(crate) struct SpawnerLink {
    pid: i32,
    socket: Watched,
    ended: oneshot::Receiver<Ended>,
    ready: bool,
    /// Where it stands, or will stand when it has moved: the next command's.
    pub(crate) leaf: Option<Leaf>,
}

impl SpawnerLink {
    /// Forks one that will stand in `leaf`; gives the leaf back where that fails. Only for a process with one thread;
    /// early, when it is still small.
    pub(crate) fn fork(gate: &Gate, leaf: Option<Leaf>) -> Result<Forked, Option<Leaf>> {
        let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let Ok((ours, theirs)) = pair else { return Err(leaf) };
        if rustix::io::ioctl_fionbio(&ours, true).is_err() {
            return Err(leaf);
        }
        match fork() {
            Ok(None) => spawner::run(gate, leaf.as_ref().map(Leaf::procs), theirs),
            Ok(Some(pid)) => Ok(Forked { pid, socket: ours, leaf }),
            Err(_) => Err(leaf),
        }
    }

    /// Kills it, if it lives, waits for its end, and returns the leaf in which it stood.
    pub(crate) async fn end(mut self) -> Option<Leaf> {
        // Not reaped yet, so that the pid is still its own.
        if matches!(self.ended.try_recv(), Err(TryRecvError::Empty)) {
            if let Some(pid) = Pid::from_raw(self.pid) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
            let _ = timeout(END_WAIT, self.ended).await;
        }
        self.leaf
    }

    /// Whether it has gone through the gate and stands in its leaf. Waits for a new one.
    pub(crate) async fn stands_ready(&mut self) -> Ready {
        if !matches!(self.ended.try_recv(), Err(TryRecvError::Empty)) {
            return Ready::No;
        }
        if self.ready {
            return Ready::Yes;
        }
        let ready = self.entered().await;
        self.ready = ready == Ready::Yes;
        ready
    }

    /// What it says about the leaf that it was told to enter.
    pub(crate) async fn entered(&self) -> Ready {
        match self.while_it_runs(self.reply(), READY_WAIT, None).await {
            Ok(Reply { pid: 0, step: Step::Done, .. }) => Ready::Yes,
            Ok(Reply { pid: 0, step: Step::Leaf, .. }) => Ready::NoLeaf,
            _ => Ready::No,
        }
    }

    /// Sends a request and waits for its reply. After an error it can't be used any more.
    pub(crate) async fn ask(
        &self,
        request: &[u8],
        descriptors: &[BorrowedFd<'_>],
        newest: &Newest,
    ) -> Result<Reply, Errno> {
        let exchange = async {
            self.send(request, descriptors).await?;
            self.reply().await
        };
        self.while_it_runs(exchange, REPLY_WAIT, Some(newest)).await
    }

    /// Waits for `exchange`, but not longer than `limit`, and not for a spawner, or its newest child, that was stopped.
    async fn while_it_runs(
        &self,
        exchange: impl Future<Output = Result<Reply, Errno>>,
        limit: Duration,
        newest: Option<&Newest>,
    ) -> Result<Reply, Errno> {
        let mut exchange = pin!(exchange);
        let start = Instant::now();
        loop {
            if let Ok(result) = timeout(STOPPED_LOOK, exchange.as_mut()).await {
                return result;
            }
            let child_is_stopped = match newest.map(Newest::look) {
                Some(Told::Pid(pid)) => is_stopped(pid),
                _ => false,
            };
            if child_is_stopped || is_stopped(self.pid) || start.elapsed() > limit {
                return Err(Errno::TIMEDOUT);
            }
        }
    }

    async fn send(&self, request: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
        let mut sent = 0;
        while sent < request.len() {
            let result = self.socket.async_io(Interest::WRITABLE, |socket| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                // They travel beside the first byte.
                if sent == 0 {
                    control.push(SendAncillaryMessage::ScmRights(descriptors));
                }
                let rest = [IoSlice::new(&request[sent..])];
                Ok(rustix::net::sendmsg(socket, &rest, &mut control, SendFlags::NOSIGNAL)?)
            });
            sent += result.await.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(())
    }

    async fn reply(&self) -> Result<Reply, Errno> {
        let mut bytes = [0u8; REPLY_BYTES];
        let mut have = 0;
        while have < REPLY_BYTES {
            let result = self.socket.async_io(Interest::READABLE, |socket| {
                let (_, received) = rustix::net::recv(socket, &mut bytes[have..], RecvFlags::empty())?;
                Ok(received)
            });
            match result.await.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))? {
                0 => return Err(Errno::PIPE),
                received => have += received,
            }
        }
        Reply::parse(bytes).ok_or(Errno::BADMSG)
    }
}

/// Whether a signal has stopped this process. The third field of /proc/PID/stat; unknown is no.
fn is_stopped(pid: i32) -> bool {
    says_stopped(&std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default())
}

/// From the text of /proc/PID/stat. The name in parentheses may hold anything.
fn says_stopped(stat: &[u8]) -> bool {
    let after_name = stat.iter().rposition(|byte| *byte == b')').map_or(0, |at| at + 1);
    matches!(stat.get(after_name..), Some([b' ', b'T' | b't', ..]))
}

impl Forked {
    /// From now on its end is noticed. Needs the runtime.
    pub(crate) fn into_watched(self, agent: &Agent) -> std::io::Result<SpawnerLink> {
        let ended = agent.reaper.borrow_mut().watch(self.pid);
        Ok(SpawnerLink {
            pid: self.pid,
            socket: watch(self.socket, Interest::READABLE | Interest::WRITABLE)?,
            ended,
            ready: false,
            leaf: self.leaf,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only T and t, and only behind the name.
    fn any_stat(input: &[u8]) {
        let stopped = says_stopped(input);
        let Some(end) = input.iter().rposition(|byte| *byte == b')') else { return };
        assert_eq!(says_stopped(&[b"1 (a) T 9 (", &input[end..]].concat()), stopped);
        let state = input.get(end + 1..end + 3);
        assert_eq!(stopped, matches!(state, Some(b" T" | b" t")));
    }

    #[test]
    fn no_name_stops_a_process() {
        let corpus: [&[u8]; 4] = [b"7 (sh) T 1 7 7", b"7 (a) T b) S 1", b"7 (x) t 1", b"7 (x)"];
        crate::fuzz::run(any_stat, &corpus);
        assert!(!says_stopped(b""), "a process that is gone is not stopped");
    }
}
