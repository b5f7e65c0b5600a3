//! What is found below a place: the walk, as the commands' user; what counts as found stands in `workspace_proto::find`.
//!
//! What that user may not read is not looked at. Links are not followed, and nothing special is opened.

use super::Fault;
use super::link::Link;
use super::place::{self, Last, kind, reopen};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::cell::RefCell;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::{FileMatches, FileSearch, FileSearched};
use workspace_proto::find::{Finder, Found, SEARCH_DEPTH_MAX, SEARCH_MS_MAX, Wanted};

/// Of one message about matches.
const MATCHES_BYTES_MAX: usize = 256 << 10;
/// What a match counts beside its texts.
const MATCH_BYTES: usize = 32;

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    entries: Dir,
    path: Vec<u8>,
}

/// Searches a directory, or one file, and sends what is found.
pub(super) fn search(asked: &FileSearch, link: &mut Link) -> Result<FileSearched, Fault> {
    let ends = Instant::now() + Duration::from_millis(SEARCH_MS_MAX);
    let wanted = Wanted {
        pattern: asked.has_pattern.then_some(&asked.pattern[..]),
        glob: asked.has_glob.then_some(&asked.glob[..]),
        ignore_case: asked.ignore_case,
        hidden: asked.hidden,
        limit: asked.limit as usize,
    };
    // The server has read them before.
    let caller = RefCell::new(link);
    // Asked at every piece that is read: says on the way that it goes on, and ends where nobody waits any more.
    let is_late = || Instant::now() >= ends || caller.borrow_mut().look().is_err();
    let mut finder = Finder::new(wanted, is_late).map_err(|_| Errno::INVAL)?;
    let (fd, stat) = place::look(&asked.path, Last::Follow)?;
    match kind(&stat) {
        FileType::RegularFile => finder.file(File::from(reopen(&fd, &stat, OFlags::RDONLY)?), b""),
        FileType::Directory => walk(reopen(&fd, &stat, OFlags::RDONLY | OFlags::DIRECTORY)?, &mut finder)?,
        _ => return Err(Errno::NOTDIR.into()),
    }
    let Found { matches: all, files, truncated, .. } = finder.found;
    let link = caller.into_inner();
    let (mut matches, mut bytes) = (Vec::new(), 0);
    for found in all {
        bytes += MATCH_BYTES + found.path.len() + found.text.len();
        matches.push(found);
        if bytes > MATCHES_BYTES_MAX {
            link.send(Reply::Matches(FileMatches { matches: std::mem::take(&mut matches) }))?;
            bytes = 0;
        }
    }
    if !matches.is_empty() {
        link.send(Reply::Matches(FileMatches { matches }))?;
    }
    Ok(FileSearched { files, truncated })
}

fn walk<L: Fn() -> bool>(top: OwnedFd, finder: &mut Finder<L>) -> Result<(), Errno> {
    let entries = Dir::read_from(&top)?;
    let mut levels = vec![Level { fd: top, entries, path: Vec::new() }];
    while let Some(level) = levels.last_mut() {
        let Some(Ok(entry)) = level.entries.read() else {
            levels.pop();
            continue;
        };
        let name = entry.file_name().to_bytes().to_vec();
        match finder.enters(&name) {
            None => break,
            Some(false) => continue,
            Some(true) => {}
        }
        // What vanishes meanwhile, or may not be read, is not there.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(node) = openat(&level.fd, &name[..], flags, Mode::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&node) else { continue };
        let below = if level.path.is_empty() { name.clone() } else { [&level.path[..], b"/", &name[..]].concat() };
        match kind(&stat) {
            FileType::RegularFile if finder.wants(&below, &name) => {
                let Ok(file) = reopen(&node, &stat, OFlags::RDONLY) else { continue };
                finder.file(File::from(file), &below);
            }
            FileType::Directory if levels.len() < SEARCH_DEPTH_MAX => {
                let Ok(fd) = reopen(&node, &stat, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
                let Ok(entries) = Dir::read_from(&fd) else { continue };
                levels.push(Level { fd, entries, path: below });
            }
            FileType::Directory => finder.found.truncated = true,
            _ => {}
        }
    }
    Ok(())
}
