//! From exec to the first request: what the launcher opens, makes and gives up, in this order.
//!
//! After [`prepare`] no host path can be resolved, no descriptor of the parent's is open but those of `Setup`, and only
//! the capabilities of `privilege.rs` are left.

use super::cgroup::{Cgroups, RealRoot};
use super::create::{Claims, SANDBOX_NAMESPACES};
use super::fault::{At, Fault};
use super::identity::{self, Mode};
use super::network::Networks;
use super::{privilege, rootfs, small_file};
use crate::sys::clone::{HolderStack, clone_process, exit_now};
use crate::sys::fixed_fds;
use crate::sys::mount::map_ids;
use rustix::fs::{Gid, Mode as FileMode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};
use rustix::process::{Signal, WaitOptions, set_parent_process_death_signal, setsid, umask, waitpid};
use std::os::fd::{AsFd, OwnedFd, RawFd};
use workspace_proto::Message;
use workspace_proto::launcher::{BlockSpan, Mode as WireMode, Ready, Setup};

const PROGRAM_FD: RawFd = 3;
const SETUP_FD: RawFd = 4;
const FIRST_SOCKET_FD: RawFd = 5;
const SHARDS_MAX: u32 = 64;
const SPANS_MAX: usize = 1024;
const HASH_CHARS: usize = 16;
/// Notes that are told, and how much of each: all of them fit into one packet.
const NOTES_MAX: usize = 32;
const NOTE_CHARS_MAX: usize = 400;

/// Everything that a create or a destroy stands on.
pub(crate) struct Ground {
    pub(crate) mode: Mode,
    pub(crate) base_id: u32,
    pub(crate) owner_id: u32,
    pub(crate) spans: Vec<BlockSpan>,
    /// The host's /proc: it can't be reached by path any more.
    pub(crate) proc: OwnedFd,
    pub(crate) own_mounts: OwnedFd,
    pub(crate) template: OwnedFd,
    pub(crate) run: OwnedFd,
    pub(crate) sandboxes: OwnedFd,
    pub(crate) trash: OwnedFd,
    pub(crate) program: OwnedFd,
    pub(crate) networks: Networks,
    pub(crate) cgroups: Cgroups,
    pub(crate) boot: String,
    pub(crate) idmapped: bool,
    pub(crate) notes: Vec<String>,
}

impl Ground {
    /// Which ids a create may ask for.
    pub(crate) fn claims(&self) -> Claims<'_> {
        Claims { mode: self.mode, spans: &self.spans }
    }

    /// What is said first on each socket.
    pub(crate) fn ready(&self) -> Ready {
        Ready { enforced: Some(self.cgroups.enforceable()), idmapped: self.idmapped, notes: told(&self.notes) }
    }
}

/// Prepares the launcher; gives its ground and the shards' sockets.
pub(crate) fn prepare() -> Result<(Ground, Vec<OwnedFd>), Fault> {
    set_parent_process_death_signal(Some(Signal::KILL)).at("death_signal")?;
    // Fails only for a leader of a group, which then has a session of its own already or a parent that waits for it.
    let _ = setsid();
    // The template's directories are made with the usual modes; what create makes has its own.
    umask(FileMode::from_raw_mode(0o022));
    let (setup, program, sockets) = inherit()?;
    let (mode, data_dir) = check(&setup)?;
    // The server's group, and nothing else, opens sandboxes/ and trash/: the launcher has no power over files.
    match mode {
        Mode::Root | Mode::Ranged => {
            rustix::thread::set_thread_groups(&[Gid::from_raw(setup.owner_id)]).at("groups")?;
        }
        // One id has one group, and the kernel lets nobody change it.
        Mode::Single => {}
    }
    let proc = small_file::place("/proc").at("proc")?;
    let boot = small_file::read(proc.as_fd(), "sys/kernel/random/boot_id").at("boot_id")?.trim().to_owned();
    let mut notes = Vec::new();
    let real_root = if mode == Mode::Root { RealRoot::Yes } else { RealRoot::No };
    let cgroups = Cgroups::prepare(proc.as_fd(), &setup.hash, real_root, &mut notes);
    let networks = Networks::new(proc.as_fd()).at("network")?;
    let views = rootfs::build(data_dir, proc.as_fd()).inspect_err(|_| cgroups.leave())?;
    umask(FileMode::empty());
    let place = |name| small_file::place_at(views.data.as_fd(), name).at("data_dir");
    let (run, sandboxes, trash) = (place("run")?, place("sandboxes")?, place("trash")?);
    let mut ground = Ground {
        mode,
        base_id: setup.base_id,
        owner_id: setup.owner_id,
        spans: setup.spans,
        proc,
        own_mounts: views.own,
        template: views.template,
        run,
        sandboxes,
        trash,
        program,
        networks,
        cgroups,
        boot,
        idmapped: false,
        notes,
    };
    if let Err(errno) = try_namespaces() {
        ground.notes.push(format!("no sandbox can be made here: {}", why_no_namespaces(errno)));
    }
    ground.idmapped = ground.mode == Mode::Root && ground.can_map_ids();
    privilege::keep_what_is_needed(mode).at("privilege")?;
    Ok((ground, sockets))
}

