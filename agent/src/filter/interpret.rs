//! What would the kernel answer? A tiny classic-BPF interpreter, and the tests of the compiled programs.

use super::arguments::{Clause, Half, RULED, Test};
use super::compile::{ARCH_AT, ARGUMENTS_AT, NUMBER_AT, PROGRAM_LENGTH_MAX, compile};
use super::rules::ALLOWED;
use super::{Arch, Call, REFUSE, Verdict};
use Verdict::{Allow, Answer};
use libc::sock_filter;

const BOTH: [Arch; 2] = [Arch::X86_64, Arch::Aarch64];
const I386: u32 = 0x4000_0003;
const ARM: u32 = 0x4000_0028;
const X32: u32 = 0x4000_0000;

/// struct seccomp_data without the instruction pointer.
#[derive(Debug, Clone, Copy, Default)]
struct Data {
    number: u32,
    arch: u32,
    arguments: [u64; 6],
}

impl Data {
    fn word(&self, at: u32) -> u32 {
        match at {
            NUMBER_AT => self.number,
            ARCH_AT => self.arch,
            _ => {
                let word = (at - ARGUMENTS_AT) / 4;
                (self.arguments[word as usize / 2] >> (32 * (word % 2))) as u32
            }
        }
    }
}

/// Runs a program; panics where the kernel would not have taken it.
fn interpret(program: &[sock_filter], data: &Data) -> Verdict {
    let (mut at, mut a) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let mut jump = |yes: bool| at += usize::from(if yes { jt } else { jf });
        match u32::from(code) {
            c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => a = data.word(k),
            c if c == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => a &= k,
            c if c == libc::BPF_JMP | libc::BPF_JA => at += k as usize,
            c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => jump(a == k),
            c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => jump(a >= k),
            c if c == libc::BPF_RET | libc::BPF_K => match k & 0xffff_0000 {
                libc::SECCOMP_RET_ALLOW => return Allow,
                libc::SECCOMP_RET_ERRNO => return Answer(k as u16),
                other => panic!("action {other:#x}"),
            },
            other => panic!("instruction {other:#x}"),
        }
    }
}

/// What the lists say, without a tree.
fn naive(arch: Arch, single_id: bool, data: &Data) -> Verdict {
    if data.arch != arch.audit() {
        return REFUSE;
    }
    let here = |call: &Call| call.number(arch) == Some(data.number);
    if let Some(ruled) = RULED.iter().find(|ruled| here(&ruled.call)) {
        let holds = |test: &Test| {
            let argument = data.arguments[test.argument as usize];
            let half = if test.half == Half::Low { argument as u32 } else { (argument >> 32) as u32 };
            (half & test.mask == test.value) == test.equal
        };
        let clauses = if single_id { ruled.single_id } else { &[] }.iter().chain(ruled.clauses);
        let decided = |clause: &&Clause| clause.when.iter().all(holds);
        return clauses.into_iter().find(decided).map_or(ruled.otherwise, |clause| clause.then);
    }
    if ALLOWED.iter().any(here) { Allow } else { REFUSE }
}

fn number(arch: Arch, name: &str) -> u32 {
    let calls = ALLOWED.iter().chain(RULED.iter().map(|ruled| &ruled.call));
    calls.into_iter().find(|call| call.name == name).and_then(|call| call.number(arch)).expect(name)
}

fn ask(arch: Arch, single_id: bool, name: &str, arguments: &[u64]) -> Verdict {
    let mut data = Data { number: number(arch, name), arch: arch.audit(), ..Data::default() };
    data.arguments[..arguments.len()].copy_from_slice(arguments);
    interpret(&compile(arch, single_id), &data)
}

/// xorshift64*, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[(self.next() >> 33) as usize % all.len()]
    }
}

#[test]
fn programs_are_short_and_their_jumps_stay_inside() {
    for (arch, single_id) in [(BOTH[0], false), (BOTH[0], true), (BOTH[1], false), (BOTH[1], true)] {
        let program = compile(arch, single_id);
        assert!(program.len() < PROGRAM_LENGTH_MAX / 4, "{} instructions", program.len());
        for (at, step) in program.iter().enumerate() {
            let far = if step.code == (libc::BPF_JMP | libc::BPF_JA) as u16 { step.k as usize } else { 0 };
            assert!(at + 1 + far.max(usize::from(step.jt.max(step.jf))) <= program.len());
        }
        assert_eq!(program.last().unwrap().code, (libc::BPF_RET | libc::BPF_K) as u16);
    }
}

