//! What is said of a command that could not be started? What a shell says: 127 or 126 and a line on stderr.

use super::start::Command;
use crate::sys::spawn::{Failure, Step};
use rustix::io::Errno;

/// Exit code of a command that was not found.
pub(crate) const NOT_FOUND: i32 = 127;
const NOT_EXECUTABLE: i32 = 126;

/// Exit code and the line on stderr.
pub(crate) fn describe(command: &Command, failure: Failure) -> (i32, Vec<u8>) {
    let name = command.argv.first().map(|c| c.as_ref()).unwrap_or_default();
    let why = reason(failure.errno);
    let (code, subject, text) = match (failure.step, failure.errno) {
        (Step::Cwd, _) => (NOT_EXECUTABLE, command.cwd.as_ref(), format!("cannot be the working directory: {why}")),
        (Step::CwdOutside, _) => {
            (NOT_EXECUTABLE, command.cwd.as_ref(), "cannot be the working directory: outside the sandbox".to_owned())
        }
        (Step::Exec, libc::ENOENT) if !name.contains(&b'/') => (NOT_FOUND, name, "command not found".to_owned()),
        (Step::Exec, libc::ENOENT | libc::ENOTDIR) => (NOT_FOUND, name, "not found".to_owned()),
        (Step::Interpreter, _) => (NOT_EXECUTABLE, name, "the interpreter that it names was not found".to_owned()),
        (Step::Exec, _) => (NOT_EXECUTABLE, name, why),
        (step, _) => (NOT_EXECUTABLE, name, format!("could not be started ({step:?}): {why}")),
    };
    (code, [subject, b": ", text.as_bytes(), b"\n"].concat())
}

fn reason(errno: i32) -> String {
    match errno {
        libc::E2BIG => "argument list too long".to_owned(),
        libc::ENOEXEC => "not an executable format".to_owned(),
        libc::EACCES => "permission denied".to_owned(),
        libc::ENOENT => "no such file or directory".to_owned(),
        libc::ENOTDIR => "not a directory".to_owned(),
        _ => Errno::from_raw_os_error(errno).to_string(),
    }
}
