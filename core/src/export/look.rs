//! The calls that change nothing and read no bytes: root, attributes, names, permissions, links, room.

use super::data::may_execute;
use super::find::look;
use super::{Attributes, Caller, Entry, Exports, Fault, Found, Handle, Kind, Space, act, checked, sys};
use crate::id::SandboxId;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

const ACCESS_READ: u32 = 0x01;
const ACCESS_LOOKUP: u32 = 0x02;
const ACCESS_MODIFY: u32 = 0x04;
const ACCESS_EXTEND: u32 = 0x08;
const ACCESS_DELETE: u32 = 0x10;
const ACCESS_EXECUTE: u32 = 0x20;

/// What a full path takes at most; a link holds no more.
const TARGET_BYTES_MAX: usize = 4096;

impl Exports {
    /// The root of a sandbox's export: what a mount begins with.
    pub fn root(&self, id: SandboxId) -> Result<Entry, Fault> {
        let export = self.export(id)?;
        let found = self.enter(&self.0.signer.sign(&export.root.target))?;
        Ok(Entry { handle: self.0.signer.sign(&found.node.target), attributes: self.attributes_of(&found)? })
    }

    /// What is known of something.
    pub fn attributes(&self, handle: &Handle) -> Result<Attributes, Fault> {
        let found = self.enter(handle)?;
        self.attributes_of(&found)
    }

    /// What a name in a directory leads to, and the directory's attributes. Links are not followed; `..` of the root is
    /// the root.
    pub fn lookup(
        &self,
        caller: &Caller,
        directory: &Handle,
        name: &[u8],
    ) -> (Result<Entry, Fault>, Option<Attributes>) {
        let found = match self.enter_as(caller, directory) {
            Ok(found) => found,
            Err(fault) => return (Err(fault), None),
        };
        (self.entry_at(&found, name), self.attributes_of(&found).ok())
    }

    fn entry_at(&self, at: &Found, name: &[u8]) -> Result<Entry, Fault> {
        if at.node.kind != Kind::Directory {
            return Err(Fault::Os(Errno::NOTDIR));
        }
        let name = match checked(name)? {
            b".." if at.node.target == at.export.root.target => b".",
            name => name,
        };
        if name == b"." || name == b".." {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let resolve = ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
            let fd = openat2(&at.node.fd, name, flags, Mode::empty(), resolve)?;
            let node = self.node(&at.export, fd)?;
            // A directory may be moved while its parent is asked for: what is not in the export is not given out.
            if !super::beneath(&at.export, &node) {
                return Err(Fault::Stale);
            }
            let found = Found { export: at.export.clone(), node };
            return Ok(Entry {
                handle: self.0.signer.sign(&found.node.target),
                attributes: self.attributes_of(&found)?,
            });
        }
        self.take_in(at, name)
    }

    /// Opens an entry of a directory, holds and remembers it.
    pub(super) fn take_in(&self, at: &Found, name: &[u8]) -> Result<Entry, Fault> {
        let fd = look(&at.node.fd, name)?;
        let stat = super::see(&fd)?;
        let target = super::Target {
            id: at.export.id,
            inode: stat.inode,
            generation: super::find::generation(&fd, c"", &stat)?,
        };
        let known = Some((stat.made, target.generation));
        self.0.places.put(at.export.fsid, stat.inode, at.node.target.inode, name, known);
        // One that is held and open for reading stays, unless it was opened by a name that is gone.
        if !self.0.nodes.get(&target).is_some_and(|node| node.is_open() && super::beneath(&at.export, &node)) {
            self.0.nodes.put(std::sync::Arc::new(super::Node::new(fd, target, &stat)));
        }
        Ok(Entry { handle: self.0.signer.sign(&target), attributes: self.shown(&at.export, &target, &stat) })
    }

    /// Which of the things that were asked for (`ACCESS3_*` of RFC 1813) the caller may do.
    pub fn access(&self, caller: &Caller, handle: &Handle, asked: u32) -> Result<(u32, Attributes), Fault> {
        let found = self.enter_as(caller, handle)?;
        let node = &found.node;
        let may = |mode| sys::may(&node.fd, mode);
        let mut granted = 0;
        let mut grant = |bits: u32, mode| {
            if asked & bits != 0 && may(mode) {
                granted |= asked & bits;
            }
        };
        match node.kind {
            Kind::Directory => {
                grant(ACCESS_READ, libc::R_OK);
                grant(ACCESS_LOOKUP, libc::X_OK);
                grant(ACCESS_MODIFY | ACCESS_EXTEND | ACCESS_DELETE, libc::W_OK | libc::X_OK);
            }
            kind => {
                grant(ACCESS_READ, libc::R_OK);
                grant(ACCESS_MODIFY | ACCESS_EXTEND, libc::W_OK);
                if kind == Kind::File && asked & ACCESS_EXECUTE != 0 && may_execute(&found, caller) {
                    granted |= ACCESS_EXECUTE;
                }
            }
        }
        Ok((granted, self.attributes_of(&found)?))
    }

    /// What a symbolic link says; it is text to this server.
    pub fn link_target(&self, caller: &Caller, handle: &Handle) -> Result<(Vec<u8>, Attributes), Fault> {
        let found = self.enter_as(caller, handle)?;
        if found.node.kind != Kind::Symlink {
            return Err(Fault::Os(Errno::INVAL));
        }
        let target = rustix::fs::readlinkat(&found.node.fd, "", Vec::with_capacity(256))?.into_bytes();
        if target.len() > TARGET_BYTES_MAX {
            return Err(Fault::Os(Errno::NAMETOOLONG));
        }
        Ok((target, self.attributes_of(&found)?))
    }

    /// How much room the sandbox has.
    pub fn space(&self, handle: &Handle) -> Result<(Space, Option<Attributes>), Fault> {
        let found = self.enter(handle)?;
        act::as_server()?;
        // Only what may be opened can be asked about its file system.
        let root = found.export.root.reopen(OFlags::RDONLY | OFlags::DIRECTORY)?;
        let disk = rustix::fs::fstatvfs(&root)?;
        let used = self.0.files.used_bytes(found.export.id).map_err(|_| Fault::Os(Errno::IO))?;
        let free = found.export.disk_bytes.saturating_sub(used);
        let on_disk = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        let space = Space {
            total_bytes: found.export.disk_bytes,
            free_bytes: free.min(on_disk(disk.f_bfree)),
            available_bytes: free.min(on_disk(disk.f_bavail)),
            total_files: disk.f_files,
            free_files: disk.f_ffree,
            available_files: disk.f_favail,
        };
        Ok((space, self.attributes_of(&found).ok()))
    }
}
