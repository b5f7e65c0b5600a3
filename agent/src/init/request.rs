//! What may be asked to be run? Checked here once, before anything is made for it.

use super::grpc::{Code, Status};
use super::start::Command;
use crate::spawner::frame::STRINGS_MAX;
use bytes::Bytes;
use workspace_proto::agent::{RunRequest, Variable};

const COMMAND_BYTES_MAX: usize = 4096;
const CWD_BYTES_MAX: usize = 4095;
const NAME_BYTES_MAX: usize = 4096;
const VALUE_BYTES_MAX: usize = 128 << 10;
const STDIN_BYTES_MAX: usize = 1 << 20;
/// Of the arguments in sum, as List shows them.
const LISTED_ARGS_BYTES_MAX: usize = 4 << 10;

/// The command that a request asks for.
pub(crate) fn check(single_id: bool, request: &RunRequest) -> Result<Command, Status> {
    let invalid = |what| Err(Status(Code::InvalidArgument, what));
    let nul = |bytes: &Bytes| bytes.contains(&0);
    if request.command.is_empty() || request.command.len() > COMMAND_BYTES_MAX || nul(&request.command) {
        return invalid("command: 1 to 4096 bytes without NUL");
    }
    if request.args.iter().any(nul) {
        return invalid("args: no NUL");
    }
    if !request.cwd.starts_with(b"/") || request.cwd.len() > CWD_BYTES_MAX || nul(&request.cwd) {
        return invalid("cwd: an absolute path of at most 4095 bytes without NUL");
    }
    if request.stdin.len() > STDIN_BYTES_MAX {
        return invalid("stdin: at most 1 MiB");
    }
    let bad_name = |name: &Bytes| name.is_empty() || name.len() > NAME_BYTES_MAX || nul(name) || name.contains(&b'=');
    if request.env.iter().any(|v| bad_name(&v.name) || v.value.len() > VALUE_BYTES_MAX || nul(&v.value)) {
        return invalid("env: names of 1 to 4096 bytes without NUL and =, values of at most 128 KiB without NUL");
    }
    if request.root && single_id {
        return Err(Status(Code::FailedPrecondition, "there is one id only: no command can be root"));
    }
    let pair = |v: &Variable| [v.name.as_ref(), b"=", v.value.as_ref()].concat();
    Ok(Command {
        argv: [&request.command].into_iter().chain(&request.args).cloned().collect(),
        env: request.env.iter().map(pair).collect(),
        cwd: request.cwd.clone(),
        root: request.root,
        terminal: None,
    })
}

/// Whether the kernel would refuse it for the number of its strings: no process is made for that.
pub(crate) fn has_too_many_strings(request: &RunRequest) -> bool {
    request.args.len().saturating_add(request.env.len()) >= STRINGS_MAX
}

/// What List says of a command; a copy, so that the request's memory goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listed {
    pub(crate) command: Bytes,
    /// At most 4 KiB in sum, with at least a byte each.
    pub(crate) args: Vec<Bytes>,
}

impl Listed {
    /// Of a checked command.
    pub(crate) fn new(command: &Command) -> Listed {
        let mut left = LISTED_ARGS_BYTES_MAX;
        let mut copies = command.argv.iter().enumerate().map_while(|(i, argument)| {
            if i == 0 {
                return Some(Bytes::copy_from_slice(argument));
            }
            // An empty argument counts too: a million of them would be a long list.
            let length = argument.len().min(left);
            left = left.checked_sub(length.max(1))?;
            Some(Bytes::copy_from_slice(&argument[..length]))
        });
        Listed { command: copies.next().unwrap_or_default(), args: copies.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::Message;

    fn listed(args: &[&[u8]]) -> Listed {
        let argv = [b"sh".as_slice()].iter().chain(args).map(|a| Bytes::copy_from_slice(a)).collect();
        Listed::new(&Command { argv, env: Vec::new(), cwd: Bytes::from_static(b"/"), root: false, terminal: None })
    }

    #[test]
    fn a_list_shows_a_bounded_beginning() {
        let short = listed(&[b"-c", b"", b"true"]);
        assert_eq!(short.command, "sh");
        assert_eq!(short.args, ["-c", "", "true"]);
        let long = listed(&[&[b'x'; 4000], &[b'y'; 4000], b"z"]);
        assert_eq!(long.args.iter().map(Bytes::len).collect::<Vec<_>>(), [4000, 96]);
        assert_eq!(listed(&vec![b"".as_slice(); 100_000]).args.len(), LISTED_ARGS_BYTES_MAX);
    }

    /// What is passed to a spawner has an absolute directory, a command, no NUL, and no name that is a value.
    fn any_request(input: &[u8]) {
        let Ok(request) = RunRequest::decode(input) else { return };
        for single_id in [false, true] {
            let Ok(command) = check(single_id, &request) else { continue };
            assert!(!(command.root && single_id) && command.cwd.starts_with(b"/") && !command.argv[0].is_empty());
            let texts = command.argv.iter().map(|a| a.as_ref()).chain(command.env.iter().map(|e| e.as_slice()));
            assert!(texts.chain([command.cwd.as_ref()]).all(|text| !text.contains(&0)));
            assert!(command.env.iter().all(|pair| pair.iter().position(|b| *b == b'=').is_some_and(|at| at > 0)));
        }
    }

    #[test]
    fn any_request_is_a_command_within_bounds_or_refused() {
        let variable = |name: &'static str, value: &'static str| Variable { name: name.into(), value: value.into() };
        let good = RunRequest {
            command: "sh".into(),
            args: vec!["-c".into(), "true".into()],
            env: vec![variable("PATH", "/bin"), variable("A", "b=c")],
            cwd: "/workspace".into(),
            root: true,
            ..RunRequest::default()
        };
        let nul = RunRequest { args: vec!["a\0b".into()], ..good.clone() };
        let value = RunRequest { env: vec![variable("A=B", "c"), variable("", "d")], ..good.clone() };
        let place = RunRequest { cwd: "workspace".into(), command: "".into(), ..good.clone() };
        assert!(check(false, &good).is_ok() && check(true, &good).is_err());
        let corpus = [good, nul, value, place].map(|request| request.encode_to_vec());
        crate::fuzz::run(any_request, &corpus.each_ref().map(Vec::as_slice));
    }
}
