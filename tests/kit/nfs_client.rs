//! A raw NFSv3 client: calls as bytes, replies as bytes, nothing between a test and what it sends.
//!
//! ```text
//! let mut nfs = Nfs::connect(server.nfs_address());
//! let root = nfs.mount(&id).unwrap();
//! let reply = nfs.call(LOOKUP, &Xdr::new().handle(&root).bytes(b"name"));
//! assert_eq!(reply.status(), 2);
//! ```

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const ANSWER_S_MAX: u64 = 20;
const REPLY_BYTES_MAX: usize = 4 << 20;
pub(crate) const NFS: u32 = 100_003;
pub(crate) const MOUNT: u32 = 100_005;

/// Procedures of NFSv3.
pub(crate) mod procedure {
    pub(crate) const NULL: u32 = 0;
    pub(crate) const GETATTR: u32 = 1;
    pub(crate) const SETATTR: u32 = 2;
    pub(crate) const LOOKUP: u32 = 3;
    pub(crate) const ACCESS: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const READ: u32 = 6;
    pub(crate) const WRITE: u32 = 7;
    pub(crate) const CREATE: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const SYMLINK: u32 = 10;
    pub(crate) const MKNOD: u32 = 11;
    pub(crate) const REMOVE: u32 = 12;
    pub(crate) const RMDIR: u32 = 13;
    pub(crate) const RENAME: u32 = 14;
    pub(crate) const LINK: u32 = 15;
    pub(crate) const READDIR: u32 = 16;
    pub(crate) const READDIRPLUS: u32 = 17;
    pub(crate) const FSSTAT: u32 = 18;
    pub(crate) const FSINFO: u32 = 19;
    pub(crate) const PATHCONF: u32 = 20;
    pub(crate) const COMMIT: u32 = 21;
}

/// Arguments, as they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Xdr(pub(crate) Vec<u8>);

impl Xdr {
    pub(crate) fn new() -> Xdr {
        Xdr::default()
    }

    pub(crate) fn u32(mut self, value: u32) -> Xdr {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u64(mut self, value: u64) -> Xdr {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Bytes with their length and padding: names, targets, data.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Xdr {
        self = self.u32(bytes.len() as u32);
        self.0.extend(bytes);
        self.0.extend(&[0; 3][..bytes.len().wrapping_neg() & 3]);
        self
    }

    pub(crate) fn handle(self, handle: &[u8]) -> Xdr {
        self.bytes(handle)
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Xdr {
        self.0.extend(bytes);
        self
    }

    /// Attributes to set: each word is `None` where it stays.
    pub(crate) fn attributes(
        mut self,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
    ) -> Xdr {
        for word in [mode, uid, gid] {
            self = word.map_or_else(|| self.clone().u32(0), |word| self.clone().u32(1).u32(word));
        }
        self = size.map_or_else(|| self.clone().u32(0), |size| self.clone().u32(1).u64(size));
        self.u32(0).u32(0)
    }
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// 0 accepted, 1 denied.
    pub(crate) denied: u32,
    /// accept_stat or reject_stat.
    pub(crate) how: u32,
    /// What follows.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The status of a call that was carried out.
    #[track_caller]
    pub(crate) fn status(&self) -> u32 {
        assert_eq!((self.denied, self.how), (0, 0), "{self:?}");
        self.word(0)
    }

    /// The word at a place in the body, in words.
    #[track_caller]
    pub(crate) fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.body[at * 4..at * 4 + 4].try_into().expect("four bytes"))
    }

    /// Bytes with a length, at a place in the body, in words.
    #[track_caller]
    pub(crate) fn bytes(&self, at: usize) -> &[u8] {
        let length = self.word(at) as usize;
        &self.body[at * 4 + 4..at * 4 + 4 + length]
    }

    /// The handle that LOOKUP gives, or one that CREATE, MKDIR, SYMLINK and MKNOD say is there.
    #[track_caller]
    pub(crate) fn handle(&self, after_made: bool) -> Vec<u8> {
        assert_eq!(self.status(), 0);
        self.bytes(if after_made { 2 } else { 1 }).to_vec()
    }
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) struct As {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

/// A connection.
pub(crate) struct Nfs {
    pub(crate) stream: TcpStream,
    pub(crate) who: As,
    xid: u32,
}

impl Nfs {
    /// Connects; calls are those of the sandbox's user.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Nfs {
        let stream = TcpStream::connect(address).expect("connect to NFS");
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(Duration::from_secs(ANSWER_S_MAX))).expect("time-out");
        stream.set_write_timeout(Some(Duration::from_secs(ANSWER_S_MAX))).expect("time-out");
        let mut xid = [0; 4];
        rustix::rand::getrandom(&mut xid, rustix::rand::GetRandomFlags::empty()).expect("random");
        Nfs { stream, who: As { uid: 1000, gid: 1000, groups: Vec::new() }, xid: u32::from_be_bytes(xid) }
    }

