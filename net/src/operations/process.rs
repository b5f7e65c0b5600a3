//! Run a command and wait for its end.

use super::command::{Command, Ending, RUN_ERRORS};
use crate::operation::{
    Abandoned, AsTool, Call, Effect, Limits, MIB, Operation, Output, Pieces, Profile, Reply, Route, post,
};
use crate::wire::printed::{Encoding, Printed};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use std::collections::VecDeque;
use workspace_core::process::{ExitReason, Finished};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

/// Up to this length an answer is made at once, beyond it as it is sent.
const WHOLE_BYTES_MAX: u64 = 256 << 10;

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

impl Outcome {
    fn new(finished: Finished, encoding: Encoding) -> Outcome {
        Outcome {
            ending: Ending::new(&finished.ending),
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
    const AS_TOOL: AsTool = AsTool {
        title: "Run a command",
        about: "Run a program in the sandbox and wait for its end; answers exit_code, stdout and stderr. It is executed as given, without a shell: for pipes, redirections, globs or several commands use command `sh` with args [`-c`, `...`]. The working directory is /workspace unless cwd says otherwise. Set timeout (seconds) for anything that may hang. Long output is cut and marked `truncated`: redirect it to a file and read parts of that with file_read, head, tail or grep.",
        hides: &["partial", "tag"],
        seconds: &["timeout"],
        defaults: &[("partial", "true"), ("max_output_bytes", "131072")],
        follow: Some("process_run_stream"),
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 64 };
    const ERRORS: &'static [Reason] = RUN_ERRORS;
    type Input = Command;
    type Output = Outcome;

    async fn call(shard: &Shard, call: Call<Command>) -> Result<Self::Output, Error> {
        let sandbox = call.sandbox()?;
        let partial = call.input.partial;
        let (command, encoding) = call.input.check()?;
        let timeout_ms = command.timeout_ms;
        let finished = shard.run(sandbox, command).await?;
        if finished.ending.reason == ExitReason::TimedOut && !partial {
            let message = format!(
                "the command was ended at its timeout of {timeout_ms} ms; raise `timeout`, or set `partial` to get what it printed"
            );
            return Err(Error::new(Reason::ProcessTimeout, message));
        }
        Ok(Outcome::new(finished, encoding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small or large, the same JSON, and as long as was said.
    #[test]
    fn an_outcome_is_json_of_known_length() {
        for bytes in [0, 1, WHOLE_BYTES_MAX as usize + 1] {
            let ending = workspace_core::process::Ending {
                exit_code: 143,
                signal: Some(15),
                reason: ExitReason::Signaled,
                truncated: true,
                duration_us: 1999,
            };
            let finished = Finished { ending, stdout: b"\0\"\xff".repeat(bytes / 3 + 1), stderr: b"e".repeat(bytes) };
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
}
