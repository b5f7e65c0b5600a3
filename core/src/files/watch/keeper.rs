//! The thread that keeps all watches: takes events before it lists, and lists in small pieces, in turn.
//!
//! Sandboxes share [`INSTANCES`] inotify instances, which the kernel counts by user (128), by their id: one that makes
//! more events than are read fills the queue of its own instance only. An instance is there while it has a watch.

use super::instance::{Event, Instance, Next};
use super::watcher::{Role, Totals, Watcher};
use super::{Start, WATCHES_MAX, limit, stopped};
use crate::error::Error;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const INSTANCES: usize = 16;
/// Watches that wait to begin.
const STARTS_MAX: usize = 256;
/// How long one watch lists before the next one does, and events are taken.
const LISTS_MAX: Duration = Duration::from_millis(1);

/// The way to the thread; it ends with the last one.
#[derive(Clone)]
pub(in crate::files) struct Keeper(Arc<Way>);

struct Way {
    starts: Option<flume::Sender<(usize, Start)>>,
    wake: Arc<OwnedFd>,
}

impl Keeper {
    pub(in crate::files) fn start() -> std::io::Result<Keeper> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (starts, waiting) = flume::bounded(STARTS_MAX);
        let woken = wake.clone();
        thread::Builder::new().name("watch".to_owned()).spawn(move || {
            loop {
                let mut thread = Thread::new(&waiting, &woken);
                match catch_unwind(AssertUnwindSafe(|| thread.run())) {
                    Ok(()) => return,
                    // All watches end; new ones can begin.
                    Err(_) => tracing::error!("the watching of files panicked"),
                }
            }
        })?;
        Ok(Keeper(Arc::new(Way { starts: Some(starts), wake })))
    }

    /// Hands a watch over. `shard` is the same for all of one sandbox.
    pub(super) fn begin(&self, shard: impl FnOnce(usize) -> usize, start: Start) -> Result<(), Error> {
        let Some(starts) = &self.0.starts else { return Err(stopped()) };
        starts.try_send((shard(INSTANCES), start)).map_err(|_| limit::starts())?;
        self.wake();
        Ok(())
    }

    /// Makes the thread look for those who have left.
    pub(super) fn wake(&self) {
        self.0.wake();
    }
}

impl Way {
    fn wake(&self) {
        // Full means that it is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.starts = None;
        self.wake();
    }
}

/// What the thread has.
struct Thread<'a> {
    starts: &'a flume::Receiver<(usize, Start)>,
    wake: &'a OwnedFd,
    instances: Vec<Option<Instance<Role>>>,
    /// By a number that is never used again, with that of its instance.
    watchers: BTreeMap<u64, (usize, Watcher)>,
    totals: Totals,
    next: u64,
}

