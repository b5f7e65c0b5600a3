//! Sandboxes made ahead, so that a create takes one instead of waiting for a launch.
//!
//! A blank is a whole sandbox with the default limits, an id of this shard and a block of its own, but without a
//! record: nobody was told of it, and after a crash the next start removes it like any other stranger. Taking one
//! costs nothing but the record's commit. A create with other limits is launched for itself.
//! Refilled in the background, one at a time, and not while memory is short.

use super::{Shard, spawn};
use crate::agent::Agent;
use crate::id::SandboxId;
use crate::runtime::Files;
use crate::sandbox::{CreateSandbox, Enforced};
use crate::store::Identity;
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// Before each refill: the create that took the blank is usually followed by a command, which goes first.
const REFILL_PAUSE: Duration = Duration::from_millis(10);
/// After a blank could not be made.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// How often a pool that waits for memory looks again.
const SHORT_PAUSE: Duration = Duration::from_secs(1);
/// No blank is made while less of the machine's memory than one part in this many is available.
const MEMORY_PARTS: u64 = 10;

/// How long the end of the server waits for what is being made or removed, and how often it looks, in milliseconds.
const SETTLE_MS_MAX: u64 = 5_000;
const SETTLE_LOOK_MS: u64 = 10;

/// A sandbox that nobody has asked for yet.
pub(super) struct Blank {
    pub(super) id: SandboxId,
    pub(super) block: u32,
    pub(super) agent: Rc<dyn Agent>,
    pub(super) identity: Identity,
    pub(super) enforced: Enforced,
}

/// The blanks of one shard.
pub(super) struct Pool {
    /// How many to keep; 0 once the server stops.
    blanks_max: usize,
    ready: VecDeque<Blank>,
    /// Being made, or being removed.
    unsettled: usize,
    taken: (flume::Sender<()>, flume::Receiver<()>),
}

impl Pool {
    pub(super) fn new(blanks_max: usize) -> Pool {
        Pool { blanks_max, ready: VecDeque::new(), unsettled: 0, taken: flume::bounded(1) }
    }

    /// Forgets a blank whose agent has ended. True where it was one.
    pub(super) fn drop_blank(&mut self, id: SandboxId) -> Option<Blank> {
        let at = self.ready.iter().position(|blank| blank.id == id)?;
        self.ready.remove(at)
    }

    pub(super) fn holds(&self, id: SandboxId) -> bool {
        self.ready.iter().any(|blank| blank.id == id)
    }

    fn wants(&self) -> bool {
        self.ready.len() < self.blanks_max
    }
}

impl Shard {
    /// A blank for this request, if one fits and is alive.
    pub(super) fn take_blank(&self, request: &CreateSandbox) -> Option<Blank> {
        let plain = request.memory_bytes.is_none() && request.cpus.is_none() && request.pids.is_none();
        if !plain {
            return None;
        }
        let mut pool = self.0.pool.borrow_mut();
        let blank = pool.ready.pop_front()?;
        let _ = pool.taken.0.try_send(());
        drop(pool);
        if blank.agent.closed().now_or_never().is_none() {
            return Some(blank);
        }
        self.remove_blank(blank);
        None
    }

