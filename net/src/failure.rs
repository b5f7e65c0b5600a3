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

/// What the head of a refusal says beside its status.
#[derive(Debug, Clone)]
pub enum Tells {
    /// The header Allow of a 405.
    Allow(String),
    /// The length in the header Content-Range of a 416.
    RangeOf(u64),
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
