//! What lies in a directory, as getdents64(2) gives it: the cookie of an entry is its `d_off`, so that a list goes on
//! wherever it ended, whatever was made or removed meanwhile, and costs the same everywhere in a directory of any size.

use super::seen::see_at;
use super::{Caller, Exports, Fault, Found, Handle, Kind, ListEnd, ListEntry, ListWanted, Target, find, stat_of};
use rustix::fs::{OFlags, RawDir, SeekFrom};
use rustix::io::Errno;
use std::cell::RefCell;
use std::ffi::CStr;
use std::mem::MaybeUninit;

/// Entries that are read ahead of a full reply are read again by the next: not many. An entry takes about as much from
/// the kernel as in a plain reply, and a quarter of what it takes in one with attributes and handles.
const BUFFER_BYTES_MAX: usize = 64 << 10;
const BUFFER_BYTES_MIN: usize = 4 << 10;
const COOKIE_MAX: u64 = i64::MAX as u64;

thread_local! {
    static BUFFER: RefCell<Vec<MaybeUninit<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Exports {
    /// Gives entries behind `cookie` (0: from the first) to `each` until it refuses one, `.` and `..` among them. The
    /// verifier is the directory's own and stays.
    pub fn list(
        &self,
        caller: &Caller,
        directory: &Handle,
        cookie: u64,
        verifier: u64,
        wanted: ListWanted,
        each: &mut dyn FnMut(ListEntry<'_>) -> bool,
    ) -> Result<ListEnd, Fault> {
        let at = self.enter_as(caller, directory)?;
        if at.node.kind != Kind::Directory {
            return Err(Fault::Os(Errno::NOTDIR));
        }
        let own = at.node.target.generation;
        if cookie > COOKIE_MAX || (cookie != 0 && verifier != own) {
            return Err(Fault::BadCookie);
        }
        // As the caller: who may not read it gets no descriptor.
        let fd = at.node.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
        if cookie != 0 {
            rustix::fs::seek(&fd, SeekFrom::Start(cookie)).map_err(|_| Fault::BadCookie)?;
        }
        let eof = BUFFER.with_borrow_mut(|buffer| {
            buffer.resize(BUFFER_BYTES_MAX, MaybeUninit::uninit());
            let (plus, bytes) = match wanted {
                ListWanted::Names { room_bytes } => (false, room_bytes),
                ListWanted::All { room_bytes } => (true, room_bytes / 4),
            };
            let bytes = bytes.clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
            let mut entries = RawDir::new(&fd, &mut buffer[..bytes]);
            while let Some(entry) = entries.next() {
                let entry = match entry {
                    Err(Errno::INVAL) if cookie != 0 => return Err(Fault::BadCookie),
                    entry => entry?,
                };
                let (name, next) = (entry.file_name(), entry.next_entry_cookie());
                if !each(self.shown_entry(&at, name, entry.ino(), next, plus)) {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        let attributes = stat_of(&at.node).ok().map(|stat| self.shown(&at.export, &at.node.target, &stat));
        Ok(ListEnd { verifier: own, eof, attributes })
    }

    fn shown_entry<'a>(&self, at: &Found, name: &'a CStr, inode: u64, cookie: u64, plus: bool) -> ListEntry<'a> {
        let bytes = name.to_bytes();
        let bare = |fileid| ListEntry { fileid, name: bytes, cookie, attributes: None, handle: None };
        match bytes {
            b"." => return bare(at.node.target.inode),
            // Nothing of what lies above an export is told.
            b".." if at.node.target == at.export.root.target => return bare(at.node.target.inode),
            b".." => return bare(inode),
            _ if !plus => return bare(inode),
            _ => {}
        }
        // Without x on the directory its names may be read and no more: then as without `plus`.
        let Ok(stat) = see_at(&at.node.fd, name) else { return bare(inode) };
        let here = at.node.target.inode;
        // An inode that was made at the same moment and has the same name is the same one: it need not be asked again.
        let generation = match self.0.places.generation(at.export.fsid, stat.inode, here, bytes, stat.made) {
            Some(generation) => generation,
            None => match find::generation(&at.node.fd, name, &stat) {
                Ok(generation) => {
                    self.0.places.put(at.export.fsid, stat.inode, here, bytes, Some((stat.made, generation)));
                    generation
                }
                Err(_) => return bare(inode),
            },
        };
        let target = Target { id: at.export.id, inode: stat.inode, generation };
        ListEntry {
            fileid: stat.inode,
            name: bytes,
            cookie,
            attributes: Some(self.shown(&at.export, &target, &stat)),
            handle: Some(self.0.signer.sign(&target)),
        }
    }
}
