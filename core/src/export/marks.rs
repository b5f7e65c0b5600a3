//! What trusted clients say of a file that its inode can't hold here: that it is a device, or an owner's id that no
//! sandbox has.
//!
//! ```text
//!  sandboxes/<id>/marks/  d-<inode>-<generation>-c-<major>-<minor>    an inode that is a socket on disk
//!                         o-<inode>-<generation>-<uid>-<gid>          an inode that is nobody's on disk
//! ```
//! Each mark is the name of an empty file beside the sandbox's trees, which nothing inside can reach. Inside and over
//! HTTP a device is a socket and such an owner is nobody: nobody there gains anything. The generation keeps a mark from
//! an inode that takes the number over.

use super::handle::Target;
use super::types::{Attributes, Fault, Kind};
use super::{Export, act};
use crate::files::{Files, NOBODY, Owners};
use crate::id::SandboxId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, mknodat, openat, unlinkat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of one sandbox.
const MARKS_MAX: usize = 65_536;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    Device(Kind, u32, u32),
    Owner(u32, u32),
}

type Key = (u64, u64, u8);

/// Those of one export.
#[derive(Default)]
pub(super) struct Marks(Mutex<HashMap<Key, Mark>>);

impl Mark {
    fn class(self) -> u8 {
        match self {
            Mark::Device(..) => b'd',
            Mark::Owner(..) => b'o',
        }
    }

    fn name(self, inode: u64, generation: u64) -> String {
        match self {
            Mark::Device(kind, major, minor) => {
                let kind = if kind == Kind::BlockDevice { 'b' } else { 'c' };
                format!("d-{inode:x}-{generation:x}-{kind}-{major:x}-{minor:x}")
            }
            Mark::Owner(uid, gid) => format!("o-{inode:x}-{generation:x}-{uid:x}-{gid:x}"),
        }
    }

    fn read(name: &str) -> Option<(Key, Mark)> {
        let mut parts = name.split('-');
        let class = parts.next()?;
        let number = |parts: &mut std::str::Split<'_, char>| u64::from_str_radix(parts.next()?, 16).ok();
        let (inode, generation) = (number(&mut parts)?, number(&mut parts)?);
        let kind = match class {
            "o" => None,
            "d" => match parts.next()? {
                "b" => Some(Kind::BlockDevice),
                "c" => Some(Kind::CharacterDevice),
                _ => return None,
            },
            _ => return None,
        };
        let first = u32::try_from(number(&mut parts)?).ok()?;
        let second = u32::try_from(number(&mut parts)?).ok()?;
        let mark = kind.map_or(Mark::Owner(first, second), |kind| Mark::Device(kind, first, second));
        parts.next().is_none().then_some(((inode, generation, mark.class()), mark))
    }
}

impl Marks {
    /// Those that a server before has left. Called as the server.
    pub(super) fn load(files: &Files, id: SandboxId, owners: Owners) -> Marks {
        let marks = Marks::default();
        let Ok(room) = files.marks_of(id, owners) else { return marks };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(&room, ".", flags, Mode::empty()).and_then(Dir::new);
        let Ok(mut entries) = opened else { return marks };
        while let Some(Ok(entry)) = entries.read() {
            if let Some((key, mark)) = entry.file_name().to_str().ok().and_then(Mark::read) {
                marks.all().insert(key, mark);
            }
        }
        marks
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Key, Mark>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, target: &Target, class: u8) -> Option<Mark> {
        self.all().get(&(target.inode, target.generation, class)).copied()
    }

    /// Sets a mark, durable as the name of a file is. The thread is the server afterwards.
    pub(super) fn put(&self, files: &Files, export: &Export, target: &Target, mark: Mark) -> Result<(), Fault> {
        self.remove(files, export, target, mark.class())?;
        if self.all().len() >= MARKS_MAX {
            return Err(Fault::Os(Errno::NOSPC));
        }
        act::as_server()?;
        let room = files.marks_of(export.id, export.owners).map_err(|_| Fault::Os(Errno::IO))?;
        let name = mark.name(target.inode, target.generation);
        match mknodat(&room, name.as_str(), FileType::RegularFile, Mode::empty(), 0) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.all().insert((target.inode, target.generation, mark.class()), mark);
        Ok(())
    }

    /// Takes a mark away, where there is one. The thread is the server afterwards, where there was.
    pub(super) fn remove(&self, files: &Files, export: &Export, target: &Target, class: u8) -> Result<(), Fault> {
        let Some(mark) = self.all().remove(&(target.inode, target.generation, class)) else { return Ok(()) };
        act::as_server()?;
        let room = files.marks_of(export.id, export.owners).map_err(|_| Fault::Os(Errno::IO))?;
        match unlinkat(&room, mark.name(target.inode, target.generation).as_str(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes all marks of an inode away, for its last name has gone; what stays by mistake marks nothing.
    pub(super) fn forget_inode(&self, files: &Files, export: &Export, inode: u64) {
        let keys: Vec<Key> = self.all().keys().filter(|key| key.0 == inode).copied().collect();
        for (inode, generation, class) in keys {
            let target = Target { id: export.id, inode, generation };
            if self.remove(files, export, &target, class).is_err() {
                tracing::warn!(sandbox = %export.id, "a mark could not be removed");
            }
        }
    }

    /// Shows something as its marks say. A lock, and nothing else, and only for what may have one.
    pub(super) fn show(&self, target: &Target, attributes: &mut Attributes) {
        if attributes.kind == Kind::Socket
            && let Some(Mark::Device(kind, major, minor)) = self.get(target, b'd')
        {
            (attributes.kind, attributes.rdev) = (kind, (major, minor));
        }
        if (attributes.uid == NOBODY || attributes.gid == NOBODY)
            && let Some(Mark::Owner(uid, gid)) = self.get(target, b'o')
        {
            attributes.uid = if attributes.uid == NOBODY { uid } else { attributes.uid };
            attributes.gid = if attributes.gid == NOBODY { gid } else { attributes.gid };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_their_names() {
        for mark in
            [Mark::Device(Kind::BlockDevice, 8, 1), Mark::Device(Kind::CharacterDevice, 1, 3), Mark::Owner(1, u32::MAX)]
        {
            assert_eq!(Mark::read(&mark.name(77, u64::MAX)), Some(((77, u64::MAX, mark.class()), mark)));
        }
        for bad in ["", "d", "o-1-2-3", "o-1-2-3-4-5", "d-1-2-x-3-4", "o-1-2-100000000-1", "x-1-2-3-4"] {
            assert_eq!(Mark::read(bad), None, "{bad}");
        }
    }
}
