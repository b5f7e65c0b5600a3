//! As whom does this thread touch files? Permission is the kernel's to decide, so each call is made as its caller.
//!
//! ```text
//!  caller's ids ─► nobody for those that the sandbox has not ─► ids on disk ─► fsuid, fsgid, groups of this thread
//! ```
//! The server is id 0 of a user namespace that maps its sandboxes' files alone. setfsuid(2) from 0 to another id takes
//! the powers over files away, and back to 0 gives them again. Root of a sandbox has them too: where its id on disk is
//! not 0, they are raised again. Where the server has one id (rootless, no range), everybody acts as that one.
//! What a thread has set last is remembered: most calls set nothing.

use super::sys;
use super::types::{Caller, Fault};
use crate::files::{NOBODY, Owners};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};
use std::cell::RefCell;

/// As many as AUTH_UNIX carries.
const GROUPS_MAX: usize = 16;

/// The powers over files that setfsuid takes away, credentials(7).
const POWERS: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Ids {
    user: u32,
    group: u32,
    groups: Vec<u32>,
    powerful: bool,
}

thread_local! {
    /// What this thread has set; `None` before the first time.
    static SET: RefCell<Option<Ids>> = const { RefCell::new(None) };
}

/// This thread is the caller from here on.
pub(super) fn as_caller(owners: Owners, caller: &Caller) -> Result<(), Fault> {
    if owners.are_one() {
        return as_server();
    }
    let on_disk = |id| owners.on_disk(id).or_else(|| owners.on_disk(NOBODY)).ok_or(Fault::Os(rustix::io::Errno::PERM));
    let groups = caller.groups.iter().take(GROUPS_MAX).map(|id| on_disk(*id)).collect::<Result<_, _>>()?;
    become_ids(Ids { user: on_disk(caller.uid)?, group: on_disk(caller.gid)?, groups, powerful: caller.uid == 0 })
}

/// This thread is the server from here on, with all its powers over files.
pub(super) fn as_server() -> Result<(), Fault> {
    SET.with_borrow(Option::is_none).then(begin).transpose()?;
    let ids = SET.with_borrow(|set| set.as_ref().is_some_and(|set| set.user != 0));
    if ids { become_ids(Ids { user: 0, group: 0, groups: Vec::new(), powerful: true }) } else { Ok(()) }
}

/// The first call of a thread.
fn begin() -> Result<(), Fault> {
    sys::own_umask()?;
    let ids = Ids { user: sys::file_user(), group: sys::file_group(), groups: vec![u32::MAX], powerful: true };
    SET.replace(Some(ids));
    Ok(())
}

fn become_ids(ids: Ids) -> Result<(), Fault> {
    SET.with_borrow(Option::is_none).then(begin).transpose()?;
    if SET.with_borrow(|set| set.as_ref() == Some(&ids)) {
        return Ok(());
    }
    // Forgotten first: a change that fails in the middle is made again whole.
    let before = SET.take();
    if before.as_ref().is_none_or(|before| before.groups != ids.groups) {
        sys::set_groups(&ids.groups)?;
    }
    sys::set_file_user(0);
    sys::set_file_group(ids.group);
    sys::set_file_user(ids.user);
    // The calls say nothing of success.
    if sys::file_user() != ids.user || sys::file_group() != ids.group {
        return Err(Fault::Os(rustix::io::Errno::PERM));
    }
    if ids.powerful && ids.user != 0 {
        let held = capabilities(None)?;
        let effective = held.effective | (held.permitted & POWERS);
        set_capabilities(None, CapabilitySets { effective, ..held })?;
    }
    SET.replace(Some(ids));
    Ok(())
}
