//! What is found in a tree: lines that match a regular expression, files whose path matches a pattern.
//!
//! Expressions are those of the `regex` crate: their time is linear in what they read, and their memory bounded. A file with a NUL in
//! it counts as binary and is left at that place; a line that is longer than what may be held ends its file. What a
//! search may cost is bounded in every direction; what it did not come to is said.

use super::name;
use super::path::SandboxPath;
use super::pool::Lasts;
use super::resolve::{self, Last, existing, look};
use super::{Tree, failure};
use crate::error::{Error, Reason};
use globset::{GlobBuilder, GlobMatcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::sinks::Lossy;
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder};
use rustix::fs::{Dir, FileType, OFlags};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::Serialize;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

const TIME_MAX: Duration = Duration::from_secs(10);
const ENTRIES_MAX: usize = 1_000_000;
const DEPTH_MAX: usize = 256;
/// Of an expression, compiled.
const EXPRESSION_BYTES_MAX: usize = 4 << 20;
/// Of one line that is looked at.
const LINE_BYTES_MAX: usize = 1 << 20;
/// Of one line that is shown, in characters.
const TEXT_CHARS_MAX: usize = 1000;
/// Of all that is shown.
const FOUND_BYTES_MAX: usize = 4 << 20;

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
        let search = Search::new(options)?;
        let tree = self.clone();
        self.pool().run(Lasts::Long, move || search.run(&tree, &path)).await
    }
}

struct Search {
    expression: Option<RegexMatcher>,
    glob: Option<(GlobMatcher, bool)>,
    options: SearchOptions,
    searcher: Searcher,
    found: SearchResult,
    bytes: usize,
    ends: Instant,
}

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    entries: Dir,
    path: Vec<u8>,
}

impl Search {
    fn new(options: SearchOptions) -> Result<Search, Error> {
        let wrong = |field: &str, why: String| {
            Error::new(Reason::InvalidParameter, format!("`{field}` {}", why.lines().last().unwrap_or_default()))
                .details(field)
        };
        let expression = match &options.pattern {
            None => None,
            Some(pattern) => {
                let mut builder = RegexMatcherBuilder::new();
                builder.case_insensitive(options.ignore_case).line_terminator(Some(b'\n'));
                builder.size_limit(EXPRESSION_BYTES_MAX).dfa_size_limit(EXPRESSION_BYTES_MAX);
                Some(builder.build(pattern).map_err(|error| wrong("pattern", error.to_string()))?)
            }
        };
        let glob = match &options.glob {
            None => None,
            Some(text) => {
                let built =
                    GlobBuilder::new(text).literal_separator(true).case_insensitive(options.ignore_case).build();
                let glob = built.map_err(|error| wrong("glob", error.to_string()))?;
                Some((glob.compile_matcher(), text.contains('/')))
            }
        };
        let searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .memory_map(MmapChoice::never())
            .heap_limit(Some(LINE_BYTES_MAX))
            .line_number(true)
            .build();
        let found = SearchResult::default();
        Ok(Search { expression, glob, options, searcher, found, bytes: 0, ends: Instant::now() + TIME_MAX })
    }

    fn run(mut self, tree: &Tree, path: &SandboxPath) -> Result<SearchResult, Error> {
        let fails = |errno| failure::of(errno, path);
        // The time in the queue is not the search's.
        self.ends = Instant::now() + TIME_MAX;
        let node = existing(&tree.roots()?, path, Last::Follow)?;
        let base = path.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat();
        match node.kind() {
            FileType::RegularFile => {
                self.file(node.reopen(OFlags::RDONLY).map_err(fails)?, &base);
                return Ok(self.found);
            }
            FileType::Directory => {}
            _ => return Err(fails(Errno::NOTDIR)),
        }
        let top = node.reopen(OFlags::RDONLY | OFlags::DIRECTORY).map_err(fails)?;
        let entries = Dir::read_from(&top).map_err(fails)?;
        let mut levels = vec![Level { fd: top, entries, path: Vec::new() }];
        let mut seen = 0;
        while let Some(level) = levels.last_mut() {
            let Some(Ok(entry)) = level.entries.read() else {
                levels.pop();
                continue;
            };
            seen += 1;
            if self.found.truncated || seen > ENTRIES_MAX || Instant::now() >= self.ends {
                self.found.truncated = true;
                break;
            }
            let name = entry.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." || (name[0] == b'.' && !self.options.hidden) {
                continue;
            }
            // What vanishes meanwhile is not there.
            let Ok(node) = look(&level.fd, &name) else { continue };
            let below = if level.path.is_empty() { name.clone() } else { [&level.path[..], b"/", &name[..]].concat() };
            match node.kind() {
                FileType::RegularFile if self.wants(&below, &name) => {
                    let Ok(file) = node.reopen(OFlags::RDONLY) else { continue };
                    self.file(file, &[&base[..], b"/", &below[..]].concat());
                }
                FileType::Directory if levels.len() < DEPTH_MAX => {
                    let opened = resolve::open_directory(&node.fd, b".");
                    let Ok(fd) = opened else { continue };
                    let Ok(entries) = Dir::read_from(&fd) else { continue };
                    levels.push(Level { fd, entries, path: below });
                }
                FileType::Directory => self.found.truncated = true,
                _ => {}
            }
        }
        Ok(self.found)
    }

    fn wants(&self, below: &[u8], name: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let Some((glob, is_path)) = &self.glob else { return true };
        glob.is_match(std::ffi::OsStr::from_bytes(if *is_path { below } else { name }))
    }

    fn file(&mut self, file: OwnedFd, path: &[u8]) {
        self.found.files_searched += 1;
        let Some(expression) = self.expression.clone() else {
            self.add(path, None, None);
            return;
        };
        let mut searcher = self.searcher.clone();
        let sink = Lossy(|line, text| {
            let text: String = text.trim_end_matches(['\n', '\r']).chars().take(TEXT_CHARS_MAX).collect();
            Ok(self.add(path, Some(line), Some(text)))
        });
        // A line that is too long, or a file that can't be read any more: what was found before it stays.
        let _ = searcher.search_file(&expression, &File::from(file), sink);
    }

    /// False where no more is wanted.
    fn add(&mut self, path: &[u8], line: Option<u64>, text: Option<String>) -> bool {
        if self.found.matches.len() >= self.options.limit || self.bytes > FOUND_BYTES_MAX || Instant::now() >= self.ends
        {
            self.found.truncated = true;
            return false;
        }
        let path = name::show(path);
        self.bytes += path.len() + text.as_ref().map_or(0, String::len);
        self.found.matches.push(Match { path, line, text });
        true
    }
}
