//! How many calls of one operation run at once on one sandbox? Counted per core, up to the operation's limit.

use crate::operation::Entry;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use workspace_core::{Error, Reason, SandboxId};

type Key = (&'static str, SandboxId);

/// Who waits for a place, beyond which nobody may.
const WAITING_MAX: usize = 4096;

/// The calls that run on this core.
#[derive(Debug, Default)]
pub(crate) struct Running {
    counts: RefCell<HashMap<Key, u32>>,
    waiting: RefCell<Vec<(Key, flume::Sender<()>)>>,
}

/// A place among the calls that run at once on one sandbox.
#[derive(Debug)]
pub(crate) struct Slot {
    running: Rc<Running>,
    key: Option<Key>,
}

impl Slot {
    /// Takes a place, or says that there is none. It is given back when it is dropped.
    pub(crate) fn take(running: &Rc<Running>, entry: &Entry, sandbox: Option<SandboxId>) -> Result<Slot, Error> {
        let max = entry.limits.in_flight_max_per_sandbox;
        let key = sandbox.filter(|_| max < u32::MAX).map(|sandbox| (entry.name, sandbox));
        if let Some(key) = key {
            let mut counts = running.counts.borrow_mut();
            let count = counts.entry(key).or_insert(0);
            if *count >= max {
                let message = format!("{max} calls of {} run in this sandbox already", entry.name);
                return Err(Error::new(Reason::RateLimited, message));
            }
            *count += 1;
        }
        Ok(Slot { running: running.clone(), key })
    }

    /// Takes a place as soon as there is one. Dropping the future gives up.
    pub(crate) async fn wait(running: &Rc<Running>, entry: &Entry, sandbox: Option<SandboxId>) -> Result<Slot, Error> {
        loop {
            let error = match (Slot::take(running, entry, sandbox), sandbox) {
                (Err(error), Some(_)) => error,
                (taken, _) => return taken,
            };
            let Some(sandbox) = sandbox else { return Err(error) };
            let (tell, told) = flume::bounded(1);
            {
                let mut waiting = running.waiting.borrow_mut();
                waiting.retain(|(_, tell)| !tell.is_disconnected());
                if waiting.len() >= WAITING_MAX {
                    return Err(error);
                }
                waiting.push(((entry.name, sandbox), tell));
            }
            let turn = Turn { running, key: (entry.name, sandbox) };
            let _ = told.recv_async().await;
            std::mem::forget(turn);
        }
    }
}

/// Who waits. One that gives up passes on the turn that it may have got.
struct Turn<'a> {
    running: &'a Running,
    key: Key,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.running.wake(self.key);
    }
}

impl Running {
    fn wake(&self, key: Key) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(at) = waiting.iter().position(|(of, _)| *of == key) {
            if waiting.remove(at).1.try_send(()).is_ok() {
                break;
            }
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self.running.counts.borrow_mut();
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
        drop(counts);
        self.running.wake(key);
    }
}
