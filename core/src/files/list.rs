//! What lies in a directory, in pages of bounded size, however many entries there are.
//!
//! The order is that of a walk, each directory's names by their bytes. A page ends with the path of its last entry,
//! and the next one begins behind that path, whatever was made or removed meanwhile. No directory's names are held
//! whole: only as many as the page still has room for.

use super::info::FileInfo;
use super::path::SandboxPath;
use super::pool::Lasts;
use super::resolve::{self, Last, existing};
use super::roots::Owners;
use super::{Tree, failure};
use crate::error::Error;
use rustix::fs::{AtFlags, Dir, FileType, OFlags, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;

/// Of the paths on one page.
const PAGE_BYTES_MAX: usize = 4 << 20;

/// What to list.
#[derive(Debug, Clone)]
pub struct ListOptions {
    /// Directories below each other; 1: only the directory's own entries.
    pub depth: usize,
    /// Entries of one page, at least 1.
    pub limit: usize,
    /// Where the last page ended: a path below the directory.
    pub after: Option<Vec<u8>>,
}

/// One page.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// In the order of the walk.
    pub files: Vec<FileInfo>,
    /// Where the next page begins.
    pub next: Option<Vec<u8>>,
}

impl Tree {
    /// Lists a directory. 3005 for what is none.
    pub async fn list(&self, path: SandboxPath, options: ListOptions) -> Result<Listing, Error> {
        let tree = self.clone();
        self.pool()
            .run(Lasts::Page, move || {
                let fails = |errno| failure::of(errno, &path);
                let roots = tree.roots()?;
                let node = existing(&roots, &path, Last::Follow)?;
                if !node.is_dir() {
                    return Err(fails(Errno::NOTDIR));
                }
                let top = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
                page(top, &path, &options, roots.owners).map_err(fails)
            })
            .await
    }
}

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    /// Its path below the listed directory; empty for that itself.
    path: Vec<u8>,
    names: std::collections::btree_set::IntoIter<Vec<u8>>,
    /// Names of the path where the last page ended, from this level on.
    after: Vec<Vec<u8>>,
}

impl Level {
    fn open(fd: OwnedFd, path: Vec<u8>, after: Vec<Vec<u8>>, room: usize) -> rustix::io::Result<Level> {
        let names = names(&fd, after.first().map(Vec::as_slice), room)?;
        Ok(Level { fd, path, names: names.into_iter(), after })
    }
}

fn page(top: OwnedFd, path: &SandboxPath, options: &ListOptions, owners: Owners) -> rustix::io::Result<Listing> {
    let base = path.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat();
    let after = options.after.iter().flat_map(|p| p.split(|b| *b == b'/')).map(<[u8]>::to_vec).collect();
    // One more than the page holds tells whether there is a next one.
    let room = |files: &Vec<FileInfo>| options.limit + 1 - files.len();
    let (mut files, mut last, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut levels = vec![Level::open(top, Vec::new(), after, room(&files) + 1)?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        // What vanishes meanwhile is not there.
        let Ok(stat) = statat(&level.fd, &name[..], AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let below = if level.path.is_empty() { name.clone() } else { [&level.path[..], b"/", &name[..]].concat() };
        let was_given = level.after.first() == Some(&name);
        let rest = if was_given { level.after.split_off(1) } else { Vec::new() };
        level.after.clear();
        if !was_given {
            if files.len() == options.limit || bytes > PAGE_BYTES_MAX {
                return Ok(Listing { files, next: Some(last) });
            }
            let is_link = FileType::from_raw_mode(stat.st_mode) == FileType::Symlink;
            let target = is_link.then(|| rustix::fs::readlinkat(&level.fd, &name[..], Vec::new()).ok()).flatten();
            bytes += base.len() + below.len() + target.as_ref().map_or(0, |target| target.as_bytes().len());
            let whole = [&base[..], b"/", &below[..]].concat();
            files.push(FileInfo::new(&whole, &stat, target.as_ref().map(|t| t.as_bytes()), owners));
            last.clone_from(&below);
        }
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory && levels.len() < options.depth {
            let room = room(&files) + usize::from(!rest.is_empty());
            let opened = levels.last().map(|level| resolve::open_directory(&level.fd, &name));
            if let Some(Ok(fd)) = opened {
                levels.push(Level::open(fd, below, rest, room)?);
            }
        }
    }
    Ok(Listing { files, next: None })
}

/// The first names of a directory by their bytes, from `from` on; at most `room`.
fn names(fd: &OwnedFd, from: Option<&[u8]>, room: usize) -> rustix::io::Result<BTreeSet<Vec<u8>>> {
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut entries = Dir::read_from(fd)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." || from.is_some_and(|from| name < from) {
            continue;
        }
        if names.len() == room {
            if names.last().is_some_and(|last| name >= &last[..]) {
                continue;
            }
            names.pop_last();
        }
        names.insert(name.to_vec());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::roots::Numbering;
    use rustix::fs::Mode;
    use std::path::Path;

    fn pages(root: &Path, depth: usize, limit: usize, change: impl Fn(usize)) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None);
        for count in 0.. {
            let top = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let path = SandboxPath::parse("/workspace").unwrap();
            let options = ListOptions { depth, limit, after };
            let page = page(top, &path, &options, Owners::new(Numbering::Same, 0)).unwrap();
            assert!(page.files.len() <= limit);
            all.extend(page.files.into_iter().map(|file| file.path.trim_start_matches("/workspace/").to_owned()));
            after = page.next;
            if after.is_none() {
                break;
            }
            change(count);
        }
        all
    }

    #[test]
    fn pages_of_any_size_are_the_same_walk() {
        let root = std::env::temp_dir().join(format!("workspace-list-{}", std::process::id()));
        for directory in ["a/b/c", "a.b", "d", "e/f"] {
            std::fs::create_dir_all(root.join(directory)).unwrap();
        }
        for file in ["a/1", "a/b/2", "a/b/c/3", "a/z", "b", "e/f/x", "z"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        let whole =
            ["a", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3", "a/z", "a.b", "b", "d", "e", "e/f", "e/f/x", "link", "z"];
        for limit in 1..=whole.len() + 1 {
            assert_eq!(pages(&root, 64, limit, |_| ()), whole, "pages of {limit}");
        }
        assert_eq!(pages(&root, 1, 2, |_| ()), ["a", "a.b", "b", "d", "e", "link", "z"]);
        assert_eq!(pages(&root, 2, 3, |_| ())[..5], ["a", "a/1", "a/b", "a/z", "a.b"]);
        // What a page ended with may have gone when the next one is asked for.
        let removed = pages(&root, 64, 3, |count| {
            if count == 0 {
                std::fs::remove_dir_all(root.join("a")).unwrap();
            }
        });
        assert_eq!(removed, ["a", "a/1", "a/b", "a.b", "b", "d", "e", "e/f", "e/f/x", "link", "z"]);
        std::fs::remove_dir_all(&root).unwrap();
    }
}
