//! How does the agent get a command started? One at a time: by the spawner, and where that fails for want of
//! processes or because somebody inside keeps killing it, by a fork of its own.
//!
//! ```text
//! Job ─► leaf ─► spawner alive? ─no─► new one (at most RESPAWNS_MAX in RESPAWN_WINDOW) ─none─► fork here
//!                    │ request, descriptors                                                      ▲
//!                    ▼                                                                           │
//!                  reply: pid, step ─ clone: EAGAIN (the sandbox is at its process limit) ───────┘
//! ```
//! A command is started at most once: the kernel writes the pid of the newest clone to memory that the agent sees, so
//! that a spawner that is killed half-way leaves no doubt.
//! The spawner's answers are hostile: a pid counts when it is a child of ours that nobody waits for yet.

use super::Agent;
use super::leaf::Leaf;
use super::reap::Ended;
use super::rescue;
use super::spawner_link::SpawnerLink;
use crate::spawner::enter::Gate;
use crate::spawner::frame::{self, Draft};
use crate::sys::spawn::{Failure, Step};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// New spawners in [`RESPAWN_WINDOW`]; then commands are forked here until the window has passed.
const RESPAWNS_MAX: usize = 8;
const RESPAWN_WINDOW: Duration = Duration::from_secs(10);
/// Tries of one command: each failed one has surely not started it.
const TRIES_MAX: usize = 4;

/// What is to be run, checked.
pub(crate) struct Command {
    pub(crate) argv: Vec<bytes::Bytes>,
    /// `NAME=value` each.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: bytes::Bytes,
    pub(crate) root: bool,
}

impl Command {
    /// The request to the spawner.
    pub(crate) fn encode(&self, leaf: bool) -> Vec<u8> {
        let argv: Vec<&[u8]> = self.argv.iter().map(|argument| argument.as_ref()).collect();
        let (root, subreaper) = (self.root, !leaf);
        frame::encode(&Draft { root, leaf, subreaper, cwd: &self.cwd, argv: &argv, env: &self.env })
    }
}

/// A command to start, with the child's ends of its pipes.
pub(crate) struct Job {
    pub(crate) command: Rc<Command>,
    pub(crate) stdio: [Rc<OwnedFd>; 3],
    /// Closed by the receiver: don't start it.
    pub(crate) reply: oneshot::Sender<Result<Started, Unavailable>>,
}

/// A process that was made for a command.
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// Its end; `None` where it has failed before it became the command.
    pub(crate) ended: Option<oneshot::Receiver<Ended>>,
    pub(crate) failure: Option<Failure>,
    pub(crate) leaf: Option<Leaf>,
    pub(crate) at: Instant,
}

/// No process could be made, or what was made is not known and was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unavailable(pub(crate) &'static str);

enum Tried {
    Started(Started),
    /// Surely not started.
    Again,
    Lost(&'static str),
}

/// The one task that starts commands.
pub(crate) struct Starter {
    agent: Rc<Agent>,
    gate: Gate,
    spawner: Option<SpawnerLink>,
    respawned: VecDeque<Instant>,
}

impl Starter {
    /// `first` was forked before the runtime existed.
    pub(crate) fn new(agent: Rc<Agent>, gate: Gate, first: Option<SpawnerLink>) -> Starter {
        Starter { agent, gate, spawner: first, respawned: VecDeque::new() }
    }

