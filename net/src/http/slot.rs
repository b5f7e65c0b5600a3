//! How many calls of one operation run at once on one sandbox? Counted per core, up to the operation's limit.

use super::App;
use crate::operation::Entry;
use workspace_core::{Error, Reason, SandboxId};

/// A place among the calls that run at once on one sandbox.
pub(super) struct Slot<'a> {
    app: &'a App,
    key: Option<(&'static str, SandboxId)>,
}

impl<'a> Slot<'a> {
    /// Takes a place, or says that there is none. It is given back when it is dropped.
    pub(super) fn take(app: &'a App, entry: &Entry, sandbox: Option<SandboxId>) -> Result<Slot<'a>, Error> {
        let max = entry.limits.in_flight_max_per_sandbox;
        let Some(sandbox) = sandbox.filter(|_| max < u32::MAX) else { return Ok(Slot { app, key: None }) };
        let mut running = app.running.borrow_mut();
        let count = running.entry((entry.name, sandbox)).or_insert(0);
        if *count >= max {
            let message = format!("{max} calls of {} run in this sandbox already", entry.name);
            return Err(Error::new(Reason::RateLimited, message));
        }
        *count += 1;
        Ok(Slot { app, key: Some((entry.name, sandbox)) })
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut running = self.app.running.borrow_mut();
        if let Some(count) = running.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                running.remove(&key);
            }
        }
    }
}
