//! How the server carries out effects: later, sometimes badly, and each comes back as one event.

use crate::world::{Asked, BLOCKS, Next, OnHost, START_US, World};
use workspace_core::sandbox::State;
use workspace_core::sandbox::deadlines::{Due, monotonic_ms, retry_delay_ms};
use workspace_core::sandbox::state::{Effect, Event, Kept};
use workspace_core::store::Record;
use workspace_core::store::writer::{Once, Row, Write, Written, settle};
use workspace_core::{Error, Reason, SandboxId};

/// Small, so that it is full now and then.
const QUEUE_WRITES_MAX: usize = 12;

impl World {
    pub(super) fn perform(&mut self, id: SandboxId, effects: Vec<Effect>) {
        for effect in effects {
            let Some(server) = &mut self.server else { return };
            let Some((_, record)) = server.slots.get(&id) else { return };
            let (record, number) = (record.clone(), self.server_number);
            let delay = self.random.below(300);
            match effect {
                Effect::Launch => self.later(delay, Next::Machine(number, id, OnHost::Launch(record.block))),
                Effect::Destroy(files) => self.later(delay, Next::Machine(number, id, OnHost::Destroy(files))),
                Effect::Adopt => self.later(delay, Next::Machine(number, id, OnHost::Adopt)),
                Effect::CountProcesses => {
                    let count = self.random.below(2);
                    self.later(delay, Next::Event(number, id, Event::Counted(count)));
                }
                Effect::Keep => self.ask_to_write(id, Asked::Keep, keep(&record)),
                Effect::KeepFailed(why) => {
                    let record = Record { state: State::Error, error_message: Some(why), identity: None, ..record };
                    let write = Write::Put(row(&record));
                    self.totals.failed += 1;
                    self.ask_to_write(id, Asked::KeepFailed(Box::new(record)), write);
                }
                Effect::KeepDying => {
                    let record = Record { dying: true, ..record };
                    let write = Write::Put(row(&record));
                    self.ask_to_write(id, Asked::KeepDying(Box::new(record)), write);
                }
                Effect::Forget => self.ask_to_write(id, Asked::Forget, Write::Remove(id)),
                Effect::UndoKeep => self.ask_to_write(id, Asked::Forget, Write::UndoCreate(id)),
                Effect::WatchExpiry => {
                    if let Some(at_us) = record.expires_at_us {
                        let at_ms = monotonic_ms(at_us, START_US + self.now_ms * 1000, self.now_ms);
                        self.set_deadline(id, Due::Expiry, at_ms);
                    }
                }
                Effect::RetryLater(tries) => {
                    self.set_deadline(id, Due::Retry, self.now_ms + retry_delay_ms(tries));
                }
                Effect::AnswerCreate(Ok(kept)) => {
                    match kept {
                        Kept::Created => self.totals.created += 1,
                        Kept::Replayed(_) => self.totals.replayed += 1,
                        Kept::Conflict => self.totals.conflicts += 1,
                    }
                    self.callers.created(id, kept, record.idempotency_key.as_deref(), record.expires_at_us, &self.disk);
                }
                Effect::AnswerDelete(Ok(())) => {
                    self.totals.deleted += 1;
                    self.callers.deleted(id);
                }
                Effect::AnswerCreate(Err(_)) | Effect::AnswerDelete(Err(_)) => {}
                Effect::Release => {
                    server.slots.remove(&id);
                    server.deadlines.forget(id);
                    if record.block < BLOCKS {
                        server.free_blocks.insert(record.block);
                    }
                    assert!(!self.host.standing.contains_key(&id), "{id} was released and stands");
                }
            }
        }
    }

    pub(super) fn on_host(&mut self, id: SandboxId, what: &OnHost) -> Event {
        let failed = || Error::new(Reason::RuntimeError, "failed");
        let (random, fails) = (&mut self.random, self.fail_percent);
        match what {
            OnHost::Launch(block) => {
                Event::Launched(self.host.launch(id, *block, random, fails).map(drop).ok_or_else(failed))
            }
            OnHost::Destroy(files) => {
                let done = self.host.destroy(id, *files, random, fails);
                Event::Destroyed(if done { Ok(()) } else { Err(failed()) })
            }
            OnHost::Adopt => {
                let alive = self.host.standing.get(&id).is_some_and(|standing| standing.agent.is_some());
                if alive && !random.percent(fails) {
                    self.totals.adopted += 1;
                    Event::Adopted(Ok(()))
                } else {
                    Event::Adopted(Err(failed()))
                }
            }
        }
    }

