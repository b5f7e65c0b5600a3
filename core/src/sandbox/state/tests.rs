//! Does every life end where it must, whatever fails on the way and in whatever order?

use super::*;
use crate::error::Reason;

fn failure() -> Error {
    Error::new(Reason::DatabaseError, "failed")
}

/// A machine after a create that went well.
fn running() -> Machine {
    let (mut machine, effects) = Machine::create();
    assert_eq!(effects, [Effect::Launch]);
    assert_eq!(machine.step(Event::Launched(Ok(()))), [Effect::Keep]);
    assert_eq!(
        machine.step(Event::Kept(Ok(Kept::Created))),
        [Effect::AnswerCreate(Ok(Kept::Created)), Effect::WatchExpiry]
    );
    assert!(machine.is_running() && machine.is_at_rest());
    machine
}

#[test]
fn a_delete_marks_destroys_forgets_and_answers_last() {
    let mut machine = running();
    assert_eq!(machine.step(Event::Delete(Force::No)), [Effect::CountProcesses]);
    assert!(matches!(machine.step(Event::Counted(2))[..], [Effect::AnswerDelete(Err(_))]));
    assert_eq!(machine.step(Event::Delete(Force::Yes)), [Effect::KeepDying]);
    assert_eq!(machine.step(Event::Delete(Force::Yes)), [], "one delete, two who wait");
    assert_eq!(machine.step(Event::DyingKept(Ok(()))), [Effect::Destroy(Files::Trash)]);
    assert_eq!(machine.step(Event::AgentLost("killed".into())), [], "that was wanted");
    assert_eq!(machine.step(Event::Destroyed(Ok(()))), [Effect::Forget]);
    assert_eq!(machine.step(Event::Forgotten(Ok(()))), [Effect::AnswerDelete(Ok(())), Effect::Release]);
    assert!(machine.is_gone());
}

#[test]
fn a_failed_set_up_leaves_nothing_and_says_why() {
    let (mut machine, _) = Machine::create();
    assert_eq!(machine.step(Event::AgentLost("step mount: EPERM".into())), []);
    assert_eq!(machine.step(Event::Launched(Err(failure()))), [Effect::Destroy(Files::Trash)]);
    assert!(matches!(
        machine.step(Event::Destroyed(Err(failure())))[..],
        [Effect::AnswerCreate(Err(_)), Effect::RetryLater(0)]
    ));
    assert_eq!(machine.step(Event::Retry), [Effect::Destroy(Files::Trash)]);
    assert_eq!(machine.step(Event::Destroyed(Ok(()))), [Effect::Release]);
}

#[test]
fn a_full_disk_undoes_the_create() {
    let (mut machine, _) = Machine::create();
    machine.step(Event::Launched(Ok(())));
    let full = Error::new(Reason::NoSpace, "full");
    assert_eq!(machine.step(Event::Kept(Err(full.clone()))), [Effect::Destroy(Files::Trash)]);
    assert_eq!(machine.step(Event::Destroyed(Ok(()))), [Effect::UndoKeep]);
    assert_eq!(machine.step(Event::Forgotten(Ok(()))), [Effect::AnswerCreate(Err(full)), Effect::Release]);
}

#[test]
fn a_lost_agent_keeps_the_files_and_the_reason() {
    let mut machine = running();
    assert_eq!(
        machine.step(Event::AgentLost("out of memory".into())),
        [Effect::KeepFailed("out of memory".into()), Effect::Destroy(Files::Keep)]
    );
    assert_eq!(machine.shown(), State::Error);
    assert_eq!(machine.step(Event::Delete(Force::No)), [], "waits until both have come back");
    assert_eq!(machine.step(Event::Destroyed(Ok(()))), []);
    assert_eq!(machine.step(Event::FailedKept(Ok(()))), [Effect::KeepDying]);
}

