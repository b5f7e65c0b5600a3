//! The bounds of what callers send: each check names the field, and nothing is ever cut short.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use workspace_core::{Error, Reason};

/// Ten years in seconds: longer than any machine, short enough to never overflow a deadline.
pub(super) const SECONDS_MAX: u64 = 315_360_000;

/// Refuses the value of `field`.
pub(super) fn refuse(field: &str, what: impl std::fmt::Display) -> Error {
    Error::new(Reason::InvalidParameter, format!("`{field}` {what}")).details(field)
}

/// A text that becomes a C string: bytes within `bytes`, no NUL.
pub(super) fn text(field: &str, value: &str, bytes: RangeInclusive<usize>) -> Result<(), Error> {
    if value.contains('\0') {
        return Err(refuse(field, "holds a NUL"));
    }
    if !bytes.contains(&value.len()) {
        return Err(match bytes.start() {
            0 => refuse(field, format_args!("is longer than {} bytes", bytes.end())),
            min => refuse(field, format_args!("must have {min} to {} bytes", bytes.end())),
        });
    }
    Ok(())
}

/// A text for people: at most `chars_max` characters, none of them a control character.
pub(super) fn label(field: &str, value: &str, chars_max: usize) -> Result<(), Error> {
    if value.chars().any(char::is_control) {
        return Err(refuse(field, "holds a control character"));
    }
    if value.chars().take(chars_max + 1).count() > chars_max {
        return Err(refuse(field, format_args!("is longer than {chars_max} characters")));
    }
    Ok(())
}

/// A number within `range`.
pub(super) fn number(field: &str, value: u64, range: RangeInclusive<u64>) -> Result<u64, Error> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(refuse(field, format_args!("must be {} to {}", range.start(), range.end())))
}

/// Arguments of a command: no NUL. How long they may be together is the kernel's to say.
pub(super) fn args(args: &[String]) -> Result<(), Error> {
    match args.iter().position(|arg| arg.contains('\0')) {
        Some(index) => Err(refuse(&format!("args.{index}"), "holds a NUL")),
        None => Ok(()),
    }
}

/// Environment variables: at most 256; names 1..=256 bytes without `=`, values at most 32 KiB; no NUL.
pub(super) fn env(variables: &BTreeMap<String, String>) -> Result<(), Error> {
    if variables.len() > 256 {
        return Err(refuse("env", "has more than 256 variables"));
    }
    for (name, value) in variables {
        text("env", name, 1..=256)?;
        if name.contains('=') {
            return Err(refuse("env", "has a name with `=`"));
        }
        text(&format!("env.{name}"), value, 0..=32 << 10)?;
    }
    Ok(())
}

/// The caller's marks: at most 64; keys 1..=64 bytes, values at most 4 KiB; no NUL.
pub(super) fn metadata(marks: &BTreeMap<String, String>) -> Result<(), Error> {
    if marks.len() > 64 {
        return Err(refuse("metadata", "has more than 64 entries"));
    }
    for (key, value) in marks {
        text("metadata", key, 1..=64)?;
        text(&format!("metadata.{key}"), value, 0..=4 << 10)?;
    }
    Ok(())
}
