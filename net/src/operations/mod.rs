//! THE list: everything that callers can ask for. Routes, documents, tools and metrics are derived from it.
//!
//! Operations never import each other; what two of them take or check in the same way stands in `bounds`, `command`,
//! `pid`, `place` and `signal`; `terminal` is the other side of a terminal's WebSocket.

mod bounds;
mod command;
mod file;
mod file_archive;
mod file_search;
mod file_tree;
mod file_watch;
mod pid;
mod place;
mod process;
mod process_start;
mod process_stream;
mod pty;
mod sandbox;
mod server;
mod signal;
mod terminal;
mod terminal_page;

use crate::operation::{Entry, entry};

macro_rules! operations {
    ($($operation:ty),* $(,)?) => {
        /// All operations, in the order of documents.
        pub static OPERATIONS: &[Entry] = &[$(entry::<$operation>()),*];
    };
}

operations![
    server::Health,
    server::OpenApi,
    sandbox::SandboxCreate,
    sandbox::SandboxList,
    sandbox::SandboxGet,
    sandbox::SandboxDelete,
    process::ProcessRun,
    process_stream::ProcessRunStream,
    process_stream::ProcessRunStreamGet,
    process_start::ProcessStart,
    process_start::ProcessList,
    process_start::ProcessGet,
    process_stream::ProcessStream,
    process_start::ProcessWait,
    process_start::ProcessStdin,
    process_start::ProcessKill,
    pty::PtyCreate,
    pty::PtyList,
    pty::PtyConnect,
    pty::PtyResize,
    pty::PtyDelete,
    file::FileRead,
    file::FileWrite,
    file_tree::FileList,
    file_tree::FileStat,
    file_tree::FileMkdir,
    file_tree::FileMove,
    file_tree::FileCopy,
    file_tree::FileRemove,
    file_search::FileSearch,
    file_watch::FileWatch,
    file_archive::FilePack,
    file_archive::FileUnpack,
    terminal_page::TerminalPage,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::Access;

    #[test]
    fn names_and_routes_are_unique_and_only_health_is_open() {
        let mut names: Vec<&str> = OPERATIONS.iter().map(|o| o.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OPERATIONS.len());
        let mut routes = Vec::new();
        for operation in OPERATIONS {
            assert_eq!(operation.access == Access::Open, operation.name == "health", "{}", operation.name);
            assert!(!operation.routes.is_empty() && operation.summary.ends_with('.'), "{}", operation.name);
            for route in operation.routes {
                let shape = (route.method.name(), route.path.replace("{id}", "{}").replace("{pid}", "{}"));
                assert!(!routes.contains(&shape), "{shape:?} is there twice");
                routes.push(shape);
                let is_get = route.method == crate::operation::Method::Get;
                assert!(operation.socket.is_none() || (is_get && operation.status == 101), "{}", operation.name);
            }
        }
    }
}