    pub(super) fn ask_to_write(&mut self, id: SandboxId, asked: Asked, write: Write) {
        let number = self.server_number;
        let Some(server) = &mut self.server else { return };
        if server.writes.len() >= QUEUE_WRITES_MAX && self.fail_percent > 0 {
            let full = Err(Error::new(Reason::Overloaded, "full"));
            return self.later(0, Next::Written(number, id, asked, full));
        }
        server.writes.push_back((id, asked, write));
        self.take_batch();
    }

    /// The writer takes what has gathered, unless it is at work.
    pub(super) fn take_batch(&mut self) {
        let (count, delay, number) = (1 + self.random.below(8), 1 + self.random.below(30), self.server_number);
        let Some(server) = &mut self.server else { return };
        if server.taken.is_empty() && !server.writes.is_empty() {
            let count = (count as usize).min(server.writes.len());
            server.taken = server.writes.drain(..count).collect();
            self.later(delay, Next::Commit(number));
        }
    }

    pub(super) fn commit(&mut self) {
        let Some(server) = &mut self.server else { return };
        let taken = std::mem::take(&mut server.taken);
        let writes: Vec<&Write> = taken.iter().map(|(.., write)| write).collect();
        let answers = settle(&mut self.faulty_disk(), &writes);
        assert_eq!(answers.len(), taken.len(), "one answer for each write");
        for ((id, asked, _), answer) in taken.into_iter().zip(answers) {
            let (delay, number) = (self.random.below(20), self.server_number);
            self.later(delay, Next::Written(number, id, asked, answer));
        }
        self.take_batch();
    }

    pub(super) fn written(&mut self, id: SandboxId, asked: Asked, result: Result<Written, Error>) {
        let event = match &asked {
            Asked::Keep => Event::Kept(result.clone().map(|written| match written {
                Written::Done | Written::Created => Kept::Created,
                Written::Replayed(earlier) => Kept::Replayed(earlier),
                Written::Conflict => Kept::Conflict,
            })),
            Asked::KeepFailed(_) => Event::FailedKept(result.clone().map(drop)),
            Asked::KeepDying(_) => Event::DyingKept(result.clone().map(drop)),
            Asked::Forget => Event::Forgotten(result.clone().map(drop)),
        };
        let slot = self.server.as_mut().and_then(|server| server.slots.get_mut(&id));
        if let (Ok(_), Asked::KeepFailed(now) | Asked::KeepDying(now), Some((_, record))) = (&result, asked, slot) {
            *record = *now;
        }
        self.feed(id, event);
    }

    pub(super) fn set_deadline(&mut self, id: SandboxId, due: Due, at_ms: u64) {
        let number = self.server_number;
        if let Some(server) = &mut self.server {
            server.deadlines.set(id, due, at_ms);
        }
        self.later(at_ms.saturating_sub(self.now_ms), Next::Deadline(number));
    }

    pub(super) fn look_at_deadlines(&mut self) {
        while let Some((id, due)) = self.server.as_mut().and_then(|server| server.deadlines.take_due(self.now_ms)) {
            match due {
                Due::Expiry => {
                    self.totals.expired += 1;
                    self.feed(id, Event::Expired);
                }
                Due::Retry => self.feed(id, Event::Retry),
            }
        }
    }
}

fn keep(record: &Record) -> Write {
    match &record.idempotency_key {
        None => Write::Put(row(record)),
        Some(key) => {
            // Some keys come with one of two bodies.
            let digest = record.created_at_us / 1000 % 5 / 4;
            Write::PutCreate(row(record), Once { key: key.clone().into_bytes(), digest, now_us: record.created_at_us })
        }
    }
}

fn row(record: &Record) -> Row {
    let bytes = record.encode().expect("small");
    Row { id: record.id, created_at_us: record.created_at_us, bytes }
}