impl<'a> Thread<'a> {
    fn new(starts: &'a flume::Receiver<(usize, Start)>, wake: &'a OwnedFd) -> Thread<'a> {
        let instances = (0..INSTANCES).map(|_| None).collect();
        Thread { starts, wake, instances, watchers: BTreeMap::new(), totals: Totals::default(), next: 0 }
    }

    /// Until nobody can begin a watch any more.
    fn run(&mut self) {
        loop {
            loop {
                match self.starts.try_recv() {
                    Ok((slot, start)) => self.begin(slot, start),
                    Err(flume::TryRecvError::Empty) => break,
                    Err(flume::TryRecvError::Disconnected) => return,
                }
            }
            let mut until = None;
            for slot in 0..INSTANCES {
                let wait = self.take_events(slot);
                until = until.into_iter().chain(wait).min();
            }
            self.list();
            if self.watchers.values().any(|(_, watcher)| watcher.has_work()) {
                until = Some(Instant::now());
            }
            self.wait(until);
        }
    }

    fn begin(&mut self, slot: usize, start: Start) {
        if self.watchers.len() >= WATCHES_MAX {
            return start.reply.send(Err(limit::watches()));
        }
        if self.instances[slot].is_none() {
            match Instance::new() {
                Ok(instance) => self.instances[slot] = Some(instance),
                Err(errno) => return start.reply.send(Err(limit::instances(errno))),
            }
        }
        self.next += 1;
        let Some(instance) = &mut self.instances[slot] else { return };
        if let Some(watcher) = Watcher::begin(self.next, start, instance, &mut self.totals) {
            self.watchers.insert(self.next, (slot, watcher));
        }
    }

    /// Takes what an instance has; until when it waits for more.
    fn take_events(&mut self, slot: usize) -> Option<Instant> {
        self.instances[slot].as_mut()?.read();
        loop {
            let event = match self.instances[slot].as_mut()?.next(Instant::now()) {
                Next::Event(event) => event,
                Next::Nothing => break,
                Next::Wait(until) => return Some(until),
            };
            let all = |(id, (of, _)): (&u64, &(usize, Watcher))| (*of == slot).then_some(*id);
            let mut ids: Vec<u64> = {
                let users = |wd| self.instances[slot].iter().flat_map(move |instance| instance.users(wd));
                match &event {
                    Event::Created(at, _) | Event::Removed(at, _) | Event::Modified(at, _) => {
                        users(at.wd).map(|user| user.watch).collect()
                    }
                    Event::Gone(wd) => users(*wd).map(|user| user.watch).collect(),
                    Event::Moved { from, to, .. } => {
                        from.iter().chain(to).flat_map(|at| users(at.wd)).map(|user| user.watch).collect()
                    }
                    Event::Ended(_) => Vec::new(),
                    Event::Lost => self.watchers.iter().filter_map(all).collect(),
                }
            };
            ids.sort_unstable();
            ids.dedup();
            if let (Event::Ended(wd), Some(instance)) = (&event, &mut self.instances[slot]) {
                instance.ended(*wd);
            }
            for id in ids {
                self.with(id, |watcher, instance, totals| watcher.take(&event, instance, totals));
            }
        }
        let doubting = self.watchers.iter().filter(|(_, (of, watcher))| *of == slot && watcher.has_doubts());
        let ids: Vec<u64> = doubting.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.with(id, Watcher::calm));
        None
    }

    /// Lets each watch list for a while.
    fn list(&mut self) {
        let ids: Vec<u64> =
            self.watchers.iter().filter(|(_, (_, watcher))| watcher.has_work()).map(|(id, _)| *id).collect();
        for id in ids {
            let began = Instant::now();
            while began.elapsed() < LISTS_MAX && self.watchers.get(&id).is_some_and(|(_, w)| w.has_work()) {
                self.with(id, Watcher::work);
            }
        }
    }

    /// Does something with a watch, which ends where that fails.
    fn with(&mut self, id: u64, act: impl FnOnce(&mut Watcher, &mut Instance<Role>, &mut Totals) -> Result<(), Error>) {
        let Some((slot, watcher)) = self.watchers.get_mut(&id) else { return };
        let Some(instance) = &mut self.instances[*slot] else { return };
        if let Err(error) = act(watcher, instance, &mut self.totals) {
            self.end(id, Some(error));
        }
    }

    fn end(&mut self, id: u64, why: Option<Error>) {
        let Some((slot, watcher)) = self.watchers.remove(&id) else { return };
        let is_last = !self.watchers.values().any(|(of, _)| *of == slot);
        if let Some(instance) = &mut self.instances[slot] {
            watcher.end(instance, &mut self.totals, why);
        }
        if is_last {
            self.instances[slot] = None;
        }
    }

    /// Waits for events, a start, or one who leaves.
    fn wait(&mut self, until: Option<Instant>) {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() }
        });
        let is_woken = {
            let mut fds = vec![PollFd::new(self.wake, PollFlags::IN)];
            let instances = self.instances.iter().flatten();
            fds.extend(instances.map(|instance| PollFd::from_borrowed_fd(instance.fd(), PollFlags::IN)));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => {
                    tracing::error!(%errno, "the watching of files cannot wait");
                    thread::sleep(LISTS_MAX);
                }
            }
            !fds[0].revents().is_empty()
        };
        if is_woken {
            let _ = rustix::io::read(self.wake.as_fd(), &mut [0_u8; 8][..]);
            let gone = self.watchers.iter().filter(|(_, (_, watcher))| watcher.is_abandoned());
            let gone: Vec<u64> = gone.map(|(id, _)| *id).collect();
            gone.into_iter().for_each(|id| self.end(id, None));
        }
    }
}
