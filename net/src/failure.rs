//! What each outer protocol makes of a reason for failure. The one table; no `_` arm, so that a new reason must choose.

use workspace_core::{Error, Reason};

/// The HTTP status of a reason, unless the edge has a closer one (404 of a route, 405, 413, 414, 415, 431 …).
pub const fn http_status(reason: Reason) -> u16 {
    use Reason::*;
    match reason {
        InvalidRequest | InvalidParameter | InvalidPath | NotADirectory | DirectoryNotEmpty | IsADirectory => 400,
        Unauthenticated => 401,
        ForbiddenOrigin | PermissionDenied => 403,
        SandboxNotFound | TemplateNotFound | FileNotFound | ProcessNotFound | PtyNotFound | WorkspaceNotFound => 404,
        SandboxAlreadyExists | InvalidSandboxState | FileAlreadyExists | WorkspaceInUse => 409,
        PtyClosed => 410,
        PreconditionFailed => 412,
        RateLimited | SandboxLimitExceeded | PtyLimitExceeded => 429,
        Internal | ProcessExecutionFailed | AgentError | DatabaseError | RuntimeError | NfsError => 500,
        NotImplemented => 501,
        Overloaded | AgentNotConnected => 503,
        ProcessTimeout | AgentTimeout => 504,
        NoSpace => 507,
    }
}

/// What a model should do next, as MCP's tools say it.
pub const fn next_step(reason: Reason) -> &'static str {
    use Reason::*;
    match reason {
        InvalidRequest | InvalidParameter => "correct the argument that is named and call again.",
        InvalidPath => "use a path inside the sandbox, absolute or below /workspace.",
        NotADirectory | IsADirectory => "look at the path with file_list or file_info, then use the one that fits.",
        DirectoryNotEmpty => "set recursive, or empty the directory first.",
        FileNotFound => "look with file_list at what is there; file_write makes a file.",
        FileAlreadyExists => "use another path, or set overwrite (or recursive for a directory that may be there).",
        PermissionDenied => "use a path that the sandbox's user may write, as /workspace or /tmp.",
        NoSpace => "remove files that are not needed, then call again.",
        PreconditionFailed => "read the file again, then write what it should be.",
        SandboxNotFound => "use the id of a sandbox that exists: sandbox_list shows them, sandbox_create makes one.",
        SandboxAlreadyExists => "use the sandbox that is there, or another key.",
        TemplateNotFound => "leave template out to use the default.",
        InvalidSandboxState => "look at its state with sandbox_get; to delete one in use, set force.",
        SandboxLimitExceeded => "delete a sandbox that is not needed, then call again.",
        ProcessNotFound => "it has ended, or never was: find pids with process_run and `ps`.",
        ProcessTimeout => "raise timeout, or let the command run on in the background.",
        ProcessExecutionFailed => "check command and cwd, then call again.",
        RateLimited | Overloaded | AgentTimeout | AgentNotConnected | DatabaseError => "wait a moment and call again.",
        AgentError | RuntimeError => "make another sandbox; this one may be broken.",
        Unauthenticated | ForbiddenOrigin => {
            "tell the user that the connection's API key or address must be corrected."
        }
        NotImplemented => "do without it.",
        WorkspaceNotFound | WorkspaceInUse | NfsError => "tell the user.",
        PtyNotFound | PtyLimitExceeded | PtyClosed => "use process_run instead.",
        Internal => "call again once; if it fails again, tell the user.",
    }
}

/// A failure as HTTP answers it.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// What the body says.
    pub error: Error,
    /// What its head says more.
    pub tells: Option<Tells>,
}

/// What a head says beside its status.
#[derive(Debug, Clone)]
pub enum Tells {
    /// The header Allow of a 405.
    Allow(String),
    /// The length in the header Content-Range of a 416.
    RangeOf(u64),
    /// The header Mcp-Session-Id of a session that has begun.
    Session(String),
}

impl Refusal {
    /// A malformed request, 1001, with the status that says more than 400.
    pub fn request(status: u16, message: impl Into<String>) -> Refusal {
        Refusal { status, error: Error::new(Reason::InvalidRequest, message), tells: None }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal { status: http_status(error.reason), error, tells: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_an_error_status() {
        for reason in Reason::ALL {
            assert!((400..600).contains(&http_status(*reason)), "{reason:?}");
        }
    }
}
