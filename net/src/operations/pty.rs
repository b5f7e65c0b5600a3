//! What can be asked about terminals: open one, list them, look at one, resize and close it.

use super::bounds;
use super::command::Command;
use super::terminal::{PROTOCOL, Terminal};
use crate::operation::{
    Abandoned, Call, Effect, Json, Limits, MIB, Nothing, Operation, Profile, Route, SHORT, Socket, delete, get, post,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use workspace_core::clock::rfc3339;
use workspace_core::pty::{self, OpenPty, SIZE_MAX, Size};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason, SandboxId};

const COLS: u64 = 80;
const ROWS: u64 = 24;

/// Viewers of one sandbox's terminals at once, for each core.
const VIEWERS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 256 };

/// The sandbox's best shell, with the caller's arguments.
const SHELL: &str = r#"command -v bash >/dev/null 2>&1 && exec bash "$@"; exec sh "$@""#;

/// A terminal to open. Its program's environment has TERM=xterm-256color and COLORTERM=truecolor, unless given.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewPty {
    /// Characters of a row, 1 to 4096; 80.
    cols: Option<u64>,
    /// Rows, 1 to 4096; 24.
    rows: Option<u64>,
    /// The shell to start; bash where the sandbox has it, else sh.
    shell: Option<String>,
    /// The program to start instead of a shell: a path, or a name looked up in its PATH; 1 to 4096 bytes.
    command: Option<String>,
    /// Arguments of the program or the shell.
    #[serde(default)]
    args: Vec<String>,
    /// Added to the sandbox's environment, and wins over it.
    #[serde(default)]
    env: BTreeMap<String, String>,
    /// Working directory, relative to `/workspace`; `/workspace`; at most 4095 bytes.
    cwd: Option<String>,
    /// `user` (1000) or `root` (0); `user`.
    user: Option<String>,
}

impl NewPty {
    fn check(self) -> Result<OpenPty, Error> {
        let size = size(self.cols.unwrap_or(COLS), self.rows.unwrap_or(ROWS))?;
        if let Some(shell) = &self.shell {
            bounds::text("shell", shell, 1..=4096)?;
        }
        let (command, args) = match self.command.or(self.shell) {
            Some(command) => (command, self.args),
            None => {
                // Checked as they were given; their places are others behind the shell's own.
                bounds::args(&self.args)?;
                let own = ["-c", SHELL, "sh"].map(str::to_owned);
                ("/bin/sh".to_owned(), own.into_iter().chain(self.args).collect())
            }
        };
        let command = Command { command, args, env: self.env, cwd: self.cwd, user: self.user, ..Command::default() };
        Ok(OpenPty { program: command.check()?.0, size })
    }
}

fn size(cols: u64, rows: u64) -> Result<Size, Error> {
    let length = |field, value| bounds::number(field, value, 1..=u64::from(SIZE_MAX)).map(|n| n as u32);
    Ok(Size { cols: length("cols", cols)?, rows: length("rows", rows)? })
}

/// An open terminal.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Pty {
    /// Opaque; never used again in this sandbox.
    id: String,
    /// Its sandbox.
    sandbox_id: String,
    /// Characters of a row.
    cols: u32,
    /// Rows.
    rows: u32,
    /// Of its program, inside the sandbox.
    pid: u32,
    /// Its program.
    command: String,
    /// RFC 3339, UTC.
    started_at: String,
}

impl Pty {
    fn new(sandbox: SandboxId, pty: pty::Pty) -> Pty {
        Pty {
            id: pty.id.to_string(),
            sandbox_id: sandbox.to_string(),
            cols: pty.size.cols,
            rows: pty.size.rows,
            pid: pty.pid,
            command: pty.command,
            started_at: rfc3339(pty.started_us),
        }
    }
}

/// The id of a terminal as callers name it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
struct PtyId(String);

impl PtyId {
    /// What can't be one names no terminal.
    fn number(&self) -> Result<u64, Error> {
        let is_plain = self.0.bytes().all(|b| b.is_ascii_digit()) && !self.0.starts_with('0');
        self.0.parse().ok().filter(|_| is_plain).ok_or_else(|| {
            Error::new(Reason::PtyNotFound, "no terminal has this id; GET …/pty lists those that are open")
        })
    }
}

/// What asking about a sandbox's terminals may fail with.
const SANDBOX_ERRORS: &[Reason] = &[
    Reason::SandboxNotFound,
    Reason::InvalidSandboxState,
    Reason::AgentNotConnected,
    Reason::AgentTimeout,
    Reason::AgentError,
    Reason::RuntimeError,
];

/// What asking about one terminal may fail with.
const PTY_ERRORS: &[Reason] = &[
    Reason::SandboxNotFound,
    Reason::InvalidSandboxState,
    Reason::PtyNotFound,
    Reason::PtyClosed,
    Reason::AgentNotConnected,
    Reason::AgentTimeout,
    Reason::AgentError,
    Reason::RuntimeError,
];

pub(super) struct PtyCreate;