    /// Starts what comes, until nobody can ask any more.
    pub(crate) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            if job.reply.is_closed() {
                continue;
            }
            let result = self.start(&job).await;
            if let Err(Ok(started)) = job.reply.send(result) {
                self.agent.end_unwanted(started);
            }
        }
    }

    async fn start(&mut self, job: &Job) -> Result<Started, Unavailable> {
        for _ in 0..TRIES_MAX {
            let leaf = self.agent.leaves.borrow_mut().take();
            self.agent.reaper.borrow_mut().start();
            let tried = self.try_once(job, leaf).await;
            self.agent.reaper.borrow_mut().started();
            match tried {
                Tried::Started(started) => return Ok(started),
                Tried::Lost(why) => return Err(Unavailable(why)),
                Tried::Again => {}
            }
        }
        Err(Unavailable("no process could be made"))
    }

    async fn try_once(&mut self, job: &Job, leaf: Option<Leaf>) -> Tried {
        let at = Instant::now();
        let stdio = job.stdio.each_ref().map(|fd| fd.as_fd());
        let Some(spawner) = self.spawner().await else {
            return self.rescue(job, stdio, leaf, at).await;
        };
        let request = job.command.encode(leaf.is_some());
        let descriptors: Vec<BorrowedFd<'_>> = stdio.into_iter().chain(leaf.as_ref().map(Leaf::procs)).collect();
        let reply = match spawner.ask(&request, &descriptors).await {
            Ok(reply) => reply,
            Err(_) => {
                self.end_spawner().await;
                return match self.gate.newest.take() {
                    // The clone did not happen, and can't any more.
                    0 => self.again(leaf),
                    // The child goes on without its spawner. Should it fail now, it ends with 127.
                    pid => self.accept(pid, leaf, at).await,
                };
            }
        };
        self.gate.newest.take();
        match reply.step {
            Step::Done => self.accept(reply.pid, leaf, at).await,
            Step::Clone if reply.errno == libc::EAGAIN => self.rescue(job, stdio, leaf, at).await,
            Step::Clone => {
                self.give_back(leaf);
                Tried::Lost("the spawner could not make a process")
            }
            Step::Leaf => {
                self.agent.leaves.borrow_mut().give_up();
                Tried::Again
            }
            // Whatever that pid is, it will be reaped; its status says nothing.
            step => {
                let failure = Some(Failure { step, errno: reply.errno });
                Tried::Started(Started { pid: reply.pid.max(0), ended: None, failure, leaf, at })
            }
        }
    }

    async fn accept(&mut self, pid: i32, leaf: Option<Leaf>, at: Instant) -> Tried {
        let claimed = self.agent.reaper.borrow_mut().claim(pid);
        match claimed {
            Ok(ended) => Tried::Started(Started { pid, ended: Some(ended), failure: None, leaf, at }),
            Err(_) => {
                self.end_spawner().await;
                if let Some(leaf) = &leaf {
                    self.agent.leaves.borrow().kill(leaf);
                }
                self.give_back(leaf);
                Tried::Lost("the spawner named a process that is not its own")
            }
        }
    }

    fn again(&self, leaf: Option<Leaf>) -> Tried {
        self.give_back(leaf);
        Tried::Again
    }

    fn give_back(&self, leaf: Option<Leaf>) {
        if let Some(leaf) = leaf {
            self.agent.leaves.borrow_mut().give_back(leaf);
        }
    }

    async fn rescue(&mut self, job: &Job, stdio: [BorrowedFd<'_>; 3], leaf: Option<Leaf>, at: Instant) -> Tried {
        match rescue::start(&self.agent, &self.gate, &job.command, stdio, leaf.as_ref().map(Leaf::procs)).await {
            Ok((pid, ended, None)) => Tried::Started(Started { pid, ended: Some(ended), failure: None, leaf, at }),
            Ok((_, _, Some(failure))) if failure.step == Step::Leaf => {
                self.agent.leaves.borrow_mut().give_up();
                Tried::Again
            }
            Ok((pid, _, failure)) => Tried::Started(Started { pid, ended: None, failure, leaf, at }),
            Err(why) => {
                self.give_back(leaf);
                Tried::Lost(why)
            }
        }
    }

    /// Ends a spawner that can't be used any more, and waits until it can do nothing more.
    async fn end_spawner(&mut self) {
        if let Some(spawner) = self.spawner.take() {
            spawner.end().await;
        }
    }

    /// A spawner that stands ready, or `None` when none could be had.
    async fn spawner(&mut self) -> Option<&SpawnerLink> {
        loop {
            if let Some(spawner) = &mut self.spawner {
                if spawner.stands_ready().await {
                    break;
                }
                self.end_spawner().await;
            }
            while self.respawned.front().is_some_and(|at| at.elapsed() > RESPAWN_WINDOW) {
                self.respawned.pop_front();
            }
            if self.respawned.len() >= RESPAWNS_MAX {
                return None;
            }
            self.respawned.push_back(Instant::now());
            let new = SpawnerLink::fork(&self.gate).ok()?;
            self.spawner = Some(new.into_watched(&self.agent).ok()?);
        }
        self.spawner.as_ref()
    }
}
