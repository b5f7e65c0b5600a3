//! The launcher: the one process with privilege. It takes ids and numbers from the server and starts sandboxes.
//!
//! One thread, no network, no secret. What it may do is bounded by `privilege.rs`, what it sees by `rootfs.rs`, what
//! it is asked by `proto/launcher.proto`. Sandboxes outlive it: a new launcher finds them by run/ and by our cgroups.

mod serve;

mod cgroup;
mod child;
mod create;
mod etc;
mod fault;
mod hierarchy;
mod identity;
mod inventory;
mod network;
mod peer;
mod privilege;
mod process;
mod record;
mod rootfs;
mod setup;
mod small_file;
mod teardown;
mod watch;

use std::process::ExitCode;

/// The role's whole life: from the descriptors of `Setup` until every shard has closed its socket.
pub(crate) fn run() -> ExitCode {
    let (ground, sockets) = match setup::prepare() {
        Ok(prepared) => prepared,
        Err(fault) => {
            eprintln!("launcher: can't start: {fault}");
            return ExitCode::from(1);
        }
    };
    match serve::serve(ground, sockets) {
        Ok(()) => ExitCode::SUCCESS,
        Err(errno) => {
            eprintln!("launcher: stopped: {errno}");
            ExitCode::from(1)
        }
    }
}

/// Removes the cgroup parents of a data directory where nothing is in them. The launcher can't do the last step itself:
/// the top of a hierarchy is closed (0555) to root without CAP_DAC_OVERRIDE. For the supervisor, after a clean end.
pub(crate) fn sweep(hash: &str) -> ExitCode {
    if !setup::is_hash(hash) {
        eprintln!("sweep: not 16 hex digits");
        return ExitCode::from(2);
    }
    hierarchy::sweep(&cgroup::parent_name(hash));
    ExitCode::SUCCESS
}
