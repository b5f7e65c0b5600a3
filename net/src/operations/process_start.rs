//! Commands that outlive their caller: start one, see it, wait for it, write to it, end it.

use super::bounds::{self, refuse};
use super::command::{Command, PROCESS_ERRORS, RUN_ERRORS};
use super::pid::Pid;
use super::signal::Signal;
use crate::operation::{
    Abandoned, AsTool, Call, Effect, Json, Limits, MIB, Nothing, Operation, Profile, Route, get, post,
};
use crate::wire::base64;
use crate::wire::printed::Encoding;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use workspace_core::clock::rfc3339;
use workspace_core::process::{self, StartCommand};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};
use workspace_proto::{RING_BYTES_DEFAULT, RING_BYTES_MAX};

const INPUT_BYTES_MAX: usize = 1 << 20;
const SIGTERM: u32 = 15;

/// A command that was started, or that a call waits for.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Process {
    /// Inside the sandbox.
    pid: u32,
    /// The program.
    command: String,
    /// Its arguments; the first of them where they are longer than 4 KiB.
    args: Vec<String>,
    /// The caller's word for it.
    tag: Option<String>,
    /// `running` or `exited`.
    state: &'static str,
    /// 0 to 255; 128 + signal where a signal ended it; 127 not found, 126 not executable.
    exit_code: Option<i32>,
    /// The signal that ended it.
    signal: Option<u32>,
    /// `exited`, `signaled`, `timed_out`, `oom_killed` or `canceled`.
    exit_reason: Option<&'static str>,
    /// RFC 3339, UTC.
    started_at: String,
    /// RFC 3339, UTC.
    exited_at: Option<String>,
    /// How many bytes it has printed: where a reader of its output stands that has read all.
    cursor: u64,
    /// The first of its output is not kept any more.
    truncated: bool,
    /// It belongs to a call that waits for it, which alone gets its output.
    attached: bool,
}

impl Process {
    fn new(process: process::Process) -> Process {
        let ending = process.ending;
        Process {
            pid: process.pid,
            command: process.command,
            args: process.args,
            tag: Some(process.tag).filter(|tag| !tag.is_empty()),
            state: if ending.is_some() { "exited" } else { "running" },
            exit_code: ending.map(|ending| ending.exit_code),
            signal: ending.and_then(|ending| ending.signal),
            exit_reason: ending.map(|ending| ending.reason.name()),
            started_at: rfc3339(process.started_us),
            exited_at: process.ended_us.map(rfc3339),
            cursor: process.cursor,
            truncated: process.kept_from > 0,
            attached: process.attached,
        }
    }
}

pub(super) struct ProcessStart;

impl Operation for ProcessStart {
    const NAME: &'static str = "process_start";
    const SUMMARY: &'static str = "Start a command that runs on when its client goes; its output is kept in a ring.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/process/start")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = RUN_ERRORS;
    type Input = Command;
    type Output = Json<Process>;

    async fn call(shard: &Shard, call: Call<Command>) -> Result<Json<Process>, Error> {
        let sandbox = call.sandbox()?;
        let kept = call.input.max_output_bytes.unwrap_or(RING_BYTES_DEFAULT);
        let kept = bounds::number("max_output_bytes", kept, 1..=RING_BYTES_MAX)?;
        let keep_stdin = call.input.stdin.is_none();
        let tag = call.input.tag.clone().unwrap_or_default();
        let (mut run, _) = call.input.check()?;
        run.output_bytes_max = kept;
        let started = shard.start(sandbox, StartCommand { run, tag, keep_stdin }).await?;
        Ok(Json(Process::new(started)))
    }
}

/// The commands of a sandbox.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Processes {
    /// Ascending by pid: those that are alive, and those that ended less than ten minutes ago, 256 at most.
    processes: Vec<Process>,
}

pub(super) struct ProcessList;

impl Operation for ProcessList {
    const NAME: &'static str = "process_list";
    const SUMMARY: &'static str = "List the commands that run, and those that have ended a short while ago.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/process")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = Nothing;
    type Output = Json<Processes>;

    async fn call(shard: &Shard, call: Call<Nothing>) -> Result<Json<Processes>, Error> {
        let processes = shard.processes(call.sandbox()?).await?;
        Ok(Json(Processes { processes: processes.into_iter().map(Process::new).collect() }))
    }
}

