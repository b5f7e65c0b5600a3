//! What is looked for in files, and what counts as found? The same on both sides of the link: the server looks so through
//! its own trees, and a worker inside through the places that only it can reach.
//!
//! Expressions are those of the `regex` crate: their time is linear in what they read, and their memory bounded. A file
//! with a NUL in it counts as binary and is left at that place; a line that is longer than what may be held ends its file.
//! What a search may cost is bounded in every direction; what it did not come to is said. Who walks opens the files, and
//! says when time is up.

use crate::agent::FileMatch;
use crate::{FOUND_BYTES_MAX, FOUND_TEXT_CHARS_MAX};
use globset::{GlobBuilder, GlobMatcher};
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::sinks::Lossy;
use grep_searcher::{BinaryDetection, MmapChoice, Searcher, SearcherBuilder};
use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;

/// How long a search may last, in milliseconds.
pub const SEARCH_MS_MAX: u64 = 10_000;

/// Directories below each other that a search goes down.
pub const SEARCH_DEPTH_MAX: usize = 256;

const ENTRIES_MAX: usize = 1_000_000;
/// Of an expression, compiled.
const EXPRESSION_BYTES_MAX: usize = 4 << 20;
/// Of one line that is looked at.
const LINE_BYTES_MAX: usize = 1 << 20;

/// What to look for. Without both, every file matches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// A regular expression for lines.
    pub pattern: Option<&'a str>,
    /// A pattern for paths below the directory; one without `/` is for names.
    pub glob: Option<&'a str>,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
    /// Names that begin with a dot too.
    pub hidden: bool,
    /// Matches at most.
    pub limit: usize,
}

/// Why something can't be looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// `pattern` or `glob`.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

/// What a search has found.
#[derive(Debug, Default)]
pub struct Found {
    /// Paths are below the directory; line 0 is a file itself.
    pub matches: Vec<FileMatch>,
    /// Files that were looked at.
    pub files: u64,
    /// There may be more.
    pub truncated: bool,
    limit: usize,
    bytes: usize,
}

/// A search under way. Its time is up when `L` says so.
pub struct Finder<L> {
    expression: Option<RegexMatcher>,
    glob: Option<(GlobMatcher, bool)>,
    hidden: bool,
    searcher: Searcher,
    is_late: L,
    entries: usize,
    /// So far.
    pub found: Found,
}

impl<L: Fn() -> bool> Finder<L> {
    /// Reads what is wanted.
    pub fn new(wanted: Wanted<'_>, is_late: L) -> Result<Finder<L>, Unreadable> {
        let unreadable = |field, why: String| Unreadable { field, why: why.lines().last().unwrap_or_default().into() };
        let expression = match wanted.pattern {
            None => None,
            Some(pattern) => {
                let mut builder = RegexMatcherBuilder::new();
                builder.case_insensitive(wanted.ignore_case).line_terminator(Some(b'\n'));
                builder.size_limit(EXPRESSION_BYTES_MAX).dfa_size_limit(EXPRESSION_BYTES_MAX);
                Some(builder.build(pattern).map_err(|error| unreadable("pattern", error.to_string()))?)
            }
        };
        let glob = match wanted.glob {
            None => None,
            Some(text) => {
                let built = GlobBuilder::new(text).literal_separator(true).case_insensitive(wanted.ignore_case).build();
                let glob = built.map_err(|error| unreadable("glob", error.to_string()))?;
                Some((glob.compile_matcher(), text.contains('/')))
            }
        };
        let searcher = SearcherBuilder::new()
            .binary_detection(BinaryDetection::quit(0))
            .memory_map(MmapChoice::never())
            .heap_limit(Some(LINE_BYTES_MAX))
            .line_number(true)
            .build();
        let found = Found { limit: wanted.limit, ..Found::default() };
        Ok(Finder { expression, glob, hidden: wanted.hidden, searcher, is_late, entries: 0, found })
    }

    /// One more entry of a directory: whether to look at it. `None`: the search is over.
    pub fn enters(&mut self, name: &[u8]) -> Option<bool> {
        self.entries += 1;
        self.found.truncated |= self.entries > ENTRIES_MAX || (self.is_late)();
        if self.found.truncated {
            return None;
        }
        Some(name != b"." && name != b".." && (self.hidden || !name.starts_with(b".")))
    }

