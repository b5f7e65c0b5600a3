//! A file as callers see it, its tag, and what a caller may demand of it.

use super::name;
use super::roots::Owners;
use crate::clock;
use crate::error::{Error, Reason};
use rustix::fs::{FileType, Stat};
use schemars::JsonSchema;
use serde::Serialize;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A regular one.
    File,
    /// A directory.
    Directory,
    /// A symbolic link, not followed.
    Symlink,
    /// A FIFO, socket or device: never opened.
    Other,
}

/// A file or directory as every protocol shows it. Names that are not UTF-8 have one text each, see `name.rs`.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct FileInfo {
    /// The last part of its path. Each byte that is not UTF-8 is one character of U+10EF80 to U+10EFFF.
    pub name: String,
    /// Absolute, inside the sandbox.
    pub path: String,
    /// `file`, `directory`, `symlink` or `other`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: Kind,
    /// In bytes.
    pub size: u64,
    /// RFC 3339 in UTC.
    pub modified_at: String,
    /// The same as `modified_at`.
    pub mod_time: String,
    /// Permissions in octal, e.g. `0644`.
    pub mode: String,
    /// `user`, `root`, or a number inside the sandbox.
    pub owner: String,
    /// As `owner`.
    pub group: String,
    /// Where a symlink leads, as it is written in it.
    pub symlink_target: Option<String>,
    /// True for a directory.
    pub is_dir: bool,
}

/// The numbers that are shown of a file.
pub(super) struct Shown {
    /// Type and permissions, as st_mode.
    pub(super) mode: u32,
    pub(super) size: u64,
    pub(super) modified_us: u64,
    /// As inside.
    pub(super) owner: u32,
    pub(super) group: u32,
}

impl FileInfo {
    pub(super) fn new(path: &[u8], stat: &Stat, target: Option<&[u8]>, owners: Owners) -> FileInfo {
        let shown = Shown {
            mode: stat.st_mode,
            size: size(stat),
            modified_us: modified_us(stat),
            owner: owners.inside(stat.st_uid),
            group: owners.inside(stat.st_gid),
        };
        FileInfo::of(path, shown, target)
    }

    pub(super) fn of(path: &[u8], shown: Shown, target: Option<&[u8]>) -> FileInfo {
        let kind = Kind::of(shown.mode);
        let modified_at = clock::rfc3339(shown.modified_us);
        let last = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        FileInfo {
            name: name::show(last),
            path: name::show(path),
            kind,
            size: shown.size,
            mod_time: modified_at.clone(),
            modified_at,
            mode: format!("{:04o}", shown.mode & 0o7777),
            owner: owner(shown.owner),
            group: owner(shown.group),
            symlink_target: target.map(name::show),
            is_dir: kind == Kind::Directory,
        }
    }
}

fn owner(id: u32) -> String {
    match id {
        0 => "root".to_owned(),
        1000 => "user".to_owned(),
        id => id.to_string(),
    }
}

impl Kind {
    pub(super) fn of(mode: u32) -> Kind {
        match FileType::from_raw_mode(mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => Kind::Other,
        }
    }
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Wall time in µs; what was before 1970 is 1970.
pub(super) fn modified_us(stat: &Stat) -> u64 {
    let seconds = u64::try_from(stat.st_mtime).unwrap_or(0);
    let us = seconds.saturating_mul(1_000_000).saturating_add(stat.st_mtime_nsec / 1000);
    us.min(clock::WALL_US_MAX)
}

/// A tag that changes with every change of the file's bytes: the inode, its length, and both of its times. The time
/// of change can't be set back from inside.
pub(super) fn tag(stat: &Stat) -> String {
    let (changed, modified) = (time(stat.st_ctime, stat.st_ctime_nsec), time(stat.st_mtime, stat.st_mtime_nsec));
    format!("{:x}-{:x}-{changed:x}-{modified:x}", stat.st_ino, size(stat))
}

fn time(seconds: i64, nanoseconds: u64) -> u64 {
    seconds.cast_unsigned().wrapping_mul(1_000_000_000).wrapping_add(nanoseconds)
}

/// Tags of a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`: whatever is there.
    Any,
    /// One of these.
    These(Vec<String>),
}

impl Tags {
    fn hold(&self, tag: Option<&str>) -> bool {
        match (self, tag) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(tag)) => tags.iter().any(|one| one == tag),
        }
    }
}

