//! Why something failed: one list of reasons with stable codes, for every protocol.
//!
//! Codes are only ever added. What each outer protocol makes of a reason stands in one table in `net`.

use std::fmt;

macro_rules! reasons {
    ($($variant:ident = $code:literal $name:literal $retryable:literal $doc:literal;)*) => {
        /// A stable reason for failure. The number and the name never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $doc] $variant,)* }

        impl Reason {
            /// All reasons, ascending by code.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The stable number.
            pub const fn code(self) -> u16 {
                match self { $(Reason::$variant => $code,)* }
            }

            /// The stable snake_case name.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// True where the same request may succeed later.
            pub const fn retryable(self) -> bool {
                match self { $(Reason::$variant => $retryable,)* }
            }
        }
    };
}

reasons! {
    InvalidRequest = 1001 "invalid_request" false "The request's form is wrong: JSON, field, type, route, method, size, media type.";
    InvalidParameter = 1002 "invalid_parameter" false "A well-formed value that is not allowed here.";
    Internal = 1003 "internal" false "Our fault; the log has the source.";
    NotImplemented = 1004 "not_implemented" false "Declared in the contract, not built yet.";
    Unauthenticated = 1005 "unauthenticated" false "No API key, or not one of ours.";
    RateLimited = 1006 "rate_limited" true "Too many at once from this caller.";
    ForbiddenOrigin = 1007 "forbidden_origin" false "A Host or Origin that is not allowed.";
    Overloaded = 1008 "overloaded" true "A bounded queue is full.";
    SandboxNotFound = 2001 "sandbox_not_found" false "No sandbox has this id.";
    SandboxAlreadyExists = 2002 "sandbox_already_exists" false "An Idempotency-Key was used again with another body.";
    TemplateNotFound = 2003 "template_not_found" false "No template has this name.";
    InvalidSandboxState = 2004 "invalid_sandbox_state" false "The sandbox's state does not allow this.";
    SandboxLimitExceeded = 2005 "sandbox_limit_exceeded" true "No room for another sandbox.";
    FileNotFound = 3001 "file_not_found" false "No such file.";
    FileAlreadyExists = 3002 "file_already_exists" false "The file exists already.";
    PermissionDenied = 3003 "permission_denied" false "The sandbox's user may not do this.";
    InvalidPath = 3004 "invalid_path" false "A path that is malformed or leaves the sandbox.";
    NotADirectory = 3005 "not_a_directory" false "A directory was expected.";
    DirectoryNotEmpty = 3006 "directory_not_empty" false "The directory is not empty.";
    IsADirectory = 3007 "is_a_directory" false "A file was expected.";
    NoSpace = 3008 "no_space" true "No space left.";
    PreconditionFailed = 3009 "precondition_failed" false "If-Match did not match.";
    ProcessNotFound = 4001 "process_not_found" false "No such process.";
    ProcessTimeout = 4002 "process_timeout" false "The command ran into its timeout.";
    ProcessExecutionFailed = 4003 "process_execution_failed" false "The command could not be started for a reason of the sandbox.";
    PtyNotFound = 4101 "pty_not_found" false "No such PTY.";
    PtyLimitExceeded = 4102 "pty_limit_exceeded" true "Too many PTYs.";
    PtyClosed = 4103 "pty_closed" false "The PTY has ended.";
    AgentNotConnected = 5001 "agent_not_connected" true "The sandbox's agent cannot be reached.";
    AgentTimeout = 5002 "agent_timeout" true "The sandbox's agent did not answer in time.";
    AgentError = 5003 "agent_error" false "The sandbox's agent answered nonsense.";
    DatabaseError = 6001 "database_error" true "The store failed.";
    RuntimeError = 6002 "runtime_error" false "The runtime failed.";
    NfsError = 6003 "nfs_error" false "NFS failed.";
    WorkspaceNotFound = 7001 "workspace_not_found" false "No workspace has this id.";
    WorkspaceInUse = 7002 "workspace_in_use" false "Sandboxes use the workspace.";
}

/// A failure as it travels through the product: what the caller is told, and what only the log sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The stable reason.
    pub reason: Reason,
    /// For the caller: what is wrong and the next step. Never a host path, never a secret.
    pub message: String,
    /// For the caller: more about it, e.g. the field's path.
    pub details: Option<String>,
    /// For the log only.
    pub source: Option<String>,
}

impl Error {
    /// A failure with its message for the caller.
    pub fn new(reason: Reason, message: impl Into<String>) -> Error {
        Error { reason, message: message.into(), details: None, source: None }
    }

    /// Adds what the caller may know beyond the message.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Error {
        self.details = Some(details.into());
        self
    }

    /// Adds what only the log may know.
    #[must_use]
    pub fn source(mut self, source: impl fmt::Display) -> Error {
        self.source = Some(source.to_string());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)?;
        if let Some(source) = &self.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn codes_ascend_and_names_are_unique() {
        let codes: Vec<u16> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert!(codes.is_sorted_by(|a, b| a < b));
        let mut names: Vec<&str> = Reason::ALL.iter().map(|r| r.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
