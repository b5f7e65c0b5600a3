//! Flags of a mount set in one step: mount_setattr(2), Linux 5.12. The rest of the mount calls is rustix's.
#![allow(unsafe_code)]

use rustix::io::Errno;
use rustix::mount::MountAttrFlags;
use std::os::fd::{AsRawFd, BorrowedFd};

/// mount_setattr's argument, as in linux/mount.h, size 32 (the first published one).
#[repr(C, align(8))]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// How much of a tree a change covers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    One,
    Tree,
}

/// MOUNT_ATTR_IDMAP of linux/mount.h.
const IDMAP: u64 = 0x0010_0000;

/// Adds flags to the mount (or tree of mounts) that `mount` is open on.
pub(crate) fn restrict(mount: BorrowedFd<'_>, flags: MountAttrFlags, scope: Scope) -> Result<(), Errno> {
    set_attributes(
        mount,
        MountAttributes { set: flags.bits().into(), clear: 0, propagation: 0, user_namespace: 0 },
        scope,
    )
}

/// Adds flags to a detached mount and shows its files with the ids of `user_namespace`'s map.
pub(crate) fn map_ids(
    mount: BorrowedFd<'_>,
    flags: MountAttrFlags,
    user_namespace: BorrowedFd<'_>,
) -> Result<(), Errno> {
    let set = u64::from(flags.bits()) | IDMAP;
    let user_namespace = user_namespace.as_raw_fd() as u64;
    set_attributes(mount, MountAttributes { set, clear: 0, propagation: 0, user_namespace }, Scope::One)
}

fn set_attributes(mount: BorrowedFd<'_>, attributes: MountAttributes, scope: Scope) -> Result<(), Errno> {
    let recursive = if scope == Scope::Tree { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path, and a struct of the layout and size that the call is told; both outlive it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result < 0 {
        // SAFETY: `__errno_location` gives this thread's errno, always valid to read.
        return Err(Errno::from_raw_os_error(unsafe { *libc::__errno_location() }));
    }
    Ok(())
}
