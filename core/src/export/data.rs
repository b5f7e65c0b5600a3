//! How bytes of files are read, written and made safe.
//!
//! Read: may the caller? pread, attributes. Write: may the caller? attributes, open, pwrite, attributes, close. Nobody
//! keeps a file open for writing, so that a program just written can be run. An owner may read and write whatever the
//! mode says, and who may execute may read: a client opens a file once and reads and writes it long after (RFC 1813
//! section 4.4).

use super::seen::Seen;
use super::{Caller, Changed, Exports, Fault, Found, Handle, Kind, ReadEnd, ReadTo, Stable, Weak, act, stat_of, sys};
use crate::files::NOBODY;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};
use std::os::fd::{BorrowedFd, OwnedFd};

/// Of one read.
const READ_BYTES_MAX: u32 = 1 << 20;
const OFFSET_MAX: u64 = i64::MAX as u64;

impl Exports {
    /// Reads at most `count` bytes. `waits` is told before a disk is waited for.
    pub fn read(
        &self,
        caller: &Caller,
        handle: &Handle,
        offset: u64,
        to: ReadTo<'_>,
        count: u32,
        waits: &dyn Fn(),
    ) -> Result<ReadEnd, Fault> {
        let found = self.enter_as(caller, handle)?;
        is_file(&found)?;
        if offset > OFFSET_MAX {
            return Err(Fault::Os(Errno::INVAL));
        }
        may_read(&found, caller)?;
        if !found.node.is_open() {
            act::as_server()?;
        }
        let file = found.node.for_reading()?;
        // No offset that a file can have is passed.
        let room = usize::try_from((OFFSET_MAX - offset).min(u64::from(count.min(READ_BYTES_MAX)))).unwrap_or(0);
        let bytes = match to {
            ReadTo::Memory(into) => sys::read_at(file, into, room, offset, waits)?,
            ReadTo::Pipe(pipe) => splice_at(file, pipe, room, offset)?,
        };
        let stat = stat_of(&found.node)?;
        let eof = offset.saturating_add(bytes as u64) >= stat.size;
        let attributes = Some(self.shown(&found.export, &found.node.target, &stat));
        Ok(ReadEnd { bytes: u32::try_from(bytes).unwrap_or(u32::MAX), eof, attributes })
    }

    /// Writes all of `bytes`, or says why not; then some may be written.
    pub fn write(
        &self,
        caller: &Caller,
        handle: &Handle,
        offset: u64,
        bytes: &[u8],
        stable: Stable,
    ) -> Changed<Stable> {
        let start = self.enter_as(caller, handle).and_then(|found| {
            is_file(&found)?;
            let before = stat_of(&found.node)?;
            Ok((found, before))
        });
        let (found, before) = match start {
            Ok(start) => start,
            Err(fault) => return Changed { result: Err(fault), weak: Weak::default() },
        };
        let result = self.write_to(&found, caller, &before, offset, bytes, stable).map(|()| stable);
        Changed { result, weak: self.after(&found, Some(&before)) }
    }

    fn write_to(
        &self,
        found: &Found,
        caller: &Caller,
        before: &Seen,
        offset: u64,
        bytes: &[u8],
        stable: Stable,
    ) -> Result<(), Fault> {
        let length = bytes.len() as u64;
        if offset > OFFSET_MAX || length > OFFSET_MAX - offset {
            return Err(Fault::Os(Errno::FBIG));
        }
        may_write(found, caller)?;
        // Taken before, and given back as far as nothing grew.
        let (files, id) = (&self.0.files, found.export.id);
        let taken = self.take(found, caller, length)?;
        let written = open_for_writing(found, caller).and_then(|file| {
            write_all(&file, bytes, offset)?;
            match stable {
                Stable::Unstable => Ok(()),
                Stable::Data => Ok(rustix::fs::fdatasync(&file)?),
                Stable::File => Ok(rustix::fs::fsync(&file)?),
            }
        });
        let grown = stat_of(&found.node).map_or(0, |after| after.used.saturating_sub(before.used));
        files.settle_space(id, taken, grown);
        written
    }

    /// Takes room for bytes that are about to be written, and says how much. The thread is the caller afterwards.
    pub(super) fn take(&self, found: &Found, caller: &Caller, bytes: u64) -> Result<u64, Fault> {
        let (files, id, disk_bytes) = (&self.0.files, found.export.id, found.export.disk_bytes);
        if let Some(taken) = files.take_counted_space(id, bytes, disk_bytes) {
            return Ok(taken);
        }
        // What there is must be measured, and a caller may not look at all of it.
        act::as_server()?;
        let taken = files.take_space(id, bytes, disk_bytes).map_err(|_| Fault::Os(Errno::NOSPC));
        act::as_caller(found.export.owners, caller)?;
        taken
    }

