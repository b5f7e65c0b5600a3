//! How does a terminal come to be? The command's child makes it as the command's user and sends its master; what came is
//! checked, and a task lives with it from then on.
//!
//! A program that can't be executed leaves no terminal: its end would be forgotten before anybody could attach to read
//! why. The call fails instead, and its message is the line that a command of Run has on stderr.

use super::pump::Pump;
use super::screen::Screen;
use super::{Terminal, checked_size, master};
use crate::init::Agent;
use crate::init::failure::{NOT_FOUND, describe};
use crate::init::grpc::{self, Code, Status, Unanswered};
use crate::init::launch;
use crate::init::reap::Life;
use crate::init::request::{Listed, check, has_too_many_strings};
use crate::init::start::{Command, Started};
use crate::init::tracked::{Birth, Extra, Tracked};
use crate::sys::pty;
use crate::sys::spawn::{Failure, Step, above_stdio};
use crate::sys::watched::{Watched, watch};
use bytes::Bytes;
use h2::server::SendResponse;
use rustix::io::Errno;
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use tokio::io::Interest;
use tokio::sync::Notify;
use workspace_proto::PTYS_MAX;
use workspace_proto::agent::PtyOpenRequest;

const NO_TERMINALS: Status = Status(Code::Unavailable, "this sandbox has no terminals");
const TOO_MANY: Status = Status(Code::ResourceExhausted, "32 terminals are open in this sandbox");

/// Why there is no terminal.
enum Unopened {
    Unanswered(Unanswered),
    /// A step on the way to the program failed.
    Failure(Rc<Command>, Failure),
}

impl<U: Into<Unanswered>> From<U> for Unopened {
    fn from(unanswered: U) -> Unopened {
        Unopened::Unanswered(unanswered.into())
    }
}

/// Opens one and answers. What was started for a caller that has gone meanwhile is ended.
pub(crate) async fn open(
    agent: &Rc<Agent>,
    request: PtyOpenRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), Unanswered> {
    match start(agent, request, respond).await {
        Ok(terminal) => grpc::reply(respond, &terminal.describe()).await,
        Err(Unopened::Unanswered(unanswered)) => return Err(unanswered),
        Err(Unopened::Failure(command, failure)) => {
            let (code, text) = tell(&command, failure);
            grpc::refuse_with(respond, code, &text);
        }
    }
    Ok(())
}

async fn start(
    agent: &Rc<Agent>,
    request: PtyOpenRequest,
    respond: &mut SendResponse<Bytes>,
) -> Result<Rc<Terminal>, Unopened> {
    let size = checked_size(request.cols, request.rows)?;
    let run = request.run.unwrap_or_default();
    let command = Rc::new(Command { terminal: Some(size), ..check(agent.single_id, &run)? });
    let devpts = agent.devpts.ok_or(NO_TERMINALS)?;
    let _starting = Starting::new(agent).ok_or(TOO_MANY)?;
    if has_too_many_strings(&run) {
        return Err(Unopened::Failure(command, Failure { step: Step::Exec, errno: libc::E2BIG }));
    }
    let (socket, theirs) = master::channel().map_err(no_descriptor)?;
    let theirs = Rc::new(above_stdio(theirs).map_err(no_descriptor)?);
    let stdio = [Rc::clone(&theirs), Rc::clone(&theirs), theirs];
    let oom_kills = agent.oom_kills();
    let started = launch::start(agent, &command, stdio, respond).await?;
    if let Some(failure) = started.failure {
        if let Some(leaf) = started.leaf {
            agent.leaves.borrow_mut().give_back(leaf);
        }
        return Err(Unopened::Failure(command, failure));
    }
    let taken = master::receive(socket, devpts).map_err(|_| Status(Code::Unavailable, "no terminal came"));
    let (master, slave) = match taken.and_then(|master| both_ends(master).map_err(no_descriptor)) {
        Ok(ends) => ends,
        Err(status) => {
            agent.end_unwanted(started);
            return Err(status.into());
        }
    };
    let Started { pid, ended, leaf, at, .. } = started;
    let birth = Birth { pid, listed: Listed::new(&command), at, oom_kills, life: ended.map(Life::new), leaf };
    let mut ptys = agent.ptys.borrow_mut();
    ptys.last_id += 1;
    let terminal = Rc::new(Terminal {
        id: ptys.last_id,
        command: Tracked::new(birth, Extra::default()),
        size: Cell::new(size),
        master: RefCell::new(Some(Rc::clone(&master))),
        screen: RefCell::new(Screen::new(&agent.rings)),
        closing: Cell::new(false),
        wanted_no_more: Notify::new(),
        gone: Notify::new(),
    });
    ptys.open.insert(terminal.id, Rc::clone(&terminal));
    tokio::task::spawn_local(Pump::new(agent, &terminal, master, slave).run());
    Ok(terminal)
}

/// One on its way to being open.
struct Starting<'a>(&'a Agent);

impl<'a> Starting<'a> {
    /// `None`: there are [`PTYS_MAX`].
    fn new(agent: &'a Agent) -> Option<Starting<'a>> {
        let mut ptys = agent.ptys.borrow_mut();
        if ptys.open.len() + ptys.starting >= PTYS_MAX && !ptys.make_room() {
            return None;
        }
        ptys.starting += 1;
        Some(Starting(agent))
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.0.ptys.borrow_mut().starting -= 1;
    }
}

/// The master, watched, and a slave of our own.
fn both_ends(master: OwnedFd) -> Result<(Rc<Watched>, OwnedFd), Errno> {
    let slave = pty::open_slave(master.as_fd())?;
    let master = watch(master, Interest::READABLE | Interest::WRITABLE).map_err(|_| Errno::NOMEM)?;
    Ok((Rc::new(master), slave))
}

fn no_descriptor(_: Errno) -> Status {
    Status(Code::ResourceExhausted, "no descriptor or memory for a terminal")
}

fn tell(command: &Command, failure: Failure) -> (Code, Vec<u8>) {
    let said = |text: &str| text.as_bytes().to_vec();
    match (failure.step, failure.errno) {
        (Step::Terminal, libc::ENOSPC) => (Code::ResourceExhausted, said("no terminal is left in this sandbox")),
        (Step::Terminal, errno) => {
            (Code::Unavailable, said(&format!("no terminal could be made: {}", Errno::from_raw_os_error(errno))))
        }
        (step, errno) => {
            let (exit_code, text) = describe(command, failure);
            let code = match (exit_code, step, errno) {
                (NOT_FOUND, ..) | (_, Step::Cwd, libc::ENOENT | libc::ENOTDIR) => Code::NotFound,
                (_, _, libc::E2BIG) => Code::OutOfRange,
                _ => Code::FailedPrecondition,
            };
            (code, text)
        }
    }
}