impl Operation for PtyCreate {
    const NAME: &'static str = "pty_create";
    const SUMMARY: &'static str =
        "Open a terminal with a shell or another program on it; it outlives its viewers and ends with its program.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/pty")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const ERRORS: &'static [Reason] = &[
        Reason::SandboxNotFound,
        Reason::InvalidSandboxState,
        Reason::PtyLimitExceeded,
        Reason::ProcessExecutionFailed,
        Reason::AgentNotConnected,
        Reason::AgentTimeout,
        Reason::AgentError,
        Reason::RuntimeError,
    ];
    type Input = NewPty;
    type Output = Json<Pty>;

    async fn call(shard: &Shard, call: Call<NewPty>) -> Result<Json<Pty>, Error> {
        let sandbox = call.sandbox()?;
        let opened = shard.pty_open(sandbox, call.input.check()?).await?;
        Ok(Json(Pty::new(sandbox, opened)))
    }
}

/// The terminals of a sandbox.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Ptys {
    /// In the order in which they were opened.
    ptys: Vec<Pty>,
}

pub(super) struct PtyList;

impl Operation for PtyList {
    const NAME: &'static str = "pty_list";
    const SUMMARY: &'static str = "List the open terminals.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/pty")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = SANDBOX_ERRORS;
    type Input = Nothing;
    type Output = Json<Ptys>;

    async fn call(shard: &Shard, call: Call<Nothing>) -> Result<Json<Ptys>, Error> {
        let sandbox = call.sandbox()?;
        let ptys = shard.ptys(sandbox).await?;
        Ok(Json(Ptys { ptys: ptys.into_iter().map(|pty| Pty::new(sandbox, pty)).collect() }))
    }
}

/// Which terminal.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Which {
    pty_id: PtyId,
}

pub(super) struct PtyConnect;

impl Operation for PtyConnect {
    const NAME: &'static str = "pty_connect";
    const SUMMARY: &'static str = "Look at a terminal and type into it, over a WebSocket: output comes as binary \
        messages, first what is kept of the recent output; input goes as binary messages, control as text.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/pty/{pty_id}")];
    const STATUS: u16 = 101;
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const SOCKET: Option<&'static [&'static str]> = Some(&[PROTOCOL]);
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = VIEWERS;
    const ERRORS: &'static [Reason] = PTY_ERRORS;
    type Input = Which;
    type Output = Socket;

    async fn call(shard: &Shard, call: Call<Which>) -> Result<Socket, Error> {
        let viewer = shard.pty_view(call.sandbox()?, call.input.pty_id.number()?).await?;
        Ok(Socket(Box::new(Terminal::new(viewer, call.protocol))))
    }
}

/// The size that a terminal should have; the last one wins among all viewers.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewSize {
    pty_id: PtyId,
    /// Characters of a row, 1 to 4096.
    cols: u64,
    /// Rows, 1 to 4096.
    rows: u64,
}

/// That it was done.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// `true`.
    success: bool,
}

pub(super) struct PtyResize;

impl Operation for PtyResize {
    const NAME: &'static str = "pty_resize";
    const SUMMARY: &'static str = "Give a terminal another size; its program is told by SIGWINCH.";
    const ROUTES: &'static [Route] = &[post("/api/v1/sandboxes/{id}/pty/{pty_id}/resize")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const LIMITS: Limits = SHORT;
    const ERRORS: &'static [Reason] = PTY_ERRORS;
    type Input = NewSize;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<NewSize>) -> Result<Json<Done>, Error> {
        let size = size(call.input.cols, call.input.rows)?;
        shard.pty_resize(call.sandbox()?, call.input.pty_id.number()?, size).await?;
        Ok(Json(Done { success: true }))
    }
}

pub(super) struct PtyDelete;

impl Operation for PtyDelete {
    const NAME: &'static str = "pty_delete";
    const SUMMARY: &'static str = "End a terminal's program with all its descendants, and forget the terminal.";
    const ROUTES: &'static [Route] = &[delete("/api/v1/sandboxes/{id}/pty/{pty_id}")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Remove;
    const ERRORS: &'static [Reason] = PTY_ERRORS;
    type Input = Which;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<Which>) -> Result<Json<Done>, Error> {
        shard.pty_close(call.sandbox()?, call.input.pty_id.number()?).await?;
        Ok(Json(Done { success: true }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn program(body: serde_json::Value) -> (String, Vec<String>) {
        let open = serde_json::from_value::<NewPty>(body).unwrap().check().unwrap();
        (open.program.command, open.program.args)
    }

    #[test]
    fn a_command_wins_over_a_shell_and_a_shell_over_ours() {
        assert_eq!(program(json!({"shell": "zsh", "args": ["-l"]})), ("zsh".to_owned(), vec!["-l".to_owned()]));
        assert_eq!(program(json!({"shell": "zsh", "command": "top"})), ("top".to_owned(), vec![]));
        let (command, args) = program(json!({"args": ["-x", "y"]}));
        assert_eq!(command, "/bin/sh");
        assert_eq!(args, ["-c", SHELL, "sh", "-x", "y"]);
    }

    #[test]
    fn ids_have_one_text() {
        for (text, number) in [("1", Some(1)), ("18446744073709551615", Some(u64::MAX)), ("18446744073709551616", None)]
        {
            assert_eq!(PtyId(text.to_owned()).number().ok(), number, "{text}");
        }
        for text in ["", "0", "01", "+1", "-1", "1 ", "x", "１"] {
            assert_eq!(PtyId(text.to_owned()).number().unwrap_err().reason, Reason::PtyNotFound, "{text}");
        }
    }
}
