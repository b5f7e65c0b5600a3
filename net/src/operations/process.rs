//! What can be asked about commands: run one and wait for its end.

use super::bounds::{self, refuse};
use crate::operation::{Abandoned, Call, Effect, Limits, MIB, Operation, Output, Pieces, Profile, Reply, Route, post};
use crate::wire::printed::{Encoding, Printed};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use workspace_core::process::{ExitReason, Finished, RunCommand, User};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

const OUTPUT_BYTES_DEFAULT: u64 = 8 << 20;
const OUTPUT_BYTES_MAX: u64 = 64 << 20;
/// Up to this length an answer is made at once, beyond it as it is sent.
const WHOLE_BYTES_MAX: u64 = 256 << 10;
const TIMEOUT_MS_MAX: u64 = bounds::SECONDS_MAX * 1000;

/// A command. It is executed as given, without a shell.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Command {
    /// The program: a path, or a name looked up in the command's PATH; 1 to 4096 bytes.
    command: String,
    /// Its arguments.
    #[serde(default)]
    args: Vec<String>,
    /// Added to the sandbox's environment, and wins over it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Working directory, relative to `/workspace`; `/workspace`; at most 4095 bytes.
    cwd: Option<String>,
    /// Milliseconds until the command is killed, 0 = none; at most 315360000000.
    #[serde(default)]
    timeout: u64,
    /// What the command reads, then end of file.
    #[serde(default)]
    stdin: String,
    /// `user` (1000) or `root` (0); `user`.
    user: Option<String>,
    /// Of stdout and stderr together, 1 to 67108864; 8388608. What is more is dropped, and `truncated` says so.
    max_output_bytes: Option<u64>,
    /// How `stdout` and `stderr` are written: `utf8` (what is not UTF-8 is replaced) or `base64` (exact).
    encoding: Option<String>,
    /// Answer a command that ran into its timeout with what it printed, instead of 504.
    #[serde(default)]
    partial: bool,
}

