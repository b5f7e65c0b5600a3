//! Makes one sandbox: directories, groups, socket, namespaces, child; the order is the point.
//!
//! ```text
//!  run/<id>, state (block) -> s/<id> with limits -> listener -> idmapped clones -> stand in T and its network
//!  -> clone -> back -> maps -> state (identity) -> release
//! ```
//! The identity is on disk before the child is released: whatever instant the launcher dies at, the child either ends
//! with it or can be found. A failure undoes what this create made, and no more.

use super::cgroup::{Limits, SandboxGroups};
use super::child::{self, KEPT_MAX, Plan};
use super::fault::{At, Fault};
use super::identity::{self, BLOCK_IDS, Mode};
use super::record::{Record, SandboxId};
use super::setup::Ground;
use super::small_file::{self, place_at};
use super::{process, teardown};
use crate::sys::clone::{HolderStack, clone_process};
use crate::sys::mount::map_ids;
use rustix::fs::{AtFlags, Gid, Mode as FileMode, Uid, fchmod};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with, socketpair};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use workspace_proto::Message;
use workspace_proto::launcher::{AgentSetup, BlockSpan, Create, Enforced, Identity};

/// The built-in template.
const HOST_TEMPLATE: &str = "host";
/// Size of /tmp, /dev/shm, /var/tmp, /run and /root together where none is asked.
const TMP_BYTES_DEFAULT: u64 = 256 << 20;
const TMP_INODE_BYTES: u64 = 2048;
const TMP_INODES_MIN: u64 = 4096;
/// First number of the descriptors that `AgentSetup` names.
const FIRST_GROUP_FD: u32 = 7;

/// What is new for a sandbox; its network was made ahead, its cgroup namespace is the spawner's work.
pub(crate) const SANDBOX_NAMESPACES: libc::c_int =
    libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// A sandbox whose child was released.
pub(crate) struct Started {
    pub(crate) identity: Identity,
    pub(crate) enforced: Enforced,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    /// The server's end of the first connection.
    pub(crate) link: OwnedFd,
    /// Says which step failed, or closes at exec.
    pub(crate) failure: OwnedFd,
}

/// Which ids this launcher may give.
#[derive(Clone, Copy)]
pub(crate) struct Claims<'a> {
    pub(crate) mode: Mode,
    pub(crate) spans: &'a [BlockSpan],
}

/// Checks what a request may ask; `in_use` tells whether a block belongs to another sandbox.
pub(crate) fn check(claims: Claims<'_>, request: &Create, in_use: impl Fn(u32) -> bool) -> Result<SandboxId, Fault> {
    let id = SandboxId::parse(&request.id).ok_or_else(|| Fault::refused("id", "not 32 characters of a-z2-7"))?;
    if request.template != HOST_TEMPLATE {
        return Err(Fault::refused("template", "unknown template"));
    }
    let block = request.block;
    if claims.mode != Mode::Root {
        return if block == 0 { Ok(id) } else { Err(Fault::refused("block", "rootless: there is one range")) };
    }
    let claimed = claims.spans.iter().any(|span| block >= span.first && block - span.first < span.count);
    // The last block ends with the id that means "no id", the first holds the host's own.
    if !claimed || block == 0 || block >= u32::MAX / BLOCK_IDS {
        return Err(Fault::refused("block", "outside the claimed blocks"));
    }
    if in_use(block) {
        return Err(Fault::refused("block", "in use by another sandbox"));
    }
    Ok(id)
}

/// Makes the sandbox of a checked request.
pub(crate) fn create(ground: &mut Ground, id: SandboxId, request: &Create) -> Result<Started, Fault> {
    match rustix::fs::mkdirat(&ground.run, id.as_str(), FileMode::from_raw_mode(0o711)) {
        Err(Errno::EXIST) => return Err(Fault::refused("run_directory", "the sandbox exists: destroy it first")),
        other => other.at("run_directory")?,
    }
    let files = make_files(ground, id, request.block);
    let made_files = matches!(files, Ok(Files { fresh: true, .. }));
    files.and_then(|files| launch(ground, id, request, &files)).inspect_err(|_| {
        teardown::undo_create(ground, id, made_files);
    })
}

/// `sandboxes/<id>` and its two directories.
struct Files {
    workspace: OwnedFd,
    home: OwnedFd,
    fresh: bool,
}