    /// Keeps the pool full for as long as the server serves. Call once, when what a start found is resolved.
    pub fn keep_pool_full(&self) {
        let shard = self.clone();
        let taken = self.0.pool.borrow().taken.1.clone();
        spawn(async move {
            loop {
                while shard.0.pool.borrow().wants() {
                    monoio::time::sleep(REFILL_PAUSE).await;
                    let pause = match memory_is_short() {
                        true => Some(SHORT_PAUSE),
                        false => shard.make_blank().await,
                    };
                    if let Some(pause) = pause {
                        monoio::time::sleep(pause).await;
                    }
                }
                if taken.recv_async().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Ends all blanks, also one that is being made, and makes no more: for the end of the server.
    pub async fn empty_pool(&self) {
        let blanks = {
            let mut pool = self.0.pool.borrow_mut();
            pool.blanks_max = 0;
            std::mem::take(&mut pool.ready)
        };
        let ends = blanks.into_iter().map(|blank| {
            let runtime = self.0.runtime.clone();
            async move { runtime.destroy(blank.id, Files::Trash).await }
        });
        for result in futures_util::future::join_all(ends).await {
            if let Err(error) = result {
                tracing::warn!(%error, "a sandbox made ahead was not removed; the next start will");
            }
        }
        self.tell_trash();
        for _ in 0..SETTLE_MS_MAX / SETTLE_LOOK_MS {
            if self.0.pool.borrow().unsettled == 0 {
                return;
            }
            monoio::time::sleep(Duration::from_millis(SETTLE_LOOK_MS)).await;
        }
        tracing::warn!("sandboxes without a caller were not removed in time; the next start will");
    }

    /// Makes one. How long to wait where that failed.
    async fn make_blank(&self) -> Option<Duration> {
        let _unsettled = Unsettled::new(self);
        let Some(block) = self.0.blocks.borrow_mut().take() else { return Some(FAILED_PAUSE) };
        let id = self.draw_id();
        let made = async {
            let launched = self.0.runtime.create(self.blank_plan(id, block)).await?;
            let (identity, enforced) =
                (self.kept_identity(&launched.identity), super::record::enforced(&launched.enforced, None));
            let agent = self.0.connector.connect(launched.link, id, self.0.settings.agent_timeout_ms).await?;
            Ok::<_, crate::error::Error>(Blank { id, block, agent, identity, enforced })
        };
        match made.await {
            Ok(blank) if self.0.pool.borrow().wants() => {
                self.0.pool.borrow_mut().ready.push_back(blank);
                None
            }
            Ok(blank) => {
                self.remove_blank(blank);
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a sandbox could not be made ahead");
                self.remove_id(id, block);
                Some(FAILED_PAUSE)
            }
        }
    }

    pub(super) fn remove_blank(&self, blank: Blank) {
        self.remove_id(blank.id, blank.block);
    }

    /// Ends what has no record, in the background.
    pub(super) fn remove_id(&self, id: SandboxId, block: u32) {
        let shard = self.clone();
        let unsettled = Unsettled::new(self);
        spawn(async move {
            let _unsettled = unsettled;
            match shard.0.runtime.destroy(id, Files::Trash).await {
                Ok(()) => shard.0.blocks.borrow_mut().give_back(block),
                Err(error) => tracing::warn!(sandbox = %id, %error, "not removed; the next start tries again"),
            }
            shard.tell_trash();
        });
    }
}

/// Something without a record is on its way: counted while it lives.
struct Unsettled(Shard);

impl Unsettled {
    fn new(shard: &Shard) -> Unsettled {
        shard.0.pool.borrow_mut().unsettled += 1;
        Unsettled(shard.clone())
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.0.0.pool.borrow_mut().unsettled -= 1;
    }
}

/// Also where the machine does not say.
fn memory_is_short() -> bool {
    says_short(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// From the text of /proc/meminfo.
fn says_short(text: &str) -> bool {
    let kib = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim_end_matches("kB").trim().parse::<u64>().ok()
    };
    match (kib("MemTotal:"), kib("MemAvailable:")) {
        (Some(total), Some(available)) => available < total / MEMORY_PARTS,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a line that says otherwise, memory is short.
    fn any_meminfo(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let says = |name: &str| text.lines().any(|line| line.starts_with(name));
        assert!(says_short(&text) || (says("MemTotal:") && says("MemAvailable:")));
    }

    #[test]
    fn memory_is_enough_only_where_it_is_said() {
        let enough = b"MemTotal:       16303428 kB\nMemFree:  1 kB\nMemAvailable:   15000000 kB\n";
        assert!(!says_short(&String::from_utf8_lossy(enough)));
        crate::fuzz::run(any_meminfo, &[enough, b"MemTotal: 18446744073709551615 kB\nMemAvailable: 0 kB\n"]);
    }
}
