//! One run: a server that carries out effects, late and sometimes badly, and is killed at any moment.

use crate::caller::Callers;
use crate::disk::{Disk, Tables};
use crate::host::Host;
use crate::random::Random;
use crate::totals::Totals;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use workspace_core::sandbox::deadlines::Deadlines;
use workspace_core::sandbox::state::{Effect, Event, Files, Found, Machine};
use workspace_core::sandbox::{Enforced, Enforcement, Force, Resources, State};
use workspace_core::store::Record;
use workspace_core::store::writer::{Write, Written, settle};
use workspace_core::{Error, SandboxId};

/// Wall time at the start, in µs.
pub(super) const START_US: u64 = 1_795_482_123_000_000;
pub(super) const BLOCKS: u32 = 10;
const ACTIONS: u64 = 120;
const STEPS_MAX: u64 = 200_000;

/// What lies in the future.
pub(super) enum Next {
    /// A caller or fate does something.
    Action,
    /// An effect on the machine is done now; the event follows.
    Machine(u64, SandboxId, OnHost),
    /// An event for a machine of the server with this number.
    Event(u64, SandboxId, Event),
    /// The writer commits what it has taken.
    Commit(u64),
    /// The writer's answer arrives.
    Written(u64, SandboxId, Asked, Result<Written, Error>),
    /// The server looks at its deadlines.
    Deadline(u64),
    Start,
}

#[derive(Clone)]
pub(super) enum OnHost {
    Launch(u32),
    Destroy(Files),
    Adopt,
}

/// Why something was written, with what the record is once that is done.
#[derive(Clone)]
pub(super) enum Asked {
    Keep,
    KeepFailed(Box<Record>),
    KeepDying(Box<Record>),
    Forget,
}

/// What is lost when the server is killed.
#[derive(Default)]
pub(super) struct Server {
    pub(super) slots: BTreeMap<SandboxId, (Machine, Record)>,
    pub(super) deadlines: Deadlines,
    pub(super) free_blocks: BTreeSet<u32>,
    pub(super) writes: VecDeque<(SandboxId, Asked, Write)>,
    pub(super) taken: Vec<(SandboxId, Asked, Write)>,
}

/// Everything.
pub(crate) struct World {
    pub(super) seed: u64,
    pub(super) shown: bool,
    pub(super) random: Random,
    pub(super) now_ms: u64,
    pub(super) order: u64,
    pub(super) future: BTreeMap<(u64, u64), Next>,
    /// Counts the servers; what comes for an earlier one falls on the floor.
    pub(super) server_number: u64,
    pub(super) server: Option<Server>,
    pub(super) disk: Tables,
    pub(super) disk_is_full: bool,
    pub(super) host: Host,
    pub(super) callers: Callers,
    pub(super) actions_left: u64,
    /// Of a hundred; 0 at the end.
    pub(super) fail_percent: u64,
    pub(super) totals: Totals,
}

impl World {
    /// A machine with a server that has just started.
    pub(crate) fn new(seed: u64, shown: bool) -> World {
        let mut random = Random::new(seed);
        let fail_percent = [0, 2, 10, 30][random.below(4) as usize];
        let mut world = World {
            seed,
            shown,
            random,
            now_ms: 0,
            order: 0,
            future: BTreeMap::new(),
            server_number: 0,
            server: None,
            disk: Tables::default(),
            disk_is_full: false,
            host: Host::default(),
            callers: Callers::default(),
            actions_left: ACTIONS,
            fail_percent,
            totals: Totals::default(),
        };
        world.later(0, Next::Start);
        world.later(1, Next::Action);
        world
    }

    /// Runs to the end: first anything may happen, then nothing fails any more and all is deleted.
    pub(crate) fn run(mut self) -> Totals {
        self.settle_down();
        self.fail_percent = 0;
        self.disk_is_full = false;
        self.kill_server();
        self.later(1, Next::Start);
        self.settle_down();
        let left: Vec<SandboxId> = self.disk.records.keys().copied().collect();
        for id in left {
            self.delete(id, Force::Yes);
        }
        self.settle_down();
        let server = self.server.take().expect("a server");
        assert!(
            server.slots.is_empty() && server.deadlines.is_empty() && server.writes.is_empty(),
            "seed {}",
            self.seed
        );
        assert_eq!(server.free_blocks.len(), BLOCKS as usize, "host ids were lost");
        assert!(self.disk.records.is_empty() && self.host.standing.is_empty() && self.host.files.is_empty());
        self.totals
    }