    /// Whether to look into a file, by its path below the directory and its name.
    pub fn wants(&self, below: &[u8], name: &[u8]) -> bool {
        let Some((glob, is_path)) = &self.glob else { return true };
        glob.is_match(OsStr::from_bytes(if *is_path { below } else { name }))
    }

    /// Looks into a file.
    pub fn file(&mut self, file: impl Read, below: &[u8]) {
        let Finder { expression, searcher, is_late, found, .. } = self;
        found.files += 1;
        let Some(expression) = expression else {
            found.truncated |= is_late() || !found.add(below, 0, String::new());
            return;
        };
        let mut is_over = false;
        let sink = Lossy(|line, text| {
            let text = text.trim_end_matches(['\n', '\r']).chars().take(FOUND_TEXT_CHARS_MAX).collect();
            is_over = is_late() || !found.add(below, line, text);
            Ok(!is_over)
        });
        let was_late = Cell::new(false);
        let file = Timely { file, is_late, was_late: &was_late };
        // A line that is too long, or a file that can't be read any more: what was found before it stays.
        let _ = searcher.search_reader(&*expression, file, sink);
        found.truncated |= is_over || was_late.get();
    }
}

impl Found {
    /// False where no more is wanted.
    fn add(&mut self, below: &[u8], line: u64, text: String) -> bool {
        if self.matches.len() >= self.limit || self.bytes > FOUND_BYTES_MAX {
            return false;
        }
        self.bytes += below.len() + text.len();
        self.matches.push(FileMatch { path: below.to_vec().into(), line, text });
        true
    }
}

/// A file that ends when time is up: one without a match is never come back from before its end.
struct Timely<'a, R, L> {
    file: R,
    is_late: &'a L,
    was_late: &'a Cell<bool>,
}

impl<R: Read, L: Fn() -> bool> Read for Timely<'_, R, L> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if (self.is_late)() {
            self.was_late.set(true);
            return Ok(0);
        }
        self.file.read(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(wanted: Wanted<'_>, files: &[(&str, &str)], late_after: usize) -> Found {
        let asked = Cell::new(0);
        let is_late = || asked.replace(asked.get() + 1) >= late_after;
        let mut finder = Finder::new(wanted, is_late).unwrap();
        for (name, text) in files {
            match finder.enters(name.as_bytes()) {
                None => break,
                Some(true) if finder.wants(name.as_bytes(), name.as_bytes()) => {
                    finder.file(text.as_bytes(), name.as_bytes());
                }
                Some(_) => {}
            }
        }
        finder.found
    }

    #[test]
    fn what_is_found_is_bounded_and_what_was_not_looked_at_is_said() {
        let wanted = Wanted { pattern: Some("^b+$"), limit: 2, ..Wanted::default() };
        let files = [("x", "a\nbb\n"), (".y", "bb\n"), ("z", "b\r\nb\0b\n")];
        let all = found(wanted, &files, 1000);
        let seen: Vec<_> = all.matches.iter().map(|found| (&found.path[..], found.line, &found.text[..])).collect();
        assert_eq!(seen, [(&b"x"[..], 2, "bb")]);
        assert_eq!((all.files, all.truncated), (2, false));
        let hidden = found(Wanted { hidden: true, limit: 1, ..wanted }, &files, 1000);
        assert_eq!((hidden.matches.len(), hidden.truncated), (1, true));
        let named = found(Wanted { glob: Some("[xz]"), limit: 2, ..Wanted::default() }, &files, 1000);
        assert_eq!((named.matches.len(), named.truncated, named.matches[0].line), (2, false, 0));
        // Time that ends in the middle of a file without a match, and before the first one.
        let long = "a\n".repeat(1 << 20);
        let late = found(wanted, &[("x", &long)], 3);
        assert_eq!((late.matches.len(), late.files, late.truncated), (0, 1, true));
        assert_eq!((found(wanted, &files, 0).files, found(wanted, &files, 0).truncated), (0, true));
        let wrong = |wanted| Finder::new(wanted, || false).map(|_| ()).unwrap_err().field;
        assert_eq!(wrong(Wanted { pattern: Some("("), ..Wanted::default() }), "pattern");
        assert_eq!(wrong(Wanted { pattern: Some("a{1000}{1000}{1000}"), ..Wanted::default() }), "pattern");
        assert_eq!(wrong(Wanted { glob: Some("["), ..Wanted::default() }), "glob");
    }
}