/// What must hold of a file before it is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// It has one of these tags.
    pub if_match: Option<Tags>,
    /// It has none of these tags.
    pub if_none_match: Option<Tags>,
    /// It was not changed since then, in seconds since 1970. Not looked at beside `if_match`.
    pub if_unmodified_since_s: Option<u64>,
    /// A reader has it already if it was not changed since then. Not looked at beside `if_none_match`, nor for changes.
    pub if_modified_since_s: Option<u64>,
}

/// What conditions are held against: a file that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its tag.
    pub tag: String,
    /// Wall time in µs.
    pub modified_us: u64,
}

impl Seen {
    pub(super) fn of(stat: &Stat) -> Seen {
        Seen { tag: tag(stat), modified_us: modified_us(stat) }
    }

    /// A date has no more than seconds.
    fn is_since(&self, second: u64) -> bool {
        self.modified_us / 1_000_000 > second
    }
}

impl Conditions {
    /// Nothing is demanded of what is changed.
    pub fn is_empty(&self) -> bool {
        self.if_match.is_none() && self.if_none_match.is_none() && self.if_unmodified_since_s.is_none()
    }

    /// A reader has these bytes already. In the order of RFC 9110 section 13.2.2, after [`Conditions::check_match`].
    pub fn is_known(&self, seen: &Seen) -> bool {
        match (&self.if_none_match, self.if_modified_since_s) {
            (Some(tags), _) => tags.hold(Some(&seen.tag)),
            (None, Some(second)) => !seen.is_since(second),
            (None, None) => false,
        }
    }

    /// 3009 where it is none of `if_match`, or was changed since.
    pub fn check_match(&self, seen: Option<&Seen>) -> Result<(), Error> {
        let failed = |message| Err(Error::new(Reason::PreconditionFailed, message));
        match (&self.if_match, self.if_unmodified_since_s) {
            (Some(tags), _) if !tags.hold(seen.map(|seen| &seen.tag[..])) => {
                failed("the file is not the one that If-Match names; read it again")
            }
            (None, Some(second)) if seen.is_none_or(|seen| seen.is_since(second)) => {
                failed("the file was changed since If-Unmodified-Since, or is not there; read it again")
            }
            _ => Ok(()),
        }
    }

    /// 3009 where a change is not allowed, of the file that is there.
    pub fn check(&self, seen: Option<&Seen>) -> Result<(), Error> {
        self.check_match(seen)?;
        match &self.if_none_match {
            Some(tags) if tags.hold(seen.map(|seen| &seen.tag[..])) => {
                Err(Error::new(Reason::PreconditionFailed, "there is a file that If-None-Match names"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_those_of_the_rfc() {
        let these = |tag: &str| Some(Tags::These(vec![tag.to_owned()]));
        let of = |if_match, if_none_match| Conditions { if_match, if_none_match, ..Conditions::default() };
        // Changed in the second 100.
        let seen = |tag: &str| Seen { tag: tag.to_owned(), modified_us: 100_999_999 };
        let holds = |conditions: &Conditions, tag: Option<&str>| conditions.check(tag.map(seen).as_ref()).is_ok();
        assert!(holds(&of(None, None), None) && holds(&of(None, None), Some("a")));
        assert!(holds(&of(these("a"), None), Some("a")) && !holds(&of(these("a"), None), Some("b")));
        assert!(!holds(&of(Some(Tags::Any), None), None) && holds(&of(Some(Tags::Any), None), Some("a")));
        assert!(holds(&of(None, Some(Tags::Any)), None) && !holds(&of(None, Some(Tags::Any)), Some("a")));
        assert!(holds(&of(None, these("a")), Some("b")) && !holds(&of(None, these("a")), Some("a")));
        assert!(of(None, these("a")).is_known(&seen("a")) && !of(None, None).is_known(&seen("a")));
        for (second, unmodified) in [(99, false), (100, true), (101, true)] {
            let until = Conditions { if_unmodified_since_s: Some(second), ..of(None, None) };
            assert_eq!((holds(&until, Some("a")), holds(&until, None)), (unmodified, false), "{second}");
            assert!(!until.is_empty());
            // Tags come before dates, whatever these say.
            assert!(holds(&Conditions { if_match: these("a"), ..until.clone() }, Some("a")));
            let since = Conditions { if_modified_since_s: Some(second), ..of(None, None) };
            assert_eq!(since.is_known(&seen("a")), unmodified, "{second}");
            assert!(holds(&since, Some("a")) && since.is_empty(), "a change asks for nothing of the kind");
            assert!(!Conditions { if_none_match: these("b"), ..since.clone() }.is_known(&seen("a")));
            assert!(Conditions { if_none_match: these("a"), ..since }.is_known(&seen("a")));
        }
    }
}