#[test]
fn a_delete_that_could_not_be_written_changes_nothing() {
    let mut machine = running();
    machine.step(Event::Delete(Force::Yes));
    let full = Error::new(Reason::NoSpace, "full");
    assert_eq!(machine.step(Event::DyingKept(Err(full.clone()))), [Effect::AnswerDelete(Err(full.clone()))]);
    assert_eq!(machine, running());
    assert_eq!(machine.step(Event::Expired), [Effect::KeepDying]);
    assert_eq!(machine.step(Event::DyingKept(Err(full))), [Effect::RetryLater(0)]);
    assert_eq!(machine.step(Event::Retry), [Effect::KeepDying], "a lifetime that is over is over");
}

#[test]
fn what_a_start_finds() {
    let found = |record, machine, same_boot| Machine::recover(Found { record, machine, same_boot });
    let first = |record, machine, same_boot| found(record, machine, same_boot).1.swap_remove(0);
    let destroy = Effect::Destroy(Files::Trash);
    assert_eq!(first(None, OnMachine::Agent, true), destroy);
    assert_eq!(first(None, OnMachine::Other, false), destroy);
    for on_machine in [OnMachine::Agent, OnMachine::Other, OnMachine::Nothing] {
        assert_eq!(first(Some((State::Running, true)), on_machine, true), destroy);
    }
    assert_eq!(first(Some((State::Running, false)), OnMachine::Agent, true), Effect::Adopt);
    for (on_machine, same_boot, reason) in [
        (OnMachine::Other, true, "agent_lost"),
        (OnMachine::Nothing, true, "agent_lost"),
        (OnMachine::Nothing, false, "host_restarted"),
    ] {
        let Effect::KeepFailed(why) = first(Some((State::Running, false)), on_machine, same_boot) else { panic!() };
        assert!(why.starts_with(reason), "{why}");
    }
    assert_eq!(found(Some((State::Error, false)), OnMachine::Nothing, true).1, [Effect::WatchExpiry]);
    assert_eq!(first(Some((State::Error, false)), OnMachine::Other, true), Effect::Destroy(Files::Keep));
}

/// A small generator with a fixed seed: xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % n
    }
}

/// Everything that is under way comes back in any order and fails as it likes, while callers delete, lifetimes end
/// and agents die. Then nothing fails any more and somebody deletes.
#[test]
fn every_life_ends_and_every_question_is_answered() {
    for seed in 1..=20_000 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let starts = [
            None,
            Some((None, OnMachine::Other)),
            Some((Some((State::Running, false)), OnMachine::Agent)),
            Some((Some((State::Running, false)), OnMachine::Nothing)),
            Some((Some((State::Error, false)), OnMachine::Other)),
            Some((Some((State::Running, true)), OnMachine::Agent)),
        ];
        let start = starts[random.below(starts.len())];
        let mut life = Checked::start(start);
        for _ in 0..random.below(60) {
            let delete = if random.below(2) == 0 { Force::No } else { Force::Yes };
            match random.below(12) {
                0 => life.feed(Event::Delete(delete), seed),
                1 => life.feed(Event::Expired, seed),
                2 => life.feed(Event::AgentLost("lost".into()), seed),
                3 if life.retry => life.feed(Event::Retry, seed),
                _ if !life.under_way.is_empty() => {
                    let effect = life.under_way.swap_remove(random.below(life.under_way.len()));
                    let event = life.come_back(effect, random.below(3) == 0, &mut random);
                    life.feed(event, seed);
                }
                _ => {}
            }
        }
        life.feed(Event::Delete(Force::Yes), seed);
        for _ in 0..30 {
            if let Some(effect) = life.under_way.pop() {
                let event = life.come_back(effect, false, &mut random);
                life.feed(event, seed);
            } else if life.retry {
                life.feed(Event::Retry, seed);
            } else if !life.machine.is_gone() {
                life.feed(Event::Delete(Force::Yes), seed);
            }
        }
        assert!(life.machine.is_gone() && life.released, "seed {seed}: {life:?}");
        assert!(!life.create_waits && life.deletes_wait == 0, "seed {seed}: {life:?}");
        assert!(!life.on_machine && !life.record, "seed {seed}: {life:?}");
    }
}

