//! Why a step failed, as it is told to the server: the step's own word, the errno, one line for the log.

use rustix::io::Errno;

/// A failed step. `errno` 0: refused by a rule.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) step: &'static str,
    pub(crate) errno: i32,
    pub(crate) message: String,
}

impl Fault {
    /// A request that breaks a rule of the contract.
    pub(crate) fn refused(step: &'static str, message: impl Into<String>) -> Self {
        Fault { step, errno: 0, message: message.into() }
    }

    /// A failure that the caller may try again later.
    pub(crate) fn busy(step: &'static str, message: impl Into<String>) -> Self {
        Fault { step, errno: Errno::AGAIN.raw_os_error(), message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.step, self.message)
    }
}

/// Gives a system call's error its step.
pub(crate) trait At<T> {
    /// Names the step that failed.
    fn at(self, step: &'static str) -> Result<T, Fault>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, step: &'static str) -> Result<T, Fault> {
        self.map_err(|errno| Fault { step, errno: errno.raw_os_error(), message: errno.to_string() })
    }
}
