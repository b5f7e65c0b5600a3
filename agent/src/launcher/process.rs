//! What is known about a process of the host: when it started, whether it is PID 1 of a sandbox, its pidfd's inode.

use super::small_file;
use rustix::fs::{fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use workspace_proto::launcher::Identity;

/// f_type of pidfs (Linux 6.9), whose inode numbers are never used twice in one boot.
const PIDFS_MAGIC: u64 = 0x5049_4446;

/// Who a process is. The pidfd was open while /proc was read, so both speak of the same process.
pub(crate) fn identify(proc: BorrowedFd<'_>, pid: Pid, pidfd: BorrowedFd<'_>) -> Result<Identity, Errno> {
    let stat = small_file::read(proc, &format!("{}/stat", pid.as_raw_nonzero()))?;
    let start_time_ticks = start_time(&stat).ok_or(Errno::PROTO)?;
    let on_pidfs = u64::try_from(fstatfs(pidfd)?.f_type) == Ok(PIDFS_MAGIC);
    let pidfd_inode = if on_pidfs { fstat(pidfd)?.st_ino } else { 0 };
    Ok(Identity { pid: pid.as_raw_nonzero().get() as u32, start_time_ticks, pidfd_inode })
}

/// Opens the process of a record, if it still is that process and PID 1 of its sandbox.
pub(crate) fn reopen(proc: BorrowedFd<'_>, recorded: &Identity) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(recorded.pid).ok()?)?;
    let pidfd = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    let found = identify(proc, pid, pidfd.as_fd()).ok()?;
    (found == *recorded && is_first_in_its_namespace(proc, recorded.pid)).then_some(pidfd)
}

/// True for PID 1 of a namespace directly below ours: the second number of `NSpid:` is 1.
pub(crate) fn is_first_in_its_namespace(proc: BorrowedFd<'_>, pid: u32) -> bool {
    small_file::read(proc, &format!("{pid}/status")).is_ok_and(|status| second_pid(&status) == Some(1))
}

/// Field 22 of /proc/PID/stat. The name in field 2 may hold anything, so fields count from its last `)`.
fn start_time(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn second_pid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_moves_no_field() {
        let stat = "7 (a) S 1 (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2";
        assert_eq!(start_time(stat), Some(4242));
        assert_eq!(start_time("7 (x"), None);
    }

    #[test]
    fn only_the_second_number_says_pid_1() {
        assert_eq!(second_pid("Name:\tx\nNSpid:\t812\t1\n"), Some(1));
        assert_eq!(second_pid("NSpid:\t812\n"), None);
    }

    /// A number that is told stands there; a name before it changes nothing.
    fn any_stat(input: &[u8]) {
        let text = String::from_utf8_lossy(input);
        let start = start_time(&text);
        if let Some((_, fields)) = text.rsplit_once(')') {
            assert_eq!(start_time(&format!("7 (a) S 1 (b){fields}")), start);
        }
        let line = text.lines().find(|line| line.starts_with("NSpid:"));
        assert!(second_pid(&text).is_none() || line.is_some_and(|line| line.contains(|c: char| c.is_ascii_digit())));
        assert_eq!(second_pid(&format!("Name:\tNSpid: 1 1\n{text}")), second_pid(&text));
    }

    #[test]
    fn any_stat_and_status_is_read_or_not() {
        crate::fuzz::run(
            any_stat,
            &[
                b"7 (a) S 1 (b) R 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 2",
                b"Name:\tx\nNSpid:\t812\t1\n",
                b"7 (NSpid:\t1\t1) S",
            ],
        );
    }
}
