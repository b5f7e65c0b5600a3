//! What the kernel says of an inode, in one call: what stat(2) says, and when it was made, which stat(2) does not.

use super::types::{Fault, Kind, Time};
use rustix::fs::{AtFlags, FileType, Statx, StatxFlags, StatxTimestamp, statx};
use std::ffi::CStr;
use std::os::fd::AsFd;

#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) inode: u64,
    pub(super) mode: u32,
    pub(super) links: u32,
    /// On disk.
    pub(super) uid: u32,
    /// On disk.
    pub(super) gid: u32,
    pub(super) rdev: (u32, u32),
    pub(super) size: u64,
    /// On disk, in bytes; what is not written out yet counts too.
    pub(super) used: u64,
    pub(super) atime: Time,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
    /// 0 where the file system does not know.
    pub(super) made: Time,
}

/// Of a descriptor, whatever it was opened for.
pub(super) fn see(fd: impl AsFd) -> rustix::io::Result<Seen> {
    statx(fd, c"", AtFlags::EMPTY_PATH, WANTED).map(Seen::from)
}

/// Of a name in a directory; of a link itself.
pub(super) fn see_at(directory: impl AsFd, name: &CStr) -> rustix::io::Result<Seen> {
    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, WANTED).map(Seen::from)
}

const WANTED: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

impl From<Statx> for Seen {
    fn from(all: Statx) -> Seen {
        let time = |at: StatxTimestamp| Time { seconds: at.tv_sec, nanoseconds: at.tv_nsec };
        Seen {
            inode: all.stx_ino,
            mode: u32::from(all.stx_mode),
            links: all.stx_nlink,
            uid: all.stx_uid,
            gid: all.stx_gid,
            rdev: (all.stx_rdev_major, all.stx_rdev_minor),
            size: all.stx_size,
            used: all.stx_blocks.saturating_mul(512),
            atime: time(all.stx_atime),
            mtime: time(all.stx_mtime),
            ctime: time(all.stx_ctime),
            made: time(all.stx_btime),
        }
    }
}

impl Seen {
    pub(super) fn kind(&self) -> Kind {
        match FileType::from_raw_mode(self.mode) {
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            FileType::BlockDevice => Kind::BlockDevice,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::Socket => Kind::Socket,
            FileType::Fifo => Kind::Fifo,
            _ => Kind::File,
        }
    }

    /// `Stale` where the last name has gone.
    pub(super) fn named(self) -> Result<Seen, Fault> {
        if self.links == 0 { Err(Fault::Stale) } else { Ok(self) }
    }
}
