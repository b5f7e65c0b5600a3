//! What can this machine do for sandboxes, what forbids the rest, and how is it mended?
//!
//! Facts are gathered first ([`facts`], with real tries in [`trial`]), then judged by pure functions, one per row of
//! the report. Nothing on the machine is changed: what a try makes ends with the process that made it.

mod cgroups;
mod facts;
mod ids;
mod kernel;
mod limits;
mod namespaces;
mod report;
mod storage;
mod trial;
mod verdict;

use facts::Facts;
use report::Report;
use std::ffi::OsStr;
use std::process::ExitCode;
use workspace_core::config::Config;

/// Prints what this machine can do under this environment; the error of a refused one is a row of the report.
/// Success: sandboxes can run here.
pub fn run(config: Result<Config, String>, json: bool) -> ExitCode {
    let facts = Facts::read(config);
    let report = judge(&facts);
    if json {
        println!("{}", report.to_json());
    } else {
        print!("{report}");
    }
    if report.serve.possible { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One step of [`run`] in a process of its own, because it enters namespaces: `workspace-server __probe NAME`.
pub fn probe(name: &OsStr) -> ExitCode {
    trial::child(name)
}

/// From facts to rows, and from rows to what `serve` will do.
fn judge(facts: &Facts) -> Report {
    let mut rows = vec![storage::configuration(facts)];
    rows.extend(kernel::rows(facts));
    rows.extend(namespaces::rows(facts));
    rows.push(ids::row(facts));
    rows.extend(cgroups::rows(facts));
    rows.extend(storage::rows(facts));
    rows.extend(limits::rows(facts));
    let serve = verdict::serve(facts, &rows);
    Report { rows, serve }
}