impl Ground {
    /// Asks the kernel: whether a file system can be idmapped depends on its type and version.
    fn can_map_ids(&mut self) -> bool {
        let mut stack = HolderStack::new();
        let block = self.base_id / identity::BLOCK_IDS;
        let tried = identity::file_map(self.proc.as_fd(), &mut stack, self.base_id, block.max(1)).and_then(|map| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let clone = open_tree(&self.sandboxes, "", flags | OpenTreeFlags::AT_EMPTY_PATH)?;
            map_ids(clone.as_fd(), MountAttrFlags::MOUNT_ATTR_NOSUID, map.as_fd())
        });
        if let Err(errno) = tried {
            self.notes.push(format!(
                "files of sandboxes lie with ids of their own, not BASE + id: the data directory's file system can't be idmapped ({errno}); use ext4, xfs or btrfs"
            ));
        }
        tried.is_ok()
    }
}

/// Clones a child that ends at once, in every namespace that a sandbox needs.
fn try_namespaces() -> Result<(), Errno> {
    let (pid, _pidfd) = clone_process(SANDBOX_NAMESPACES, || exit_now(0))?;
    waitpid(Some(pid), WaitOptions::empty()).map(|_| ())
}

fn why_no_namespaces(errno: Errno) -> String {
    match errno {
        Errno::NOSPC => {
            "a limit of namespaces is reached: raise sysctl user.max_user_namespaces and its siblings".into()
        }
        Errno::PERM | Errno::ACCESS => "user namespaces are forbidden: sysctl kernel.unprivileged_userns_clone=1 and \
             kernel.apparmor_restrict_unprivileged_userns=0; in Docker --security-opt seccomp=unconfined"
            .into(),
        Errno::INVAL | Errno::NOSYS => "the kernel is built without namespaces, or older than 5.3".into(),
        other => other.to_string(),
    }
}

/// Takes the descriptors that `Setup` promises and closes all others.
fn inherit() -> Result<(Setup, OwnedFd, Vec<OwnedFd>), Fault> {
    let pipe = fixed_fds::take(SETUP_FD).at("setup")?;
    let bytes = small_file::read_whole(pipe.as_fd()).at("setup")?;
    drop(pipe);
    let setup = read(&bytes)?;
    let program = fixed_fds::take(PROGRAM_FD).at("setup")?;
    let after = FIRST_SOCKET_FD + setup.shard_count as RawFd;
    let sockets: Result<Vec<_>, _> = (FIRST_SOCKET_FD..after).map(fixed_fds::take).collect();
    fixed_fds::close_from(after).at("setup")?;
    let sockets = sockets.at("setup")?;
    for socket in &sockets {
        rustix::fs::fcntl_setfl(socket, OFlags::NONBLOCK).at("setup")?;
    }
    Ok((setup, program, sockets))
}

/// The message, with a number of sockets that can be looked for.
fn read(bytes: &[u8]) -> Result<Setup, Fault> {
    let setup = Setup::decode(bytes).map_err(|_| Fault::refused("setup", "not a Setup message"))?;
    if setup.shard_count == 0 || setup.shard_count > SHARDS_MAX {
        return Err(Fault::refused("setup", "shard_count is not 1..=64"));
    }
    Ok(setup)
}