/// Which process.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    /// The process.
    pid: Pid,
}

pub(super) struct ProcessGet;

impl Operation for ProcessGet {
    const NAME: &'static str = "process_get";
    const SUMMARY: &'static str = "Get one command.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/process/{pid}")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = Which;
    type Output = Json<Process>;

    async fn call(shard: &Shard, call: Call<Which>) -> Result<Json<Process>, Error> {
        let process = shard.process(call.sandbox()?, call.input.pid.number()?).await?;
        Ok(Json(Process::new(process)))
    }
}

/// Which process, and how long.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Patience {
    /// The process.
    pid: Pid,
    /// Milliseconds after which it is answered as it is, 0 = none; at most 315360000000.
    #[serde(default)]
    timeout: u64,
}

pub(super) struct ProcessWait;

impl Operation for ProcessWait {
    const NAME: &'static str = "process_wait";
    const SUMMARY: &'static str = "Get one command once it has ended, or as it is at the timeout.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/process/{pid}/wait")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 2048 };
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = Patience;
    type Output = Json<Process>;

    async fn call(shard: &Shard, call: Call<Patience>) -> Result<Json<Process>, Error> {
        let (sandbox, pid) = (call.sandbox()?, call.input.pid.number()?);
        let timeout_ms = bounds::number("timeout", call.input.timeout, 0..=bounds::SECONDS_MAX * 1000)?;
        let process = shard.wait(sandbox, pid, timeout_ms).await?;
        Ok(Json(Process::new(process)))
    }
}

/// What a command is to read.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Input {
    /// The process.
    pid: Pid,
    /// At most 1 MiB.
    #[serde(default)]
    data: String,
    /// How `data` is written: `utf8` or `base64`.
    encoding: Option<String>,
    /// End of file behind it.
    #[serde(default)]
    eof: bool,
}

/// It was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// Always true.
    success: bool,
}

pub(super) struct ProcessStdin;

impl Operation for ProcessStdin {
    const NAME: &'static str = "process_stdin";
    const SUMMARY: &'static str = "Write to a started command's stdin, and close it where `eof` is set.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/process/{pid}/stdin")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    // A call waits while the command reads nothing, and holds its megabyte several times over.
    const LIMITS: Limits = Limits { body_bytes_max: 2 * MIB, in_flight_max_per_sandbox: 16 };
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = Input;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<Input>) -> Result<Json<Done>, Error> {
        let (sandbox, input) = (call.sandbox()?, call.input);
        let pid = input.pid.number()?;
        let data: Bytes = match super::command::encoding(input.encoding.as_deref())? {
            Encoding::Utf8 => input.data.into(),
            Encoding::Base64 => {
                base64::decode(&input.data).ok_or_else(|| refuse("data", "is not base64 (RFC 4648 section 4)"))?.into()
            }
        };
        if data.len() > INPUT_BYTES_MAX {
            return Err(refuse("data", format_args!("is longer than {INPUT_BYTES_MAX} bytes")));
        }
        shard.input(sandbox, pid, data, input.eof).await?;
        Ok(Json(Done { success: true }))
    }
}

/// Which process, and how.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Kill {
    /// The process.
    pid: Pid,
    /// 1 to 64, or a name as `SIGINT` or `INT`; 15.
    signal: Option<Signal>,
}

pub(super) struct ProcessKill;

impl Operation for ProcessKill {
    const NAME: &'static str = "process_kill";
    const SUMMARY: &'static str = "Send a signal to a command with all its descendants.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/process/{pid}/kill")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Signal a process",
        about: "Send a signal to a command of the sandbox and to all its descendants. The default is 15 (TERM); 9 (KILL) can not be ignored. Find pids with process_run and `ps`.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = PROCESS_ERRORS;
    type Input = Kill;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<Kill>) -> Result<Json<Done>, Error> {
        let (sandbox, pid) = (call.sandbox()?, call.input.pid.number()?);
        let signal = call.input.signal.map_or(Ok(SIGTERM), Signal::number)?;
        shard.signal(sandbox, pid, signal).await?;
        Ok(Json(Done { success: true }))
    }
}
