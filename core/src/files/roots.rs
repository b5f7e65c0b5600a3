//! Where one sandbox's files lie on the host, whose ids they have there, and the room in which new ones are made.
//!
//! ```text
//!  sandboxes/<id>/workspace   is /workspace inside
//!  sandboxes/<id>/home        is /home/user inside
//!  sandboxes/<id>/scratch     is nowhere inside: what is not whole yet, or not gone yet; one rename away from a place
//!  sandboxes/<id>/marks       is nowhere inside: what trusted NFS clients say of files (export/marks.rs)
//! ```
//! Nobody inside can name, open or guess what lies in the scratch room, so no check is ever raced there.

use super::failure;
use super::remove;
use crate::error::{Error, Reason};
use crate::id::SandboxId;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, RenameFlags, Uid, mkdirat, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The user that commands run as, inside.
const USER: u32 = 1000;
/// What an id of nobody here is shown as.
pub(crate) const NOBODY: u32 = 65_534;
const BLOCK_IDS: u32 = 65_536;

/// How the ids of files on disk follow from the ids inside; in ids of the server's own user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering {
    /// The same, for all sandboxes: mounts are idmapped.
    Same,
    /// Those of each sandbox's own block of host ids.
    Blocks,
    /// One more: sandboxes share a range, of which the server has the first id.
    Shifted,
    /// One id for all.
    Single,
}

/// The ids of one sandbox's files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owners {
    numbering: Numbering,
    first: u32,
}

impl Owners {
    pub(crate) fn new(numbering: Numbering, block: u32) -> Owners {
        let first = match numbering {
            Numbering::Same | Numbering::Single => 0,
            Numbering::Blocks => block.saturating_mul(BLOCK_IDS).saturating_add(1),
            Numbering::Shifted => 1,
        };
        Owners { numbering, first }
    }

    /// Who owns what is made for the sandbox's user.
    pub(super) fn user(self) -> (Option<Uid>, Option<Gid>) {
        let id = match self.numbering {
            Numbering::Single => 0,
            _ => self.first + USER,
        };
        (Some(Uid::from_raw(id)), Some(Gid::from_raw(id)))
    }

    /// What an owner on disk is inside.
    pub(crate) fn inside(self, id: u32) -> u32 {
        match self.numbering {
            Numbering::Single if id == 0 => USER,
            Numbering::Single => NOBODY,
            _ => id.checked_sub(self.first).filter(|id| *id < BLOCK_IDS - 1).unwrap_or(NOBODY),
        }
    }

    /// What an id inside is on disk; `None` where the sandbox has no such id. The agent's can't be named.
    pub(crate) fn on_disk(self, id: u32) -> Option<u32> {
        match self.numbering {
            Numbering::Single => Some(0),
            _ => (id < BLOCK_IDS - 1).then(|| self.first + id),
        }
    }

    /// All ids inside are one on disk.
    pub(crate) fn are_one(self) -> bool {
        self.numbering == Numbering::Single
    }
}

/// One sandbox's directories on the host.
pub(super) struct Roots {
    top: OwnedFd,
    pub(super) owners: Owners,
}

impl Roots {
    /// Opens them; 2001 where they are gone.
    pub(super) fn open(sandboxes: &OwnedFd, id: SandboxId, owners: Owners) -> Result<Roots, Error> {
        match directory(sandboxes, id.as_str().as_bytes()) {
            Ok(top) => Ok(Roots { top, owners }),
            Err(Errno::NOENT) => Err(Error::new(Reason::SandboxNotFound, "the sandbox's files are gone")),
            Err(errno) => Err(failure::anywhere(errno)),
        }
    }

    /// The directory above both trees.
    pub(super) fn into_top(self) -> OwnedFd {
        self.top
    }

    pub(super) fn workspace(&self) -> rustix::io::Result<OwnedFd> {
        directory(&self.top, b"workspace")
    }

    pub(super) fn home(&self) -> rustix::io::Result<OwnedFd> {
        directory(&self.top, b"home")
    }

    /// The scratch room, made where it is missing.
    pub(super) fn scratch(&self) -> Result<Arc<OwnedFd>, Error> {
        self.room(SCRATCH).map(Arc::new)
    }

    /// What NFS has to remember of files, made where it is missing.
    pub(super) fn marks(&self) -> Result<OwnedFd, Error> {
        self.room(b"marks")
    }

    fn room(&self, name: &[u8]) -> Result<OwnedFd, Error> {
        let opened = match directory(&self.top, name) {
            Err(Errno::NOENT) => {
                match mkdirat(&self.top, name, Mode::from_raw_mode(0o700)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failure::anywhere(errno)),
                }
                directory(&self.top, name)
            }
            opened => opened,
        };
        opened.map_err(failure::anywhere)
    }
}

