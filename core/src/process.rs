//! What it means to run a command: the request, checked, and how it ended.

use bytes::Bytes;
use std::collections::BTreeMap;

/// A command to run, checked: every field is within its bounds and holds no NUL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCommand {
    /// 1..=4096 bytes; looked up in the command's PATH where it holds no `/`.
    pub command: String,
    /// argv after the command.
    pub args: Vec<String>,
    /// Added to the sandbox's environment, and wins.
    pub env: BTreeMap<String, String>,
    /// At most 4095 bytes; relative to `/workspace`; `None`: `/workspace`.
    pub cwd: Option<String>,
    /// Milliseconds, 0 = none.
    pub timeout_ms: u64,
    /// Written to the command, then end of file.
    pub stdin: Bytes,
    /// Who the command runs as.
    pub user: User,
    /// Of stdout and stderr together; more is dropped and said.
    pub output_bytes_max: u64,
}

/// Who a command runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// `user`, id 1000, no capability.
    User,
    /// `root` of the sandbox, id 0.
    Root,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// By itself.
    Exited,
    /// By a signal.
    Signaled,
    /// Killed at its timeout.
    TimedOut,
    /// Killed for memory.
    OomKilled,
    /// Killed because the caller went away.
    Canceled,
    /// Its sandbox ended under it.
    SandboxLost,
}

impl ExitReason {
    /// The name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            ExitReason::Exited => "exited",
            ExitReason::Signaled => "signaled",
            ExitReason::TimedOut => "timed_out",
            ExitReason::OomKilled => "oom_killed",
            ExitReason::Canceled => "canceled",
            ExitReason::SandboxLost => "sandbox_lost",
        }
    }
}

/// A command that has ended, with what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// 0..=255; 128 + signal when signaled.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<u32>,
    /// How it ended.
    pub reason: ExitReason,
    /// Raw bytes, in order.
    pub stdout: Vec<u8>,
    /// Raw bytes, in order.
    pub stderr: Vec<u8>,
    /// Output was dropped beyond the limit.
    pub truncated: bool,
    /// From start to end, in microseconds.
    pub duration_us: u64,
}
