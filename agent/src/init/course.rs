//! What happens while a command runs, whoever wants its output? Its stdin is written, its deadline and its end are
//! watched, its pipes are read.

use super::Agent;
use super::deadline::Deadline;
use super::input::Stdin;
use super::reap::Ended;
use super::source::{Gone, Sink, Sources};
use super::tracked::Tracked;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use workspace_proto::agent::Exited;

/// Pieces of each pipe in one turn of the event loop.
const TURN_PIECES_MAX: usize = 4;

/// A command that runs, from its start until all of its output is taken.
pub(crate) struct Course {
    pub(crate) agent: Rc<Agent>,
    pub(crate) command: Rc<Tracked>,
    sources: Sources,
    stdin: Option<Stdin>,
    deadline: Deadline,
    ended: Option<Ended>,
    _counted: Counted,
}

impl Course {
    /// Must be called in the runtime.
    pub(crate) fn new(
        command: Rc<Tracked>,
        sources: Sources,
        stdin: Option<Stdin>,
        deadline: Deadline,
        counted: Counted,
    ) -> Course {
        Course { agent: Rc::clone(&counted.0), command, sources, stdin, deadline, ended: None, _counted: counted }
    }

    /// Stdin, deadline, end. `Some`, once: the command was just reaped, and so many bytes of output are owed.
    pub(crate) fn poll_events(&mut self, cx: &mut Context<'_>) -> Option<usize> {
        if self.ended.is_some() {
            return None;
        }
        if let Poll::Ready(ended) = self.command.poll_reaped(cx) {
            self.ended = Some(ended);
            self.close_stdin();
            return Some(self.sources.ended(ended.at));
        }
        self.deadline.poll(cx, &self.agent, &self.command);
        if let Some(stdin) = &mut self.stdin {
            let is_over = stdin.poll(cx, &self.command).is_ready();
            let freed = stdin.take_freed();
            if freed > 0 {
                self.agent.carried(freed);
                self.agent.give_heap_back();
            }
            if is_over {
                self.close_stdin();
            }
        }
        None
    }

    /// Carries output. Ready: the command has ended, and there is no more.
    pub(crate) fn poll_output(&mut self, cx: &mut Context<'_>, sink: &mut impl Sink) -> Poll<Result<(), Gone>> {
        for _ in 0..TURN_PIECES_MAX {
            let progress = self.sources.poll_each(cx, sink)?;
            if self.sources.is_drained(cx) {
                return Poll::Ready(Ok(()));
            }
            if !progress {
                return Poll::Pending;
            }
        }
        // Others have their turn first: the runtime polls this task again when it has looked for events.
        let _ = pin!(tokio::task::yield_now()).poll(cx);
        Poll::Pending
    }

    /// How it ended, once it is reaped.
    pub(crate) fn exited(&self, truncated: bool) -> Exited {
        let exited = |ended| self.command.exited(&self.agent, ended, self.deadline.passed(), truncated);
        self.ended.or_else(|| self.command.reaped()).map_or_else(Exited::default, exited)
    }

    /// All is told.
    pub(crate) fn finish(self) {
        self.deadline.finish(&self.agent, &self.command);
    }

    fn close_stdin(&mut self) {
        let freed = self.command.close_input(self.stdin.take());
        self.agent.carried(freed);
    }
}

/// One command of Run or Start, counted against [`super::COMMANDS_MAX`].
pub(crate) struct Counted(Rc<Agent>);

impl Counted {
    /// `None`: there are as many as there may be.
    pub(crate) fn new(agent: &Rc<Agent>) -> Option<Counted> {
        if agent.commands.get() >= super::COMMANDS_MAX {
            return None;
        }
        agent.commands.set(agent.commands.get() + 1);
        Some(Counted(Rc::clone(agent)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.commands.set(self.0.commands.get().saturating_sub(1));
        if self.0.commands.get() == 0 {
            self.0.give_heap_back();
        }
    }
}