impl Command {
    fn check(self) -> Result<(RunCommand, Encoding), Error> {
        bounds::text("command", &self.command, 1..=4096)?;
        for (index, arg) in self.args.iter().enumerate() {
            if arg.contains('\0') {
                return Err(refuse(&format!("args.{index}"), "holds a NUL"));
            }
        }
        bounds::env(&self.env)?;
        if let Some(cwd) = &self.cwd {
            bounds::text("cwd", cwd, 1..=4095)?;
        }
        let command = RunCommand {
            command: self.command,
            args: self.args,
            env: self.env,
            cwd: self.cwd,
            timeout_ms: bounds::number("timeout", self.timeout, 0..=TIMEOUT_MS_MAX)?,
            stdin: self.stdin.into(),
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

fn encoding(name: Option<&str>) -> Result<Encoding, Error> {
    match name {
        None | Some("utf8") => Ok(Encoding::Utf8),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(refuse("encoding", "must be \"utf8\" or \"base64\"")),
    }
}

/// How a command ended, and what it printed.
#[derive(Debug, JsonSchema)]
pub(super) struct Outcome {
    #[serde(flatten)]
    ending: Ending,
    /// In the encoding asked for.
    #[schemars(with = "String")]
    stdout: Printed,
    /// In the encoding asked for.
    #[schemars(with = "String")]
    stderr: Printed,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Ending {
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

impl Outcome {
    fn new(finished: Finished, encoding: Encoding) -> Outcome {
        Outcome {
            ending: Ending {
                exit_code: finished.exit_code,
                exit_reason: finished.reason.name(),
                signal: finished.signal,
                timed_out: finished.reason == ExitReason::TimedOut,
                truncated: finished.truncated,
                duration_ms: finished.duration_us / 1000,
            },
            stdout: Printed::new(finished.stdout, encoding),
            stderr: Printed::new(finished.stderr, encoding),
        }
    }
}

impl Output for Outcome {
    fn reply(self) -> Result<Reply, Error> {
        let mut open = serde_json::to_vec(&self.ending)
            .map_err(|e| Error::new(Reason::Internal, "the answer could not be written").source(e))?;
        open.pop();
        open.extend_from_slice(b",\"stdout\":\"");
        let parts = VecDeque::from([
            Part::Text(open),
            Part::Printed(self.stdout),
            Part::Text(b"\",\"stderr\":\"".to_vec()),
            Part::Printed(self.stderr),
            Part::Text(b"\"}".to_vec()),
        ]);
        let mut written = Written(parts);
        if written.bytes() > WHOLE_BYTES_MAX {
            return Ok(Reply::Pieces(Box::new(written)));
        }
        let mut whole = Vec::with_capacity(written.bytes() as usize);
        while written.write_next(&mut whole) {}
        Ok(Reply::Whole(whole.into()))
    }

    fn schema(generator: &mut SchemaGenerator) -> Option<Schema> {
        Some(generator.subschema_for::<Outcome>())
    }
}

/// An outcome on its way out, part after part.
struct Written(VecDeque<Part>);

enum Part {
    Text(Vec<u8>),
    Printed(Printed),
}

impl Pieces for Written {
    fn bytes(&self) -> u64 {
        let bytes = |part: &Part| match part {
            Part::Text(text) => text.len() as u64,
            Part::Printed(printed) => printed.json_bytes(),
        };
        self.0.iter().map(bytes).sum()
    }

    fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        match self.0.front_mut() {
            None => return false,
            Some(Part::Text(text)) => out.extend_from_slice(text),
            Some(Part::Printed(printed)) => {
                if printed.write_next(out) {
                    return true;
                }
            }
        }
        self.0.pop_front();
        true
    }
}

pub(super) struct ProcessRun;

impl Operation for ProcessRun {
    const NAME: &'static str = "process_run";
    const SUMMARY: &'static str = "Run a command and wait for its end; a client that goes away ends it.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/process/run")];
    const TOOL: Option<Profile> = Some(Profile::Executor);
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 64 };
    const ERRORS: &'static [Reason] = &[
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
    type Input = Command;
    type Output = Outcome;

    async fn call(shard: &Shard, call: Call<Command>) -> Result<Self::Output, Error> {
        let sandbox = call.sandbox()?;
        let partial = call.input.partial;
        let (command, encoding) = call.input.check()?;
        let timeout_ms = command.timeout_ms;
        let finished = shard.run(sandbox, command).await?;
        if finished.reason == ExitReason::TimedOut && !partial {
            let message = format!(
                "the command was killed at its timeout of {timeout_ms} ms; raise `timeout`, or set `partial` to get what it printed"
            );
            return Err(Error::new(Reason::ProcessTimeout, message));
        }
        Ok(Outcome::new(finished, encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Form;

    /// Small or large, the same JSON, and as long as was said.
    #[test]
    fn an_outcome_is_json_of_known_length() {
        for bytes in [0, 1, WHOLE_BYTES_MAX as usize + 1] {
            let finished = Finished {
                exit_code: 143,
                signal: Some(15),
                reason: ExitReason::Signaled,
                stdout: b"\0\"\xff".repeat(bytes / 3 + 1),
                stderr: b"e".repeat(bytes),
                truncated: true,
                duration_us: 1999,
            };
            let stdout = String::from_utf8_lossy(&finished.stdout).into_owned();
            let json = match Outcome::new(finished, Encoding::Utf8).reply().unwrap() {
                Reply::Whole(json) => json.to_vec(),
                Reply::Pieces(mut pieces) => {
                    let (length, mut json) = (pieces.bytes(), Vec::new());
                    while pieces.write_next(&mut json) {}
                    assert_eq!(json.len() as u64, length);
                    json
                }
                _ => panic!("an outcome is JSON"),
            };
            let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!((value["exit_code"].as_i64(), value["signal"].as_u64()), (Some(143), Some(15)));
            assert_eq!((value["duration_ms"].as_u64(), value["truncated"].as_bool()), (Some(1), Some(true)));
            assert_eq!(
                (value["stdout"].as_str(), value["stderr"].as_str().map(str::len)),
                (Some(&*stdout), Some(bytes))
            );
            assert_eq!(value.as_object().unwrap().len(), 8);
        }
    }

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
