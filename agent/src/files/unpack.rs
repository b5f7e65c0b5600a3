//! How does an archive become a tree here? Its parts are made under a hidden name in the place where they will be, and moved
//! from there once all have come: all of them or none.
//!
//! ```text
//!  begin ─► part, data, data, part, … ─► unite: fits all of it what is in place? ─► moved, entry by entry
//!    └─ refused before a part was sent        └─ what fails anywhere before is taken away again
//! ```
//! Every name is walked from the top of the new tree and through no link. The server has read the archive: absolute names,
//! `..` and what is no file, directory or link come from nobody but a liar, and are refused here too.

use super::link::Link;
use super::place::{self, Entry, Last, kind, node};
use super::tree::{hidden_in, remove_entry};
use super::write::write_all;
use super::{Fault, destination};
use rustix::fs::{
    Access, AtFlags, Dir, FileType, Mode, OFlags, Stat, linkat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use workspace_proto::FILE_PARTS_MAX;
use workspace_proto::agent::{FileNode, FilePart};

const DEPTH_MAX: usize = 256;
const MODE_MASK: u32 = 0o777;
/// Of directories that an archive does not name.
const PARENT_MODE: u32 = 0o755;

/// A tree on its way. Dropping it leaves nothing.
pub(super) struct Parcel {
    path: Vec<u8>,
    /// Where it will be made.
    above: OwnedFd,
    /// Where it is made, from the first part on: an archive that is refused before has left nothing to be taken away.
    room: Option<(Entry, OwnedFd)>,
    /// The file whose bytes come, its mode, and how many are still to come.
    file: Option<(OwnedFd, u32, u64)>,
    /// What the directories will have: while things are put into them, and while they are moved, they are open.
    modes: BTreeMap<Vec<u8>, u32>,
    parts: u64,
    failed: Option<Errno>,
}

impl Parcel {
    /// Begins, and tells what is there now. `None`: nothing can be put into that.
    pub(super) fn begin(path: Vec<u8>) -> Result<(FileNode, Option<Parcel>), Errno> {
        let (there, above) = match place::look(&path, Last::Follow) {
            Ok((_, stat)) if kind(&stat) != FileType::Directory => return Ok((node(&stat), None)),
            Ok((fd, stat)) => (node(&stat), fd),
            // Made at the end: a caller that leaves in the middle leaves none behind.
            Err(Errno::NOENT) => (FileNode::default(), place::deepest(&path)?),
            Err(errno) => return Err(errno),
        };
        // What will be forbidden is said before the first byte.
        rustix::fs::accessat(&above, ".", Access::WRITE_OK, AtFlags::EACCESS)?;
        let modes = BTreeMap::new();
        Ok((there, Some(Parcel { path, above, room: None, file: None, modes, parts: 0, failed: None })))
    }

    /// The top of the new tree, made where it is missing.
    fn top(&mut self) -> Result<OwnedFd, Errno> {
        if let Some((_, top)) = &self.room {
            return directory(top, b".");
        }
        let room = hidden_in(rustix::io::fcntl_dupfd_cloexec(&self.above, 3)?);
        mkdirat(&room.directory, &room.name[..], Mode::RWXU)?;
        let top = directory(&room.directory, &room.name)?;
        let again = directory(&top, b".")?;
        self.room = Some((room, top));
        Ok(again)
    }

    /// Takes the next part. What fails is told at the end.
    pub(super) fn part(&mut self, part: &FilePart) {
        if self.failed.is_none() {
            self.parts += 1;
            self.failed = self.finish_file().and_then(|()| self.make(part)).err();
        }
    }

    /// Takes the next bytes of the last part.
    pub(super) fn data(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.failed = match &mut self.file {
                Some((file, _, left)) if *left >= bytes.len() as u64 => {
                    *left -= bytes.len() as u64;
                    write_all(&*file, bytes).err()
                }
                _ => Some(Errno::PROTO),
            };
        }
    }

    /// Which part it was that failed.
    pub(super) fn failed(&self) -> Option<u64> {
        self.failed.map(|_| self.parts)
    }

    /// Puts all parts in their places.
    pub(super) fn unite(&mut self, link: &mut Link) -> Result<(), Fault> {
        if self.failed.is_none() {
            self.failed = self.finish_file().err();
        }
        if let Some(errno) = self.failed {
            return Err(errno.into());
        }
        let top = self.top()?;
        rustix::fs::syncfs(&top)?;
        let to = match place::look(&self.path, Last::Follow) {
            Err(Errno::NOENT) => {
                super::tree::make(&self.path, true)?;
                place::look(&self.path, Last::Follow)?
            }
            found => found?,
        };
        let to = place::reopen(&to.0, &to.1, OFlags::RDONLY | OFlags::DIRECTORY)?;
        // First all is looked at, so that what does not fit changes nothing.
        for apply in [false, true] {
            self.merge(&top, &to, b"", apply, 0, link)?;
        }
        Ok(rustix::fs::fsync(to)?)
    }

    fn make(&mut self, part: &FilePart) -> Result<(), Errno> {
        if self.parts > FILE_PARTS_MAX {
            return Err(Errno::TOOBIG);
        }
        let mut names: Vec<&[u8]> = part.path.split(|byte| *byte == b'/').collect();
        if names.len() > DEPTH_MAX || names.iter().any(|name| matches!(*name, b"" | b"." | b"..")) {
            return Err(Errno::PROTO);
        }
        let name = names.pop().ok_or(Errno::PROTO)?;
        let at = self.above(&names)?;
        let mode = part.mode & MODE_MASK;
        if part.hard {
            return self.link(&part.target, &at, name);
        }
        match FileType::from_raw_mode(part.mode) {
            FileType::Directory => {
                make_directory(&at, name)?;
                self.modes.insert(part.path.to_vec(), mode);
            }
            FileType::RegularFile => {
                free(&at, name)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(&at, name, flags, Mode::RUSR | Mode::WUSR)?;
                self.file = Some((file, mode, part.size));
            }
            FileType::Symlink => {
                free(&at, name)?;
                rustix::fs::symlinkat(&part.target[..], &at, name)?;
            }
            _ => return Err(Errno::PROTO),
        }
        Ok(())
    }

    /// The file before is whole.
    fn finish_file(&mut self) -> Result<(), Errno> {
        match self.file.take() {
            None => Ok(()),
            Some((file, mode, 0)) => rustix::fs::fchmod(file, Mode::from_raw_mode(mode)),
            Some(_) => Err(Errno::PROTO),
        }
    }

    /// The directory of these names, made where it is missing.
    fn above(&mut self, names: &[&[u8]]) -> Result<OwnedFd, Errno> {
        let mut at = self.top()?;
        for (depth, name) in names.iter().enumerate() {
            at = match directory(&at, name) {
                Err(Errno::NOENT) => {
                    make_directory(&at, name)?;
                    self.modes.insert(names[..=depth].join(&b'/'), PARENT_MODE);
                    directory(&at, name)?
                }
                opened => opened?,
            };
        }
        Ok(at)
    }

    fn link(&mut self, target: &[u8], at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        let mut names: Vec<&[u8]> = target.split(|byte| *byte == b'/').collect();
        let foreign = |_| Errno::MLINK;
        let old = names.pop().ok_or(Errno::MLINK)?;
        let mut from = self.top()?;
        for name in names {
            from = directory(&from, name).map_err(foreign)?;
        }
        let stat = statat(&from, old, AtFlags::SYMLINK_NOFOLLOW).map_err(foreign)?;
        if kind(&stat) != FileType::RegularFile {
            return Err(Errno::MLINK);
        }
        free(at, name)?;
        linkat(&from, old, at, name, AtFlags::empty()).map_err(foreign)
    }

    /// Moves what lies in one directory into another, or only looks whether it fits.
    fn merge(
        &self,
        from: &OwnedFd,
        to: &OwnedFd,
        path: &[u8],
        apply: bool,
        depth: usize,
        link: &mut Link,
    ) -> Result<(), Fault> {
        let mut entries = Dir::read_from(from)?;
        while let Some(entry) = entries.read() {
            link.step()?;
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let below = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            let new = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let there = match statat(to, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) => Some(there),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(errno.into()),
            };
            let is_dir = |stat: &Stat| kind(stat) == FileType::Directory;
            match there.as_ref().map(is_dir) {
                Some(true) if is_dir(&new) && depth < DEPTH_MAX => {
                    let (from, to) = (directory(from, name)?, directory(to, name)?);
                    self.merge(&from, &to, &below, apply, depth + 1, link)?;
                }
                Some(was_dir) if was_dir || is_dir(&new) => return Err(destination(Errno::EXIST)),
                _ if apply => {
                    if is_dir(&new) {
                        self.dress(from, name, &below)?;
                    }
                    renameat(from, name, to, name)?;
                    if let Some(mode) = self.modes.get(&below).filter(|_| is_dir(&new)) {
                        rustix::fs::fchmod(directory(to, name)?, Mode::from_raw_mode(*mode))?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the directories below one their modes, the deepest first.
    fn dress(&self, from: &OwnedFd, name: &[u8], path: &[u8]) -> Result<(), Errno> {
        let top = directory(from, name)?;
        let within = [path, b"/"].concat();
        let below: Vec<_> =
            self.modes.range(within.clone()..).take_while(|(path, _)| path.starts_with(&within)).collect();
        for (path, mode) in below.into_iter().rev() {
            // Names below are the archive's, and were walked when they were made.
            rustix::fs::chmodat(&top, &path[within.len()..], Mode::from_raw_mode(*mode), AtFlags::empty())?;
        }
        Ok(())
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        // Whether somebody waits for it or not.
        if let Some((room, _)) = &self.room {
            let _ = remove_entry(room, &mut Link::default());
        }
    }
}

/// Opens what is a directory itself, not through a link.
fn directory(at: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn make_directory(at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match mkdirat(at, name, Mode::RWXU) {
        // Another part's; through a link or a file it is none.
        Err(Errno::EXIST) => directory(at, name).map(drop),
        made => made,
    }
}

/// A later part takes the place of an earlier one, unless that is a directory.
fn free(at: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
    match unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}
