//! How does the agent get a command started? One at a time: by the spawner, and where that fails for want of
//! processes or because somebody inside keeps killing it, by a fork of its own.
//!
//! ```text
//! Job ─► spawner alive? ─no─► new one (at most RESPAWNS_MAX in RESPAWN_WINDOW) ─none─► fork here
//!              │ request, descriptors, next leaf                                          ▲
//!              ▼                                                                          │
//!            reply: pid, step ─ clone: EAGAIN (the sandbox is at its process limit) ──────┘
//!              └─► the job is answered; the spawner moves to the next leaf: settle
//! ```
//! A command is started at most once: the newest child writes its pid to memory that the agent sees, so that a spawner
//! that is killed half-way leaves no doubt.
//! The spawner's answers are hostile: a pid counts when it is a child of ours that nobody waits for yet.

use super::Agent;
use super::leaf::Leaf;
use super::reap::Ended;
use super::rescue;
use super::spawner_link::{Ready, SpawnerLink};
use crate::spawner::enter::Gate;
use crate::spawner::frame::{self, Draft};
use crate::sys::newest::Told;
use crate::sys::pty::Size;
use crate::sys::spawn::{Failure, Step};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

/// New spawners in [`RESPAWN_WINDOW`]; then commands are forked here until the window has passed.
const RESPAWNS_MAX: usize = 8;
const RESPAWN_WINDOW: Duration = Duration::from_secs(10);
/// For a child to say that it exists, after its spawner was killed. It is the child's first act.
const UNCLEAR_WAIT: Duration = Duration::from_secs(1);
const UNCLEAR_PAUSE: Duration = Duration::from_millis(5);
/// Tries of one command: each failed one has surely not started it.
const TRIES_MAX: usize = 4;

/// What is to be run, checked.
pub(crate) struct Command {
    pub(crate) argv: Vec<bytes::Bytes>,
    /// `NAME=value` each.
    pub(crate) env: Vec<Vec<u8>>,
    pub(crate) cwd: bytes::Bytes,
    pub(crate) root: bool,
    /// It gets a terminal of its own; see [`Job::stdio`].
    pub(crate) terminal: Option<Size>,
}

impl Command {
    /// The request to the spawner.
    pub(crate) fn encode(&self, leaf: bool) -> Vec<u8> {
        let argv: Vec<&[u8]> = self.argv.iter().map(|argument| argument.as_ref()).collect();
        let (root, subreaper, terminal) = (self.root, !leaf, self.terminal);
        frame::encode(&Draft { root, leaf, subreaper, terminal, cwd: &self.cwd, argv: &argv, env: &self.env })
    }
}

/// A command to start, with the child's ends of its pipes.
pub(crate) struct Job {
    pub(crate) command: Rc<Command>,
    /// With a terminal: three times the socket over which the child sends the master.
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
    /// The spawner is on its way to the next leaf.
    moving: bool,
}

