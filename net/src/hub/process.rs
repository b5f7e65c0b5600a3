//! An agent's word about processes, checked: pids, codes, sizes and order.

use super::call::nonsense;
use workspace_core::Error;
use workspace_core::process::{Ending, ExitReason, Process};
use workspace_proto::agent::{self as wire, Exited, ListReply};

const COMMAND_BYTES_MAX: usize = 4096;
const ARGS_MAX: usize = 4096;
const TAG_BYTES_MAX: usize = 256;
const PROCESSES_MAX: usize = 4096;

/// How a command ended.
pub(super) fn ending_from_wire(exited: &Exited) -> Result<Ending, Error> {
    use wire::ExitReason as Wire;
    let reason = match exited.reason() {
        Wire::Exited => ExitReason::Exited,
        Wire::Signaled => ExitReason::Signaled,
        Wire::TimedOut => ExitReason::TimedOut,
        Wire::OomKilled => ExitReason::OomKilled,
        Wire::Canceled => ExitReason::Canceled,
        Wire::Unspecified => return Err(nonsense("an exit without a reason")),
    };
    if !(0..=255).contains(&exited.exit_code) || exited.signal > 64 {
        return Err(nonsense("an exit code or signal that does not exist"));
    }
    Ok(Ending {
        exit_code: exited.exit_code,
        signal: (exited.signal != 0).then_some(exited.signal),
        reason,
        truncated: exited.truncated,
        duration_us: exited.duration_us,
    })
}

/// One process.
pub(super) fn from_wire(process: wire::Process) -> Result<Process, Error> {
    let args_bytes: usize = process.args.iter().map(|arg| arg.len()).sum();
    let too_long = process.command.len() > COMMAND_BYTES_MAX
        || args_bytes > COMMAND_BYTES_MAX
        || process.args.len() > ARGS_MAX
        || process.tag.len() > TAG_BYTES_MAX;
    let ended = process.exited.as_ref().map(ending_from_wire).transpose()?;
    let is_possible = process.kept_from <= process.cursor && (process.ended_us != 0) == ended.is_some();
    if too_long || !is_possible || i32::try_from(process.pid).is_err() {
        return Err(nonsense("a process that can't be"));
    }
    Ok(Process {
        pid: process.pid,
        command: String::from_utf8_lossy(&process.command).into_owned(),
        args: process.args.iter().map(|arg| String::from_utf8_lossy(arg).into_owned()).collect(),
        tag: process.tag,
        attached: process.attached,
        started_us: process.started_us,
        ended_us: ended.map(|_| process.ended_us),
        ending: ended,
        cursor: process.cursor,
        kept_from: process.kept_from,
    })
}

/// All of them, ascending.
pub(super) fn list_from_wire(list: ListReply) -> Result<Vec<Process>, Error> {
    if list.processes.len() > PROCESSES_MAX || !list.processes.is_sorted_by(|a, b| a.pid < b.pid) {
        return Err(nonsense("a list out of order"));
    }
    list.processes.into_iter().map(from_wire).collect()
}