#[test]
fn every_number_is_allowed_or_refused_as_listed() {
    for arch in BOTH {
        let program = compile(arch, false);
        for number in (0..=1024).chain([X32 - 1, u32::MAX - 1, u32::MAX]) {
            let data = Data { number, arch: arch.audit(), ..Data::default() };
            let ruled = RULED.iter().any(|ruled| ruled.call.number(arch) == Some(number));
            let listed = ALLOWED.iter().any(|call| call.number(arch) == Some(number));
            let verdict = interpret(&program, &data);
            assert_eq!(verdict, naive(arch, false, &data), "{arch:?} {number}");
            assert!(ruled || verdict == if listed { Allow } else { REFUSE }, "{arch:?} {number}");
        }
    }
}

#[test]
fn what_must_never_be_allowed_is_on_no_list() {
    let never = "mount umount2 fsopen fsconfig fsmount fspick open_tree open_tree_attr move_mount mount_setattr pivot_root \
        chroot unshare setns bpf perf_event_open userfaultfd io_uring_setup io_uring_enter io_uring_register fanotify_init \
        process_vm_readv process_vm_writev process_madvise pidfd_getfd kcmp move_pages migrate_pages add_key request_key \
        keyctl open_by_handle_at kexec_load init_module finit_module delete_module swapon swapoff quotactl acct reboot \
        clock_settime settimeofday adjtimex clock_adjtime syslog iopl ioperm modify_ldt memfd_secret cachestat vhangup";
    for name in never.split_whitespace() {
        assert!(ALLOWED.iter().chain(RULED.iter().map(|ruled| &ruled.call)).all(|call| call.name != name), "{name}");
    }
}

#[test]
fn other_architectures_are_refused_whatever_the_number() {
    for arch in BOTH {
        let program = compile(arch, false);
        for foreign in [I386, ARM, arch.audit() ^ 0x8000_0000, 0, u32::MAX, BOTH[0].audit(), BOTH[1].audit()] {
            for number in 0..=1024 {
                let data = Data { number, arch: foreign, ..Data::default() };
                assert!(foreign == arch.audit() || interpret(&program, &data) == REFUSE);
            }
        }
        for number in 0..=1024 {
            let data = Data { number: number | X32, arch: arch.audit(), ..Data::default() };
            assert_eq!(interpret(&program, &data), REFUSE, "x32 {number}");
        }
    }
}

#[test]
fn the_tree_says_what_the_lists_say() {
    for seed in 1..=8 {
        let mut random = Random(seed);
        for (arch, single_id) in [(BOTH[0], false), (BOTH[0], true), (BOTH[1], false), (BOTH[1], true)] {
            let program = compile(arch, single_id);
            let mut values = vec![0, 1, 2, 3, u64::MAX, 1 << 31, 1 << 32];
            for ruled in RULED {
                for test in ruled.single_id.iter().chain(ruled.clauses).flat_map(|clause| clause.when) {
                    values.extend([u64::from(test.value), u64::from(test.mask), u64::from(test.value) | 1 << 32]);
                }
            }
            let numbers: Vec<u32> = RULED.iter().filter_map(|ruled| ruled.call.number(arch)).collect();
            for _ in 0..20_000 {
                let (ruled, any) = (random.of(&numbers), random.next() as u32 % 512);
                let number = random.of(&[ruled, any]);
                let arguments = std::array::from_fn(|_| {
                    let value = random.of(&values);
                    value ^ random.of(&[0, 0, 0, 1 << 11, 1 << 40])
                });
                let data = Data { number, arch: arch.audit(), arguments };
                assert_eq!(interpret(&program, &data), naive(arch, single_id, &data), "seed {seed} {arch:?} {data:x?}");
            }
        }
    }
}

