//! The soft limit of a sandbox's disk: looked at while commands run, and commands end when it is passed.
//!
//! Between two looks a command may go over the limit, or may make room again: that is what `soft` means in
//! `resources.enforced`. Started commands end too; what a command left running in the background does not.

use super::{Shard, Slot, spawn};
use crate::error::{Error, Reason};
use futures_util::future::{Either, select};
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

/// How often a sandbox in which commands run is measured.
const LOOK: Duration = Duration::from_secs(5);
const SIGKILL: u32 = 9;

impl Shard {
    /// Runs a command for as long as its sandbox is within its disk limit. Dropping the command's future kills it.
    pub(super) async fn within_disk<T>(
        &self,
        slot: &Rc<Slot>,
        run: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        slot.running.set(slot.running.get() + 1);
        let _running = Running(slot);
        if slot.running.get() == 1 {
            self.watch_disk(slot);
        }
        let full = slot.full.1.clone();
        match select(pin!(run), pin!(full.recv_async())).await {
            Either::Left((done, _)) => done,
            Either::Right(_) => Err(Error::new(
                Reason::NoSpace,
                format!(
                    "the sandbox's files use more than its disk_bytes ({}); the command was ended. Remove files by a short command, or use a larger sandbox",
                    slot.record.borrow().resources.disk_bytes
                ),
            )),
        }
    }

    /// Measures until no command runs. One watcher for each sandbox.
    pub(super) fn watch_disk(&self, slot: &Rc<Slot>) {
        if slot.watched.replace(true) {
            return;
        }
        let (shard, slot) = (self.clone(), slot.clone());
        spawn(async move {
            loop {
                monoio::time::sleep(LOOK).await;
                if slot.running.get() == 0 && shard.count_processes(&slot).await == 0 {
                    break;
                }
                let (id, limit_bytes) = {
                    let record = slot.record.borrow();
                    (record.id, record.resources.disk_bytes)
                };
                match shard.0.usage.of(id).await {
                    Ok(used_bytes) if used_bytes > limit_bytes => {
                        tracing::warn!(sandbox = %id, used_bytes, limit_bytes, "over its disk limit: its commands are ended");
                        // One word for each command that runs now.
                        for _ in 0..slot.running.get() {
                            let _ = slot.full.0.try_send(());
                        }
                        shard.end_started(&slot).await;
                    }
                    Ok(_) => {}
                    Err(error) => tracing::debug!(sandbox = %id, %error, "not measured"),
                }
            }
            slot.watched.set(false);
        });
    }
}

impl Shard {
    /// Kills the commands that nobody waits for.
    async fn end_started(&self, slot: &Rc<Slot>) {
        let Ok(agent) = self.agent(slot).await else { return };
        let Ok(processes) = agent.processes().await else { return };
        for process in processes.iter().filter(|process| process.ending.is_none() && !process.attached) {
            // It may have ended meanwhile.
            let _ = agent.signal(process.pid, SIGKILL).await;
        }
    }
}

/// Counts a command out, also when its caller has gone.
struct Running<'a>(&'a Rc<Slot>);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        if self.0.running.get() == 0 {
            // Words for commands that ended by themselves meanwhile must not meet the next ones.
            while self.0.full.1.try_recv().is_ok() {}
        }
    }
}
