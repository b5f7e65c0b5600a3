//! Why could a question not be answered?

use std::fmt;

/// One line for the person who runs the bench.
#[derive(Debug, Clone)]
pub(crate) struct Failure(String);

impl Failure {
    /// Something that was tried and refused.
    pub(crate) fn new(text: impl Into<String>) -> Failure {
        Failure(text.into())
    }

    /// A system call that failed while doing `what`.
    pub(crate) fn io(what: impl fmt::Display, error: &std::io::Error) -> Failure {
        Failure(format!("{what}: {error}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&self.0)
    }
}
