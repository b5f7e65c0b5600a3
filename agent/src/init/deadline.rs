//! When must a command end that does not end by itself? At its deadline: SIGTERM to its whole tree, and SIGKILL to what
//! is left of the tree after a moment of grace, whether or not the command itself is still there.

use super::Agent;
use super::descend::Held;
use super::tracked::Tracked;
use crate::sys::kill::{SIGKILL, SIGTERM};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use workspace_proto::TIMEOUT_GRACE_MS;

const GRACE: Duration = Duration::from_millis(TIMEOUT_GRACE_MS);

/// The deadline of one command.
pub(crate) struct Deadline {
    /// Of the deadline, then of the grace.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Since SIGTERM: whom it went to beside the command itself, where there is no leaf to find them in.
    terminated: Option<Held>,
    passed: bool,
}

impl Deadline {
    /// `None`: it may run for ever.
    pub(crate) fn new(at: Option<Instant>) -> Deadline {
        Deadline { sleep: at.map(|at| Box::pin(sleep_until(at))), terminated: None, passed: false }
    }

    /// It has passed before the command ended.
    pub(crate) fn passed(&self) -> bool {
        self.passed
    }

    /// Sends what is due. To be asked as long as the command is not reaped.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, agent: &Agent, command: &Tracked) {
        while let Some(sleep) = &mut self.sleep
            && let Poll::Ready(()) = sleep.as_mut().poll(cx)
        {
            if self.passed {
                self.sleep = None;
                self.terminated = None;
                command.signal(agent, SIGKILL);
            } else {
                self.passed = true;
                sleep.as_mut().reset(Instant::now() + GRACE);
                let others = (!command.has_leaf()).then(|| Held::below(command.pid));
                self.terminated = Some(others.unwrap_or_default());
                command.signal(agent, SIGTERM);
            }
        }
    }

    /// The command has ended: what is left of its tree ends when the grace is over, and its leaf is given back.
    pub(crate) fn finish(self, agent: &Rc<Agent>, command: &Rc<Tracked>) {
        let (Some(sleep), Some(others)) = (self.sleep, self.terminated) else {
            return command.give_leaf_back(agent);
        };
        let (agent, command) = (Rc::clone(agent), Rc::clone(command));
        tokio::task::spawn_local(async move {
            sleep.await;
            command.end_leaf(&agent);
            command.give_leaf_back(&agent);
            others.kill();
        });
    }
}
