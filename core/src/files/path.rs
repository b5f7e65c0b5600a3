//! A path as callers name it, taken apart and within the kernel's bounds. What it leads to is `resolve`'s to say.
//!
//! Relative paths are below `/workspace`; `~` is a name like any other. `..` and links are walked, not cut away: after
//! a link they lead somewhere else.

use super::name;
use crate::error::{Error, Reason};

/// PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;
/// NAME_MAX.
const NAME_BYTES_MAX: usize = 255;
/// Of a message.
const SHOWN_CHARS_MAX: usize = 200;

/// A path, absolute inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxPath {
    bytes: Vec<u8>,
}

impl SandboxPath {
    /// Reads a path; 3004 says what is wrong with it.
    pub fn parse(text: &str) -> Result<SandboxPath, Error> {
        let bytes = name::read(text);
        if bytes.is_empty() {
            return Err(invalid("the path is empty"));
        }
        if bytes.contains(&0) {
            return Err(invalid("the path holds a NUL"));
        }
        let bytes = if bytes[0] == b'/' { bytes } else { [b"/workspace/", &bytes[..]].concat() };
        if bytes.len() > PATH_BYTES_MAX {
            return Err(invalid(format!("the path is longer than {PATH_BYTES_MAX} bytes")));
        }
        if bytes.split(|b| *b == b'/').any(|part| part.len() > NAME_BYTES_MAX) {
            return Err(invalid(format!("the path has a name of more than {NAME_BYTES_MAX} bytes")));
        }
        Ok(SandboxPath { bytes })
    }

    /// Its names in order, `.` left out, `..` kept.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.bytes.split(|b| *b == b'/').filter(|part| !part.is_empty() && *part != b".")
    }

    /// Only a directory can stand there: the path ends in `/`, `/.` or `/..`.
    pub fn wants_directory(&self) -> bool {
        matches!(self.bytes.rsplit(|b| *b == b'/').next(), Some(b"" | b"." | b".."))
    }

    /// The two trees of the host can't hold it, whatever links there are.
    pub(super) fn is_elsewhere(&self) -> bool {
        match self.components().next() {
            Some(first) => !matches!(first, b"workspace" | b"home" | b".."),
            None => true,
        }
    }

    /// The absolute path as it was named.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its names after `/` each, as what lies below it is shown; `/` itself is empty.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.components().flat_map(|name| [b"/", name]).collect::<Vec<_>>().concat()
    }

    /// As text, whole, that leads back to it.
    pub fn text(&self) -> String {
        name::show(&self.bytes)
    }

    /// As text for a message.
    pub fn brief(&self) -> String {
        let text = self.text();
        match text.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        }
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(Reason::InvalidPath, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Vec<String> {
        SandboxPath::parse(text).unwrap().components().map(|p| String::from_utf8_lossy(p).into_owned()).collect()
    }

    #[test]
    fn relative_is_below_the_workspace_and_nothing_is_cut_away() {
        assert_eq!(parts("a//b/./c/"), ["workspace", "a", "b", "c"]);
        assert_eq!(parts("/workspace/../etc/passwd"), ["workspace", "..", "etc", "passwd"]);
        assert_eq!(parts("~/x"), ["workspace", "~", "x"]);
        assert_eq!(parts("/"), Vec::<String>::new());
        assert!(SandboxPath::parse("a/").unwrap().wants_directory());
        assert!(SandboxPath::parse("a/..").unwrap().wants_directory());
        assert!(!SandboxPath::parse("a/..b").unwrap().wants_directory());
        assert_eq!(SandboxPath::parse(&"a".repeat(255)).map(|p| p.as_bytes().len()), Ok(266));
        for bad in ["", "a\0b", &"a".repeat(256), &"a/".repeat(2048), &format!("/{}", "b/".repeat(2048))] {
            assert_eq!(SandboxPath::parse(bad).unwrap_err().reason, Reason::InvalidPath, "{bad}");
        }
    }

    /// What is read is absolute, within bounds, and its text reads as the same path.
    fn any_path(input: &[u8]) {
        let Ok(path) = SandboxPath::parse(&String::from_utf8_lossy(input)) else { return };
        assert!(path.as_bytes()[0] == b'/' && path.as_bytes().len() <= PATH_BYTES_MAX);
        assert!(path.components().all(|c| (1..=NAME_BYTES_MAX).contains(&c.len()) && !c.contains(&0) && c != b"."));
        assert_eq!(SandboxPath::parse(&path.text()), Ok(path.clone()));
        assert!(path.brief().chars().count() <= SHOWN_CHARS_MAX + 1);
    }

    #[test]
    fn any_text_is_a_path_within_bounds_or_refused() {
        let corpus: [&[u8]; 5] =
            [b"/workspace/a/../../etc", b"a\xff/..//.", b"\0", "\u{10efff}/\u{10ef80}".as_bytes(), b"....//..../"];
        crate::fuzz::run(any_path, &corpus);
    }
}
