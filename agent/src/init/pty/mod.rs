//! Which terminals are there, and what may be asked of them? A table by id, and the calls of the contract.
//!
//! ```text
//! open.rs: the child makes a terminal and sends its master ─► master.rs: is it one? ─► pump.rs: one task until its end
//! viewer.rs, typing.rs: one attached viewer ◄─► screen.rs: what was printed, who sees what, who types ◄─► pump.rs
//! ```
//! A terminal belongs to the sandbox, not to a link: it ends with its program, with PtyClose, or with the sandbox. One
//! that ends before anybody has seen it is kept for a while, so that what it printed and how it ended are not lost.
//! Nothing here reads what is printed or answers what a program asks of its terminal: that is for the viewers.
//! Without a terminal there is nothing: no task, no descriptor, no memory.

mod master;
mod open;
mod pump;
mod screen;
mod typing;
mod viewer;

use super::Agent;
use super::grpc::{Code, Status};
use super::tracked::Tracked;
use crate::sys::pty::{self, Size};
use crate::sys::watched::Watched;
pub(crate) use open::open;
use screen::Screen;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::rc::Rc;
use tokio::sync::Notify;
pub(crate) use viewer::attach;
use workspace_proto::PTY_VIEWERS_MAX;
use workspace_proto::agent::{
    Process, Pty, PtyCloseReply, PtyCloseRequest, PtyListReply, PtyResizeReply, PtyResizeRequest, PtySize,
};

const CELLS_MAX: u32 = 4096;
const NO_SUCH: Status = Status(Code::NotFound, "no such terminal");

/// One that is open.
struct Terminal {
    id: u64,
    /// Its program.
    command: Tracked,
    size: Cell<Size>,
    /// `None`: it has ended.
    master: RefCell<Option<Rc<Watched>>>,
    screen: RefCell<Screen>,
    /// PtyClose has come.
    closing: Cell<bool>,
    /// One that has ended unseen has been seen, or must go.
    wanted_no_more: Notify,
    gone: Notify,
}

/// All terminals of the sandbox.
#[derive(Default)]
pub(crate) struct Ptys {
    open: BTreeMap<u64, Rc<Terminal>>,
    /// On their way to being open.
    starting: usize,
    last_id: u64,
    viewers: Rc<()>,
}

impl Ptys {
    /// How many programs of terminals are alive.
    pub(crate) fn alive(&self) -> usize {
        self.open.values().filter(|terminal| terminal.command.is_within_reach()).count()
    }

    /// All whose program runs.
    pub(crate) fn list(&self) -> PtyListReply {
        let running = self.open.values().filter(|terminal| !terminal.has_ended());
        PtyListReply { ptys: running.map(|terminal| terminal.describe()).collect() }
    }

    /// Forgets the oldest that is only kept to be seen. False: there is none.
    fn make_room(&mut self) -> bool {
        let Some(id) = self.open.values().find(|terminal| terminal.has_ended()).map(|terminal| terminal.id) else {
            return false;
        };
        if let Some(terminal) = self.open.remove(&id) {
            terminal.wanted_no_more.notify_one();
        }
        true
    }

    fn find(&self, id: u64) -> Result<Rc<Terminal>, Status> {
        self.open.get(&id).map(Rc::clone).ok_or(NO_SUCH)
    }

    /// Counted as long as what is returned lives. `None`: too many.
    fn count_viewer(&self) -> Option<Rc<()>> {
        (Rc::strong_count(&self.viewers) <= PTY_VIEWERS_MAX).then(|| Rc::clone(&self.viewers))
    }

    fn forget(&mut self, id: u64) {
        self.open.remove(&id);
    }
}

impl Terminal {
    fn has_ended(&self) -> bool {
        self.master.borrow().is_none()
    }

    fn describe(&self) -> Pty {
        let Process { pid, command, started_us, .. } = self.command.message();
        let Size { cols, rows } = self.size.get();
        Pty { id: self.id, pid, cols: cols.into(), rows: rows.into(), command, started_us }
    }

    /// The last size wins; the foreground group gets SIGWINCH where it has changed.
    fn resize(&self, size: Size) {
        if let Some(master) = &*self.master.borrow()
            && pty::resize(master.as_fd(), size).is_ok()
        {
            self.size.set(size);
        }
    }
}

/// Changes the size of one.
pub(crate) fn resize(agent: &Agent, request: &PtyResizeRequest) -> Result<PtyResizeReply, Status> {
    let PtySize { cols, rows } = request.size.unwrap_or_default();
    let size = checked_size(cols, rows)?;
    agent.ptys.borrow().find(request.id)?.resize(size);
    Ok(PtyResizeReply {})
}

/// Ends one, and returns when it is gone.
pub(crate) async fn close(agent: &Agent, request: &PtyCloseRequest) -> Result<PtyCloseReply, Status> {
    let terminal = agent.ptys.borrow().find(request.id)?;
    let gone = terminal.gone.notified();
    terminal.closing.set(true);
    terminal.screen.borrow_mut().wake_pump();
    terminal.wanted_no_more.notify_one();
    gone.await;
    Ok(PtyCloseReply {})
}

fn checked_size(cols: u32, rows: u32) -> Result<Size, Status> {
    let cells = |number: u32| u16::try_from(number).ok().filter(|_| (1..=CELLS_MAX).contains(&number));
    match (cells(cols), cells(rows)) {
        (Some(cols), Some(rows)) => Ok(Size { cols, rows }),
        _ => Err(Status(Code::InvalidArgument, "size: 1 to 4096 columns and rows")),
    }
}
