//! Which system calls may a command make? An allow-list, decided by architecture, number and arguments.
//!
//! ```text
//! rules.rs      the calls that anybody may make, as data, with reasons
//! arguments.rs  the calls that are allowed or refused by an argument
//! compile.rs    both -> one classic BPF program per architecture: a binary tree over the numbers
//! interpret.rs  runs such a program in the tests, for any architecture
//! ```
//! What is on no list is refused with EPERM, never by a signal: libuv asks for io_uring at its start and lives
//! with a no. Another architecture's entry (i386 by `int 0x80`, x32) is refused before a number is looked at.
//! The filter is the second wall: no capability, other ids and locked mounts hold without it. It keeps the kernel's
//! less walked code out of reach. Sources: seccomp(2), seccomp_filter.rst, the allow-list of the container engines.

mod arguments;
mod compile;
#[cfg(test)]
mod interpret;
mod rules;

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    /// Answered with this errno and not made. 0 is the answer "done" for a call that must not be made, see `setrlimit`.
    Answer(u16),
}

const REFUSE: Verdict = Verdict::Answer(libc::EPERM as u16);

/// An architecture that the server runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Arch {
    X86_64,
    Aarch64,
}

impl Arch {
    /// Of this program; `None` where it has no list, and then no filter and no command.
    const NATIVE: Arch = if cfg!(target_arch = "x86_64") { Arch::X86_64 } else { Arch::Aarch64 };

    /// AUDIT_ARCH_* of linux/audit.h: ELF machine, 64 bit, little endian.
    const fn audit(self) -> u32 {
        match self {
            Arch::X86_64 => 0xc000_003e,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the filter has an allow-list for x86_64 and aarch64 only");

/// A system call and its numbers.
#[derive(Debug, Clone, Copy)]
struct Call {
    name: &'static str,
    x86_64: Option<u32>,
    aarch64: Option<u32>,
}

impl Call {
    const fn number(self, arch: Arch) -> Option<u32> {
        match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        }
    }
}

/// The program for commands. `single_id`: commands have the agent's own host id, so what would reach PID 1 by its
/// number is refused too. At most 4096 instructions.
pub(crate) fn command_program(single_id: bool) -> Vec<libc::sock_filter> {
    compile::compile(Arch::NATIVE, single_id)
}
