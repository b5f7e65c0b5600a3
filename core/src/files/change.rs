//! How directories are made, and entries moved, removed and shown: each is one step of the kernel's, then durable.

use super::info::FileInfo;
use super::path::SandboxPath;
use super::pool::Lasts;
use super::resolve::{Last, Parents, entry, make_directory, resolve};
use super::roots::{Replace, Scrap};
use super::write::sync_directory;
use super::{Tree, failure};
use crate::error::{Error, Reason};
use rustix::fs::{AtFlags, FileType, RenameFlags, renameat_with, unlinkat};
use rustix::io::Errno;

/// Mode of a directory that is made.
const MODE: u32 = 0o755;

/// How often a thing is looked at that others change meanwhile.
const TRIES_MAX: u32 = 64;

/// Whether what lies below goes too, or what is missing above is made too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursive {
    /// Only the one that is named.
    No,
    /// All.
    Yes,
}

impl Tree {
    /// Shows what stands at a path. A link is shown itself, unless the path says that a directory is wanted.
    pub async fn info(&self, path: SandboxPath) -> Result<FileInfo, Error> {
        let tree = self.clone();
        self.pool()
            .run(Lasts::Short, move || {
                let roots = tree.roots()?;
                let last = if path.wants_directory() { Last::Follow } else { Last::Keep };
                let node = resolve(&roots, &path, last, Parents::Need)?.node;
                let node = node.ok_or_else(|| failure::of(Errno::NOENT, &path))?;
                let target = match node.kind() {
                    FileType::Symlink => {
                        let target = rustix::fs::readlinkat(&node.fd, "", Vec::new());
                        Some(target.map_err(|errno| failure::of(errno, &path))?)
                    }
                    _ => None,
                };
                let whole = path.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat();
                Ok(FileInfo::new(&whole, &node.stat, target.as_ref().map(|target| target.as_bytes()), roots.owners))
            })
            .await
    }

    /// Makes a directory. With `recursive`, those above it too, and one that is there already is fine.
    pub async fn make_directory(&self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        let tree = self.clone();
        self.pool()
            .run(Lasts::Short, move || {
                let fails = |errno| failure::of(errno, &path);
                let roots = tree.roots()?;
                let parents = if recursive == Recursive::Yes { Parents::Make } else { Parents::Need };
                let found = resolve(&roots, &path, Last::Follow, parents)?;
                let (directory, name) = match (found.entry, found.node) {
                    (_, Some(node)) if node.is_dir() && recursive == Recursive::Yes => return Ok(()),
                    (_, Some(_)) | (None, None) => return Err(exists(&path)),
                    (Some(entry), None) => entry,
                };
                tree.space(1)?;
                match make_directory(&roots, &directory, &name, MODE) {
                    Ok(()) => {}
                    // Somebody else made it meanwhile.
                    Err(Errno::EXIST) if recursive == Recursive::Yes => return Ok(()),
                    Err(Errno::EXIST) => return Err(exists(&path)),
                    Err(errno) => return Err(fails(errno)),
                }
                sync_directory(&directory).map_err(fails)
            })
            .await
    }

    /// Moves an entry to another place, in one step. A link is moved itself.
    pub async fn rename(&self, source: SandboxPath, destination: SandboxPath, replace: Replace) -> Result<(), Error> {
        let tree = self.clone();
        self.pool()
            .run(Lasts::Short, move || {
                let (from, to) = (|errno| failure::of(errno, &source), |errno| failure::of(errno, &destination));
                let roots = tree.roots()?;
                let (old, old_name, node) = entry(&roots, &source, Last::Keep, Parents::Need)?;
                if node.is_none() {
                    return Err(from(Errno::NOENT));
                }
                let (new, new_name, _) = entry(&roots, &destination, Last::Keep, Parents::Need)?;
                let flags = match replace {
                    Replace::No => RenameFlags::NOREPLACE,
                    Replace::Yes => RenameFlags::empty(),
                };
                renameat_with(&old, &old_name[..], &new, &new_name[..], flags).map_err(|errno| match errno {
                    Errno::NOENT => from(errno),
                    Errno::INVAL => {
                        let message = format!("{}: lies in the directory that is to be moved", destination.brief());
                        Error::new(Reason::InvalidPath, message)
                    }
                    errno => to(errno),
                })?;
                sync_directory(&new).map_err(to)?;
                sync_directory(&old).map_err(from)
            })
            .await
    }

    /// Removes an entry; with `recursive`, all below it. A link is removed itself.
    pub async fn remove(&self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        let tree = self.clone();
        let lasts = if recursive == Recursive::Yes { Lasts::Long } else { Lasts::Short };
        self.pool().run(lasts, move || remove(&tree, &path, recursive)).await
    }
}

fn remove(tree: &Tree, path: &SandboxPath, recursive: Recursive) -> Result<(), Error> {
    let fails = |errno| failure::of(errno, path);
    let roots = tree.roots()?;
    let mut tries = 0;
    loop {
        tries += 1;
        let (directory, name, node) = entry(&roots, path, Last::Keep, Parents::Need)?;
        let node = node.ok_or_else(|| fails(Errno::NOENT))?;
        // First out of reach, then away: nobody sees half of it, and nobody who writes to its path keeps it alive.
        let take = || Ok::<_, Error>(Scrap::take(roots.scratch()?, &directory, &name).and_then(Scrap::remove));
        let removed = match (node.is_dir(), recursive) {
            (true, Recursive::Yes) => take()?,
            (true, Recursive::No) => unlinkat(&directory, &name[..], AtFlags::REMOVEDIR),
            (false, _) => match unlinkat(&directory, &name[..], AtFlags::empty()) {
                // It was a link, and is a directory by now: whoever exchanges them quickly would win each try.
                Err(Errno::ISDIR) if recursive == Recursive::Yes => take()?,
                removed => removed,
            },
        };
        match removed {
            // Somebody has put another thing there meanwhile.
            Err(Errno::ISDIR | Errno::NOTDIR) if tries < TRIES_MAX => continue,
            removed => removed.map_err(fails)?,
        }
        tree.files().space.forget(tree.id());
        return sync_directory(&directory).map_err(fails);
    }
}

fn exists(path: &SandboxPath) -> Error {
    Error::new(Reason::FileAlreadyExists, format!("{}: exists already", path.brief()))
}
