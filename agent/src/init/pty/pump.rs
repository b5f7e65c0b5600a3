//! What happens on a terminal from its program's start to its end? Its master is read as fast as the viewers allow,
//! what they type is written, its end and PtyClose are watched. One task per terminal, which lives on without a link.
//!
//! ```text
//!                  PtyClose: SIGHUP ─► GRACE ─► the whole tree killed
//! program runs ────────────────────────────────────────────────────────► session leader has ended
//!                                                                           │ our slave is closed
//!                exited to the viewers, master closed ◄── hung up, or ─────┘
//!                                   │                      DRAIN_WAIT or DRAIN_BYTES_MAX of a job that holds it
//!       seen by a viewer? ─no─► UNSEEN_WAIT, or until one comes
//!                 └─yes─► forgotten ◄─┘
//! ```
//! While the program runs the agent keeps the slave open as well: a master without one is hung up for good to epoll, and
//! a program may close its standard streams and open /dev/tty later.
//! pty(7); the kernel hangs a slave up when its master is closed.

use super::Terminal;
use super::screen::Screen;
use crate::init::Agent;
use crate::init::descend::Held;
use crate::init::reap::Ended;
use crate::sys::kill::SIGKILL;
use crate::sys::watched::Watched;
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::cell::RefMut;
use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use workspace_proto::agent::ExitReason;

/// How long the terminal is read after its program's end, where a job holds it.
const DRAIN_WAIT: Duration = Duration::from_millis(200);
/// How much is read after its program's end: the kernel holds less than half of it.
const DRAIN_BYTES_MAX: usize = 64 << 10;
/// Between SIGHUP and SIGKILL at PtyClose: for a shell to write its history.
const GRACE: Duration = Duration::from_millis(400);
/// How long one that ended before anybody saw it is kept for its first viewer.
const UNSEEN_WAIT: Duration = Duration::from_secs(60);
/// The kernel gives no more at once.
const READ_BYTES: usize = 4096;

/// One terminal's task.
pub(super) struct Pump {
    agent: Rc<Agent>,
    terminal: Rc<Terminal>,
    master: Rc<Watched>,
    slave: Option<OwnedFd>,
    ended: Option<Ended>,
    /// From SIGHUP on, at PtyClose.
    grace: Option<Pin<Box<Sleep>>>,
    killed: bool,
    /// Without a leaf: what was to be found below the program before it was hung up.
    held: Held,
    /// From the program's end on.
    drained: Option<Pin<Box<Sleep>>>,
    hung_up: bool,
    drained_bytes: usize,
}

impl Pump {
    /// `slave`: our own of `master`.
    pub(super) fn new(agent: &Rc<Agent>, terminal: &Rc<Terminal>, master: Rc<Watched>, slave: OwnedFd) -> Pump {
        Pump {
            agent: Rc::clone(agent),
            terminal: Rc::clone(terminal),
            master,
            slave: Some(slave),
            ended: None,
            grace: None,
            killed: false,
            held: Held::default(),
            drained: None,
            hung_up: false,
            drained_bytes: 0,
        }
    }

