//! What can be asked about entries inside: show, list, make, move, copy, remove.

use super::node::{Seen, is_name};
use super::{Worker, forged, refused};
use crate::error::{Error, Reason};
use crate::files::info::Kind;
use crate::files::path::SandboxPath;
use crate::files::{FileInfo, ListOptions, Listing, Recursive, Replace, failure};
use bytes::Bytes;
use rustix::io::Errno;
use workspace_proto::FILE_ENTRIES_MAX;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileLook, FileMake, FileRemove, FileWay, FileWindow};

/// Of the paths on one page.
const PAGE_BYTES_MAX: usize = 4 << 20;
/// PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;

/// A directory of a walk.
struct Level {
    /// Below the listed directory; empty for that itself.
    path: Vec<u8>,
    entries: std::vec::IntoIter<(Bytes, Seen)>,
    /// The first name that is not read yet, where there are more.
    rest: Option<Vec<u8>>,
    /// Names of the path where the last page ended, from this level on.
    after: Vec<Vec<u8>>,
}

impl Worker {
    /// Shows what stands at a path.
    pub(in crate::files) async fn info(self, path: SandboxPath) -> Result<FileInfo, Error> {
        let request = FileLook { path: path.as_bytes().to_vec().into(), follow: path.wants_directory() };
        let seen = self.seen(Request::Look(request), &path).await?;
        let seen = seen.ok_or_else(|| failure::of(Errno::NOENT, &path))?;
        if path.wants_directory() && seen.kind() != Kind::Directory {
            return Err(failure::of(Errno::NOTDIR, &path));
        }
        Ok(seen.info(&whole(&path)))
    }

    /// Makes a directory.
    pub(in crate::files) async fn make_directory(self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        let make = FileMake { path: path.as_bytes().to_vec().into(), parents: recursive == Recursive::Yes };
        self.done(Request::Make(make), &path, &path).await
    }

    /// Removes an entry.
    pub(in crate::files) async fn remove(self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        let remove = FileRemove { path: path.as_bytes().to_vec().into(), recursive: recursive == Recursive::Yes };
        self.done(Request::Remove(remove), &path, &path).await
    }

    /// Moves an entry.
    pub(in crate::files) async fn rename(
        self,
        source: SandboxPath,
        destination: SandboxPath,
        replace: Replace,
    ) -> Result<(), Error> {
        let way = way(&source, &destination, replace);
        self.done(Request::Rename(way), &source, &destination).await.map_err(|error| within(error, &destination))
    }

    /// Copies a file or a tree.
    pub(in crate::files) async fn copy(
        self,
        source: SandboxPath,
        destination: SandboxPath,
        replace: Replace,
    ) -> Result<(), Error> {
        let way = way(&source, &destination, replace);
        self.done(Request::Copy(way), &source, &destination).await.map_err(|error| within(error, &destination))
    }

