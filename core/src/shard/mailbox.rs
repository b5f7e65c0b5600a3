//! How cores ask each other for something: bounded mailboxes of owned messages, and one answer for each.
//!
//! ```text
//!   any core: mailbox.ask(|shard, reply| …)  ──►  [ bounded queue ]  ──►  owner's core: inbox.next() → call(&shard)
//!                         answer.await       ◄──────────  reply.send(value)
//! ```
//! A full mailbox is an answer, [`Reason::Overloaded`], never a wait: a core that waits for another that waits for it
//! would never wake. Works under any executor and across threads; knows no runtime.
//! What a dropped future leaves behind: the message stays and is done; its answer falls on the floor.

use crate::error::{Error, Reason};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Work for the owner of a `T`, to be done on its thread.
pub type Call<T> = Box<dyn FnOnce(&T) + Send>;

/// The sending end, one for each core that may ask.
pub struct Mailbox<T> {
    calls: flume::Sender<Call<T>>,
    closed: Arc<AtomicBool>,
}

impl<T> Clone for Mailbox<T> {
    fn clone(&self) -> Self {
        Mailbox { calls: self.calls.clone(), closed: self.closed.clone() }
    }
}

/// The receiving end, on the owner's thread.
pub struct Inbox<T> {
    calls: flume::Receiver<Call<T>>,
    closed: Arc<AtomicBool>,
}

/// A mailbox that holds at most `calls_max` calls that nobody has taken yet.
pub fn mailbox<T>(calls_max: usize) -> (Mailbox<T>, Inbox<T>) {
    // Zero would be a rendezvous, on which every `try_send` fails.
    let (send, receive) = flume::bounded(calls_max.max(1));
    let closed = Arc::new(AtomicBool::new(false));
    (Mailbox { calls: send, closed: closed.clone() }, Inbox { calls: receive, closed })
}

impl<T> Mailbox<T> {
    /// Leaves a call, without an answer.
    pub fn tell(&self, call: impl FnOnce(&T) + Send + 'static) -> Result<(), Error> {
        self.calls.try_send(Box::new(call)).map_err(|refused| match refused {
            flume::TrySendError::Full(_) => overloaded("A core has too many requests of others waiting; try again."),
            flume::TrySendError::Disconnected(_) => gone(),
        })?;
        // A call that was left while the inbox went away may lie in the queue for ever, with its reply.
        if self.closed.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }

    /// Leaves a call that is given the place for its answer; the call may keep it and answer later, from a task.
    /// The future is ready with an error at once when the mailbox is full, and when the reply is dropped unanswered.
    pub fn ask<R, F>(&self, call: F) -> impl Future<Output = Result<R, Error>> + Send + use<T, R, F>
    where
        R: Send + 'static,
        F: FnOnce(&T, Reply<R>) + Send + 'static,
    {
        let (reply, answer) = oneshot();
        let left = self.tell(move |owner| call(owner, reply));
        async move {
            left?;
            answer.wait().await
        }
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.calls.len()
    }
}

impl<T> Inbox<T> {
    /// The next call, waiting for it; `None` once every mailbox is gone. Dropping the future loses no call.
    pub async fn next(&self) -> Option<Call<T>> {
        self.calls.recv_async().await.ok()
    }

    /// The next call, blocking this thread; for owners that are plain threads.
    pub fn next_blocking(&self) -> Option<Call<T>> {
        self.calls.recv().ok()
    }

    /// The next call if there is one now.
    pub fn try_next(&self) -> Option<Call<T>> {
        self.calls.try_recv().ok()
    }
}

impl<T> Drop for Inbox<T> {
    /// Those who wait for an answer learn that none will come: first closed, then emptied, so that a call is either
    /// dropped here or seen as late by the one who left it.
    fn drop(&mut self) {
        self.closed.store(true, Ordering::SeqCst);
        while self.calls.try_recv().is_ok() {}
    }
}

