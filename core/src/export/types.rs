//! What the tree behind NFS is asked and what it answers, in words of POSIX.

use super::handle::Handle;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// Who asks, as AUTH_UNIX says. Ids that the sandbox does not have are nobody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Inside the sandbox.
    pub uid: u32,
    /// Inside the sandbox.
    pub gid: u32,
    /// At most 16 are heard.
    pub groups: Vec<u32>,
}

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A block device; it can only have been made from outside.
    BlockDevice,
    /// A character device; the same.
    CharacterDevice,
    /// A socket.
    Socket,
    /// A FIFO.
    Fifo,
}

/// A time since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// May be negative.
    pub seconds: i64,
    /// Below 10⁹.
    pub nanoseconds: u32,
}

/// All that is known of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// What it is.
    pub kind: Kind,
    /// The twelve bits of its mode.
    pub mode: u32,
    /// Names that it has.
    pub links: u32,
    /// Inside the sandbox.
    pub uid: u32,
    /// Inside the sandbox.
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// On disk, in bytes.
    pub used: u64,
    /// Major and minor, of a device.
    pub rdev: (u32, u32),
    /// The same for all of one export.
    pub fsid: u64,
    /// The inode's number.
    pub fileid: u64,
    /// Of the last read.
    pub atime: Time,
    /// Of the last change of its bytes.
    pub mtime: Time,
    /// Of the last change of anything.
    pub ctime: Time,
}

/// Something that a name led to, or that was made.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// By which it is named from now on.
    pub handle: Handle,
    /// As it is now.
    pub attributes: Attributes,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// The server's clock.
    Now,
    /// This one.
    At(Time),
}

/// What is to be changed; `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The twelve bits.
    pub mode: Option<u32>,
    /// Inside the sandbox.
    pub uid: Option<u32>,
    /// Inside the sandbox.
    pub gid: Option<u32>,
    /// In bytes.
    pub size: Option<u64>,
    /// Of the last read.
    pub atime: Option<SetTime>,
    /// Of the last change of bytes.
    pub mtime: Option<SetTime>,
}

/// Attributes before and after a change, not taken in one step with it (RFC 1813, `wcc_data`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Weak {
    /// Size, mtime, ctime.
    pub before: Option<(u64, Time, Time)>,
    /// All of them.
    pub after: Option<Attributes>,
}

/// What became of a change: of the directory, or of the file for `change`, `write` and `commit`.
#[derive(Debug)]
pub struct Changed<T> {
    /// What was asked for.
    pub result: Result<T, Fault>,
    /// Of what was changed.
    pub weak: Weak,
}

/// How safe written bytes are to be before the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stable {
    /// In the page cache: a crash of this server loses nothing.
    Unstable,
    /// The bytes on disk, and what is needed to read them.
    Data,
    /// All on disk.
    File,
}

/// How a file is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Create {
    /// One that is there is taken, and cut where a size is given.
    Unchecked(Changes),
    /// One that is there is EEXIST.
    Guarded(Changes),
    /// One that this very call made before is taken; else EEXIST.
    Exclusive([u8; 8]),
}

/// What else can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Special {
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// Major and minor; only with trusted clients.
    CharacterDevice(u32, u32),
    /// The same.
    BlockDevice(u32, u32),
}

/// Where bytes that are read go.
pub enum ReadTo<'a> {
    /// Appended; after an error some may be.
    Memory(&'a mut Vec<u8>),
    /// A pipe that does not block, as references to the file's pages: not copied, and at most what it has room for.
    /// After an error some may be in it.
    Pipe(BorrowedFd<'a>),
}

/// Where a read ended.
#[derive(Debug, Clone, Copy)]
pub struct ReadEnd {
    /// That were read.
    pub bytes: u32,
    /// Nothing follows.
    pub eof: bool,
    /// Of the file, afterwards.
    pub attributes: Option<Attributes>,
}

/// What is told of the entries of a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListWanted {
    /// Names and inodes, in a reply of so many bytes.
    Names {
        /// How much there is room for.
        room_bytes: usize,
    },
    /// Attributes and handles too.
    All {
        /// How much there is room for.
        room_bytes: usize,
    },
}

/// One entry of a directory.
#[derive(Debug)]
pub struct ListEntry<'a> {
    /// The inode's number.
    pub fileid: u64,
    /// Any bytes but `/` and NUL.
    pub name: &'a [u8],
    /// Where the list goes on behind it.
    pub cookie: u64,
    /// Where they were asked for, and it is still there.
    pub attributes: Option<Attributes>,
    /// The same.
    pub handle: Option<Handle>,
}

/// Where a list ended.
#[derive(Debug, Clone, Copy)]
pub struct ListEnd {
    /// To be given with each cookie.
    pub verifier: u64,
    /// Nothing follows.
    pub eof: bool,
    /// Of the directory.
    pub attributes: Option<Attributes>,
}

/// How much room there is: what the sandbox's disk limit leaves, at most what the disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total_bytes: u64,
    /// Not used.
    pub free_bytes: u64,
    /// Not used, for ordinary users.
    pub available_bytes: u64,
    /// In all.
    pub total_files: u64,
    /// Not used.
    pub free_files: u64,
    /// Not used, for ordinary users.
    pub available_files: u64,
}

/// Why something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The kernel's reason, or ours in its words.
    Os(Errno),
    /// What the handle names is gone, or is no longer in this export.
    Stale,
    /// These bytes are no handle of this server's.
    BadHandle,
    /// The guard of a change is not the ctime that is there.
    NotSync,
    /// A list cannot go on from there.
    BadCookie,
    /// Never done here.
    NotSupported,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        match errno {
            Errno::STALE => Fault::Stale,
            // A program of that file is running: as other servers answer it.
            Errno::TXTBSY => Fault::Os(Errno::ACCESS),
            // A link where none is walked through, and a mount where none is entered.
            Errno::LOOP => Fault::Os(Errno::NOTDIR),
            errno => Fault::Os(errno),
        }
    }
}
