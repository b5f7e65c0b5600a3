//! How are directories made, and entries moved and removed? By the kernel's own steps, as the commands' user.

use super::link::Link;
use super::place::{Entry, Last, hidden_name, kind};
use super::{Fault, copy, destination};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use workspace_proto::agent::FileWay;

const MODE: Mode = Mode::from_raw_mode(0o755);
/// How often one directory is begun again because others put new entries into it.
const ROUNDS_MAX: u32 = 100;

/// Makes a directory; with `parents` those above it too, and one that is there is fine.
pub(super) fn make(path: &[u8], parents: bool) -> Result<(), Fault> {
    let entry = match parents {
        true => Entry::find_or_make(path, Last::Follow),
        false => Entry::find(path, Last::Follow),
    };
    let entry = match entry {
        // `/`, or what ends in a link to a directory that ends in `/`: it is there.
        Err(Errno::INVAL | Errno::ISDIR) => return if parents { Ok(()) } else { Err(Errno::EXIST.into()) },
        entry => entry?,
    };
    match rustix::fs::mkdirat(&entry.directory, &entry.name[..], MODE) {
        Ok(()) => Ok(entry.sync()?),
        // Where nothing may be made the kernel may say that first.
        Err(errno) => match entry.stat()? {
            Some(stat) if parents && kind(&stat) == FileType::Directory => Ok(()),
            Some(_) => Err(Errno::EXIST.into()),
            None => Err(errno.into()),
        },
    }
}

/// Moves an entry: one step where both places lie in one file system, else a copy that appears whole and then takes the
/// source's place.
pub(super) fn rename(way: &FileWay, link: &mut Link) -> Result<(), Fault> {
    let from = Entry::find(&way.source, Last::Keep)?;
    if from.stat()?.is_none() {
        return Err(Errno::NOENT.into());
    }
    let to = Entry::find(&way.destination, Last::Keep).map_err(destination)?;
    let flags = if way.replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    match renameat_with(&from.directory, &from.name[..], &to.directory, &to.name[..], flags) {
        Ok(()) => {}
        Err(Errno::XDEV) => {
            let source = from.open()?;
            copy::place(&source, &to, way.replace, copy::As::Moved, link)?;
            to.sync().map_err(destination)?;
            remove_entry(&from, link)?;
        }
        Err(errno @ (Errno::EXIST | Errno::NOTEMPTY | Errno::ISDIR | Errno::INVAL)) => return Err(destination(errno)),
        Err(errno @ Errno::NOTDIR) if to.stat().is_ok_and(|stat| stat.is_some()) => return Err(destination(errno)),
        Err(errno) => return Err(errno.into()),
    }
    to.sync().map_err(destination)?;
    Ok(from.sync()?)
}

/// Removes an entry; with `recursive` all that lies below it.
pub(super) fn remove(path: &[u8], recursive: bool, link: &mut Link) -> Result<(), Fault> {
    let entry = Entry::find(path, Last::Keep)?;
    if recursive {
        remove_entry(&entry, link)?;
    } else {
        match unlinkat(&entry.directory, &entry.name[..], AtFlags::empty()) {
            Err(Errno::ISDIR | Errno::PERM) if entry.stat()?.is_some_and(|stat| kind(&stat) == FileType::Directory) => {
                unlinkat(&entry.directory, &entry.name[..], AtFlags::REMOVEDIR).map_err(not_empty)?;
            }
            removed => removed?,
        }
    }
    Ok(entry.sync()?)
}

/// POSIX lets file systems say it either way.
fn not_empty(errno: Errno) -> Errno {
    if errno == Errno::EXIST { Errno::NOTEMPTY } else { errno }
}

/// A directory that is being emptied.
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    entries: Dir,
    rounds: u32,
}

/// Removes whatever stands there, following nothing.
pub(super) fn remove_entry(entry: &Entry, link: &mut Link) -> Result<(), Fault> {
    let Some(top) = descend(&entry.directory, &entry.name, true)? else { return Ok(()) };
    let mut levels = vec![top];
    while let Some(level) = levels.last_mut() {
        link.step()?;
        if let Some(next) = level.entries.read() {
            let name = next?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                let below = descend(&level.fd, &name, false)?;
                levels.extend(below);
            }
            continue;
        }
        let Some(mut done) = levels.pop() else { break };
        let at = levels.last().map_or(entry.directory.as_fd(), |level| level.fd.as_fd());
        match unlinkat(at, &done.name[..], AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) if done.rounds < ROUNDS_MAX => {
                done.rounds += 1;
                done.entries = Dir::read_from(&done.fd)?;
                levels.push(done);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Removes what is no directory; opens what is one.
fn descend(at: impl AsFd, name: &[u8], is_top: bool) -> Result<Option<Level>, Errno> {
    let refused = match unlinkat(&at, name, AtFlags::empty()) {
        Ok(()) => return Ok(None),
        Err(Errno::NOENT) if !is_top => return Ok(None),
        Err(errno @ (Errno::ISDIR | Errno::PERM | Errno::ACCESS)) => errno,
        Err(errno) => return Err(errno),
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match openat(&at, name, flags, Mode::empty()) {
        // Modes keep nobody out who may set them.
        Err(Errno::ACCESS) => rustix::fs::chmodat(&at, name, Mode::RWXU, AtFlags::empty())
            .and_then(|()| openat(&at, name, flags, Mode::empty())),
        opened => opened,
    };
    match opened {
        Ok(fd) => {
            let entries = Dir::read_from(&fd)?;
            Ok(Some(Level { name: name.to_vec(), fd, entries, rounds: 0 }))
        }
        Err(Errno::NOENT) if !is_top => Ok(None),
        // It is no directory: then it was the removing that was refused.
        Err(Errno::NOTDIR | Errno::LOOP) => Err(refused),
        Err(errno) => Err(errno),
    }
}

/// A hidden entry beside another one.
pub(super) fn hidden_beside(entry: &Entry) -> Result<Entry, Errno> {
    Ok(hidden_in(rustix::io::fcntl_dupfd_cloexec(&entry.directory, 3)?))
}

/// A hidden entry of a directory.
pub(super) fn hidden_in(directory: OwnedFd) -> Entry {
    Entry { directory, name: hidden_name() }
}
