//! What does the kernel know of a terminal? A master that is read and written by us, and a slave that a command works on:
//! one pair, made by opening `ptmx` of a devpts.
//!
//! pty(7), ioctl_tty(2); TIOCGPTPEER is of kernel 4.13 and needs no path to the slave. By the C library's `ioctl` only:
//! all of this may be called between clone and exec.
#![allow(unsafe_code)]

use super::disposition::last_errno;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::termios::{InputModes, OptionalActions, Winsize};
use std::ffi::{CStr, c_int};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Of the sandbox's own devpts; what `/dev/ptmx` leads to.
const PTMX: &CStr = c"/dev/pts/ptmx";

/// How many characters a terminal shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) cols: u16,
    pub(crate) rows: u16,
}

/// Makes a terminal the controlling one of this process, which leads a session, and its 0, 1 and 2; sends the master
/// beside one byte over `socket`. The slave belongs to whom this process is now.
///
/// For a child between clone and exec: no allocation, no lock.
pub(crate) fn adopt(size: Size, socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let master = rustix::fs::open(PTMX, flags, Mode::empty())?;
    unlock(master.as_fd())?;
    let slave = open_slave(master.as_fd())?;
    rustix::process::ioctl_tiocsctty(&slave)?;
    // So that a line is edited by characters, not by bytes.
    let mut modes = rustix::termios::tcgetattr(&slave)?;
    modes.input_modes |= InputModes::IUTF8;
    rustix::termios::tcsetattr(&slave, OptionalActions::Now, &modes)?;
    resize(slave.as_fd(), size)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let masters = [master.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&masters));
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::net::sendmsg(socket, &[IoSlice::new(b"m")], &mut control, flags)?;
    rustix::stdio::dup2_stdin(&slave)?;
    rustix::stdio::dup2_stdout(&slave)?;
    rustix::stdio::dup2_stderr(&slave)
}

/// The other end of `master`, not as controlling terminal.
pub(crate) fn open_slave(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags as a number and touches no memory of ours.
    let number = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as libc::Ioctl, flags) };
    if number < 0 {
        return Err(last_errno());
    }
    // SAFETY: the call has succeeded: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Which of its devpts a master is; an error where it is none.
pub(crate) fn number(master: BorrowedFd<'_>) -> Result<u32, Errno> {
    let mut number = 0u32;
    // SAFETY: TIOCGPTN writes one unsigned int, which `number` is; whatever the descriptor is, no other driver's call
    // has this number: it says the size of what is written.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN as libc::Ioctl, &raw mut number) };
    if result < 0 { Err(last_errno()) } else { Ok(number) }
}

/// Tells the terminal its size; where it has changed, the foreground group gets SIGWINCH. Of master or slave.
pub(crate) fn resize(terminal: BorrowedFd<'_>, size: Size) -> Result<(), Errno> {
    let size = Winsize { ws_col: size.cols, ws_row: size.rows, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(terminal, size)
}

/// Lets the slave of `master` be opened.
pub(crate) fn unlock(master: BorrowedFd<'_>) -> Result<(), Errno> {
    let locked: c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which `locked` is.
    let result = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as libc::Ioctl, &raw const locked) };
    if result < 0 { Err(last_errno()) } else { Ok(()) }
}