    /// All that was written to a file is on disk afterwards.
    pub fn commit(&self, caller: &Caller, handle: &Handle, offset: u64, count: u32) -> Changed<()> {
        let found = match self.enter_as(caller, handle) {
            Ok(found) => found,
            Err(fault) => return Changed { result: Err(fault), weak: Weak::default() },
        };
        let before = stat_of(&found.node).ok();
        let synced = || {
            is_file(&found)?;
            if offset > OFFSET_MAX || u64::from(count) > OFFSET_MAX - offset {
                return Err(Fault::Os(Errno::INVAL));
            }
            may_write(&found, caller)?;
            if !found.node.is_open() {
                act::as_server()?;
            }
            Ok(rustix::fs::fsync(found.node.for_reading()?)?)
        };
        Changed { result: synced(), weak: self.after(&found, before.as_ref()) }
    }
}

/// Puts references to at most `count` bytes from `offset` into a pipe; fewer where the file ends or the pipe is full.
fn splice_at(file: &OwnedFd, pipe: BorrowedFd<'_>, count: usize, mut offset: u64) -> Result<usize, Fault> {
    let mut done = 0;
    while done < count {
        match splice(file, Some(&mut offset), pipe, None, count - done, SpliceFlags::NONBLOCK) {
            Ok(0) => break,
            Ok(spliced) => done += spliced,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if done > 0 => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(done)
}

fn is_file(found: &Found) -> Result<(), Fault> {
    match found.node.kind {
        Kind::File => Ok(()),
        Kind::Directory => Err(Fault::Os(Errno::ISDIR)),
        _ => Err(Fault::Os(Errno::INVAL)),
    }
}

/// Is it the caller's own? Asked only where its mode says no.
fn is_own(found: &Found, caller: &Caller) -> bool {
    super::see(&found.node.fd).is_ok_and(|stat| {
        let owner = found.export.owners;
        owner.on_disk(caller.uid).is_some_and(|id| id == stat.uid)
    })
}

fn may_read(found: &Found, caller: &Caller) -> Result<(), Fault> {
    let may = sys::may(&found.node.fd, libc::R_OK) || is_own(found, caller) || may_execute(found, caller);
    if may { Ok(()) } else { Err(Fault::Os(Errno::ACCESS)) }
}

/// May the caller run a file? The one permission that is read from its mode: the server sees all files on a mount where
/// nothing may be run, and the kernel would say no.
pub(super) fn may_execute(found: &Found, caller: &Caller) -> bool {
    let Ok(stat) = stat_of(&found.node) else { return false };
    let owners = found.export.owners;
    if owners.are_one() || caller.uid == 0 {
        return stat.mode & 0o111 != 0;
    }
    let is = |id: u32, on_disk: u32| owners.on_disk(id).or_else(|| owners.on_disk(NOBODY)) == Some(on_disk);
    let bit = if is(caller.uid, stat.uid) {
        0o100
    } else if is(caller.gid, stat.gid) || caller.groups.iter().any(|group| is(*group, stat.gid)) {
        0o010
    } else {
        0o001
    };
    stat.mode & bit != 0
}

pub(super) fn may_write(found: &Found, caller: &Caller) -> Result<(), Fault> {
    if sys::may(&found.node.fd, libc::W_OK) || is_own(found, caller) { Ok(()) } else { Err(Fault::Os(Errno::ACCESS)) }
}

/// Opens a file that the caller may write. Where its mode would refuse an owner, the server opens it. The thread is the
/// caller again afterwards: what a write takes away (setuid) depends on who writes.
pub(super) fn open_for_writing(found: &Found, caller: &Caller) -> Result<OwnedFd, Fault> {
    match found.node.reopen(OFlags::WRONLY) {
        Err(Errno::ACCESS) => {
            act::as_server()?;
            let opened = found.node.reopen(OFlags::WRONLY);
            act::as_caller(found.export.owners, caller)?;
            Ok(opened?)
        }
        opened => Ok(opened?),
    }
}

fn write_all(file: &OwnedFd, bytes: &[u8], offset: u64) -> Result<(), Fault> {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::io::pwrite(file, &bytes[done..], offset + done as u64) {
            Ok(0) => return Err(Fault::Os(Errno::IO)),
            Ok(written) => done += written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}
