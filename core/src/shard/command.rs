//! A caller's command as the agent needs it: environment merged, directory absolute.

use crate::process::{RunCommand, User};
use crate::store::Record;
use std::collections::BTreeMap;
use workspace_proto::agent::{RunRequest, Variable};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const WORKSPACE: &str = "/workspace";

/// Defaults, then the sandbox's environment, then the command's: the last one wins.
pub(super) fn request(record: &Record, command: RunCommand) -> RunRequest {
    let (home, user) = match command.user {
        User::User => ("/home/user", "user"),
        User::Root => ("/root", "root"),
    };
    let memory = record.resources.memory_bytes.to_string();
    let defaults = [
        ("PATH", PATH),
        ("HOME", home),
        ("USER", user),
        ("LANG", "C.UTF-8"),
        ("WORKSPACE_MEMORY_BYTES", memory.as_str()),
    ];
    let mut env: BTreeMap<String, String> =
        defaults.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    env.extend(record.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env.extend(command.env);
    RunRequest {
        command: command.command.into_bytes().into(),
        args: command.args.into_iter().map(|arg| arg.into_bytes().into()).collect(),
        env: env
            .into_iter()
            .map(|(n, v)| Variable { name: n.into_bytes().into(), value: v.into_bytes().into() })
            .collect(),
        cwd: absolute(command.cwd.as_deref()).into_bytes().into(),
        timeout_ms: command.timeout_ms,
        stdin: command.stdin,
        root: command.user == User::Root,
        output_bytes_max: command.output_bytes_max,
    }
}

fn absolute(cwd: Option<&str>) -> String {
    match cwd {
        None | Some("") => WORKSPACE.to_owned(),
        Some(cwd) if cwd.starts_with('/') => cwd.to_owned(),
        Some(cwd) => format!("{WORKSPACE}/{cwd}"),
    }
}

#[cfg(test)]
mod tests {
    use super::absolute;

    #[test]
    fn a_relative_directory_is_below_the_workspace() {
        assert_eq!(absolute(None), "/workspace");
        assert_eq!(absolute(Some("src")), "/workspace/src");
        assert_eq!(absolute(Some("/tmp")), "/tmp");
    }
}
