//! What does the agent start with? Descriptors at fixed numbers and one message, checked before anything is served.
//!
//! ```text
//! 0-1 null  2 the log  3 listener, bound  4 link, connected  5 inner user namespace  6 pipe with AgentSetup  7.. cgroups
//! ```
//! A wrong descriptor ends the start with one line on the log: a half-made sandbox must not look alive.

use crate::spawner::enter::Gate;
use crate::sys::fixed_fds;
use crate::sys::newest::Newest;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CpuSet;
use std::os::fd::{AsFd, OwnedFd};
use workspace_proto::Message;
use workspace_proto::launcher::AgentSetup;

const LISTENER: i32 = 3;
const LINK: i32 = 4;
const USER_NAMESPACE: i32 = 5;
const MESSAGE: i32 = 6;
const SETUP_BYTES_MAX: usize = 64 << 10;
const PROCS_MAX: usize = 16;
/// major 1, minor 3 of /dev/null.
const NULL_DEVICE: (u32, u32) = (1, 3);
/// linux/magic.h, DEVPTS_SUPER_MAGIC.
const DEVPTS_MAGIC: u64 = 0x1cd1;

/// What the agent works with, all its own.
pub(crate) struct Setup {
    pub(crate) sandbox_id: String,
    pub(crate) listener: OwnedFd,
    pub(crate) link: OwnedFd,
    pub(crate) gate: Gate,
    /// v2 directory of the sandbox, in which leaves are made.
    pub(crate) leaf_dir: Option<OwnedFd>,
    /// Holds the line `oom_kill N`.
    pub(crate) oom: Option<OwnedFd>,
    /// stdin of commands that are given none; `None` where the sandbox has no true /dev/null.
    pub(crate) null: Option<OwnedFd>,
    /// Device number of the sandbox's own devpts; `None`: no terminals.
    pub(crate) devpts: Option<u64>,
    pub(crate) single_id: bool,
}

/// What was wrong, for the log.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) what: &'static str,
    pub(crate) errno: Errno,
}

fn at(what: &'static str) -> impl Fn(Errno) -> Fault {
    move |errno| Fault { what, errno }
}

/// Closes the door first (undumpable: exec has reset it), then takes what the launcher left.
pub(crate) fn take() -> Result<Setup, Fault> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(at("undumpable"))?;
    rustix::thread::set_no_new_privs(true).map_err(at("no_new_privs"))?;
    let listener = fixed_fds::take(LISTENER).map_err(at("descriptor 3: the listener"))?;
    let link = fixed_fds::take(LINK).map_err(at("descriptor 4: the link"))?;
    let user_namespace = fixed_fds::take(USER_NAMESPACE).map_err(at("descriptor 5: the user namespace"))?;
    let pipe = fixed_fds::take(MESSAGE).map_err(at("descriptor 6: the message"))?;
    for socket in [&listener, &link] {
        let is = (sockopt::socket_domain(socket), sockopt::socket_type(socket));
        if is != (Ok(AddressFamily::UNIX), Ok(SocketType::STREAM)) {
            return Err(at("descriptors 3 and 4: no Unix stream sockets")(Errno::NOTSOCK));
        }
        rustix::io::ioctl_fionbio(socket, true).map_err(at("non-blocking sockets"))?;
    }
    let message = read_message(&pipe).map_err(at("descriptor 6: the message"))?;
    drop(pipe);

    let numbers = numbers(&message)?;
    let procs = numbers.procs.into_iter().map(fixed_fds::take).collect::<Result<Vec<_>, _>>();
    let procs = procs.map_err(at("a descriptor of procs_fds"))?;
    let leaf_dir = numbers.leaf_dir.map(fixed_fds::take).transpose().map_err(at("leaf_dir_fd"))?;
    let oom = numbers.oom.map(fixed_fds::take).transpose().map_err(at("oom_fd"))?;

    // What the launcher has forgotten to take away, if anything.
    let none = rustix::thread::CapabilitySet::empty();
    let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(at("no capabilities"))?;
    rustix::process::chdir(c"/").map_err(at("the root directory"))?;
    raise_file_limit();
    Ok(Setup {
        gate: Gate {
            procs,
            leaf_parent_procs: leaf_dir.as_ref().and_then(|dir| open_procs(dir).ok()),
            user_namespace,
            cpus: choose_cpus(message.cpu_count, &message.sandbox_id),
            single_id: message.single_id,
            newest: Newest::new().map_err(at("shared memory"))?,
            filter: crate::filter::command_program(message.single_id),
        },
        sandbox_id: message.sandbox_id,
        listener,
        link,
        leaf_dir,
        oom,
        null: open_null(),
        devpts: find_devpts(),
        single_id: message.single_id,
    })
}

/// The descriptors that a message names.
struct Numbers {
    procs: Vec<i32>,
    leaf_dir: Option<i32>,
    oom: Option<i32>,
}

