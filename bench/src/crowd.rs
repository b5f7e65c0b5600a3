//! How do many threads begin at the same moment?

use crate::failure::Failure;
use crate::spread::Samples;
use crate::stop;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Enough for one request and its answer.
const STACK_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    arrived: usize,
    decision: Option<Decision>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Decision {
    Begin,
    GoHome,
}

/// Gives each item to a thread of its own; all begin together. The time from there to the end of the last, and the first failure if there is one.
pub(crate) fn begin_together<T: Send>(
    items: Vec<T>,
    into: &mut Samples,
    work: impl Fn(T, &mut Samples) -> Result<(), Failure> + Sync,
) -> Result<Duration, Failure> {
    let gate = Gate::default();
    let (gate, work) = (&gate, &work);
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for item in items {
            let body = move || {
                let mut samples = Samples::default();
                let go = gate.wait() == Decision::Begin && !stop::requested();
                let result = if go { work(item, &mut samples) } else { Ok(()) };
                (samples, result)
            };
            match std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, body) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    gate.open(0, Decision::GoHome);
                    return Err(Failure::io(format!("start thread {}", threads.len() + 1), &error));
                }
            }
        }
        gate.open(threads.len(), Decision::Begin);
        let begin = Instant::now();
        let mut first = Ok(());
        for thread in threads {
            let Ok((samples, result)) = thread.join() else { return Err(Failure::new("a thread panicked")) };
            into.append(samples);
            first = first.and(result);
        }
        first.map(|()| begin.elapsed())
    })
}

impl Gate {
    fn wait(&self) -> Decision {
        let mut state = self.lock();
        state.arrived += 1;
        self.changed.notify_all();
        loop {
            if let Some(decision) = state.decision {
                return decision;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for the arrival of `count` and lets all through.
    fn open(&self, count: usize, decision: Decision) {
        let mut state = self.lock();
        while state.arrived < count {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.decision = Some(decision);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_and_a_failure_is_told() {
        let mut samples = Samples::default();
        begin_together(vec![1.0, 2.0, 3.0], &mut samples, |item, samples| {
            samples.push(item);
            Ok(())
        })
        .unwrap();
        assert_eq!(samples.spread().unwrap().max, 3.0);
        let failed = begin_together(vec![1, 2], &mut samples, |item, _| match item {
            2 => Err(Failure::new("two")),
            _ => Ok(()),
        });
        assert_eq!(failed.unwrap_err().to_string(), "two");
    }
}
