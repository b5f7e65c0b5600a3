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

/// How a command has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// 0..=255; 128 + signal when signaled.
    pub exit_code: i32,
    /// The signal that ended it.
    pub signal: Option<u32>,
    /// How it ended.
    pub reason: ExitReason,
    /// Output was dropped beyond the limit.
    pub truncated: bool,
    /// From start to end, in microseconds.
    pub duration_us: u64,
}

/// A command that has ended, with what it printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Raw bytes, in order.
    pub stdout: Vec<u8>,
    /// Raw bytes, in order.
    pub stderr: Vec<u8>,
}

/// A command that outlives its caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartCommand {
    /// `output_bytes_max` is how much of its output is kept.
    pub run: RunCommand,
    /// The caller's word for it, at most 256 bytes.
    pub tag: String,
    /// Its stdin stays open behind `run.stdin`.
    pub keep_stdin: bool,
}

/// A command as its agent knows it: alive, or ended and kept for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Inside the sandbox.
    pub pid: u32,
    /// What is not UTF-8 is replaced.
    pub command: String,
    /// The first of them, 4 KiB in sum.
    pub args: Vec<String>,
    /// The caller's word for it.
    pub tag: String,
    /// It belongs to a call that waits for it, which alone gets its output.
    pub attached: bool,
    /// Wall clock, µs since 1970.
    pub started_us: u64,
    /// Wall clock, µs since 1970.
    pub ended_us: Option<u64>,
    /// Absent while it is alive.
    pub ending: Option<Ending>,
    /// How many bytes it has printed, stdout and stderr together.
    pub cursor: u64,
    /// The cursor of the oldest byte that is kept.
    pub kept_from: u64,
}

/// Where a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

/// What a reader of a command's output is told: first that it was started, last how it ended.
/// A cursor counts the bytes of both streams together and stands behind what the event tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It runs, or has run.
    Started {
        /// Inside the sandbox.
        pid: u32,
    },
    /// At most 64 KiB.
    Output {
        /// Where it was printed.
        stream: Stream,
        /// Raw.
        bytes: Bytes,
        /// Behind `bytes`.
        cursor: u64,
    },
    /// Output that is not kept any more.
    Dropped {
        /// How much.
        bytes: u64,
        /// Behind it.
        cursor: u64,
    },
    /// There is no more.
    Ended(Ending),
}