fn make_files(ground: &Ground, id: SandboxId, block: u32) -> Result<Files, Fault> {
    let fresh = match rustix::fs::mkdirat(&ground.sandboxes, id.as_str(), FileMode::from_raw_mode(0o770)) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(errno).at("files_directory"),
    };
    let base = ground.idmapped.then_some(ground.base_id);
    let user = Uid::from_raw(ground.mode.files_id(block, base));
    let make = |dir: BorrowedFd<'_>, name: &str, mode: u32| -> Result<OwnedFd, Errno> {
        let made = rustix::fs::mkdirat(dir, name, FileMode::from_raw_mode(mode));
        let place = place_at(dir, name)?;
        match made {
            Ok(()) => {
                let group = Gid::from_raw(user.as_raw());
                rustix::fs::chownat(&place, "", Some(user), Some(group), AtFlags::EMPTY_PATH)?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        Ok(place)
    };
    let directory = place_at(ground.sandboxes.as_fd(), id.as_str()).at("files_directory")?;
    let made = make(directory.as_fd(), "workspace", 0o755).and_then(|workspace| {
        let home = make(directory.as_fd(), "home", 0o700)?;
        if fresh {
            // Last: it may take our own right to write away.
            let (owner, group) = (Uid::from_raw(ground.owner_id), Gid::from_raw(ground.owner_id));
            rustix::fs::chownat(&directory, "", Some(owner), Some(group), AtFlags::EMPTY_PATH)?;
        }
        Ok(Files { workspace, home, fresh })
    });
    made.at("files_directory").inspect_err(|_| {
        if fresh {
            teardown::discard_files(ground, id);
        }
    })
}

fn launch(ground: &mut Ground, id: SandboxId, request: &Create, files: &Files) -> Result<Started, Fault> {
    let run = place_at(ground.run.as_fd(), id.as_str()).at("run_directory")?;
    let mut record = Record { block: request.block, boot: ground.boot.clone(), ..Record::default() };
    record.write(run.as_fd()).at("record")?;
    let limits =
        Limits { memory_bytes: request.memory_bytes, pids_max: request.pids_max, cpu_quota_us: request.cpu_quota_us };
    let groups = ground.cgroups.make(id, limits, ground.mode.agent_id(request.block)).at("cgroup")?;
    record.enforced = groups.enforced;
    let listener = bind_listener(ground, run.as_fd(), id).at("listener")?;
    let mut stack = HolderStack::new();
    let (workspace, home) = clone_files(ground, request.block, files, &mut stack).at("files_mount")?;
    let (setup, groups) = describe(ground, id, request, groups)?;
    let flags = SocketFlags::CLOEXEC;
    let (link, server_link) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).at("link")?;
    let (release_read, release_write) = pipe_with(PipeFlags::CLOEXEC).at("release_pipe")?;
    let (failure_read, failure) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).at("failure_pipe")?;
    let tmp_bytes = if request.tmp_bytes == 0 { TMP_BYTES_DEFAULT } else { request.tmp_bytes };
    let number = |number: u64| CString::new(number.to_string()).map_err(|_| Fault::refused("tmp_bytes", "no number"));
    // An empty file takes memory too: as many as would fill the size with half a page each.
    let (tmp_bytes, tmp_inodes) = (number(tmp_bytes)?, number((tmp_bytes / TMP_INODE_BYTES).max(TMP_INODES_MIN))?);
    let mode = ground.mode;
    let mut plan = Plan {
        mode,
        release_read,
        release_write,
        failure,
        workspace,
        home,
        tmp_bytes,
        tmp_inodes,
        listener,
        link,
        setup,
        groups,
        stack,
    };
    let (pid, pidfd) = clone_child(ground, &mut plan)?;
    let released = release(ground, pid, pidfd.as_fd(), request.block, &mut record, run.as_fd(), &plan);
    match released {
        Ok(identity) => {
            Ok(Started { identity, enforced: record.enforced, pid, pidfd, link: server_link, failure: failure_read })
        }
        Err(fault) => {
            // It waits for its release, with nothing that would have to end first.
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(fault)
        }
    }
}