/// Each number has one owner: a message that names one twice, or one of the fixed ones, must not make two.
fn numbers(message: &AgentSetup) -> Result<Numbers, Fault> {
    if message.procs_fds.len() > PROCS_MAX {
        return Err(at("more than 16 cgroups")(Errno::INVAL));
    }
    let mut taken = vec![0, 1, 2, LISTENER, LINK, USER_NAMESPACE, MESSAGE];
    let mut named = |number: u32| {
        let number = i32::try_from(number).map_err(|_| Errno::BADF)?;
        if taken.contains(&number) {
            return Err(Errno::BADF);
        }
        taken.push(number);
        Ok(number)
    };
    let procs = message.procs_fds.iter().map(|number| named(*number)).collect::<Result<Vec<_>, _>>();
    let procs = procs.map_err(at("a descriptor of procs_fds"))?;
    let mut optional = |number: u32| if number == 0 { Ok(None) } else { named(number).map(Some) };
    let leaf_dir = optional(message.leaf_dir_fd).map_err(at("leaf_dir_fd"))?;
    let oom = optional(message.oom_fd).map_err(at("oom_fd"))?;
    Ok(Numbers { procs, leaf_dir, oom })
}

fn read_message(pipe: &OwnedFd) -> Result<AgentSetup, Errno> {
    let mut bytes = Vec::new();
    let mut piece = [0u8; 4096];
    loop {
        match rustix::io::read(pipe, &mut piece) {
            Ok(0) => break,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if bytes.len() > SETUP_BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
    }
    AgentSetup::decode(bytes.as_slice()).map_err(|_| Errno::BADMSG)
}

/// `cgroup.procs` of the directory itself: what enters it is accounted there, and may go on into a leaf.
fn open_procs(dir: &OwnedFd) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(dir, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
}

/// Each command has three pipes and a leaf here, so that the usual 1,024 end at 200 commands.
fn raise_file_limit() {
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
}

/// `count` of the CPUs that we may use; which ones differs by sandbox, so that they don't all crowd on the first.
fn choose_cpus(count: u32, sandbox_id: &str) -> Option<CpuSet> {
    let allowed = rustix::thread::sched_getaffinity(None).ok()?;
    let numbers: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    if count == 0 || count as usize >= numbers.len() {
        return None;
    }
    let first = sandbox_id.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte as usize));
    let mut chosen = CpuSet::new();
    for i in 0..count as usize {
        chosen.set(numbers[first.wrapping_add(i) % numbers.len()]);
    }
    Some(chosen)
}

/// Opened before any command could have put something else there.
fn open_null() -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let null = rustix::fs::open(c"/dev/null", flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(null.as_fd()).ok()?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let is_null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && device == NULL_DEVICE;
    is_null.then_some(null)
}

/// Looked at before any command could have put something else there.
fn find_devpts() -> Option<u64> {
    let magic = rustix::fs::statfs(c"/dev/pts").ok()?.f_type;
    let stat = rustix::fs::stat(c"/dev/pts").ok()?;
    (u64::try_from(magic) == Ok(DEVPTS_MAGIC)).then_some(stat.st_dev)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every descriptor is taken once, and none of the fixed ones.
    fn message(input: &[u8]) {
        let Ok(message) = AgentSetup::decode(input) else { return };
        let Ok(Numbers { procs, leaf_dir, oom }) = numbers(&message) else { return };
        assert!(procs.len() <= PROCS_MAX && procs.len() == message.procs_fds.len());
        assert_eq!((leaf_dir.is_some(), oom.is_some()), (message.leaf_dir_fd > 0, message.oom_fd > 0));
        let all: Vec<i32> = procs.into_iter().chain(leaf_dir).chain(oom).collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|number| *number > MESSAGE), "{all:?}");
    }

    #[test]
    fn any_message_names_each_descriptor_once() {
        let setup = |procs_fds: &[u32], leaf_dir_fd, oom_fd| {
            let (sandbox_id, procs_fds) = ("aaq2wk57mzn4xcbdefghijklmnop3562".to_owned(), procs_fds.to_vec());
            AgentSetup { sandbox_id, procs_fds, leaf_dir_fd, oom_fd, cpu_count: 2, ..AgentSetup::default() }
        };
        let good = [setup(&[7, 8, 9], 10, 11), setup(&[], 0, 0), setup(&[7], 0, 8)];
        let bad =
            [setup(&[7, 7], 0, 0), setup(&[7], 7, 0), setup(&[6], 0, 0), setup(&[u32::MAX], 0, 0), setup(&[], 9, 9)];
        assert!(good.iter().all(|setup| numbers(setup).is_ok()) && bad.iter().all(|setup| numbers(setup).is_err()));
        assert!(numbers(&setup(&(7..24).collect::<Vec<_>>(), 0, 0)).is_err());
        let messages: Vec<Vec<u8>> = good.iter().chain(&bad).map(Message::encode_to_vec).collect();
        let corpus: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
        crate::fuzz::run(message, &corpus);
    }
}
