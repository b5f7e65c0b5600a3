//! What is known of one command of a caller, of Run or of Start? Who it is, whether it lives, how it ended; and for a
//! started one its output and its stdin.
//!
//! ```text
//! started ──► alive ── reaped: its pid may be another's ──► over: the end is told ──► kept for a while (Start) or forgotten
//! ```

use super::Agent;
use super::bell::Bell;
use super::input::Input;
use super::kept::Kept;
use super::leaf::Leaf;
use super::reap::{Ended, Life};
use super::request::Listed;
use crate::sys::kill::SIGKILL;
use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use workspace_proto::agent::{ExitReason, Exited, Process};

/// One command, from its start until it is forgotten.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) pid: i32,
    listed: Listed,
    tag: String,
    started_us: u64,
    at: Instant,
    /// As counted before it was started.
    oom_kills: u64,
    life: RefCell<Option<Life>>,
    /// Until it is given back.
    leaf: RefCell<Option<Leaf>>,
    end: Cell<Option<End>>,
    /// Rings when output comes, at the end, and when stdin was written.
    pub(crate) bell: Bell,
    /// `None`: a command of Run.
    pub(crate) kept: Option<Kept>,
    /// `None`: its stdin takes no more than it began with.
    pub(crate) input: Option<Box<Input>>,
}

/// How and when a command ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) exited: Exited,
    pub(crate) at: Instant,
    at_us: u64,
}

/// What a command is born with.
pub(crate) struct Birth {
    pub(crate) pid: i32,
    pub(crate) listed: Listed,
    pub(crate) at: Instant,
    pub(crate) oom_kills: u64,
    /// `None`: it has failed before it became the command.
    pub(crate) life: Option<Life>,
    pub(crate) leaf: Option<Leaf>,
}

/// What Start adds to Run.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    pub(crate) tag: String,
    pub(crate) kept: Option<Kept>,
    pub(crate) input: Option<Box<Input>>,
}

impl Tracked {
    /// A command that has just been started, or could not be.
    pub(crate) fn new(birth: Birth, extra: Extra) -> Tracked {
        Tracked {
            pid: birth.pid,
            listed: birth.listed,
            tag: extra.tag,
            started_us: wall_us().saturating_sub(micros(birth.at.elapsed())),
            at: birth.at,
            oom_kills: birth.oom_kills,
            life: RefCell::new(birth.life),
            leaf: RefCell::new(birth.leaf),
            end: Cell::new(None),
            bell: Bell::default(),
            kept: extra.kept,
            input: extra.input,
        }
    }

    /// Its end, once that may be told.
    pub(crate) fn end(&self) -> Option<End> {
        self.end.get()
    }

    /// How its process ended; `None`: it is not reaped, and its pid is its own.
    pub(crate) fn reaped(&self) -> Option<Ended> {
        self.life.borrow_mut().as_mut()?.ended()
    }

    /// Whether a signal to its pid reaches it and nobody else.
    pub(crate) fn is_within_reach(&self) -> bool {
        self.life.borrow_mut().as_mut().is_some_and(|life| life.ended().is_none())
    }

    /// Ready when its process is reaped. For one task.
    pub(crate) fn poll_reaped(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Ended> {
        match self.life.borrow_mut().as_mut() {
            Some(life) => life.poll(cx),
            None => std::task::Poll::Pending,
        }
    }

    /// Sends a signal to the command and all its descendants that can be found. False: it is out of reach.
    pub(crate) fn signal(&self, agent: &Agent, signal: i32) -> bool {
        if !self.is_within_reach() {
            return false;
        }
        match self.leaf.borrow().as_ref() {
            leaf if signal == SIGKILL => agent.end_tree(self.pid, leaf),
            Some(leaf) => agent.leaves.borrow_mut().signal(leaf, self.pid, signal),
            None => super::descend::signal_tree(self.pid, signal),
        }
        true
    }

    /// Whether it has a leaf: then its descendants can be found when it has ended.
    pub(crate) fn has_leaf(&self) -> bool {
        self.leaf.borrow().is_some()
    }

    /// Ends what is left in its leaf, whether it is reaped or not.
    pub(crate) fn end_leaf(&self, agent: &Agent) {
        if let Some(leaf) = self.leaf.borrow().as_ref() {
            agent.leaves.borrow_mut().kill(leaf);
        }
    }

    /// Its leaf may be another's, as soon as it is empty.
    pub(crate) fn give_leaf_back(&self, agent: &Agent) {
        if let Some(leaf) = self.leaf.borrow_mut().take() {
            agent.leaves.borrow_mut().give_back(leaf);
        }
    }

    /// How it ended, of a command that is reaped.
    pub(crate) fn exited(&self, agent: &Agent, ended: Ended, timed_out: bool, truncated: bool) -> Exited {
        let signal = ended.status.terminating_signal().unwrap_or(0);
        let reason = match signal {
            _ if timed_out => ExitReason::TimedOut,
            0 => ExitReason::Exited,
            libc::SIGKILL if agent.oom_kills() > self.oom_kills => ExitReason::OomKilled,
            _ => ExitReason::Signaled,
        };
        Exited {
            exit_code: ended.status.exit_status().unwrap_or(128 + signal),
            signal: signal as u32,
            reason: reason as i32,
            truncated,
            duration_us: micros(ended.at - self.at),
        }
    }

    /// Tells its end to all that wait for it.
    pub(crate) fn set_end(&self, exited: Exited) {
        self.end.set(Some(End { exited, at: Instant::now(), at_us: wall_us() }));
        self.bell.ring();
    }

    /// As the link shows it.
    pub(crate) fn message(&self) -> Process {
        let end = self.end();
        let (kept_from, cursor) = self.kept.as_ref().map_or((0, 0), Kept::range);
        Process {
            pid: self.pid as u32,
            command: self.listed.command.clone(),
            args: self.listed.args.clone(),
            tag: self.tag.clone(),
            attached: self.kept.is_none(),
            started_us: self.started_us,
            ended_us: end.map_or(0, |end| end.at_us),
            exited: end.map(|end| end.exited),
            cursor,
            kept_from,
        }
    }
}

fn wall_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
