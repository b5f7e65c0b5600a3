//! Where calls that may wait for a disk run: named threads with bounded queues, away from the rings.
//!
//! ```text
//!   any core: pool.run(Short, || …).await ──► [ bounded queue ] ──► file-N: the call ──► the answer wakes the core
//! ```
//! Two kinds of threads, so that walks over large trees never keep a small read waiting: `file-N` for calls that end
//! by themselves after a piece, `tree-N` for those that last as long as a tree is large.
//! What a dropped future leaves behind: the call is made to its end; its answer falls on the floor.

use crate::error::{Error, Reason};
use crate::shard::mailbox::{Answer, oneshot};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Calls of one kind that may wait; more are refused.
const CALLS_MAX: usize = 1024;
const SHORT_THREADS_PER_CORE: usize = 2;
const THREADS_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// How long a call may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// A few system calls, at most one piece of a file.
    Short,
    /// As long as a tree or a file is large.
    Long,
}

/// The threads. A clone is the same ones; they end with the last clone.
#[derive(Clone)]
pub(super) struct Pool {
    short: flume::Sender<Work>,
    long: flume::Sender<Work>,
}

impl Pool {
    /// Starts the threads: two for short calls and one for long ones for each core, at least two.
    pub(super) fn start(cores: usize) -> std::io::Result<Pool> {
        let (short, short_work) = flume::bounded::<Work>(CALLS_MAX);
        let (long, long_work) = flume::bounded::<Work>(CALLS_MAX);
        let short_threads = (cores * SHORT_THREADS_PER_CORE).clamp(2, THREADS_MAX);
        for (name, count, work) in
            [("file", short_threads, short_work), ("tree", cores.clamp(2, THREADS_MAX), long_work)]
        {
            for number in 0..count {
                let work = work.clone();
                thread::Builder::new().name(format!("{name}-{number}")).spawn(move || {
                    while let Ok(work) = work.recv() {
                        if catch_unwind(AssertUnwindSafe(work)).is_err() {
                            tracing::error!("a call on files panicked");
                        }
                    }
                })?;
            }
        }
        Ok(Pool { short, long })
    }

    /// Makes a call there. 1008 where too many wait already.
    pub(super) async fn run<R: Send + 'static>(
        &self,
        lasts: Lasts,
        call: impl FnOnce() -> Result<R, Error> + Send + 'static,
    ) -> Result<R, Error> {
        let (reply, answer) = oneshot();
        let work: Work = Box::new(move || reply.send(call()));
        self.queue(lasts).try_send(work).map_err(|_| overloaded())?;
        answer.wait().await?
    }

    /// Gives the next piece of something that is under way to the threads; waits for its turn where many do. What
    /// it answers is waited for later.
    pub(super) async fn go_on<R: Send + 'static>(
        &self,
        call: impl FnOnce() -> Result<R, Error> + Send + 'static,
    ) -> Result<Answer<Result<R, Error>>, Error> {
        let (reply, answer) = oneshot();
        let work: Work = Box::new(move || reply.send(call()));
        self.short.send_async(work).await.map_err(|_| overloaded())?;
        Ok(answer)
    }

    /// Drops a value there: the last close of a large file that has no name any more takes a while.
    pub(super) fn discard(&self, value: impl Send + 'static) {
        let _ = self.long.try_send(Box::new(move || drop(value)));
    }

    fn queue(&self, lasts: Lasts) -> &flume::Sender<Work> {
        match lasts {
            Lasts::Short => &self.short,
            Lasts::Long => &self.long,
        }
    }
}

fn overloaded() -> Error {
    Error::new(Reason::Overloaded, "too many calls on files wait; try again")
}
