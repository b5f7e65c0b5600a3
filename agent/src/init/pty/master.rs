//! Is what came over a start's socket the master of a terminal of this sandbox? The child of the command makes its
//! terminal itself, so that it belongs to it, and sends the master: what comes is from the hostile side.
//!
//! Taken is exactly one descriptor, open for reading and writing, the device 5:2 on the sandbox's own devpts, that has
//! a number there. All else ends the start. The child can't be looked into until it execs and has closed its copy by
//! then: nobody inside holds the same open file, and so nobody can make it block again.
//!
//! unix(7) SCM_RIGHTS, pty(7), Documentation/admin-guide/devices.txt.

use crate::sys::pty;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketFlags, SocketType,
};
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// major 5, minor 2: /dev/ptmx, and every master.
const MASTER_DEVICE: (u32, u32) = (5, 2);

/// Why a start has no terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Not one message with exactly one descriptor.
    Count,
    /// Not a master.
    Kind,
    /// A master of another devpts.
    Elsewhere,
}

/// (ours, the child's): one message goes through it.
pub(crate) fn channel() -> Result<(OwnedFd, OwnedFd), Errno> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// Takes what a child has sent that has become its command. Does not wait. `devpts`: the device number of the sandbox's.
pub(crate) fn receive(socket: OwnedFd, devpts: u64) -> Result<OwnedFd, Refused> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::net::recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags);
    let received = received.map_err(|_| Refused::Count)?;
    let mut sent: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            sent.extend(descriptors);
        }
    }
    let (Some(master), None) = (sent.pop(), sent.pop()) else { return Err(Refused::Count) };
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Refused::Count);
    }
    check(master.as_fd(), devpts)?;
    rustix::io::ioctl_fionbio(&master, true).map_err(|_| Refused::Kind)?;
    Ok(master)
}

fn check(master: BorrowedFd<'_>, devpts: u64) -> Result<(), Refused> {
    let stat = rustix::fs::fstat(master).map_err(|_| Refused::Kind)?;
    let device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || device != MASTER_DEVICE {
        return Err(Refused::Kind);
    }
    if stat.st_dev != devpts {
        return Err(Refused::Elsewhere);
    }
    // Refused for a descriptor that is only a name (O_PATH).
    let flags = rustix::fs::fcntl_getfl(master).map_err(|_| Refused::Kind)?;
    if !flags.contains(OFlags::RDWR) || flags.contains(OFlags::PATH) {
        return Err(Refused::Kind);
    }
    pty::number(master).map(drop).map_err(|_| Refused::Kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::Mode;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::io::IoSlice;

    fn open(path: &str, flags: OFlags) -> OwnedFd {
        rustix::fs::open(path, flags | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()).unwrap()
    }

    /// This machine's devpts; none where the test may not open terminals there.
    fn devpts() -> Option<u64> {
        let ptmx = rustix::fs::open("/dev/pts/ptmx", OFlags::RDWR | OFlags::NOCTTY, Mode::empty());
        if ptmx.is_err() {
            println!("skipped: /dev/pts/ptmx can't be opened");
        }
        ptmx.ok().map(|ptmx| rustix::fs::fstat(ptmx).unwrap().st_dev)
    }

    fn sent(messages: &[&[BorrowedFd<'_>]], devpts: u64) -> Result<OwnedFd, Refused> {
        let (ours, theirs) = channel().unwrap();
        for descriptors in messages {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !descriptors.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(descriptors));
            }
            rustix::net::sendmsg(&theirs, &[IoSlice::new(b"m")], &mut control, SendFlags::empty()).unwrap();
        }
        receive(ours, devpts)
    }

    #[test]
    fn a_master_is_taken_and_does_not_block() {
        let Some(devpts) = devpts() else { return };
        let master = open("/dev/pts/ptmx", OFlags::RDWR);
        let taken = sent(&[&[master.as_fd()]], devpts).unwrap();
        drop(master);
        assert_eq!(rustix::io::read(&taken, &mut [0u8; 1]), Err(Errno::AGAIN));
        assert!(rustix::io::fcntl_getfd(&taken).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }

    #[test]
    fn nothing_more_and_less_than_one_descriptor_is_refused() {
        let Some(devpts) = devpts() else { return };
        let master = open("/dev/pts/ptmx", OFlags::RDWR);
        let refused = |messages: &[&[BorrowedFd<'_>]]| sent(messages, devpts).unwrap_err();
        assert_eq!(refused(&[]), Refused::Count);
        assert_eq!(refused(&[&[]]), Refused::Count);
        assert_eq!(refused(&[&[], &[master.as_fd()]]), Refused::Count);
        for count in [2, 3, 64] {
            assert_eq!(refused(&[&vec![master.as_fd(); count]]), Refused::Count, "{count}");
        }
    }

    #[test]
    fn what_is_no_master_of_this_devpts_is_refused() {
        let Some(devpts) = devpts() else { return };
        let refused = |fd: &OwnedFd| sent(&[&[fd.as_fd()]], devpts).unwrap_err();
        let master = open("/dev/pts/ptmx", OFlags::RDWR);
        pty::unlock(master.as_fd()).unwrap();
        let (pipe, _writer) = rustix::pipe::pipe().unwrap();
        let (socket, _peer) = channel().unwrap();
        for (what, fd) in [
            ("a slave", pty::open_slave(master.as_fd()).unwrap()),
            ("null", open("/dev/null", OFlags::RDWR)),
            ("a file", open("/proc/self/status", OFlags::RDONLY)),
            ("a directory", open("/dev/pts", OFlags::RDONLY)),
            ("a pipe", pipe),
            ("a socket", socket),
            ("a name", open("/dev/pts/ptmx", OFlags::PATH)),
            ("a master to read", open("/dev/pts/ptmx", OFlags::RDONLY)),
            ("a master to write", open("/dev/pts/ptmx", OFlags::WRONLY)),
        ] {
            assert_eq!(refused(&fd), Refused::Kind, "{what}");
        }
        assert_eq!(sent(&[&[master.as_fd()]], devpts + 1).unwrap_err(), Refused::Elsewhere);
    }
}