    /// Until nothing lies in the future.
    fn settle_down(&mut self) {
        let mut steps = 0;
        while let Some(((at_ms, _), next)) = self.future.pop_first() {
            self.now_ms = self.now_ms.max(at_ms);
            self.happen(next);
            self.callers.check(self.wall_us(), &self.disk, &self.host);
            steps += 1;
            assert!(steps < STEPS_MAX, "it never comes to rest");
        }
        for (id, (machine, _)) in self.server.iter().flat_map(|server| &server.slots) {
            assert!(machine.is_at_rest(), "{id} waits for what will never come: {machine:?}");
        }
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Action => self.act(),
            Next::Start => self.start(),
            Next::Machine(number, id, what) if number == self.server_number => {
                let event = self.on_host(id, &what);
                let delay = self.random.below(20);
                self.later(delay, Next::Event(number, id, event));
            }
            Next::Event(number, id, event) if number == self.server_number => self.feed(id, event),
            Next::Commit(number) if number == self.server_number => self.commit(),
            Next::Written(number, id, asked, result) if number == self.server_number => self.written(id, asked, result),
            Next::Deadline(number) if number == self.server_number => self.look_at_deadlines(),
            _ => {}
        }
    }

    /// A caller, or fate.
    fn act(&mut self) {
        if self.actions_left == 0 {
            // Else what waits for room would try again for ever.
            self.disk_is_full = false;
            return;
        }
        self.actions_left -= 1;
        let delay = self.random.below(400);
        self.later(delay, Next::Action);
        let listed: Vec<SandboxId> = self.disk.records.keys().copied().collect();
        let any = self.random.pick(&listed).copied();
        match (self.random.below(100), any) {
            (0..45, _) => self.create(),
            (45..65, Some(id)) => {
                let force = if self.random.percent(50) { Force::Yes } else { Force::No };
                self.delete(id, force);
            }
            (65..75, Some(id)) if self.host.kill(id) => {
                self.say(|| format!("{id} dies by itself"));
                let (delay, number) = (self.random.below(50), self.server_number);
                self.later(delay, Next::Event(number, id, Event::AgentLost("it died".into())));
            }
            (75..85, _) => {
                self.kill_server();
                if self.random.percent(30) {
                    self.say(|| "the machine is started again".into());
                    self.totals.reboots += 1;
                    self.host.reboot(&mut self.random);
                }
                let delay = self.random.below(3000);
                self.later(delay, Next::Start);
            }
            (85..95, _) => self.disk_is_full = !self.disk_is_full && self.fail_percent > 0,
            _ => {}
        }
    }

    fn create(&mut self) {
        let Some(server) = &mut self.server else { return };
        let Some(block) = server.free_blocks.pop_first() else {
            self.totals.refused += 1;
            return;
        };
        let id = SandboxId::from_random(self.random.bytes());
        let timeout = if self.random.percent(40) { self.random.below(60) } else { 0 };
        let now_us = START_US + self.now_ms * 1000;
        let key = self.random.percent(30).then(|| format!("key {}", self.random.below(6)));
        let record = Record {
            timeout,
            expires_at_us: (timeout > 0).then(|| now_us + timeout * 1_000_000),
            idempotency_key: key,
            ..blank(id, block, now_us)
        };
        self.say(|| format!("create {id} timeout {timeout} s"));
        let (machine, effects) = Machine::create();
        self.insert(id, machine, record, effects);
    }

    fn delete(&mut self, id: SandboxId, force: Force) {
        if self.server.is_none() {
            return;
        }
        self.say(|| format!("delete {id} {force:?}"));
        self.callers.asked_to_delete.insert(id);
        self.feed(id, Event::Delete(force));
    }

    /// `kill -9`: all that is in memory is gone; what was being done on the machine or the disk may be done or not.
    fn kill_server(&mut self) {
        let Some(server) = self.server.take() else { return };
        self.say(|| "the server is killed".into());
        self.totals.crashes += 1;
        for next in std::mem::take(&mut self.future).into_values() {
            match next {
                Next::Machine(_, id, what) if self.random.percent(50) => drop(self.on_host(id, &what)),
                Next::Action | Next::Start => self.later(1, next),
                _ => {}
            }
        }
        if self.random.percent(50) {
            // The commit that was under way: whole, or not at all.
            let writes: Vec<&Write> = server.taken.iter().map(|(.., write)| write).collect();
            let _ = settle(&mut self.faulty_disk(), &writes);
        }
        self.server_number += 1;
    }

    fn start(&mut self) {
        if self.server.is_some() {
            return;
        }
        self.server = Some(Server { free_blocks: (0..BLOCKS).collect(), ..Server::default() });
        let ids: BTreeSet<SandboxId> = self.disk.records.keys().chain(self.host.standing.keys()).copied().collect();
        self.say(|| format!("a server starts and finds {}", ids.len()));
        // A directory without record and without anything else is found in the launcher's inventory too.
        let ids: BTreeSet<SandboxId> = ids.into_iter().chain(self.host.files.keys().copied()).collect();
        for id in ids {
            let record = self.disk.record(&id);
            let boot_id = self.host.boot_id();
            let found = Found {
                record: record.as_ref().map(|record| (record.state, record.dying)),
                machine: self.host.of(&id, record.as_ref()),
                same_boot: record.as_ref().and_then(|r| r.identity.as_ref()).is_some_and(|i| i.boot_id == boot_id),
            };
            let (machine, effects) = Machine::recover(found);
            let block = record.as_ref().map(|r| r.block).or(self.host.standing.get(&id).map(|s| s.block));
            let record = record.unwrap_or_else(|| blank(id, block.unwrap_or(BLOCKS), START_US));
            if let (Some(block), Some(server)) = (block, &mut self.server) {
                assert!(server.free_blocks.remove(&block), "two sandboxes have the same host ids");
            }
            self.insert(id, machine, record, effects);
        }
    }

    fn insert(&mut self, id: SandboxId, machine: Machine, record: Record, effects: Vec<Effect>) {
        if let Some(server) = &mut self.server {
            server.slots.insert(id, (machine, record));
        }
        self.perform(id, effects);
    }

    pub(super) fn feed(&mut self, id: SandboxId, event: Event) {
        let Some((machine, record)) = self.server.as_mut().and_then(|server| server.slots.get_mut(&id)) else {
            return;
        };
        if let (Event::Launched(Ok(())), Some(standing)) = (&event, self.host.standing.get(&id)) {
            record.identity.clone_from(&standing.agent);
        }
        let text = self.shown.then(|| format!("{id} {event:?}"));
        let effects = machine.step(event);
        self.say(|| format!("{} → {effects:?}", text.unwrap_or_default()));
        self.perform(id, effects);
    }

    pub(super) fn faulty_disk(&mut self) -> Disk<'_> {
        Disk {
            tables: &mut self.disk,
            full: self.disk_is_full,
            fail_percent: self.fail_percent,
            random: &mut self.random,
            failed: &mut self.totals.failed_commits,
        }
    }

    fn wall_us(&self) -> u64 {
        START_US + self.now_ms * 1000
    }

    pub(super) fn later(&mut self, delay_ms: u64, next: Next) {
        self.order += 1;
        self.future.insert((self.now_ms + delay_ms, self.order), next);
    }

    fn say(&self, line: impl FnOnce() -> String) {
        if self.shown {
            println!("{:>8} ms  {}", self.now_ms, line());
        }
    }
}

fn blank(id: SandboxId, block: u32, created_at_us: u64) -> Record {
    let none = Enforcement::None;
    let enforced = Enforced { memory: Enforcement::Hard, cpu: none, disk: none, pids: Enforcement::Hard };
    Record {
        id,
        name: id.as_str()[..12].into(),
        template: "workspace-base:latest".into(),
        state: State::Running,
        env: BTreeMap::new(),
        metadata: BTreeMap::new(),
        created_at_us,
        updated_at_us: created_at_us,
        timeout: 0,
        idle_timeout: 0,
        expires_at_us: None,
        error_message: None,
        runtime: "namespace".into(),
        workspace_id: None,
        resources: Resources { memory_bytes: 1, cpus: None, pids: 1, disk_bytes: 1, enforced },
        network: "none".into(),
        block,
        identity: None,
        dying: false,
        idempotency_key: None,
    }
}
