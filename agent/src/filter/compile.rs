//! How do the lists become a program? A binary tree over ranges of numbers, the architecture asked first.
//!
//! ```text
//! arch == ours ?  no -> EPERM
//! nr >= middle ?  no -> left half, yes -> right half, … down to one range of numbers with one outcome
//! leaf: a verdict, or the clauses of one call in their order, each a chain of tests that falls through on a no
//! ```
//! Nothing is shared between leaves, so every jump goes forward, and only a tree's "yes" can be longer than the 255
//! that a conditional jump reaches: it goes by an unconditional one. The kernel walks the tree at installation and
//! keeps a bit for each number that is always allowed, so such calls never run the program.

use super::arguments::{Clause, Half, RULED, Ruled, Test};
use super::rules::ALLOWED;
use super::{Arch, REFUSE, Verdict};
use libc::sock_filter;

/// The kernel's BPF_MAXINSNS.
pub(super) const PROGRAM_LENGTH_MAX: usize = 4096;

// struct seccomp_data of linux/seccomp.h
pub(super) const NUMBER_AT: u32 = 0;
pub(super) const ARCH_AT: u32 = 4;
pub(super) const ARGUMENTS_AT: u32 = 16;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// What a number leads to.
#[derive(Clone, Copy)]
enum Outcome {
    Plain(Verdict),
    Asks(&'static Ruled),
}

/// Numbers from `first` up to the next range's have one outcome.
struct Range {
    first: u32,
    outcome: Outcome,
}

/// The program of one architecture.
pub(super) fn compile(arch: Arch, single_id: bool) -> Vec<sock_filter> {
    let mut program = vec![step(LOAD, ARCH_AT), branch(IF_EQUAL, arch.audit(), 1, 0), give(REFUSE)];
    program.push(step(LOAD, NUMBER_AT));
    tree(&mut program, &ranges(arch), single_id);
    assert!(program.len() <= PROGRAM_LENGTH_MAX, "the filter has {} instructions", program.len());
    program
}

/// All numbers from 0 to 2^32-1, ascending, neighbours of the same verdict joined.
fn ranges(arch: Arch) -> Vec<Range> {
    let plain = ALLOWED.iter().map(|call| (*call, Outcome::Plain(Verdict::Allow)));
    let ruled = RULED.iter().map(|ruled| (ruled.call, Outcome::Asks(ruled)));
    let mut listed: Vec<_> =
        plain.chain(ruled).filter_map(|(call, outcome)| Some((call.number(arch)?, call.name, outcome))).collect();
    listed.sort_by_key(|(number, ..)| *number);

    let mut ranges: Vec<Range> = Vec::new();
    let mut push = |first, outcome| {
        let same = |last: &Range| matches!((last.outcome, outcome), (Outcome::Plain(a), Outcome::Plain(b)) if a == b);
        if !ranges.last().is_some_and(same) {
            ranges.push(Range { first, outcome });
        }
    };
    let mut next = 0;
    for (number, name, outcome) in listed {
        assert!(number >= next, "{name} is listed twice");
        if number > next {
            push(next, Outcome::Plain(REFUSE));
        }
        push(number, outcome);
        next = number + 1;
    }
    push(next, Outcome::Plain(REFUSE));
    ranges
}

fn tree(program: &mut Vec<sock_filter>, ranges: &[Range], single_id: bool) {
    if let [range] = ranges {
        return leaf(program, range.outcome, single_id);
    }
    let (below, from) = ranges.split_at(ranges.len() / 2);
    let at = program.len();
    program.push(branch(IF_AT_LEAST, from[0].first, 0, 0));
    tree(program, below, single_id);
    let mut distance = program.len() - at - 1;
    if distance > usize::from(u8::MAX) {
        // Over the unconditional jump on a no, onto it on a yes.
        program.insert(at + 1, step(JUMP, distance as u32));
        program[at].jf = 1;
        distance = 0;
    }
    program[at].jt = distance as u8;
    tree(program, from, single_id);
}

fn leaf(program: &mut Vec<sock_filter>, outcome: Outcome, single_id: bool) {
    match outcome {
        Outcome::Plain(verdict) => program.push(give(verdict)),
        Outcome::Asks(ruled) => {
            let first: &[Clause] = if single_id { ruled.single_id } else { &[] };
            for clause in first.iter().chain(ruled.clauses) {
                ask(program, clause);
            }
            program.push(give(ruled.otherwise));
        }
    }
}

/// One clause: its verdict, or on to what follows it.
fn ask(program: &mut Vec<sock_filter>, clause: &Clause) {
    let length: usize = clause.when.iter().map(|test| length(*test)).sum::<usize>() + 1;
    let end = program.len() + length;
    for test in clause.when {
        program.push(step(LOAD, offset(*test)));
        if test.mask != u32::MAX {
            program.push(step(AND, test.mask));
        }
        let leave = u8::try_from(end - program.len() - 1).expect("a clause is short");
        let (jt, jf) = if test.equal { (0, leave) } else { (leave, 0) };
        program.push(branch(IF_EQUAL, test.value, jt, jf));
    }
    program.push(give(clause.then));
}

const fn length(test: Test) -> usize {
    if test.mask == u32::MAX { 2 } else { 3 }
}

/// Where the half lies; both architectures are little endian.
const fn offset(test: Test) -> u32 {
    let half = match test.half {
        Half::Low => 0,
        Half::High => 4,
    };
    ARGUMENTS_AT + 8 * test.argument + half
}

fn give(verdict: Verdict) -> sock_filter {
    match verdict {
        Verdict::Allow => step(RETURN, libc::SECCOMP_RET_ALLOW),
        Verdict::Answer(errno) => step(RETURN, libc::SECCOMP_RET_ERRNO | u32::from(errno)),
    }
}

const fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code, jt, jf, k }
}
