#![allow(unsafe_code)]
//! Giving a detached mount another view of ids. mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12.

use rustix::io::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// struct mount_attr of linux/mount.h, version 0.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Shows the files of `mount`, a detached clone, through the id map of `user_namespace`.
pub(crate) fn set_idmap(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr {
        attr_set: MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    // SAFETY: the path is a C string, the size is that of the structure, and both live until the call has returned.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if answer == 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