/// Where one answer goes.
#[derive(Debug)]
pub struct Reply<R>(flume::Sender<R>);

/// Where one answer comes from.
#[derive(Debug)]
pub struct Answer<R>(flume::Receiver<R>);

/// A channel for exactly one value.
pub fn oneshot<R>() -> (Reply<R>, Answer<R>) {
    let (send, receive) = flume::bounded(1);
    (Reply(send), Answer(receive))
}

impl<R> Reply<R> {
    /// Gives the answer. Nobody may be waiting any more; that is no failure of the one who answers.
    pub fn send(self, value: R) {
        let _ = self.0.try_send(value);
    }

    /// True once the one who asked has gone.
    pub fn is_abandoned(&self) -> bool {
        self.0.is_disconnected()
    }
}

impl<R> Answer<R> {
    /// Waits for the answer; an error when the other side ended without one.
    pub async fn wait(self) -> Result<R, Error> {
        self.0.into_recv_async().await.map_err(|_| gone())
    }
}

fn overloaded(message: &str) -> Error {
    Error::new(Reason::Overloaded, message)
}

fn gone() -> Error {
    overloaded("The server is stopping, or the part of it that was asked has failed.")
}

/// Blocks this thread on a future, for tests without a runtime.
#[cfg(test)]
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(value) => return value,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::cell::Cell;
    use std::thread;

    #[test]
    fn asks_across_threads() {
        let (mailbox, inbox) = mailbox::<Cell<u64>>(64);
        let owner = thread::spawn(move || {
            let owned = Cell::new(0);
            block_on(async {
                while let Some(call) = inbox.next().await {
                    call(&owned);
                }
            });
            owned.get()
        });
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let mailbox = mailbox.clone();
                thread::spawn(move || {
                    (0..1000)
                        .map(|_| {
                            block_on(mailbox.ask(|count, reply| {
                                count.set(count.get() + 1);
                                reply.send(count.get());
                            }))
                            .unwrap()
                        })
                        .max()
                })
            })
            .collect();
        drop(mailbox);
        let seen = askers.into_iter().filter_map(|asker| asker.join().unwrap()).max();
        assert_eq!((owner.join().unwrap(), seen), (4000, Some(4000)));
    }

    #[test]
    fn full_is_an_answer_and_is_over_when_there_is_room() {
        let (mailbox, inbox) = mailbox::<()>(2);
        assert!(mailbox.tell(|()| ()).is_ok() && mailbox.tell(|()| ()).is_ok());
        assert_eq!(mailbox.tell(|()| ()).unwrap_err().reason, Reason::Overloaded);
        let asked = mailbox.ask(|(), reply| reply.send(1)).now_or_never();
        assert_eq!(asked.unwrap().unwrap_err().reason, Reason::Overloaded);
        assert_eq!(mailbox.waiting(), 2);
        inbox.try_next().unwrap()(&());
        assert!(mailbox.tell(|()| ()).is_ok());
    }

    #[test]
    fn an_owner_that_ends_fails_all_who_wait() {
        let (mailbox, inbox) = mailbox::<()>(8);
        let first = mailbox.ask(|(), reply: Reply<u8>| drop(reply));
        let second = mailbox.ask(|(), reply| reply.send(7_u8));
        inbox.try_next().unwrap()(&());
        drop(inbox);
        assert_eq!(block_on(first).unwrap_err().reason, Reason::Overloaded);
        assert_eq!(block_on(second).unwrap_err().reason, Reason::Overloaded);
        assert!(mailbox.tell(|()| ()).is_err());
    }

    #[test]
    fn one_who_left_is_no_failure() {
        let (mailbox, inbox) = mailbox::<()>(8);
        drop(mailbox.ask(|(), reply| {
            assert!(reply.is_abandoned());
            reply.send(1_u8);
        }));
        inbox.try_next().unwrap()(&());
        assert!(inbox.try_next().is_none());
    }
}