    /// Lists a directory; the same walk as on the host.
    pub(in crate::files) async fn list(self, path: SandboxPath, options: ListOptions) -> Result<Listing, Error> {
        let base = whole(&path);
        let after = options.after.iter().flat_map(|p| p.split(|b| *b == b'/')).map(<[u8]>::to_vec).collect();
        // One more than the page holds tells whether there is a next one.
        let room = |files: &Vec<FileInfo>| options.limit + 2 - files.len();
        let (mut files, mut last, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut levels = vec![self.level(&path, Vec::new(), after, room(&files)).await?];
        while let Some(level) = levels.last_mut() {
            let Some((name, seen)) = level.entries.next() else {
                if let Some(from) = level.rest.take() {
                    let (entries, rest) = self.entries(&path, &level.path, &from, room(&files)).await?;
                    (level.entries, level.rest) = (entries.into_iter(), rest);
                } else {
                    levels.pop();
                }
                continue;
            };
            let below = joined(&level.path, &name);
            let was_given = level.after.first().is_some_and(|first| *first == name);
            let rest = if was_given { level.after.split_off(1) } else { Vec::new() };
            level.after.clear();
            if !was_given {
                if files.len() == options.limit || bytes > PAGE_BYTES_MAX {
                    return Ok(Listing { files, next: Some(last) });
                }
                let shown = joined(&base, &below);
                bytes += shown.len() + seen.0.target.len();
                files.push(seen.info(&shown));
                last.clone_from(&below);
            }
            if seen.kind() == Kind::Directory && levels.len() < options.depth {
                // What can't be read, or vanishes meanwhile, has no entries.
                match self.level(&path, below, rest, room(&files)).await {
                    Ok(level) => levels.push(level),
                    Err(error) if error.reason == Reason::ProcessExecutionFailed => return Err(error),
                    Err(_) => {}
                }
            }
        }
        Ok(Listing { files, next: None })
    }

    async fn level(
        &self,
        path: &SandboxPath,
        below: Vec<u8>,
        after: Vec<Vec<u8>>,
        limit: usize,
    ) -> Result<Level, Error> {
        let from = after.first().cloned().unwrap_or_default();
        let (entries, rest) = self.entries(path, &below, &from, limit).await?;
        Ok(Level { path: below, entries: entries.into_iter(), rest, after })
    }

    /// Some entries of a directory below `path`, and from where there are more.
    async fn entries(
        &self,
        path: &SandboxPath,
        below: &[u8],
        from: &[u8],
        limit: usize,
    ) -> Result<(Vec<(Bytes, Seen)>, Option<Vec<u8>>), Error> {
        let limit = limit.clamp(1, FILE_ENTRIES_MAX);
        let directory = if below.is_empty() { path.as_bytes().to_vec() } else { joined(path.as_bytes(), below) };
        if directory.len() > PATH_BYTES_MAX {
            return Err(failure::of(Errno::NAMETOOLONG, path));
        }
        let window = FileWindow { path: directory.into(), from: from.to_vec().into(), limit: limit as u32 };
        let told = match self.ask(Request::Entries(window)).await? {
            Reply::Entries(told) => told,
            reply => return Err(refused(reply, path, path)),
        };
        if told.entries.len() > limit {
            return Err(forged("more entries than were asked for"));
        }
        let mut entries: Vec<(Bytes, Seen)> = Vec::with_capacity(told.entries.len());
        for entry in told.entries {
            let before = entries.last().map_or(from, |(name, _)| &name[..]);
            let ascends = if entries.is_empty() { &entry.name[..] >= before } else { &entry.name[..] > before };
            if !ascends || !is_name(&entry.name) {
                return Err(forged("names out of order, or none"));
            }
            let seen =
                Seen::check(entry.node.unwrap_or_default())?.ok_or_else(|| forged("an entry that is nothing"))?;
            entries.push((entry.name, seen));
        }
        // The first name that could stand behind the last one.
        let rest = match entries.last() {
            Some((name, _)) if told.more => Some([&name[..], b"\x01"].concat()),
            _ => None,
        };
        Ok((entries, rest))
    }
}

fn way(source: &SandboxPath, destination: &SandboxPath, replace: Replace) -> FileWay {
    FileWay {
        source: source.as_bytes().to_vec().into(),
        destination: destination.as_bytes().to_vec().into(),
        replace: replace == Replace::Yes,
    }
}

/// Of two paths EINVAL says that one lies in the other, or what kind of thing is in the way.
fn within(error: Error, destination: &SandboxPath) -> Error {
    if error.reason != Reason::InvalidPath {
        return error;
    }
    let message = format!(
        "{}: is, or lies in, what is to be moved or copied; or that is or holds a FIFO, socket or device",
        destination.brief()
    );
    Error { message, ..error }
}

/// A path as it is shown.
fn whole(path: &SandboxPath) -> Vec<u8> {
    match path.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat() {
        top if top.is_empty() => b"/".to_vec(),
        whole => whole,
    }
}

fn joined(above: &[u8], below: &[u8]) -> Vec<u8> {
    match above {
        b"" => below.to_vec(),
        _ if above.ends_with(b"/") => [above, below].concat(),
        _ => [above, b"/", below].concat(),
    }
}
