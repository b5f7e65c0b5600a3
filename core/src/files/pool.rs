//! Where calls that may wait for a disk run: named threads with bounded queues, away from the rings.
//!
//! ```text
//!   any core: pool.run(Short, || …).await ──► [ bounded queue ] ──► file-N: the call ──► the answer wakes the core
//! ```
//! Five kinds of threads, so that no kind of call keeps a quicker one waiting: `file-N` for calls that end by themselves
//! after a piece, `save-N` for those that wait until the disk has it, `list-N` for one page of a list, `tree-N` for those that last as long as a tree is large, `find-N` for
//! searches, which are bounded in time but not in number of those who ask: they wait for each other, and step back for all
//! the rest.
//! What a dropped future leaves behind: the call is made to its end; its answer falls on the floor.

use crate::error::{Error, Reason};
use crate::shard::mailbox::{Answer, oneshot};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// Calls of one kind that may wait; more are refused.
const CALLS_MAX: usize = 1024;
/// The same for searches, each of which may take 10 s: no more than can be done while somebody still waits.
const SEARCHES_MAX: usize = 32;
/// Of the threads that search: they take what processor time the others leave.
const SEARCH_NICE: i32 = 10;
const SHORT_THREADS_PER_CORE: usize = 2;
/// They sleep nearly all the time, and a disk takes the syncs of many at once.
const SYNCED_THREADS_PER_CORE: usize = 16;
const THREADS_MAX: usize = 64;

type Work = Box<dyn FnOnce() + Send>;

/// How long a call may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lasts {
    /// A few system calls, at most one piece of a file.
    Short,
    /// Until a file is on the disk.
    Synced,
    /// One page of a list.
    Page,
    /// As long as a tree or a file is large.
    Long,
    /// A search, up to its bound.
    Search,
}

impl Lasts {
    const ALL: [Lasts; 5] = [Lasts::Short, Lasts::Synced, Lasts::Page, Lasts::Long, Lasts::Search];

    /// Of its threads, its queue, and how many of them there are.
    fn threads(self, cores: usize) -> (&'static str, usize, usize) {
        let (name, waiting, count) = match self {
            Lasts::Short => ("file", CALLS_MAX, cores * SHORT_THREADS_PER_CORE),
            Lasts::Synced => ("save", CALLS_MAX, cores * SYNCED_THREADS_PER_CORE),
            Lasts::Page => ("list", CALLS_MAX, cores),
            Lasts::Long => ("tree", CALLS_MAX, cores),
            Lasts::Search => ("find", SEARCHES_MAX, cores),
        };
        (name, waiting, count.clamp(2, THREADS_MAX))
    }
}

/// The threads. A clone is the same ones; they end with the last clone.
#[derive(Clone)]
pub(super) struct Pool {
    /// In the order of [`Lasts::ALL`].
    queues: [flume::Sender<Work>; 5],
}

impl Pool {
    /// Starts the threads.
    pub(super) fn start(cores: usize) -> std::io::Result<Pool> {
        let mut queues = Vec::new();
        for lasts in Lasts::ALL {
            let (name, waiting, count) = lasts.threads(cores);
            let (queue, work) = flume::bounded::<Work>(waiting);
            for number in 0..count {
                let work = work.clone();
                thread::Builder::new().name(format!("{name}-{number}")).spawn(move || serve(lasts, &work))?;
            }
            queues.push(queue);
        }
        let queues = queues.try_into().map_err(|_| std::io::ErrorKind::Other)?;
        Ok(Pool { queues })
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
        lasts: Lasts,
        call: impl FnOnce() -> Result<R, Error> + Send + 'static,
    ) -> Result<Answer<Result<R, Error>>, Error> {
        let (reply, answer) = oneshot();
        let work: Work = Box::new(move || reply.send(call()));
        self.queue(lasts).send_async(work).await.map_err(|_| overloaded())?;
        Ok(answer)
    }

    /// Drops a value there: the last close of a large file that has no name any more takes a while.
    pub(super) fn discard(&self, value: impl Send + 'static) {
        let _ = self.queue(Lasts::Long).try_send(Box::new(move || drop(value)));
    }

    /// As [`Pool::discard`]; returns when it is gone.
    pub(super) async fn dropped(&self, value: impl Send + 'static) {
        let gone = move || {
            drop(value);
            Ok(())
        };
        if let Ok(answer) = self.go_on(Lasts::Long, gone).await {
            let _ = answer.wait().await;
        }
    }

    fn queue(&self, lasts: Lasts) -> &flume::Sender<Work> {
        &self.queues[lasts as usize]
    }
}

/// The life of a thread.
fn serve(lasts: Lasts, work: &flume::Receiver<Work>) {
    if lasts == Lasts::Search {
        // Of this thread alone, getpriority(2). Where it is refused, searches take their even share.
        let _ = rustix::process::setpriority_process(None, SEARCH_NICE);
    }
    while let Ok(work) = work.recv() {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("a call on files panicked");
        }
    }
}

fn overloaded() -> Error {
    Error::new(Reason::Overloaded, "too many calls on files wait; try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    /// For what must happen.
    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn a_crowd_of_one_kind_keeps_no_other_waiting() {
        for crowd in Lasts::ALL {
            let pool = Pool::start(1).unwrap();
            let (_, waiting, threads) = crowd.threads(1);
            let (hold, held) = flume::bounded::<()>(0);
            let busy = || -> Work {
                let held = held.clone();
                Box::new(move || {
                    let _ = held.recv();
                })
            };
            let mut taken = 0;
            // Its threads take some of them, in their own time.
            let begun = std::time::Instant::now();
            while taken < waiting + threads && begun.elapsed() < SOON {
                taken += usize::from(pool.queue(crowd).try_send(busy()).is_ok());
            }
            assert_eq!(taken, waiting + threads, "{crowd:?}");
            assert!(pool.queue(crowd).try_send(busy()).is_err(), "more of them are refused");
            let (say, heard) = mpsc::channel();
            for other in Lasts::ALL.into_iter().filter(|other| *other != crowd) {
                let say = say.clone();
                let call = move || {
                    let _ = say.send(other);
                };
                pool.queue(other).try_send(Box::new(call)).unwrap();
                assert_eq!(heard.recv_timeout(SOON), Ok(other), "behind a crowd of {crowd:?}");
            }
            drop(hold);
        }
    }
}
