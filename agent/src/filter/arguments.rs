//! Which calls are decided by an argument? The first clause that holds decides, else `otherwise`.
//!
//! Values are compared as 32-bit halves, as the kernel reads them: an `int` argument by its low half alone (so
//! `TIOCSTI + 2^32` is TIOCSTI), a pointer or a `long` by both. Memory behind a pointer can't be looked at.

use super::rules::{call, number};
use super::{Call, REFUSE, Verdict};
use Verdict::Allow;

/// Half of a 64-bit argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

/// Holds where `half of argument & mask == value`, or where it does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct Test {
    pub(super) argument: u32,
    pub(super) half: Half,
    pub(super) mask: u32,
    pub(super) value: u32,
    pub(super) equal: bool,
}

const fn low(argument: u32) -> Test {
    Test { argument, half: Half::Low, mask: u32::MAX, value: 0, equal: true }
}

const fn high(argument: u32) -> Test {
    Test { argument, half: Half::High, mask: u32::MAX, value: 0, equal: true }
}

impl Test {
    const fn mask(self, mask: u32) -> Test {
        Test { mask, ..self }
    }

    const fn is(self, value: i32) -> Test {
        Test { value: value.cast_unsigned(), equal: true, ..self }
    }

    const fn is_not(self, value: i32) -> Test {
        Test { value: value.cast_unsigned(), equal: false, ..self }
    }
}

/// Where all tests hold, `then` is the verdict.
pub(super) struct Clause {
    pub(super) when: &'static [Test],
    pub(super) then: Verdict,
}

/// A call whose arguments decide.
pub(super) struct Ruled {
    pub(super) call: Call,
    /// Asked first, where commands have the agent's own id.
    pub(super) single_id: &'static [Clause],
    pub(super) clauses: &'static [Clause],
    pub(super) otherwise: Verdict,
}

macro_rules! when {
    ($($test:expr),+ => $then:expr) => {
        Clause { when: &[$($test),+], then: $then }
    };
}

/// The C library falls back from ENOSYS to the older call, whose arguments a filter can see.
const ABSENT: Verdict = Verdict::Answer(libc::ENOSYS as u16);
/// "Done", while nothing is done.
const IGNORE: Verdict = Verdict::Answer(0);

/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET; CLONE_NEWTIME lies in clone's signal byte, where it means a signal.
const CLONE_NEW: u32 = 0x7e02_0000;
/// A socket's type without its flags.
const SOCKET_TYPE: u32 = 0xf;
/// A scheduling policy without SCHED_RESET_ON_FORK.
const POLICY: u32 = 0xbfff_ffff;
const FS_IOC_FSSETXATTR: i32 = 0x401c_5820;
const PR_SCHED_CORE: i32 = 62;
const IOPRIO_WHO_PROCESS: i32 = 1;
/// The agent's number inside.
const AGENT: i32 = 1;

const AGENT_REFUSED: &[Clause] = &[when!(low(0).is(AGENT) => REFUSE)];