#[test]
fn arguments_decide() {
    const STREAM: u64 = libc::SOCK_STREAM as u64 | libc::SOCK_CLOEXEC as u64 | libc::SOCK_NONBLOCK as u64;
    for arch in BOTH {
        let ask = |name, arguments: &[u64]| super::interpret::ask(arch, false, name, arguments);
        assert_eq!(ask("clone3", &[]), Answer(libc::ENOSYS as u16));
        assert_eq!(ask("clone", &[libc::SIGCHLD as u64]), Allow);
        assert_eq!(ask("clone", &[0x003d_0f00]), Allow, "a thread");
        for bit in [17, 25, 26, 27, 28, 29, 30, 32, 40, 63] {
            assert_eq!(ask("clone", &[1 << bit | libc::SIGCHLD as u64]), REFUSE, "bit {bit}");
        }
        for (value, verdict) in [
            (0, Allow),
            (0xffff_ffff, Allow),
            (u64::MAX, Allow),
            (8, REFUSE),
            (0x4_0000, REFUSE),
            (1 << 32 | 8, REFUSE),
        ] {
            assert_eq!(ask("personality", &[value]), verdict, "{value:x}");
        }
        for family in 0..=45 {
            let allowed = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6].contains(&(family as i32));
            assert_eq!(ask("socket", &[family, STREAM, 0]) == Allow, allowed || family == 16, "family {family}");
            assert_eq!(ask("socket", &[family | 1 << 32, 3, 1]) == Allow, family == 1, "raw {family}");
            assert_eq!(ask("socketpair", &[family, STREAM, 0]) == Allow, family == 1, "pair of {family}");
        }
        for protocol in 0..=22 {
            assert_eq!(ask("socket", &[16, 3, protocol]) == Allow, protocol == 0, "netlink {protocol}");
        }
        for protocol in [1, 58, 132, 136, 255, 262] {
            assert_eq!(ask("socket", &[2, 2, protocol]), REFUSE, "datagrams of {protocol}");
            assert_eq!(ask("socket", &[10, 1, protocol]), REFUSE, "stream of {protocol}");
        }
        for request in [0x5412, 0x541c, 0x541d, 0x5423, 0x401c_5820] {
            assert_eq!(ask("ioctl", &[0, request]), REFUSE);
            assert_eq!(ask("ioctl", &[0, request | 1 << 32]), REFUSE);
        }
        assert_eq!(ask("ioctl", &[0, 0x5401]), Allow, "TCGETS");
        assert_eq!(ask("seccomp", &[1, 0]), Allow);
        assert_eq!(ask("seccomp", &[1, 8]), REFUSE);
        assert_eq!(ask("seccomp", &[1, 1 << 32 | 9]), REFUSE);
        for (policy, verdict) in [(0, Allow), (3, Allow), (0x4000_0005, Allow), (1, REFUSE), (2, REFUSE), (6, REFUSE)] {
            assert_eq!(ask("sched_setscheduler", &[0, policy]), verdict);
        }
        assert_eq!(ask("setrlimit", &[4, 4096]), Answer(0));
        assert_eq!(ask("setrlimit", &[7, 4096]), Allow);
        assert_eq!(ask("prlimit64", &[0, 4, 1 << 32, 0]), Answer(0));
        assert_eq!(ask("prlimit64", &[0, 4, 0, 4096]), Allow);
        assert_eq!(ask("setsockopt", &[3, 17, 100]), REFUSE);
        assert_eq!(ask("setsockopt", &[3, 6, 31]), REFUSE);
        assert_eq!(ask("setsockopt", &[3, 6, 1]), Allow);
        assert_eq!(ask("prctl", &[35]), REFUSE);
    }
}

#[test]
fn with_one_id_the_agents_number_is_out_of_reach() {
    let reach: [(&str, [u64; 4]); 6] = [
        ("prlimit64", [1, 7, 4096, 0]),
        ("sched_setaffinity", [1, 8, 4096, 0]),
        ("sched_setparam", [1, 4096, 0, 0]),
        ("sched_setscheduler", [1, 0, 4096, 0]),
        ("setpriority", [0, 1, 19, 0]),
        ("ioprio_set", [1, 1, 0, 0]),
    ];
    for arch in BOTH {
        for (name, arguments) in reach {
            assert_eq!(ask(arch, true, name, &arguments), REFUSE, "{name}");
            assert_eq!(ask(arch, false, name, &arguments), Allow, "{name}: own ids are enough");
        }
        assert_eq!(ask(arch, true, "setpriority", &[2, 1000]), REFUSE, "a whole user");
        assert_eq!(ask(arch, true, "setpriority", &[0, 0, 19]), Allow);
        assert_eq!(ask(arch, true, "prlimit64", &[1, 7, 0, 4096]), Allow, "reading");
        assert_eq!(ask(arch, true, "prlimit64", &[0, 7, 4096]), Allow);
    }
}