    /// The bytes of a call, without the record's length.
    pub(crate) fn bytes_of(&self, xid: u32, program: u32, version: u32, procedure: u32, arguments: &Xdr) -> Vec<u8> {
        let mut credential = Xdr::new().u32(0).bytes(b"test").u32(self.who.uid).u32(self.who.gid);
        credential = credential.u32(self.who.groups.len() as u32);
        for group in &self.who.groups {
            credential = credential.u32(*group);
        }
        let head = Xdr::new().u32(xid).u32(0).u32(2).u32(program).u32(version).u32(procedure);
        head.u32(1).bytes(&credential.0).u32(0).u32(0).raw(&arguments.0).0
    }

    pub(crate) fn next_xid(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }

    /// One call of NFSv3.
    #[track_caller]
    pub(crate) fn call(&mut self, procedure: u32, arguments: &Xdr) -> Reply {
        self.call_of(NFS, 3, procedure, arguments)
    }

    /// One call of any program.
    #[track_caller]
    pub(crate) fn call_of(&mut self, program: u32, version: u32, procedure: u32, arguments: &Xdr) -> Reply {
        let xid = self.next_xid();
        let call = self.bytes_of(xid, program, version, procedure, arguments);
        self.send(&call).expect("send a call");
        let (answered, reply) = self.receive().expect("a reply");
        assert_eq!(answered, xid, "the reply to another call");
        reply
    }

    /// The root of an export, or the status of MOUNT.
    #[track_caller]
    pub(crate) fn mount(&mut self, id: &str) -> Result<Vec<u8>, u32> {
        let reply = self.call_of(MOUNT, 3, 1, &Xdr::new().bytes(format!("/{id}").as_bytes()));
        match reply.status() {
            0 => Ok(reply.bytes(1).to_vec()),
            status => Err(status),
        }
    }

    /// A name's handle, or the status.
    #[track_caller]
    pub(crate) fn lookup(&mut self, directory: &[u8], name: &[u8]) -> Result<Vec<u8>, u32> {
        let reply = self.call(procedure::LOOKUP, &Xdr::new().handle(directory).bytes(name));
        match reply.status() {
            0 => Ok(reply.bytes(1).to_vec()),
            status => Err(status),
        }
    }

    /// Sends bytes as one record.
    pub(crate) fn send(&mut self, record: &[u8]) -> io::Result<()> {
        let mut all = (0x8000_0000 | record.len() as u32).to_be_bytes().to_vec();
        all.extend(record);
        self.stream.write_all(&all)
    }

    /// The next reply, with its xid.
    pub(crate) fn receive(&mut self) -> io::Result<(u32, Reply)> {
        let mut record = Vec::new();
        loop {
            let mut head = [0; 4];
            self.stream.read_exact(&mut head)?;
            let word = u32::from_be_bytes(head);
            let length = (word & 0x7fff_ffff) as usize;
            assert!(record.len() + length <= REPLY_BYTES_MAX, "a reply of {length} bytes");
            let start = record.len();
            record.resize(start + length, 0);
            self.stream.read_exact(&mut record[start..])?;
            if word >> 31 == 1 {
                break;
            }
        }
        let word = |at: usize| u32::from_be_bytes(record[at * 4..at * 4 + 4].try_into().expect("four bytes"));
        assert_eq!(word(1), 1, "a reply");
        // Accepted: the verifier's kind and length stand before the status.
        let at = if word(2) == 0 { 5 } else { 3 };
        let reply = Reply { denied: word(2), how: word(at), body: record[at * 4 + 4..].to_vec() };
        Ok((word(0), reply))
    }

    /// True where the server has ended the connection, and nothing more comes.
    pub(crate) fn is_ended(&mut self) -> bool {
        let mut rest = [0; 4096];
        loop {
            match self.stream.read(&mut rest) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
            }
        }
    }
}
