//! What is PID 1 of a sandbox? The agent: it serves the link to the server, starts commands, reaps all, and lives on
//! when the server ends.
//!
//! ```text
//! setup.rs ─► session.rs: links, Hello ─► calls.rs: which method
//!                ┌──────────────────────────┬──┴───────────────────────┐
//!             run.rs: events             keep.rs: a process         attach.rs: a reader
//!                │                          │                          ▲
//!                ├── launch.rs ─► course.rs: stdin, deadline, end, pipes (source.rs)
//!                ▼                          ▼                          │
//!             drive.rs: h2               kept.rs: ring.rs, pace.rs ────┘
//!
//! launch.rs ─► start.rs ─ spawner_link.rs, rescue.rs ─ reap.rs      tracked.rs, table.rs: which commands there are
//!                 └─ leaf.rs, descend.rs: a command ends with its descendants
//! calls.rs ─► files.rs: a worker for places that only these mounts have
//! calls.rs ─► pty/: terminals, each with a program, that outlive a link
//! ```
//! One thread, no capability, undumpable, another uid than every command. Nothing here trusts a command, and no byte
//! on the link can end it: a link that is out of step is dropped.
//! Must not know: HTTP, templates, cgroup limits, how it was cloned.

mod attach;
mod bell;
mod block;
mod calls;
mod course;
mod deadline;
mod descend;
mod drive;
mod failure;
mod files;
mod grpc;
mod input;
mod keep;
mod kept;
mod launch;
mod leaf;
mod output;
mod pace;
mod pipes;
mod pty;
mod reap;
mod request;
mod rescue;
mod ring;
mod run;
mod session;
mod setup;
mod source;
mod spawner_link;
mod start;
mod table;
mod tracked;

use crate::spawner::enter::Gate;
use crate::sys::kill::{SIGKILL, send};
use crate::sys::watched::{Watched, watch};
use leaf::{Leaf, Leaves};
use reap::{Life, Reaper};
use request::Listed;
use ring::RingsTotal;
use setup::Setup;
use spawner_link::{Forked, SpawnerLink};
use start::{Job, Started, Starter};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::rc::Rc;
use table::Table;
use tokio::io::Interest;
use tokio::runtime::LocalOptions;
use tokio::sync::mpsc;
use tracked::{Birth, Extra, Tracked};

/// Commands alive at once; one more is refused with RESOURCE_EXHAUSTED.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// Input and output after which the heap is given back, once something ends: 300 KB stay otherwise, in each of thousands
/// of agents.
const TRIM_BYTES: u64 = 1 << 20;
/// Connections that wait to be accepted: one server, and its successor.
const BACKLOG: i32 = 2;
const IO_EVENTS_PER_TICK: usize = 64;

/// What all parts of the agent share. One thread: no borrow is held over an await.
pub(crate) struct Agent {
    sandbox_id: String,
    single_id: bool,
    reaper: RefCell<Reaper>,
    leaves: RefCell<Leaves>,
    table: RefCell<Table>,
    rings: Rc<RingsTotal>,
    /// Commands of Run and Start in progress, started or not.
    commands: Cell<usize>,
    /// Input and output that has left the heap since that was last given back.
    carried_bytes: Cell<u64>,
    oom: Option<OwnedFd>,
    null: Option<OwnedFd>,
    /// Device number of the sandbox's devpts.
    devpts: Option<u64>,
    ptys: RefCell<pty::Ptys>,
    jobs: mpsc::Sender<Job>,
}

impl Agent {
    /// Ends a command that is not reaped yet, with all its descendants.
    fn end_tree(&self, pid: i32, leaf: Option<&Leaf>) {
        match leaf {
            Some(leaf) => {
                self.leaves.borrow_mut().kill(leaf);
                // It may not have got as far as its leaf, where somebody stopped it on its way.
                send(pid, SIGKILL);
            }
            None => descend::kill_tree(pid),
        }
    }

    /// Ends a command that may be reaped already, with all its descendants, and waits until it is.
    async fn end_and_reap(&self, command: &Tracked) {
        if command.signal(self, SIGKILL) {
            poll_fn(|cx| command.poll_reaped(cx)).await;
        } else {
            // Its pid may be another's by now.
            command.end_leaf(self);
        }
    }

    /// A command that nobody waits for any more.
    fn end_unwanted(self: &Rc<Agent>, started: Started) {
        let Started { pid, ended, leaf, at, .. } = started;
        let birth = Birth { pid, listed: Listed::default(), at, oom_kills: 0, life: ended.map(Life::new), leaf };
        let (agent, command) = (Rc::clone(self), Tracked::new(birth, Extra::default()));
        tokio::task::spawn_local(async move {
            agent.end_and_reap(&command).await;
            command.give_leaf_back(&agent);
        });
    }

    /// How many callers' processes live: commands, and the programs of terminals.
    fn alive(&self) -> u64 {
        (self.table.borrow().alive() + self.ptys.borrow().alive()) as u64
    }

