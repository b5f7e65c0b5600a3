//! Which question is asked, of which server, and what happens when it cannot be answered?
//!
//! Each question is a file: `create burst run mcp stream terminal get files density churn nfs`. Every one measures the server beside a floor in the same run and gives
//! rows; `compare` prints them. Nothing here is a test, and no test uses a time from here.

mod api;
mod burst;
mod churn;
mod client;
mod compare;
mod create;
mod crowd;
mod density;
mod failure;
mod files;
mod floor;
mod floor_http;
mod floor_stream;
#[cfg(test)]
#[path = "../../tests/fuzz/run.rs"]
mod fuzz;
mod get;
mod kernel;
mod load;
mod machine;
mod mcp;
mod nfs;
mod nginx;
mod options;
mod process;
mod run;
mod server;
mod spread;
mod stop;
mod stream;
mod sys;
mod terminal;

use crate::compare::Row;
use crate::failure::Failure;
use crate::options::{Options, Question};
use crate::server::Target;
use std::process::ExitCode;

/// What every question is given.
pub(crate) struct Bench<'a> {
    /// Counts and bounds.
    pub(crate) options: &'a Options,
    /// The server that is measured.
    pub(crate) target: &'a Target,
}

fn main() -> ExitCode {
    match begin() {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("workspace-bench: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn begin() -> Result<ExitCode, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().map(String::as_str) == Some(floor_http::ROLE) {
        return floor_http::serve().map(|()| ExitCode::SUCCESS);
    }
    if let [role, lines] = &arguments[..]
        && role == floor_stream::ROLE
    {
        return floor_stream::serve(lines).map(|()| ExitCode::SUCCESS);
    }
    if arguments.is_empty() || arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        print!("{}", options::help());
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(&arguments)?;
    stop::watch()?;
    server::raise_descriptor_limit();
    let machine = machine::describe(&options);
    eprintln!("{machine}");

    let mut rows = Vec::new();
    for question in options.questions() {
        if stop::requested() {
            break;
        }
        eprintln!("# {}", question.name());
        match answer(*question, &options) {
            Ok(answered) => rows.extend(answered),
            Err(failure) => rows.push(Row::failed(question.name(), failure.to_string())),
        }
    }
    if stop::requested() {
        eprintln!("stopped by a signal; the table below is not complete");
    }
    print!("{}", compare::table(&rows, &machine));
    if let Some(path) = &options.json {
        let text = compare::json(&rows, &machine);
        std::fs::write(path, text).map_err(|error| Failure::io(format!("write {}", path.display()), &error))?;
    }
    let broken = stop::requested() || rows.iter().any(Row::is_broken);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A fresh server for each question, so that none pays for what another left to the kernel's delayed cleaning.
fn answer(question: Question, options: &Options) -> Result<Vec<Row>, Failure> {
    if question == Question::Nfs {
        nfs::possible()?;
    }
    let server = server::reach(options, question)?;
    kernel::settle(options.settle_ms_max);
    let bench = Bench { options, target: server.target() };
    let rows = match question {
        Question::Create => create::ask(&bench),
        Question::Burst => burst::ask(&bench),
        Question::Run => run::ask(&bench),
        Question::Stream => stream::ask(&bench),
        Question::Terminal => terminal::ask(&bench),
        Question::Get => get::ask(&bench),
        Question::Files => files::ask(&bench),
        Question::Density => density::ask(&bench),
        Question::Churn => churn::ask(&bench),
        Question::Mcp => mcp::ask(&bench),
        Question::Nfs => nfs::ask(&bench),
    };
    let ended = server.end();
    let rows = rows?;
    ended.map(|()| rows)
}
