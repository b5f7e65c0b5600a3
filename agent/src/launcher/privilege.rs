//! What the launcher may still do once it has started, and why each capability is there.

use super::identity::Mode;
use rustix::io::Errno;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

/// Numbers a kernel may have; the first unknown one ends the walk.
const CAPABILITY_NUMBERS_MAX: u32 = 64;

/// Mounts, namespaces, idmaps and setns; uid_map; gid_map; owners of sandboxes' directories and sockets; `lo`; setns
/// into a mount namespace; the data directory, which is closed (0700) and another's.
/// Not among them: KILL and SYS_PTRACE, because a sandbox's user namespace belongs to us, who made it.
const KEPT: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::CHOWN)
    .union(CapabilitySet::NET_ADMIN)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::DAC_READ_SEARCH);

/// Gives everything else up, the bounding set included, for good.
pub(crate) fn keep_what_is_needed(mode: Mode) -> Result<(), Errno> {
    let kept = match mode {
        Mode::Root | Mode::Ranged => KEPT,
        // The outer map names our own id 0, which the kernel lets only SETFCAP do (Linux 5.12).
        Mode::Single => KEPT | CapabilitySet::SETFCAP,
    };
    bound_to(kept)?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    // The kernel forgets it when credentials change.
    set_parent_process_death_signal(Some(Signal::KILL))
}

/// Takes everything but `kept` out of the bounding set. Allocates nothing: the cloned child uses it too.
pub(crate) fn bound_to(kept: CapabilitySet) -> Result<(), Errno> {
    for number in 0..CAPABILITY_NUMBERS_MAX {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if kept.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(Errno::INVAL) => return Ok(()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