impl Starter {
    /// `first` was forked before the runtime existed.
    pub(crate) fn new(agent: Rc<Agent>, gate: Gate, first: Option<SpawnerLink>) -> Starter {
        Starter { agent, gate, spawner: first, respawned: VecDeque::new(), moving: false }
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
            drop(job.stdio);
            self.settle().await;
        }
    }

    async fn start(&mut self, job: &Job) -> Result<Started, Unavailable> {
        for _ in 0..TRIES_MAX {
            self.agent.reaper.borrow_mut().start();
            let tried = self.try_once(job).await;
            self.agent.reaper.borrow_mut().started();
            match tried {
                Tried::Started(started) => return Ok(started),
                Tried::Lost(why) => return Err(Unavailable(why)),
                Tried::Again => self.settle().await,
            }
        }
        Err(Unavailable("no process could be made"))
    }

    async fn try_once(&mut self, job: &Job) -> Tried {
        let at = Instant::now();
        if !self.have_spawner().await {
            return self.rescue(job, at).await;
        }
        let Some(spawner) = &mut self.spawner else { return Tried::Again };
        let has_leaf = spawner.leaf.is_some();
        let next = if has_leaf { self.agent.leaves.borrow_mut().take() } else { None };
        if has_leaf && next.is_none() {
            // It could not leave the leaf that it would share with the command.
            return self.rescue(job, at).await;
        }
        let request = job.command.encode(has_leaf);
        let stdio = job.stdio.each_ref().map(|fd| fd.as_fd());
        let descriptors: Vec<BorrowedFd<'_>> = stdio.into_iter().chain(next.as_ref().map(Leaf::procs)).collect();
        self.gate.newest.none();
        let Ok(reply) = spawner.ask(&request, &descriptors, &self.gate.newest).await else {
            self.give_back(next);
            let leaf = self.end_spawner().await;
            return match self.newest().await {
                // The clone did not happen, and can't any more.
                Told::Nothing => {
                    self.give_back(leaf);
                    Tried::Again
                }
                // The child goes on without its spawner. Should it fail now, it ends with 127.
                Told::Pid(pid) => self.accept(pid, leaf, at).await,
                Told::Unclear => {
                    self.kill_and_give_back(leaf);
                    Tried::Lost("the spawner ended while it started the command")
                }
            };
        };
        if reply.step == Step::Clone {
            self.give_back(next);
            return match reply.errno {
                libc::EAGAIN => self.rescue(job, at).await,
                _ => Tried::Lost("the spawner could not make a process"),
            };
        }
        let leaf = std::mem::replace(&mut spawner.leaf, next);
        if let Some(leaf) = &leaf {
            self.agent.leaves.borrow_mut().shared(leaf);
            self.moving = true;
        }
        match reply.step {
            Step::Done => self.accept(reply.pid, leaf, at).await,
            // Whatever that pid is, it will be reaped; its status says nothing.
            step => {
                let failure = Some(Failure { step, errno: reply.errno });
                Tried::Started(Started { pid: reply.pid.max(0), ended: None, failure, leaf, at })
            }
        }
    }

    /// Waits until the spawner has left the leaf of the command that it has started.
    async fn settle(&mut self) {
        if !std::mem::take(&mut self.moving) {
            return;
        }
        let entered = match &self.spawner {
            Some(spawner) => spawner.entered().await,
            None => Ready::No,
        };
        if entered != Ready::Yes {
            let leaf = self.end_spawner().await;
            self.give_back(leaf);
        }
        if entered == Ready::NoLeaf {
            self.agent.leaves.borrow_mut().give_up();
        }
        self.agent.leaves.borrow_mut().left();
    }

    async fn accept(&mut self, pid: i32, leaf: Option<Leaf>, at: Instant) -> Tried {
        let claimed = self.agent.reaper.borrow_mut().claim(pid);
        match claimed {
            Ok(ended) => Tried::Started(Started { pid, ended: Some(ended), failure: None, leaf, at }),
            Err(_) => {
                let next = self.end_spawner().await;
                self.give_back(next);
                self.kill_and_give_back(leaf);
                Tried::Lost("the spawner named a process that is not its own")
            }
        }
    }

    /// What a spawner that has ended has made. A child that is about to say so has a moment for it.
    async fn newest(&self) -> Told {
        let start = Instant::now();
        while self.gate.newest.look() == Told::Unclear && start.elapsed() < UNCLEAR_WAIT {
            sleep(UNCLEAR_PAUSE).await;
        }
        self.gate.newest.look()
    }

    fn kill_and_give_back(&self, leaf: Option<Leaf>) {
        if let Some(leaf) = &leaf {
            self.agent.leaves.borrow_mut().kill(leaf);
        }
        self.give_back(leaf);
    }

    fn give_back(&self, leaf: Option<Leaf>) {
        if let Some(leaf) = leaf {
            self.agent.leaves.borrow_mut().give_back(leaf);
        }
    }

    async fn rescue(&mut self, job: &Job, at: Instant) -> Tried {
        let leaf = self.agent.leaves.borrow_mut().take();
        let stdio = job.stdio.each_ref().map(|fd| fd.as_fd());
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

    /// Ends a spawner that can't be used any more, waits until it can do nothing more, and returns its leaf.
    async fn end_spawner(&mut self) -> Option<Leaf> {
        match self.spawner.take() {
            Some(spawner) => spawner.end().await,
            None => None,
        }
    }

    /// Whether there is a spawner that stands ready; makes one where there is none.
    async fn have_spawner(&mut self) -> bool {
        loop {
            if let Some(spawner) = &mut self.spawner {
                let ready = spawner.stands_ready().await;
                if ready == Ready::Yes {
                    return true;
                }
                let leaf = self.end_spawner().await;
                self.give_back(leaf);
                if ready == Ready::NoLeaf {
                    self.agent.leaves.borrow_mut().give_up();
                }
            }
            while self.respawned.front().is_some_and(|at| at.elapsed() > RESPAWN_WINDOW) {
                self.respawned.pop_front();
            }
            if self.respawned.len() >= RESPAWNS_MAX {
                return false;
            }
            self.respawned.push_back(Instant::now());
            let leaf = self.agent.leaves.borrow_mut().take();
            match SpawnerLink::fork(&self.gate, leaf) {
                Ok(forked) => self.spawner = forked.into_watched(&self.agent).ok(),
                Err(leaf) => {
                    self.give_back(leaf);
                    return false;
                }
            }
        }
    }
}