    /// So much input or output has passed through the heap.
    fn carried(&self, bytes: u64) {
        self.carried_bytes.set(self.carried_bytes.get().saturating_add(bytes));
    }

    /// What is worth it, when something has come to its end.
    fn give_heap_back(&self) {
        self.carried(self.rings.take_freed());
        if self.carried_bytes.get() > TRIM_BYTES {
            self.carried_bytes.set(0);
            crate::sys::heap::give_back();
        }
    }

    /// How many processes of this sandbox the kernel has ended for memory; 0 where that is not counted.
    fn oom_kills(&self) -> u64 {
        let mut bytes = [0u8; 1024];
        let read = self.oom.as_ref().and_then(|fd| rustix::io::pread(fd, &mut bytes, 0).ok()).unwrap_or(0);
        oom_kills_in(&bytes[..read])
    }
}

/// From the text of memory.events or memory.oom_control.
fn oom_kills_in(text: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(text);
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// The life of PID 1. Returns only when it could not start.
pub(crate) fn run() -> ExitCode {
    let mut setup = match setup::take() {
        Ok(setup) => setup,
        Err(fault) => {
            eprintln!("workspace-agent: {}: {}", fault.what, fault.errno);
            return ExitCode::FAILURE;
        }
    };
    // Before the runtime: its memory would be copied. SIGCHLD first, so that no end is missed.
    let children = crate::sys::sigchld::child_signals();
    let listening = rustix::net::listen(&setup.listener, BACKLOG);
    let mut leaves = Leaves::new(setup.leaf_dir.take());
    let spawner = SpawnerLink::fork(&setup.gate, leaves.take());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_io_events_per_tick(IO_EVENTS_PER_TICK)
        .build_local(LocalOptions::default());
    let (children, runtime) = match (children, listening, runtime) {
        (Ok(children), Ok(()), Ok(runtime)) => (children, runtime),
        _ => {
            eprintln!("workspace-agent: no signals, listener or event loop");
            return ExitCode::FAILURE;
        }
    };
    // No LocalSet: each wake of a task in one writes to an eventfd and costs another epoll_wait(2).
    if let Err(error) = runtime.block_on(live(setup, leaves, children, spawner.ok())) {
        eprintln!("workspace-agent: {error}");
    }
    ExitCode::FAILURE
}

async fn live(setup: Setup, leaves: Leaves, children: OwnedFd, spawner: Option<Forked>) -> std::io::Result<()> {
    let (jobs, waiting) = mpsc::channel(COMMANDS_MAX);
    let agent = Rc::new(Agent {
        sandbox_id: setup.sandbox_id,
        single_id: setup.single_id,
        reaper: RefCell::default(),
        leaves: RefCell::new(leaves),
        table: RefCell::default(),
        rings: Rc::default(),
        commands: Cell::new(0),
        carried_bytes: Cell::new(0),
        oom: setup.oom,
        null: setup.null,
        devpts: setup.devpts,
        ptys: RefCell::default(),
        jobs,
    });
    let spawner = spawner.map(|forked| forked.into_watched(&agent)).transpose()?;
    let children = watch(children, Interest::READABLE)?;
    tokio::task::spawn_local(reap_all(Rc::clone(&agent), children));
    tokio::task::spawn_local(start_all(Rc::clone(&agent), setup.gate, spawner, waiting));
    session::serve(agent, setup.listener, setup.link).await
}

async fn start_all(agent: Rc<Agent>, gate: Gate, spawner: Option<SpawnerLink>, waiting: mpsc::Receiver<Job>) {
    Starter::new(agent, gate, spawner).run(waiting).await;
}

async fn reap_all(agent: Rc<Agent>, children: Watched) {
    let mut events = [0u8; 128 * 4];
    loop {
        let read = children.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd.as_fd(), &mut events)?));
        if read.await.is_err() {
            return;
        }
        agent.reaper.borrow_mut().collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A count that is told stands in its own line.
    fn any_events(input: &[u8]) {
        let kills = oom_kills_in(input);
        let text = String::from_utf8_lossy(input);
        assert!(kills == 0 || text.lines().any(|line| line.starts_with("oom_kill ")));
        assert_eq!(oom_kills_in(&[b"low 0\noom_kill_disable 7\n", input].concat()), kills);
    }

    #[test]
    fn kills_are_counted_in_both_versions() {
        let corpus: [&[u8]; 4] = [
            b"low 0\nhigh 0\nmax 18\noom 2\noom_kill 3\noom_group_kill 1\n",
            b"oom_kill_disable 0\nunder_oom 0\noom_kill 5\n",
            b"oom_kill 18446744073709551616\n",
            b"oom_kill",
        ];
        assert_eq!((oom_kills_in(corpus[0]), oom_kills_in(corpus[1])), (3, 5));
        crate::fuzz::run(any_events, &corpus);
    }
}
