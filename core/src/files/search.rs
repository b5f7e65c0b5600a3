//! What is found in a tree: lines that match a regular expression, files whose path matches a pattern. What counts as found,
//! and what a search may cost, stands in `proto/src/find.rs`: a worker inside looks by the same rules.

use super::name;
use super::path::SandboxPath;
use super::pool::Lasts;
use super::resolve::{self, Last, existing, look};
use super::{Tree, failure};
use crate::error::{Error, Reason};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use workspace_proto::agent::FileMatch;
use workspace_proto::find::{Finder, Found, SEARCH_DEPTH_MAX, SEARCH_MS_MAX, Wanted};

/// What to look for. Without both, every file matches.
#[derive(Debug, Clone, Default)]
pub struct SearchOptions {
    /// A regular expression for lines.
    pub pattern: Option<String>,
    /// A pattern for paths below the directory; one without `/` is for names.
    pub glob: Option<String>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Names that begin with a dot too.
    pub hidden: bool,
    /// Matches at most, at least 1.
    pub limit: usize,
}

/// A line, or a file where no expression was given.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Match {
    /// Absolute, inside the sandbox.
    pub path: String,
    /// From 1; absent for a file.
    pub line: Option<u64>,
    /// The line without its end, at most 1000 characters; what is not UTF-8 is replaced. Absent for a file.
    pub text: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, JsonSchema)]
pub struct SearchResult {
    /// In the order of the directories.
    pub matches: Vec<Match>,
    /// Files that were looked at.
    pub files_searched: u64,
    /// There may be more: the limit was met, or the search took too long.
    pub truncated: bool,
}

impl Tree {
    /// Searches a directory, or one file.
    pub async fn search(&self, path: SandboxPath, options: SearchOptions) -> Result<SearchResult, Error> {
        let tree = self.clone();
        self.pool().run(Lasts::Search, move || run(&tree, &path, &options)).await
    }
}

impl SearchOptions {
    /// 1002 where an expression or a pattern is none.
    pub(super) fn check(&self) -> Result<(), Error> {
        self.finder(|| false).map(drop)
    }

    fn finder<L: Fn() -> bool>(&self, is_late: L) -> Result<Finder<L>, Error> {
        let wanted = Wanted {
            pattern: self.pattern.as_deref(),
            glob: self.glob.as_deref(),
            ignore_case: self.ignore_case,
            hidden: self.hidden,
            limit: self.limit,
        };
        Finder::new(wanted, is_late).map_err(|unreadable| {
            let message = format!("`{}` {}", unreadable.field, unreadable.why);
            Error::new(Reason::InvalidParameter, message).details(unreadable.field)
        })
    }
}

impl Match {
    /// What was found below a path, as it is shown.
    pub(super) fn of(base: &[u8], found: FileMatch) -> Match {
        let path = if found.path.is_empty() { base.to_vec() } else { [base, b"/", &found.path[..]].concat() };
        let is_line = found.line > 0;
        Match { path: name::show(&path), line: is_line.then_some(found.line), text: is_line.then_some(found.text) }
    }
}

impl SearchResult {
    fn of(path: &SandboxPath, found: Found) -> SearchResult {
        let base = path.whole();
        SearchResult {
            matches: found.matches.into_iter().map(|found| Match::of(&base, found)).collect(),
            files_searched: found.files,
            truncated: found.truncated,
        }
    }
}

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    entries: Dir,
    path: Vec<u8>,
}

fn run(tree: &Tree, path: &SandboxPath, options: &SearchOptions) -> Result<SearchResult, Error> {
    let fails = |errno| failure::of(errno, path);
    // The time in the queue is not the search's.
    let ends = Instant::now() + Duration::from_millis(SEARCH_MS_MAX);
    let mut finder = options.finder(|| Instant::now() >= ends)?;
    let node = existing(&tree.roots()?, path, Last::Follow)?;
    match node.kind() {
        FileType::RegularFile => {
            finder.file(File::from(node.reopen(OFlags::RDONLY).map_err(fails)?), b"");
            return Ok(SearchResult::of(path, finder.found));
        }
        FileType::Directory => {}
        _ => return Err(fails(Errno::NOTDIR)),
    }
    let top = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
    let entries = Dir::read_from(&top).map_err(fails)?;
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
        // What vanishes meanwhile is not there.
        let Ok(node) = look(&level.fd, &name) else { continue };
        let below = if level.path.is_empty() { name.clone() } else { [&level.path[..], b"/", &name[..]].concat() };
        match node.kind() {
            FileType::RegularFile if finder.wants(&below, &name) => {
                let Ok(file) = node.reopen(OFlags::RDONLY) else { continue };
                finder.file(File::from(file), &below);
            }
            FileType::Directory if levels.len() < SEARCH_DEPTH_MAX => {
                let Ok(fd) = resolve::open_directory(&node.fd, b".") else { continue };
                let Ok(entries) = Dir::read_from(&fd) else { continue };
                levels.push(Level { fd, entries, path: below });
            }
            FileType::Directory => finder.found.truncated = true,
            _ => {}
        }
    }
    Ok(SearchResult::of(path, finder.found))
}