fn release(
    ground: &Ground,
    pid: Pid,
    pidfd: BorrowedFd<'_>,
    block: u32,
    record: &mut Record,
    run: BorrowedFd<'_>,
    plan: &Plan,
) -> Result<Identity, Fault> {
    identity::write_maps(ground.proc.as_fd(), pid, &ground.mode.outer_map(block)).at("maps")?;
    let identity = process::identify(ground.proc.as_fd(), pid, pidfd).at("identity")?;
    record.identity = Some(identity);
    record.write(run).at("record")?;
    small_file::write_once(plan.release_write.as_fd(), &[1]).at("release")?;
    Ok(identity)
}

/// Clones while standing in the template tree and the sandbox's network, so that the child starts there.
fn clone_child(ground: &mut Ground, plan: &mut Plan) -> Result<(Pid, OwnedFd), Fault> {
    let network = ground.networks.take(ground.proc.as_fd()).at("network")?;
    let mounts = Some(LinkNameSpaceType::Mount);
    ground.networks.enter(network.as_fd()).at("network")?;
    let entered = move_into_link_name_space(ground.template.as_fd(), mounts).at("template");
    let program = ground.program.as_fd();
    let cloned =
        entered.and_then(|()| clone_process(SANDBOX_NAMESPACES, || child::become_agent(plan, program)).at("clone"));
    let back = move_into_link_name_space(ground.own_mounts.as_fd(), mounts).and_then(|()| ground.networks.leave());
    if let Err(errno) = back {
        // In the wrong place nothing that follows is right: the sandboxes live on and a new launcher adopts them.
        eprintln!("launcher: can't come back from a sandbox's namespaces: {errno}");
        std::process::exit(70);
    }
    cloned
}

fn bind_listener(ground: &Ground, run: BorrowedFd<'_>, id: SandboxId) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // bind gives the file the mode of the socket itself.
    fchmod(&socket, FileMode::from_raw_mode(0o600))?;
    bind(&socket, &SocketAddrUnix::new(format!("/data/run/{}/sock", id.as_str()))?)?;
    let owner = Some(Uid::from_raw(ground.owner_id));
    // The group too: in its user namespace the server has power only over inodes of which it maps both ids.
    let group = Some(Gid::from_raw(ground.owner_id));
    rustix::fs::chownat(run, "sock", owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(socket)
}

/// Detached clones of both directories, with ids shifted where that is possible.
fn clone_files(
    ground: &Ground,
    block: u32,
    files: &Files,
    stack: &mut HolderStack,
) -> Result<(OwnedFd, OwnedFd), Errno> {
    let unarmed = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let (workspace, home) = (open_tree(&files.workspace, "", flags)?, open_tree(&files.home, "", flags)?);
    if ground.idmapped {
        let map = identity::file_map(ground.proc.as_fd(), stack, ground.base_id, block)?;
        map_ids(workspace.as_fd(), unarmed, map.as_fd())?;
        map_ids(home.as_fd(), unarmed, map.as_fd())?;
    }
    Ok((workspace, home))
}

/// The agent's `AgentSetup` in a pipe, and the descriptors it names in their order.
fn describe(
    ground: &Ground,
    id: SandboxId,
    request: &Create,
    groups: SandboxGroups,
) -> Result<(OwnedFd, Vec<OwnedFd>), Fault> {
    let mut descriptors = groups.procs;
    let mut place = |descriptor: Option<OwnedFd>| {
        descriptor.map_or(0, |descriptor| {
            descriptors.push(descriptor);
            FIRST_GROUP_FD + descriptors.len() as u32 - 1
        })
    };
    let (leaf_dir_fd, oom_fd) = (place(groups.leaf_dir), place(groups.oom));
    let procs_count = descriptors.len() as u32 - u32::from(leaf_dir_fd > 0) - u32::from(oom_fd > 0);
    let message = AgentSetup {
        sandbox_id: id.as_str().to_owned(),
        procs_fds: (FIRST_GROUP_FD..FIRST_GROUP_FD + procs_count).collect(),
        leaf_dir_fd,
        oom_fd,
        cpu_count: request.cpu_count,
        single_id: ground.mode == Mode::Single,
        memory_bytes: request.memory_bytes,
    };
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).at("setup_pipe")?;
    // Far below a pipe's 64 KiB: the write can't block.
    small_file::write_once(write.as_fd(), &message.encode_to_vec()).at("setup_pipe")?;
    if descriptors.len() + 4 > KEPT_MAX {
        return Err(Fault::refused("cgroup", "more cgroup hierarchies than descriptors"));
    }
    Ok((read, descriptors))
}