pub(super) const RULED: &[Ruled] = &[
    // New namespaces open the kernel's privileged half to anybody.
    Ruled {
        call: call!(clone 56 220),
        single_id: &[],
        clauses: &[when!(low(0).mask(CLONE_NEW).is(0), high(0).is(0) => Allow)],
        otherwise: REFUSE,
    },
    // Its flags lie in memory.
    Ruled { call: call!(clone3 435 435), single_id: &[], clauses: &[], otherwise: ABSENT },
    // PER_LINUX and the question; others switch guards of the address space off.
    Ruled {
        call: call!(personality 135 92),
        single_id: &[],
        clauses: &[when!(low(0).is(0) => Allow), when!(low(0).is(-1) => Allow)],
        otherwise: REFUSE,
    },
    // TCP, UDP, Unix sockets and the routing netlink. No raw and packet sockets, no other family or protocol:
    // ALG, VSOCK, XFRM, SCTP, MPTCP, ping … are where sockets had their holes, and vsock knows no namespace.
    Ruled {
        call: call!(socket 41 198),
        single_id: &[],
        clauses: &[
            when!(low(0).is(libc::AF_UNIX) => Allow),
            when!(low(0).is(libc::AF_INET), low(1).mask(SOCKET_TYPE).is(libc::SOCK_STREAM), low(2).is(0) => Allow),
            when!(low(0).is(libc::AF_INET), low(1).mask(SOCKET_TYPE).is(libc::SOCK_STREAM),
                low(2).is(libc::IPPROTO_TCP) => Allow),
            when!(low(0).is(libc::AF_INET), low(1).mask(SOCKET_TYPE).is(libc::SOCK_DGRAM), low(2).is(0) => Allow),
            when!(low(0).is(libc::AF_INET), low(1).mask(SOCKET_TYPE).is(libc::SOCK_DGRAM),
                low(2).is(libc::IPPROTO_UDP) => Allow),
            when!(low(0).is(libc::AF_INET6), low(1).mask(SOCKET_TYPE).is(libc::SOCK_STREAM), low(2).is(0) => Allow),
            when!(low(0).is(libc::AF_INET6), low(1).mask(SOCKET_TYPE).is(libc::SOCK_STREAM),
                low(2).is(libc::IPPROTO_TCP) => Allow),
            when!(low(0).is(libc::AF_INET6), low(1).mask(SOCKET_TYPE).is(libc::SOCK_DGRAM), low(2).is(0) => Allow),
            when!(low(0).is(libc::AF_INET6), low(1).mask(SOCKET_TYPE).is(libc::SOCK_DGRAM),
                low(2).is(libc::IPPROTO_UDP) => Allow),
            when!(low(0).is(libc::AF_NETLINK), low(2).is(libc::NETLINK_ROUTE) => Allow),
        ],
        otherwise: REFUSE,
    },
    Ruled {
        call: call!(socketpair 53 199),
        single_id: &[],
        clauses: &[when!(low(0).is(libc::AF_UNIX) => Allow)],
        otherwise: REFUSE,
    },
    // Upper layers that turn a plain socket into IPsec's (UDP_ENCAP) or TLS's and IPsec's (TCP_ULP).
    Ruled {
        call: call!(setsockopt 54 208),
        single_id: &[],
        clauses: &[
            when!(low(1).is(libc::IPPROTO_UDP), low(2).is(libc::UDP_ENCAP) => REFUSE),
            when!(low(1).is(libc::IPPROTO_TCP), low(2).is(libc::TCP_ULP) => REFUSE),
        ],
        otherwise: Allow,
    },
    // Characters typed into somebody's terminal, the console's output, a line discipline (loads modules), a
    // project id (leaves the disk quota).
    Ruled {
        call: call!(ioctl 16 29),
        single_id: &[],
        clauses: &[
            when!(low(1).is(libc::TIOCSTI as i32) => REFUSE),
            when!(low(1).is(libc::TIOCLINUX as i32) => REFUSE),
            when!(low(1).is(libc::TIOCCONS as i32) => REFUSE),
            when!(low(1).is(TIOCSETD) => REFUSE),
            when!(low(1).is(FS_IOC_FSSETXATTR) => REFUSE),
        ],
        otherwise: Allow,
    },
    // The memory map's edges, and core scheduling, by which one takes whole cores from the neighbours.
    Ruled {
        call: call!(prctl 157 167),
        single_id: &[],
        clauses: &[when!(low(0).is(libc::PR_SET_MM) => REFUSE), when!(low(0).is(PR_SCHED_CORE) => REFUSE)],
        otherwise: Allow,
    },
    // More filters are welcome (browsers, bwrap), but no listener that answers other processes' calls.
    Ruled {
        call: call!(seccomp 317 277),
        single_id: &[],
        clauses: &[when!(low(1).mask(libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32).is(0) => Allow)],
        otherwise: REFUSE,
    },
    // Ordinary policies; never FIFO, RR, DEADLINE or EXT.
    Ruled {
        call: call!(sched_setscheduler 144 119),
        single_id: AGENT_REFUSED,
        clauses: &[
            when!(low(1).mask(POLICY).is(libc::SCHED_OTHER) => Allow),
            when!(low(1).mask(POLICY).is(libc::SCHED_BATCH) => Allow),
            when!(low(1).mask(POLICY).is(libc::SCHED_IDLE) => Allow),
        ],
        otherwise: REFUSE,
    },
    Ruled { call: call!(sched_setparam 142 118), single_id: AGENT_REFUSED, clauses: &[], otherwise: Allow },
    Ruled { call: call!(sched_setaffinity 203 122), single_id: AGENT_REFUSED, clauses: &[], otherwise: Allow },
    // A group or a user would hold the agent as well.
    Ruled {
        call: call!(setpriority 141 140),
        single_id: &[when!(low(0).is_not(libc::PRIO_PROCESS as i32) => REFUSE), when!(low(1).is(AGENT) => REFUSE)],
        clauses: &[],
        otherwise: Allow,
    },
    Ruled {
        call: call!(ioprio_set 251 30),
        single_id: &[when!(low(0).is_not(IOPRIO_WHO_PROCESS) => REFUSE), when!(low(1).is(AGENT) => REFUSE)],
        clauses: &[],
        otherwise: Allow,
    },
    // RLIMIT_CORE stays 1: with any other value the host's crash handler could be called. gpg and ssh-agent set it to
    // 0 and end where that fails, so they are told "done": with 1 no core is written either.
    Ruled {
        call: call!(setrlimit 160 164),
        single_id: &[],
        clauses: &[when!(low(0).is(libc::RLIMIT_CORE as i32) => IGNORE)],
        otherwise: Allow,
    },
    Ruled {
        call: call!(prlimit64 302 261),
        single_id: &[
            when!(low(2).is_not(0), low(0).is(AGENT) => REFUSE),
            when!(high(2).is_not(0), low(0).is(AGENT) => REFUSE),
        ],
        clauses: &[when!(low(2).is(0), high(2).is(0) => Allow), when!(low(1).is(libc::RLIMIT_CORE as i32) => IGNORE)],
        otherwise: Allow,
    },
];

const TIOCSETD: i32 = 0x5423;