/// A machine with the smallest world around it: is there a record, is there anything on the machine, who waits.
#[derive(Debug)]
struct Checked {
    machine: Machine,
    under_way: Vec<Effect>,
    create_waits: bool,
    deletes_wait: u32,
    retry: bool,
    released: bool,
    record: bool,
    told: bool,
    on_machine: bool,
}

impl Checked {
    fn start(found: Option<(Option<(State, bool)>, OnMachine)>) -> Checked {
        let (machine, effects) = match found {
            None => Machine::create(),
            Some((record, on)) => Machine::recover(Found { record, machine: on, same_boot: true }),
        };
        let record = found.is_some_and(|(record, _)| record.is_some());
        let mut life = Checked {
            machine,
            under_way: vec![],
            create_waits: found.is_none(),
            deletes_wait: 0,
            retry: false,
            released: false,
            record,
            told: record,
            on_machine: found.is_some_and(|(_, on)| on != OnMachine::Nothing),
        };
        life.note(effects, 0);
        life
    }

    fn feed(&mut self, event: Event, seed: u64) {
        match &event {
            Event::Delete(_) => self.deletes_wait += 1,
            Event::Retry => self.retry = false,
            _ => {}
        }
        let effects = self.machine.step(event);
        self.note(effects, seed);
    }

    fn note(&mut self, effects: Vec<Effect>, seed: u64) {
        for effect in effects {
            let late = matches!(effect, Effect::AnswerDelete(Err(_)));
            assert!(!self.released || late, "seed {seed}: {effect:?} after the release");
            match effect {
                Effect::AnswerCreate(result) => {
                    assert!(self.create_waits, "seed {seed}: answered twice");
                    self.create_waits = false;
                    self.told = result == Ok(Kept::Created);
                    assert!(!self.told || self.record, "seed {seed}: told before it was durable");
                }
                Effect::AnswerDelete(result) => {
                    assert!(self.deletes_wait > 0, "seed {seed}: nobody asked");
                    self.deletes_wait = 0;
                    assert!(result.is_err() || !(self.record || self.on_machine), "seed {seed}: not gone");
                }
                Effect::RetryLater(_) => self.retry = true,
                Effect::WatchExpiry => {}
                Effect::Release => {
                    self.released = true;
                    assert!(!self.on_machine, "seed {seed}: something is left on the machine");
                }
                under_way => self.under_way.push(under_way),
            }
        }
        let on_machine = |e: &&Effect| matches!(e, Effect::Launch | Effect::Adopt | Effect::Destroy(_));
        let on_record = |e: &&Effect| {
            matches!(e, Effect::Keep | Effect::KeepFailed(_) | Effect::KeepDying | Effect::Forget | Effect::UndoKeep)
        };
        assert!(self.under_way.iter().filter(on_machine).count() <= 1, "seed {seed}: {self:?}");
        assert!(self.under_way.iter().filter(on_record).count() <= 1, "seed {seed}: {self:?}");
    }

    fn come_back(&mut self, effect: Effect, fails: bool, random: &mut Random) -> Event {
        let result = if fails { Err(failure()) } else { Ok(()) };
        match effect {
            Effect::Launch => {
                self.on_machine = !fails || random.below(2) == 0;
                Event::Launched(result)
            }
            Effect::Keep => Event::Kept(match random.below(5) {
                0 => Ok(Kept::Replayed(SandboxId::from_random([1; 20]))),
                1 => Ok(Kept::Conflict),
                _ if fails => {
                    // The end of a commit that failed is not known.
                    self.record = random.below(2) == 0;
                    Err(failure())
                }
                _ => {
                    self.record = true;
                    Ok(Kept::Created)
                }
            }),
            Effect::KeepFailed(_) => Event::FailedKept(result),
            Effect::KeepDying => Event::DyingKept(result),
            Effect::Destroy(_) => {
                self.on_machine &= fails;
                Event::Destroyed(result)
            }
            Effect::Adopt => Event::Adopted(result),
            Effect::Forget | Effect::UndoKeep => {
                self.record &= fails;
                Event::Forgotten(result)
            }
            Effect::CountProcesses => Event::Counted(random.below(2) as u64),
            other => panic!("{other:?} does not come back"),
        }
    }
}
