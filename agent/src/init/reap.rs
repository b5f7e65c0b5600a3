//! Who has ended? PID 1 reaps every child: commands, the spawner, and orphans that the kernel gives it.
//!
//! A command may end before the spawner's reply has said that it exists. So, while a command is being started, the
//! status of an unknown child is kept until the reply claims it. Exit statuses come from here alone, never from what
//! a process inside says.

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Statuses kept while one command is being started. When there are more, the rest wait in the kernel as zombies.
const UNCLAIMED_MAX: usize = 1024;

/// How and when a child ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) status: WaitStatus,
    pub(crate) at: Instant,
}

/// A child's end, which may be asked for more than once.
#[derive(Debug)]
pub(crate) struct Life {
    waiting: oneshot::Receiver<Ended>,
    ended: Option<Ended>,
}

impl Life {
    /// Of a child that is watched.
    pub(crate) fn new(waiting: oneshot::Receiver<Ended>) -> Life {
        Life { waiting, ended: None }
    }

    /// `None`: it is not reaped yet, and its pid is its own.
    pub(crate) fn ended(&mut self) -> Option<Ended> {
        self.ended = self.ended.or_else(|| self.waiting.try_recv().ok());
        self.ended
    }

    /// Ready when it is reaped; wakes the task that asked last.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if let Some(ended) = self.ended {
            return Poll::Ready(ended);
        }
        match Pin::new(&mut self.waiting).poll(cx) {
            Poll::Ready(Ok(ended)) => {
                self.ended = Some(ended);
                Poll::Ready(ended)
            }
            // An error can't be: the reaper keeps the sender until the process has ended.
            _ => Poll::Pending,
        }
    }
}

/// A pid that the other side named and that can't be a new command of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotOurs;

/// The children that somebody waits for.
#[derive(Default)]
pub(crate) struct Reaper {
    waiting: BTreeMap<i32, oneshot::Sender<Ended>>,
    unclaimed: Vec<(i32, Ended)>,
    /// A command is being started: unknown children may be it.
    starting: bool,
}

impl Reaper {
    /// Waits for a child that this process has just forked itself.
    pub(crate) fn watch(&mut self, pid: i32) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.insert(pid, sender);
        receiver
    }

    /// From now on unknown statuses are kept.
    pub(crate) fn start(&mut self) {
        self.starting = true;
    }

    /// The start is over: what nobody claimed were orphans.
    pub(crate) fn started(&mut self) {
        self.starting = false;
        self.unclaimed.clear();
        self.collect();
    }

    /// The end of the child `pid`, of which another process says that it was just made.
    pub(crate) fn claim(&mut self, pid: i32) -> Result<oneshot::Receiver<Ended>, NotOurs> {
        if pid <= 1 || self.waiting.contains_key(&pid) {
            return Err(NotOurs);
        }
        // The last one: an earlier orphan may have had the same pid.
        if let Some((_, ended)) = self.unclaimed.iter().rev().find(|(known, _)| *known == pid) {
            let (sender, receiver) = oneshot::channel();
            let _ = sender.send(*ended);
            return Ok(receiver);
        }
        let id = Pid::from_raw(pid).ok_or(NotOurs)?;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match rustix::process::waitid(WaitId::Pid(id), look) {
            Ok(_) => Ok(self.watch(pid)),
            Err(_) => Err(NotOurs),
        }
    }

    /// Reaps all that has ended and tells who waits for it.
    pub(crate) fn collect(&mut self) {
        while !self.starting || self.unclaimed.len() < UNCLAIMED_MAX {
            let (pid, status) = match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => (pid.as_raw_nonzero().get(), status),
                Err(Errno::INTR) => continue,
                _ => return,
            };
            let ended = Ended { status, at: Instant::now() };
            match self.waiting.remove(&pid) {
                // Who waited may be gone; the child is reaped all the same.
                Some(sender) => drop(sender.send(ended)),
                None if self.starting => self.unclaimed.push((pid, ended)),
                None => {}
            }
        }
    }
}
