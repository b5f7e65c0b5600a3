//! The launcher's loop: one thread that takes plans from the shards' sockets and watches what it has started.
//!
//! A create runs to its end (about 1 ms). A destroy only sends SIGKILL here; the rest follows when the agent is reaped,
//! in steps, so that a slow one never holds a create up. With no work left, networks are made ahead.

use super::cgroup::Removal;
use super::create::{self, Started};
use super::fault::Fault;
use super::inventory;
use super::peer::{Peer, Received};
use super::record::{Record, SandboxId};
use super::setup::Ground;
use super::teardown::{self, FilesGo};
use super::watch::{Agent, Live, Watched};
use crate::sys::sigchld;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};
use workspace_proto::PACKET_BYTES_MAX;
use workspace_proto::launcher::{
    Adopt, Adopted, Create, Created, Destroy, Destroyed, Ended, Failed, Inventory, Reply, Request, reply, request,
};

/// Destroys under way.
const DESTROYS_MAX: usize = 4096;
/// Packets taken from one socket before the others get their turn.
const PACKETS_PER_TURN_MAX: usize = 16;
const EVENTS_PER_TURN_MAX: usize = 256;
/// Pause between two tries to remove a busy cgroup, and how many tries.
const RETRY_MS: u64 = 2;
const RETRIES_MAX: u32 = 1000;
/// Quiet time before a network is made ahead.
const IDLE_MS: u64 = 10;

const SIGNAL_TOKEN: u64 = 0;
const FIRST_PEER_TOKEN: u64 = 1;
const FIRST_SANDBOX_TOKEN: u64 = 1 << 16;

/// Runs until every shard has closed its socket.
pub(crate) fn serve(ground: Ground, sockets: Vec<OwnedFd>) -> Result<(), Errno> {
    let strays = inventory::end_strays(&ground);
    if strays > 0 {
        eprintln!("launcher: ended {strays} agents that no record names");
    }
    let signals = sigchld::child_signals()?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &signals, epoll::EventData::new_u64(SIGNAL_TOKEN), epoll::EventFlags::IN)?;
    let mut peers = Vec::new();
    for (index, socket) in sockets.into_iter().enumerate() {
        let token = epoll::EventData::new_u64(FIRST_PEER_TOKEN + index as u64);
        epoll::add(&epoll, &socket, token, epoll::EventFlags::IN)?;
        let mut peer = Peer::new(socket);
        peer.queue(&Reply { seq: 0, op: Some(reply::Op::Ready(ground.ready())) }, Vec::new());
        peers.push(Some(peer));
    }
    let blocks = inventory::recorded_ids(&ground)
        .into_iter()
        .filter_map(|id| Some((id, Record::read(ground.run.as_fd(), id)?.block)))
        .collect();
    let mut serving =
        Serving { ground, epoll, signals, peers, watched: Watched::default(), destroys: HashMap::new(), blocks };
    for index in 0..serving.peers.len() {
        serving.settle(index);
    }
    serving.run()?;
    serving.ground.cgroups.leave();
    Ok(())
}

struct Serving {
    ground: Ground,
    epoll: OwnedFd,
    signals: OwnedFd,
    peers: Vec<Option<Peer>>,
    watched: Watched,
    destroys: HashMap<SandboxId, Destroying>,
    /// Blocks of all sandboxes in run/.
    blocks: HashMap<SandboxId, u32>,
}

/// A destroy that is not answered yet.
struct Destroying {
    files: FilesGo,
    /// Who waits for it: socket and number.
    asked_by: Vec<(usize, u64)>,
    tries: u32,
    /// None while the agent lives.
    due: Option<Instant>,
}

