//! Where in a sandbox, as callers say it, and what they are told of it: what the operations on files share.

use super::bounds::refuse;
use schemars::JsonSchema;
use serde::Serialize;
use workspace_core::files::{Recursive, Replace, SandboxPath};
use workspace_core::{Error, Reason};

/// The reasons of an operation on files.
pub(super) const FILE_ERRORS: &[Reason] = &[
    Reason::SandboxNotFound,
    Reason::InvalidSandboxState,
    Reason::FileNotFound,
    Reason::FileAlreadyExists,
    Reason::PermissionDenied,
    Reason::InvalidPath,
    Reason::NotADirectory,
    Reason::DirectoryNotEmpty,
    Reason::IsADirectory,
    Reason::NoSpace,
    Reason::PreconditionFailed,
    Reason::ProcessExecutionFailed,
    Reason::AgentNotConnected,
    Reason::AgentTimeout,
    Reason::AgentError,
    Reason::RuntimeError,
];

/// A path of a field. 3004 says what is wrong with it.
pub(super) fn path(field: &str, text: &str) -> Result<SandboxPath, Error> {
    SandboxPath::parse(text).map_err(|error| error.details(field))
}

/// Permissions in octal: `644`, `0644` or `0o644`. What is above 0777 is taken off when it is used.
pub(super) fn mode(text: Option<&str>) -> Result<Option<u32>, Error> {
    let Some(text) = text else { return Ok(None) };
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let mode = match digits.bytes().all(|b| b.is_ascii_digit()) {
        true => u32::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777),
        false => None,
    };
    mode.map(Some).ok_or_else(|| refuse("mode", "must be permissions in octal, like \"0644\""))
}

pub(super) const fn recursive(flag: bool) -> Recursive {
    if flag { Recursive::Yes } else { Recursive::No }
}

pub(super) const fn replace(flag: bool) -> Replace {
    if flag { Replace::Yes } else { Replace::No }
}

/// That it was done, and where.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// `true`.
    success: bool,
    /// Absolute, inside the sandbox.
    path: String,
}

impl Done {
    pub(super) fn at(path: &SandboxPath) -> Done {
        Done { success: true, path: path.text() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        for (text, bits) in [("644", 0o644), ("0644", 0o644), ("0o755", 0o755), ("06777", 0o6777), ("0", 0)] {
            assert_eq!(mode(Some(text)), Ok(Some(bits)), "{text}");
        }
        assert_eq!(mode(None), Ok(None));
        for bad in ["", "0o", "888", "0177777", "+644", "-1", "rw-r--r--", "0x1ff", "99999999999999999999"] {
            assert_eq!(mode(Some(bad)).unwrap_err().reason, Reason::InvalidParameter, "{bad}");
        }
    }
}
