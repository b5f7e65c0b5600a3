#![allow(unsafe_code)]
//! The calls that name no crate: a thread's own file ids, the kernel's name of an inode, its word on a permission.
//!
//! setfsuid(2), setfsgid(2), setgroups(2) as they are in the kernel: for the calling thread alone. faccessat2(2),
//! Linux 5.8; name_to_handle_at(2).

use rustix::fd::{AsFd, AsRawFd};
use rustix::io::Errno;
use std::ffi::CStr;

/// Of a kernel's handle; larger ones than the kernel makes.
const HANDLE_BYTES: usize = 128;

/// Sets the id that this thread's file calls are judged by. Whether it was taken shows in what it may do.
pub(super) fn set_file_user(id: u32) {
    // SAFETY: one number, no memory. The raw call changes the calling thread alone.
    unsafe { libc::syscall(libc::SYS_setfsuid, id) };
}

/// The user that this thread's file calls are judged by.
pub(super) fn file_user() -> u32 {
    // SAFETY: as above; -1 is no id, so nothing is changed and the present one is returned.
    unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) as u32 }
}

/// As [`set_file_user`], for the group.
pub(super) fn set_file_group(id: u32) {
    // SAFETY: one number, no memory. The raw call changes the calling thread alone.
    unsafe { libc::syscall(libc::SYS_setfsgid, id) };
}

/// The group that this thread's file calls are judged by.
pub(super) fn file_group() -> u32 {
    // SAFETY: as in `file_user`.
    unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) as u32 }
}

/// Sets this thread's further groups.
pub(super) fn set_groups(groups: &[u32]) -> rustix::io::Result<()> {
    // SAFETY: the pointer and the length are of one slice that lives through the call; gid_t is u32.
    checked(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Gives this thread a umask of its own, 0: modes are what callers say.
pub(super) fn own_umask() -> rustix::io::Result<()> {
    // SAFETY: CLONE_FS parts the working directory, root and umask of this thread from the others' and shares no
    // memory differently; nothing here has a working directory.
    checked(i64::from(unsafe { libc::unshare(libc::CLONE_FS) }))?;
    // SAFETY: one number; never fails.
    unsafe { libc::umask(0) };
    Ok(())
}

/// May this thread, by its file ids, do `mode` (R_OK, W_OK, X_OK) to what `fd` is?
pub(super) fn may(fd: impl AsFd, mode: i32) -> bool {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the path is an empty string with its NUL; the descriptor is borrowed through the call.
    unsafe { libc::syscall(libc::SYS_faccessat2, fd, c"".as_ptr(), mode, flags) == 0 }
}

/// The kernel's own name of what stands at `name` in `at`, or of `at` itself for an empty name, hashed: another one for
/// each inode that ever had a number.
pub(super) fn generation(at: impl AsFd, name: &CStr) -> rustix::io::Result<u64> {
    #[repr(C)]
    struct Named {
        bytes: u32,
        kind: i32,
        handle: [u8; HANDLE_BYTES],
    }
    let mut named = Named { bytes: HANDLE_BYTES as u32, kind: 0, handle: [0; HANDLE_BYTES] };
    let mut mount = 0_i32;
    let flags = if name.is_empty() { libc::AT_EMPTY_PATH } else { 0 };
    let at = at.as_fd().as_raw_fd();
    // SAFETY: `named` has the form of struct file_handle with room for as many bytes as it says, `mount` is an int, the
    // name ends with NUL; all live through the call, which keeps none of them.
    checked(unsafe {
        libc::syscall(libc::SYS_name_to_handle_at, at, name.as_ptr(), &raw mut named, &raw mut mount, flags)
    })?;
    let length = (named.bytes as usize).min(HANDLE_BYTES);
    let bytes = named.kind.to_le_bytes().into_iter().chain(named.handle[..length].iter().copied());
    Ok(hash(bytes))
}

/// FNV-1a: it keeps apart what chance would mix up; the MAC of a handle keeps out those who try.
pub(super) fn hash(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// Appends at most `count` bytes from `offset`; fewer only at the end of the file. What is in memory is taken first
/// (preadv2(2), RWF_NOWAIT); where something must be waited for, `waits` is told before.
pub(super) fn read_at(
    fd: impl AsFd,
    into: &mut Vec<u8>,
    count: usize,
    offset: u64,
    waits: &dyn Fn(),
) -> rustix::io::Result<usize> {
    into.reserve(count);
    let (fd, mut done, mut flags) = (fd.as_fd().as_raw_fd(), 0, libc::RWF_NOWAIT);
    while done < count {
        let spare = into.spare_capacity_mut();
        let room = libc::iovec { iov_base: spare.as_mut_ptr().cast(), iov_len: spare.len().min(count - done) };
        let at = i64::try_from(offset + done as u64).map_err(|_| Errno::INVAL)?;
        // SAFETY: `iov_len` bytes from `iov_base` on belong to the vector and may be written; preadv2 writes no others,
        // and keeps neither them nor the list of one.
        let read = unsafe { libc::preadv2(fd, &raw const room, 1, at, flags) };
        match checked(read as i64) {
            Ok(()) if read == 0 => break,
            Ok(()) => {
                let read = read as usize;
                done += read;
                // SAFETY: preadv2 has written the first `read` spare bytes, and `read` is at most the capacity left.
                unsafe { into.set_len(into.len() + read) };
            }
            Err(Errno::INTR) => {}
            // Not in memory, or a file system that can't say.
            Err(Errno::AGAIN | Errno::OPNOTSUPP) if flags != 0 => {
                waits();
                flags = 0;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn checked(result: i64) -> rustix::io::Result<()> {
    if result < 0 {
        return Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO));
    }
    Ok(())
}