impl Serving {
    fn run(&mut self) -> Result<(), Errno> {
        let mut events = Vec::with_capacity(EVENTS_PER_TURN_MAX);
        let mut packet = vec![0_u8; PACKET_BYTES_MAX + 1];
        while self.peers.iter().any(Option::is_some) {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), self.patience().as_ref()) {
                Ok(0) if self.destroys.is_empty() => self.use_idle_time(),
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in &events {
                match event.data.u64() {
                    SIGNAL_TOKEN => self.reap(),
                    token @ FIRST_PEER_TOKEN..FIRST_SANDBOX_TOKEN => {
                        self.serve_peer((token - FIRST_PEER_TOKEN) as usize, &mut packet);
                    }
                    token => self.look_at_sandbox(token - FIRST_SANDBOX_TOKEN),
                }
            }
            self.continue_destroys();
        }
        Ok(())
    }

    fn patience(&self) -> Option<Timespec> {
        let ms = if self.destroys.values().any(|destroy| destroy.due.is_some()) {
            RETRY_MS
        } else if self.destroys.is_empty() && self.ground.networks.wants_more() {
            IDLE_MS
        } else {
            return None;
        };
        Some(Timespec { tv_sec: 0, tv_nsec: Duration::from_millis(ms).subsec_nanos().into() })
    }

    fn use_idle_time(&mut self) {
        if !self.ground.networks.wants_more() {
            return;
        }
        if let Err(errno) = self.ground.networks.make_ahead(self.ground.proc.as_fd()) {
            eprintln!("launcher: no network can be made ahead: {errno}");
        }
    }

    fn serve_peer(&mut self, index: usize, packet: &mut [u8]) {
        for _ in 0..PACKETS_PER_TURN_MAX {
            let Some(peer) = self.peers.get(index).and_then(Option::as_ref).filter(|peer| peer.has_room()) else {
                break;
            };
            match peer.receive(packet) {
                Received::Request(request) => self.answer(index, request),
                Received::Nonsense => eprintln!("launcher: dropped a packet that is no request"),
                Received::Nothing => break,
                Received::Closed => {
                    self.peers[index] = None;
                    break;
                }
            }
        }
        self.settle(index);
    }

    /// Sends what is queued and waits for what can come next on this socket.
    fn settle(&mut self, index: usize) {
        let Some(peer) = self.peers.get_mut(index).and_then(Option::as_mut) else { return };
        let mut interest = epoll::EventFlags::empty();
        let sent = peer.flush();
        interest.set(epoll::EventFlags::IN, peer.has_room());
        interest.set(epoll::EventFlags::OUT, peer.has_replies());
        let token = epoll::EventData::new_u64(FIRST_PEER_TOKEN + index as u64);
        if sent.and_then(|()| epoll::modify(&self.epoll, peer.socket(), token, interest)).is_err() {
            self.peers[index] = None;
        }
    }

    fn answer(&mut self, peer: usize, request: Request) {
        let seq = request.seq;
        let answered = match request.op {
            Some(request::Op::Create(create)) => self.create(peer, &create).map(Some),
            Some(request::Op::Destroy(destroy)) => self.destroy(peer, seq, &destroy).map(|()| None),
            Some(request::Op::Inventory(Inventory { after_id })) => list(&self.ground, &after_id).map(Some),
            Some(request::Op::Adopt(Adopt { id })) => self.adopt(peer, &id).map(Some),
            None => Err(Fault::refused("request", "no operation")),
        };
        match answered {
            Ok(Some((op, descriptors))) => self.reply(peer, seq, op, descriptors),
            Ok(None) => {}
            Err(fault) => self.reply(peer, seq, failed(fault), Vec::new()),
        }
    }

    fn reply(&mut self, peer: usize, seq: u64, op: reply::Op, descriptors: Vec<OwnedFd>) {
        if let Some(peer) = self.peers.get_mut(peer).and_then(Option::as_mut) {
            peer.queue(&Reply { seq, op: Some(op) }, descriptors);
        }
    }

    fn create(&mut self, peer: usize, request: &Create) -> Answer {
        let blocks = &self.blocks;
        let id = create::check(self.ground.claims(), request, |block| blocks.values().any(|&used| used == block))?;
        let Started { identity, enforced, pid, pidfd, link, failure } = create::create(&mut self.ground, id, request)?;
        self.blocks.insert(id, request.block);
        let serial = self.watched.next_serial();
        let token = epoll::EventData::new_u64(FIRST_SANDBOX_TOKEN + serial);
        // Without the watch a failure is still read when the child is reaped.
        let _ = epoll::add(&self.epoll, &failure, token, epoll::EventFlags::IN);
        let agent = Agent::Child(pid);
        self.watched.insert(id, Live { agent, serial, peer, failure: Some(failure), report: None, dying: false });
        let created = Created { identity: Some(identity), enforced: Some(enforced) };
        Ok((reply::Op::Created(created), vec![link, pidfd]))
    }

    fn adopt(&mut self, peer: usize, id: &str) -> Answer {
        let id = SandboxId::parse(id).ok_or_else(|| Fault::refused("id", "not 32 characters of a-z2-7"))?;
        let (identity, pidfd) =
            inventory::living(&self.ground, id).ok_or_else(|| Fault::refused("adopt", "no living agent"))?;
        if let Some(live) = self.watched.live_mut(id) {
            live.peer = peer;
        } else {
            self.watch_adopted(id, peer, &pidfd)?;
        }
        Ok((reply::Op::Adopted(Adopted { identity: Some(identity) }), vec![pidfd]))
    }

    fn watch_adopted(&mut self, id: SandboxId, peer: usize, pidfd: &OwnedFd) -> Result<(), Fault> {
        use super::fault::At;
        let own = rustix::io::fcntl_dupfd_cloexec(pidfd, 0).at("adopt")?;
        let serial = self.watched.next_serial();
        let token = epoll::EventData::new_u64(FIRST_SANDBOX_TOKEN + serial);
        epoll::add(&self.epoll, &own, token, epoll::EventFlags::IN).at("adopt")?;
        let agent = Agent::Adopted(own);
        self.watched.insert(id, Live { agent, serial, peer, failure: None, report: None, dying: false });
        Ok(())
    }

    fn destroy(&mut self, peer: usize, seq: u64, request: &Destroy) -> Result<(), Fault> {
        use super::fault::At;
        let id = SandboxId::parse(&request.id).ok_or_else(|| Fault::refused("id", "not 32 characters of a-z2-7"))?;
        let files = if request.keep_files { FilesGo::Nowhere } else { FilesGo::ToTrash };
        if let Some(under_way) = self.destroys.get_mut(&id) {
            under_way.asked_by.push((peer, seq));
            if files == FilesGo::ToTrash {
                under_way.files = files;
            }
            return Ok(());
        }
        if self.destroys.len() >= DESTROYS_MAX {
            return Err(Fault::busy("destroy", "too many destroys under way"));
        }
        if self.watched.live_mut(id).is_none()
            && let Some((_, pidfd)) = inventory::living(&self.ground, id)
        {
            self.watch_adopted(id, peer, &pidfd)?;
        }
        let mut due = Some(Instant::now());
        if let Some(live) = self.watched.live_mut(id) {
            live.kill().at("kill")?;
            live.dying = true;
            due = None;
        }
        self.destroys.insert(id, Destroying { files, asked_by: vec![(peer, seq)], tries: 0, due });
        Ok(())
    }

    /// Takes every ended child in.
    fn reap(&mut self) {
        let mut information = [0_u8; 4096];
        while matches!(rustix::io::read(&self.signals, &mut information), Ok(n) if n > 0) {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if let Some(id) = self.watched.id_of_pid(pid) {
                self.ended(id, status.as_raw());
            }
        }
    }

    /// An event of a failure pipe or of an adopted agent's pidfd.
    fn look_at_sandbox(&mut self, serial: u64) {
        let Some(id) = self.watched.id_of_serial(serial) else { return };
        let Some(live) = self.watched.live_mut(id) else { return };
        match live.agent {
            Agent::Child(_) => live.read_failure(),
            Agent::Adopted(_) => self.ended(id, -1),
        }
    }

    fn ended(&mut self, id: SandboxId, wait_status: i32) {
        let Some(mut live) = self.watched.remove(id) else { return };
        live.read_failure();
        if let Some(destroy) = self.destroys.get_mut(&id) {
            destroy.due = Some(Instant::now());
        }
        if live.dying {
            return;
        }
        let (step, errno) = live.report.unwrap_or_default();
        let ended = Ended { id: id.as_str().to_owned(), step: step.to_owned(), errno, wait_status };
        self.reply(live.peer, 0, reply::Op::Ended(ended), Vec::new());
        self.settle(live.peer);
    }

    /// Goes on with destroys whose agent is gone.
    fn continue_destroys(&mut self) {
        let now = Instant::now();
        let due: Vec<SandboxId> =
            self.destroys.iter().filter(|(_, d)| d.due.is_some_and(|due| due <= now)).map(|(&id, _)| id).collect();
        for id in due {
            let Some(destroy) = self.destroys.get_mut(&id) else { continue };
            destroy.tries += 1;
            let op = match teardown::remove_traces(&self.ground, id, destroy.files) {
                Ok(Removal::Busy) if destroy.tries < RETRIES_MAX => {
                    destroy.due = Some(now + Duration::from_millis(RETRY_MS));
                    continue;
                }
                Ok(Removal::Busy) => failed(Fault::busy("remove_cgroup", "still in use")),
                Ok(Removal::Done) => {
                    self.blocks.remove(&id);
                    reply::Op::Destroyed(Destroyed {})
                }
                Err(fault) => failed(fault),
            };
            let asked_by = self.destroys.remove(&id).map(|destroy| destroy.asked_by).unwrap_or_default();
            for (peer, seq) in asked_by {
                self.reply(peer, seq, op.clone(), Vec::new());
                self.settle(peer);
            }
        }
    }
}

/// A reply's operation and the descriptors that go with it.
type Answer = Result<(reply::Op, Vec<OwnedFd>), Fault>;

fn list(ground: &Ground, after_id: &str) -> Answer {
    Ok((reply::Op::Listed(inventory::list(ground, start_after(after_id)?)), Vec::new()))
}

/// Where a page starts; empty: at the start.
pub(super) fn start_after(after_id: &str) -> Result<Option<SandboxId>, Fault> {
    match after_id {
        "" => Ok(None),
        text => SandboxId::parse(text).map(Some).ok_or_else(|| Fault::refused("after_id", "not an id")),
    }
}

fn failed(fault: Fault) -> reply::Op {
    reply::Op::Failed(Failed { step: fault.step.to_owned(), errno: fault.errno, message: fault.message })
}
