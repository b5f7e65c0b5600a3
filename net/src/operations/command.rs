//! A command as callers give it, and its end as they see it: what the operations on processes share.

use super::bounds::{self, refuse};
use crate::wire::printed::Encoding;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use workspace_core::process::{self, ExitReason, RunCommand, User};
use workspace_core::{Error, Reason};

const OUTPUT_BYTES_DEFAULT: u64 = 8 << 20;
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
const TIMEOUT_MS_MAX: u64 = bounds::SECONDS_MAX * 1000;

/// A command. It is executed as given, without a shell.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct Command {
    /// The program: a path, or a name looked up in the command's PATH; 1 to 4096 bytes.
    pub(super) command: String,
    /// Its arguments.
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// Added to the sandbox's environment, and wins over it.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// Working directory, relative to `/workspace`; `/workspace`; at most 4095 bytes.
    pub(super) cwd: Option<String>,
    /// Milliseconds until the command with all its descendants gets SIGTERM, and SIGKILL a second later; 0 = none; at
    /// most 315360000000.
    #[serde(default)]
    pub(super) timeout: u64,
    /// What the command reads, then end of file. Without it a started command's stdin stays open.
    pub(super) stdin: Option<String>,
    /// `user` (1000) or `root` (0); `user`.
    pub(super) user: Option<String>,
    /// Of stdout and stderr together, 1 to 67108864; 8388608. What is more is dropped, and `truncated` says so. Of a
    /// started command: how much is kept, 1 to 16777216; 1048576. A stream has no such bound.
    pub(super) max_output_bytes: Option<u64>,
    /// How `stdout` and `stderr` are written: `utf8` (what is not UTF-8 is replaced) or `base64` (exact).
    pub(super) encoding: Option<String>,
    /// Answer a command that ran into its timeout with what it printed, instead of 504.
    #[serde(default)]
    pub(super) partial: bool,
    /// The caller's word for a started command; at most 256 bytes.
    pub(super) tag: Option<String>,
}

impl Command {
    /// The command, every value within its bounds.
    pub(super) fn check(self) -> Result<(RunCommand, Encoding), Error> {
        bounds::text("command", &self.command, 1..=4096)?;
        bounds::args(&self.args)?;
        bounds::env(&self.env)?;
        if let Some(tag) = &self.tag {
            bounds::label("tag", tag, 256)?;
            bounds::text("tag", tag, 0..=256)?;
        }
        if let Some(cwd) = &self.cwd {
            bounds::text("cwd", cwd, 1..=4095)?;
        }
        let command = RunCommand {
            command: self.command,
            args: self.args,
            env: self.env,
            cwd: self.cwd,
            timeout_ms: bounds::number("timeout", self.timeout, 0..=TIMEOUT_MS_MAX)?,
            stdin: self.stdin.unwrap_or_default().into(),
            user: user(self.user.as_deref())?,
            output_bytes_max: bounds::number(
                "max_output_bytes",
                self.max_output_bytes.unwrap_or(OUTPUT_BYTES_DEFAULT),
                1..=OUTPUT_BYTES_MAX,
            )?,
        };
        Ok((command, encoding(self.encoding.as_deref())?))
    }
}

fn user(name: Option<&str>) -> Result<User, Error> {
    match name {
        None | Some("user" | "1000") => Ok(User::User),
        Some("root" | "0") => Ok(User::Root),
        Some(_) => Err(refuse("user", "must be \"user\" or \"root\"")),
    }
}

/// How bytes are written into JSON.
pub(super) fn encoding(name: Option<&str>) -> Result<Encoding, Error> {
    match name {
        None | Some("utf8") => Ok(Encoding::Utf8),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(refuse("encoding", "must be \"utf8\" or \"base64\"")),
    }
}

/// The end of a command.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ending {
    /// 0 to 255; 128 + signal where a signal ended it; 127 not found, 126 not executable.
    exit_code: i32,
    /// `exited`, `signaled`, `timed_out`, `oom_killed`, `canceled` or `sandbox_lost`.
    exit_reason: &'static str,
    /// The signal that ended it.
    signal: Option<u32>,
    /// It ran into its timeout.
    timed_out: bool,
    /// Output was dropped beyond `max_output_bytes`.
    truncated: bool,
    /// From start to end.
    duration_ms: u64,
}

impl Ending {
    /// As it is shown.
    pub(super) fn new(ending: &process::Ending) -> Ending {
        Ending {
            exit_code: ending.exit_code,
            exit_reason: ending.reason.name(),
            signal: ending.signal,
            timed_out: ending.reason == ExitReason::TimedOut,
            truncated: ending.truncated,
            duration_ms: ending.duration_us / 1000,
        }
    }
}

/// What running a command may fail with.
pub(super) const RUN_ERRORS: &[Reason] = &[
    Reason::SandboxNotFound,
    Reason::InvalidSandboxState,
    Reason::InvalidPath,
    Reason::NoSpace,
    Reason::ProcessTimeout,
    Reason::ProcessExecutionFailed,
    Reason::AgentNotConnected,
    Reason::AgentTimeout,
    Reason::AgentError,
    Reason::RuntimeError,
];

/// What asking about a process may fail with.
pub(super) const PROCESS_ERRORS: &[Reason] = &[
    Reason::SandboxNotFound,
    Reason::InvalidSandboxState,
    Reason::ProcessNotFound,
    Reason::AgentNotConnected,
    Reason::AgentTimeout,
    Reason::AgentError,
    Reason::RuntimeError,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Form;

    /// What core is asked to run is within the bounds that the contract names, and holds no NUL.
    fn command(input: &[u8]) {
        let Ok((asked, _)) = Form::Json(input).read::<Command>(None).and_then(Command::check) else { return };
        assert!((1..=4096).contains(&asked.command.len()));
        assert!(asked.cwd.as_ref().is_none_or(|cwd| (1..=4095).contains(&cwd.len())));
        let texts = [&asked.command].into_iter().chain(&asked.args).chain(&asked.cwd).chain(asked.env.values());
        assert!(texts.chain(asked.env.keys()).all(|text| !text.contains('\0')));
        assert!(asked.env.keys().all(|name| (1..=256).contains(&name.len()) && !name.contains('=')));
        assert!(asked.timeout_ms <= TIMEOUT_MS_MAX && (1..=OUTPUT_BYTES_MAX).contains(&asked.output_bytes_max));
    }

    #[test]
    fn any_body_is_a_command_within_bounds() {
        let corpus: [&[u8]; 4] = [
            br#"{"command":"sh","args":["-c","true"],"env":{"A":"B"},"cwd":"x","timeout":1000,"partial":true}"#,
            br#"{"command":"cat","stdin":"\u0000","user":"root","max_output_bytes":67108864,"encoding":"base64"}"#,
            br#"{"command":"","args":["\u0000"],"timeout":315360000001,"user":"1000"}"#,
            br#"{"command":"a\u0000b","cwd":"","max_output_bytes":0,"encoding":"latin1"}"#,
        ];
        crate::fuzz::run(command, &corpus);
    }
}
