//! The server's program: picks a command.

#[cfg(test)]
#[path = "../../tests/fuzz/run.rs"]
mod fuzz;

use lexopt::{Arg, Parser};
use std::ffi::OsString;
use std::process::ExitCode;
use workspace_core::config::Config;
use workspace_server::command;
use workspace_server::command::serve::{self, AtEnd};
use workspace_server::stdio::Lasts;

const HELP: &str = "\
workspace-server: sandboxes for AI agents on any Linux machine

Usage: workspace-server [COMMAND]

Commands:
  serve [--ephemeral]  Serve until Ctrl-C; the default. Sandboxes live on and are found again at the next start;
                       with --ephemeral they are deleted at the end. With WORKSPACE_MCP_MODE=stdio, speak MCP on
                       standard input and output instead (`serve --while-used` is what that starts where no server runs)
  doctor [--json]      Say what this machine can do, and how to mend what is missing

Options:
  -h, --help           Show this and the environment variables
  -V, --version        Show the version

Environment:
";

enum Command {
    Serve(AtEnd, Lasts),
    Doctor { json: bool },
    Probe(OsString),
    Help,
    Version,
}

fn main() -> ExitCode {
    match parse(Parser::from_env()) {
        Ok(Command::Serve(at_end, lasts)) => serve::run(at_end, lasts),
        Ok(Command::Doctor { json }) => command::doctor::run(Config::from_env(std::env::vars_os()), json),
        Ok(Command::Probe(name)) => command::doctor::probe(&name),
        Ok(Command::Help) => {
            print!("{HELP}{}", workspace_core::config::variables::help());
            ExitCode::SUCCESS
        }
        Ok(Command::Version) => {
            println!("workspace-server {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("workspace-server: {error}; `workspace-server --help` shows what is known");
            ExitCode::from(2)
        }
    }
}

fn parse(mut parser: Parser) -> Result<Command, lexopt::Error> {
    let mut command = None;
    while let Some(arg) = parser.next()? {
        command = Some(match (command, arg) {
            (_, Arg::Short('h') | Arg::Long("help")) => return Ok(Command::Help),
            (_, Arg::Short('V') | Arg::Long("version")) => return Ok(Command::Version),
            (None, Arg::Value(name)) if name == "serve" => Command::Serve(AtEnd::Keep, Lasts::UntilStopped),
            (None, Arg::Value(name)) if name == "doctor" => Command::Doctor { json: false },
            (None, Arg::Value(name)) if name == "__probe" => Command::Probe(parser.value()?),
            (None, Arg::Long("ephemeral")) => Command::Serve(AtEnd::Delete, Lasts::UntilStopped),
            (Some(Command::Serve(_, lasts)), Arg::Long("ephemeral")) => Command::Serve(AtEnd::Delete, lasts),
            (Some(Command::Serve(at_end, _)), Arg::Long("while-used")) => Command::Serve(at_end, Lasts::WhileUsed),
            (Some(Command::Doctor { .. }), Arg::Long("json")) => Command::Doctor { json: true },
            (_, arg) => return Err(arg.unexpected()),
        });
    }
    Ok(command.unwrap_or(Command::Serve(AtEnd::Keep, Lasts::UntilStopped)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    /// Arguments between line breaks. Sandboxes are deleted at the end only where that was asked for by its name.
    fn arguments(input: &[u8]) {
        let arguments: Vec<&OsStr> = input.split(|byte| *byte == b'\n').map(OsStr::from_bytes).collect();
        let said = |word: &str| arguments.iter().any(|argument| *argument == word);
        match parse(Parser::from_args(&arguments)) {
            Ok(Command::Serve(at_end, lasts)) => {
                assert_eq!(at_end == AtEnd::Delete, said("--ephemeral"));
                assert_eq!(lasts == Lasts::WhileUsed, said("--while-used"));
            }
            Ok(Command::Doctor { json }) => assert!(said("doctor") && json == said("--json")),
            Ok(Command::Probe(name)) => assert!(said("__probe") && arguments.contains(&name.as_os_str())),
            Ok(Command::Help) => assert!(input.windows(2).any(|two| two == b"-h") || said("--help")),
            Ok(Command::Version) => assert!(input.windows(2).any(|two| two == b"-V") || said("--version")),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn any_arguments_are_a_command_or_refused() {
        let corpus: [&[u8]; 9] = [
            b"serve\n--ephemeral",
            b"serve\n--while-used\n--ephemeral",
            b"doctor\n--json",
            b"--ephemeral",
            b"-h",
            b"-V",
            b"__probe\nsandbox",
            b"serve\ndoctor\n--json=1",
            b"--\n--ephemeral",
        ];
        fuzz::run(arguments, &corpus);
        assert!(matches!(
            parse(Parser::from_args::<[&str; 0]>([])),
            Ok(Command::Serve(AtEnd::Keep, Lasts::UntilStopped))
        ));
    }
}