    /// Until the terminal is forgotten.
    pub(super) async fn run(mut self) {
        let ended = poll_fn(|cx| self.poll(cx)).await;
        let Pump { agent, terminal, master, held, .. } = self;
        let mut exited = terminal.command.exited(&agent, ended, false, false);
        if terminal.closing.get() {
            exited.reason = ExitReason::Canceled as i32;
            held.kill();
            terminal.command.end_leaf(&agent);
        }
        terminal.screen.borrow_mut().finish(exited);
        terminal.master.borrow_mut().take();
        drop(master);
        terminal.command.give_leaf_back(&agent);
        if !terminal.closing.get() && !terminal.screen.borrow().was_joined() {
            let _ = timeout(UNSEEN_WAIT, terminal.wanted_no_more.notified()).await;
        }
        agent.ptys.borrow_mut().forget(terminal.id);
        terminal.gone.notify_waiters();
        drop(terminal);
        // The viewers first: they hold what is kept.
        tokio::task::yield_now().await;
        agent.give_heap_back();
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        self.screen().wait_as_pump(cx.waker());
        self.poll_end(cx);
        if self.ended.is_none() && self.terminal.closing.get() && !self.killed {
            self.poll_close(cx);
        }
        if self.ended.is_none() {
            self.poll_input(cx);
        }
        // Before the output, which may use up what one turn of the event loop grants.
        let waited = self.drained.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_ready());
        self.poll_output(cx);
        match self.ended {
            Some(ended) if waited || self.hung_up || self.drained_bytes >= DRAIN_BYTES_MAX => Poll::Ready(ended),
            _ => Poll::Pending,
        }
    }

    fn screen(&self) -> RefMut<'_, Screen> {
        self.terminal.screen.borrow_mut()
    }

    fn poll_end(&mut self, cx: &mut Context<'_>) {
        if self.ended.is_some() {
            return;
        }
        let Poll::Ready(ended) = self.terminal.command.poll_reaped(cx) else { return };
        self.ended = Some(ended);
        self.drained = Some(Box::pin(sleep_until(ended.at + DRAIN_WAIT)));
        self.slave = None;
        self.screen().widen(DRAIN_BYTES_MAX);
    }

    /// The program is not reaped yet: its pid is its own.
    fn poll_close(&mut self, cx: &mut Context<'_>) {
        if self.grace.is_none() {
            if !self.terminal.command.has_leaf() {
                self.held = Held::below(self.terminal.command.pid);
            }
            self.hang_up();
        }
        let grace = self.grace.get_or_insert_with(|| Box::pin(sleep(GRACE)));
        if grace.as_mut().poll(cx).is_ready() {
            self.killed = true;
            self.terminal.command.signal(&self.agent, SIGKILL);
        }
    }

    /// As the kernel does when a line is lost: to the leader and to the foreground group, stopped or not.
    fn hang_up(&self) {
        let foreground = rustix::termios::tcgetpgrp(&*self.master).ok();
        let leader = Pid::from_raw(self.terminal.command.pid);
        for signal in [Signal::HUP, Signal::CONT] {
            if let Some(group) = foreground.filter(|group| *group != Pid::INIT && Some(*group) != leader) {
                let _ = rustix::process::kill_process_group(group, signal);
            }
            if let Some(leader) = leader {
                let _ = rustix::process::kill_process_group(leader, signal);
            }
        }
    }

    /// Before the output, so that a key gets through a flood.
    fn poll_input(&mut self, cx: &mut Context<'_>) {
        let mut screen = self.terminal.screen.borrow_mut();
        while let Some(typed) = screen.typed() {
            let Poll::Ready(Ok(mut guard)) = self.master.poll_write_ready(cx) else { return };
            // On a master that is hung up a write would block and be ready, for ever.
            let written = if guard.ready().is_write_closed() {
                Ok(Err(std::io::ErrorKind::BrokenPipe.into()))
            } else {
                guard.try_io(|master| Ok(rustix::io::write(master, typed)?))
            };
            match written {
                Ok(Ok(written)) => screen.take(written),
                // Nobody will read it.
                Ok(Err(_)) => screen.take(usize::MAX),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_output(&mut self, cx: &mut Context<'_>) {
        let mut bytes = [0u8; READ_BYTES];
        let mut screen = self.terminal.screen.borrow_mut();
        let over = self.ended.is_some();
        while !self.hung_up {
            let room = if over { DRAIN_BYTES_MAX - self.drained_bytes } else { screen.room(Instant::now().into_std()) };
            if room == 0 {
                return;
            }
            let Poll::Ready(ready) = self.master.poll_read_ready(cx) else { return };
            let Ok(mut guard) = ready else {
                self.hung_up = true;
                return;
            };
            // It stays ready for ever then, even where somebody has opened the slave again.
            let closed = guard.ready().is_read_closed();
            let wanted = &mut bytes[..room.min(READ_BYTES)];
            match guard.try_io(|master| Ok(rustix::io::read(master, wanted)?)) {
                Ok(Ok(0)) => self.hung_up = true,
                Ok(Ok(length)) => {
                    screen.print(&bytes[..length]);
                    self.drained_bytes += if over { length } else { 0 };
                }
                Ok(Err(error)) => self.hung_up = Errno::from_io_error(&error) != Some(Errno::INTR),
                Err(_would_block) => self.hung_up = closed,
            }
        }
    }
}