/// Which ids can be given, and the data directory, once the rest of the message is as it must be.
fn check(setup: &Setup) -> Result<(Mode, &str), Fault> {
    let mode = match WireMode::try_from(setup.mode) {
        Ok(WireMode::Root) => Mode::Root,
        Ok(WireMode::Ranged) => Mode::Ranged,
        Ok(WireMode::Single) => Mode::Single,
        _ => return Err(Fault::refused("setup", "unknown mode")),
    };
    if !is_hash(&setup.hash) {
        return Err(Fault::refused("setup", "hash is not 16 hex digits"));
    }
    if setup.spans.len() > SPANS_MAX {
        return Err(Fault::refused("setup", "more than 1024 spans"));
    }
    if mode == Mode::Root && (setup.base_id == 0 || setup.base_id > u32::MAX - 2 * identity::BLOCK_IDS) {
        return Err(Fault::refused("setup", "base_id is no block of host ids"));
    }
    // chown(2) and setgroups(2) take this number for "leave it as it is".
    if setup.owner_id == u32::MAX {
        return Err(Fault::refused("setup", "owner_id is no id"));
    }
    let data_dir =
        std::str::from_utf8(&setup.data_dir).map_err(|_| Fault::refused("setup", "data_dir is not UTF-8"))?;
    if !data_dir.starts_with('/') || data_dir.contains('\0') {
        return Err(Fault::refused("setup", "data_dir is no absolute path"));
    }
    Ok((mode, data_dir))
}

/// The machine decides how many notes there are, and how long the paths in them.
fn told(notes: &[String]) -> Vec<String> {
    notes.iter().take(NOTES_MAX).map(|note| note.chars().take(NOTE_CHARS_MAX).collect()).collect()
}

/// True for 16 hex digits: the text becomes part of a path.
pub(crate) fn is_hash(text: &str) -> bool {
    text.len() == HASH_CHARS && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a launcher starts with: ids that exist, a hash that is safe in a path, as many sockets as there can be.
    fn message(input: &[u8]) {
        let Ok(setup) = read(input) else { return };
        assert!((1..=64).contains(&setup.shard_count));
        let Ok((mode, data_dir)) = check(&setup) else { return };
        assert!(setup.hash.len() == 16 && u64::from_str_radix(&setup.hash, 16).is_ok());
        assert!(setup.hash.bytes().all(|byte| !byte.is_ascii_uppercase() && byte != b'+'));
        assert!(setup.spans.len() <= SPANS_MAX && setup.owner_id != u32::MAX);
        assert!(data_dir.starts_with('/') && !data_dir.contains('\0'));
        if mode == Mode::Root {
            let last = setup.base_id.checked_add(identity::BLOCK_IDS);
            assert!(setup.base_id > 0 && last.is_some_and(|last| last < u32::MAX));
        }
    }

    #[test]
    fn notes_fit_into_a_packet() {
        let notes = told(&vec!["\u{10ffff}".repeat(4096); 1000]);
        let ready = Ready { notes, ..Ready::default() };
        assert!(ready.encoded_len() < workspace_proto::PACKET_BYTES_MAX, "{} bytes", ready.encoded_len());
        assert_eq!(told(&["no memory limit".to_owned()]), ["no memory limit"]);
    }

    #[test]
    fn any_message_is_checked_or_refused() {
        let setup = |mode: WireMode, base_id, owner_id| Setup {
            data_dir: b"/var/lib/workspace".as_slice().into(),
            hash: "0123456789abcdef".into(),
            base_id,
            owner_id,
            spans: vec![BlockSpan { first: 8, count: 128 }],
            mode: mode.into(),
            shard_count: 2,
        };
        let messages = [
            setup(WireMode::Root, 524_288, 589_823),
            setup(WireMode::Ranged, 1, 0),
            setup(WireMode::Single, 0, 0),
            setup(WireMode::Unspecified, 0, 0),
            setup(WireMode::Root, u32::MAX - 65_536, 0),
            // Was taken: a group and an owner that change nothing.
            setup(WireMode::Root, 524_288, u32::MAX),
            Setup { data_dir: b"data".as_slice().into(), ..setup(WireMode::Single, 0, 0) },
            Setup { hash: "+123456789ABCDEF".into(), ..setup(WireMode::Single, 0, 0) },
            Setup { shard_count: 65, ..setup(WireMode::Single, 0, 0) },
        ];
        assert!(messages[..3].iter().all(|setup| check(setup).is_ok()));
        assert!(
            messages[3..].iter().all(|setup| read(&setup.encode_to_vec()).and_then(|s| check(&s).map(|_| ())).is_err())
        );
        let messages: Vec<Vec<u8>> = messages.iter().map(Message::encode_to_vec).collect();
        let corpus: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        crate::fuzz::run(message, &corpus);
    }
}