/// The scratch room's name.
pub(super) const SCRATCH: &[u8] = b"scratch";

fn directory(at: &OwnedFd, name: &[u8]) -> rustix::io::Result<OwnedFd> {
    openat(at, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// Whether something that stands at a place already may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// No: 3002.
    No,
    /// A file by a file, an empty directory by a directory.
    Yes,
}

/// Something in the scratch room. It goes with its guard unless it was placed.
pub(super) struct Scrap {
    scratch: Arc<OwnedFd>,
    name: Vec<u8>,
    placed: bool,
}

impl Scrap {
    /// A name that is free.
    pub(super) fn new(scratch: Arc<OwnedFd>) -> Scrap {
        let mut random = [0u8; 12];
        // Never fails once the machine has booted (getrandom(2)). A name that is taken would fail the making.
        let _ = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        let name = random.iter().flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]).collect();
        Scrap { scratch, name, placed: false }
    }

    /// Makes it a file, to be written and read, that belongs to the server still.
    pub(super) fn file(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.scratch, &self.name[..], flags, Mode::from_raw_mode(0o600))
    }

    /// Makes it a directory.
    pub(super) fn directory(&self) -> rustix::io::Result<OwnedFd> {
        mkdirat(&self.scratch, &self.name[..], Mode::from_raw_mode(0o700))?;
        openat(
            &self.scratch,
            &self.name[..],
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
    }

    /// Moves it to its place, whole, in one step.
    pub(super) fn place(mut self, directory: impl AsFd, name: &[u8], replace: Replace) -> rustix::io::Result<()> {
        let flags = match replace {
            Replace::No => RenameFlags::NOREPLACE,
            Replace::Yes => RenameFlags::empty(),
        };
        renameat_with(&self.scratch, &self.name[..], directory, name, flags)?;
        self.placed = true;
        Ok(())
    }

    /// Takes something from its place, in one step; it goes with the guard.
    pub(super) fn take(scratch: Arc<OwnedFd>, directory: impl AsFd, name: &[u8]) -> rustix::io::Result<Scrap> {
        let mut scrap = Scrap::new(scratch);
        scrap.placed = true;
        renameat_with(directory, name, &scrap.scratch, &scrap.name[..], RenameFlags::NOREPLACE)?;
        scrap.placed = false;
        Ok(scrap)
    }

    /// Removes it now, and says what went wrong.
    pub(super) fn remove(mut self) -> rustix::io::Result<()> {
        self.placed = true;
        remove::tree(&self.scratch, &self.name)
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        if self.placed {
            return;
        }
        let removed = match unlinkat(&self.scratch, &self.name[..], AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) => remove::tree(&self.scratch, &self.name),
            other => other,
        };
        if let Err(errno) = removed
            && errno != Errno::NOENT
        {
            tracing::warn!(%errno, "something unfinished could not be removed; the next start does it");
        }
    }
}

/// Removes what a server that ended in the middle of its work left in the scratch rooms of all sandboxes.
pub(super) fn sweep(sandboxes: &OwnedFd) -> rustix::io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut all = rustix::fs::Dir::read_from(openat(sandboxes, ".", flags, Mode::empty())?)?;
    while let Some(entry) = all.read() {
        let entry = entry?;
        let Some(id) = entry.file_name().to_str().ok().and_then(SandboxId::parse) else { continue };
        let Ok(top) = directory(sandboxes, id.as_str().as_bytes()) else { continue };
        if let Err(errno) = remove::tree(&top, SCRATCH)
            && errno != Errno::NOENT
        {
            tracing::warn!(sandbox = %id, %errno, "something unfinished could not be removed");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_lead_both_ways() {
        for (numbering, user) in [
            (Numbering::Same, 1000),
            (Numbering::Blocks, 17 * 65_536 + 1001),
            (Numbering::Shifted, 1001),
            (Numbering::Single, 0),
        ] {
            let owners = Owners::new(numbering, 17);
            let (uid, gid) = owners.user();
            assert_eq!((uid.map(Uid::as_raw), gid.map(Gid::as_raw)), (Some(user), Some(user)));
            assert_eq!(owners.inside(user), 1000);
            assert_eq!(owners.on_disk(1000), Some(user));
        }
        assert_eq!(Owners::new(Numbering::Same, 0).inside(65_535), NOBODY);
        assert_eq!(Owners::new(Numbering::Same, 0).on_disk(65_535), None);
        assert_eq!(Owners::new(Numbering::Shifted, 0).inside(0), NOBODY);
        assert_eq!(Owners::new(Numbering::Single, 0).inside(7), NOBODY);
    }
}
