//! How names go, move and multiply. Each is one step of the kernel's, as the caller.

use super::{Caller, Changed, Clients, Exports, Fault, Found, Handle, Kind, Node, Weak, nodes, plain, stat_of};
use rustix::fs::{AtFlags, RenameFlags, linkat, renameat_with, statat, unlinkat};
use rustix::io::Errno;

impl Exports {
    /// Removes a name of anything but a directory.
    pub fn remove(&self, caller: &Caller, directory: &Handle, name: &[u8]) -> Changed<()> {
        self.unlink(caller, directory, name, AtFlags::empty())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, caller: &Caller, directory: &Handle, name: &[u8]) -> Changed<()> {
        self.unlink(caller, directory, name, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, caller: &Caller, directory: &Handle, name: &[u8], flags: AtFlags) -> Changed<()> {
        let (at, before) = match self.directory(caller, directory) {
            Ok(entered) => entered,
            Err(fault) => return Changed { result: Err(fault), weak: Weak::default() },
        };
        let removed = || {
            let name = match super::checked(name)? {
                // As rmdir(2) has it.
                b".." if flags == AtFlags::REMOVEDIR => return Err(Fault::Os(Errno::NOTEMPTY)),
                _ => plain(name)?,
            };
            let victim = statat(&at.node.fd, name, AtFlags::SYMLINK_NOFOLLOW).ok();
            unlinkat(&at.node.fd, name, flags)?;
            if let Some(victim) = victim {
                self.left(&at, name, &victim, flags);
            }
            Ok(())
        };
        Changed { result: removed(), weak: self.after(&at, Some(&before)) }
    }

    /// Lets go of what had the name: its space comes back when nobody holds it.
    fn left(&self, at: &Found, name: &[u8], victim: &rustix::fs::Stat, flags: AtFlags) {
        let (id, fsid, inode) = (at.export.id, at.export.fsid, victim.st_ino);
        if self
            .0
            .places
            .get(fsid, inode)
            .is_some_and(|place| place.directory == at.node.target.inode && *place.name == *name)
        {
            self.0.places.forget(fsid, inode);
        }
        if self.0.clients == Clients::Trusted && victim.st_nlink <= 1 {
            at.export.marks.forget_inode(&self.0.files, &at.export, inode);
        }
        self.0.nodes.forget_inode(id, inode);
        if victim.st_nlink <= 1 || flags == AtFlags::REMOVEDIR {
            self.0.files.settle_space(id, u64::try_from(victim.st_blocks).unwrap_or(0) * 512, 0);
        }
    }

    /// Moves an entry, over what is there if that is alike.
    pub fn rename(
        &self,
        caller: &Caller,
        from: &Handle,
        name: &[u8],
        to: &Handle,
        new: &[u8],
    ) -> (Result<(), Fault>, Weak, Weak) {
        let (old, old_before) = match self.directory(caller, from) {
            Ok(entered) => entered,
            Err(fault) => return (Err(fault), Weak::default(), Weak::default()),
        };
        let (place, place_before) = match self.directory(caller, to) {
            Ok(entered) => entered,
            Err(fault) => return (Err(fault), self.after(&old, Some(&old_before)), Weak::default()),
        };
        let moved = || {
            let (name, new) = (plain(name)?, plain(new)?);
            if old.export.id != place.export.id {
                return Err(Fault::Os(Errno::XDEV));
            }
            let victim = statat(&place.node.fd, new, AtFlags::SYMLINK_NOFOLLOW).ok();
            renameat_with(&old.node.fd, name, &place.node.fd, new, RenameFlags::empty())?;
            let Ok(now) = statat(&place.node.fd, new, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
            if let Some(victim) = victim.filter(|victim| victim.st_ino != now.st_ino) {
                self.left(&place, new, &victim, AtFlags::empty());
            }
            self.0.places.put(place.export.fsid, now.st_ino, place.node.target.inode, new, None);
            Ok(())
        };
        (moved(), self.after(&old, Some(&old_before)), self.after(&place, Some(&place_before)))
    }

    /// Gives something another name.
    pub fn link(
        &self,
        caller: &Caller,
        handle: &Handle,
        directory: &Handle,
        name: &[u8],
    ) -> (Result<(), Fault>, Option<super::Attributes>, Weak) {
        let (at, before) = match self.directory(caller, directory) {
            Ok(entered) => entered,
            Err(fault) => return (Err(fault), None, Weak::default()),
        };
        let found = match self.enter_as(caller, handle) {
            Ok(found) => found,
            Err(fault) => return (Err(fault), None, self.after(&at, Some(&before))),
        };
        let linked = || {
            let name = match super::checked(name)? {
                b"." | b".." => return Err(Fault::Os(Errno::EXIST)),
                name => name,
            };
            if found.export.id != at.export.id {
                return Err(Fault::Os(Errno::XDEV));
            }
            if found.node.kind == Kind::Directory {
                return Err(Fault::Os(Errno::PERM));
            }
            link_to(&found.node, &at.node, name)?;
            self.0.places.put(at.export.fsid, found.node.target.inode, at.node.target.inode, name, None);
            Ok(())
        };
        let result = linked();
        (result, self.attributes_of(&found).ok(), self.after(&at, Some(&before)))
    }

    /// A directory to be changed, as it is before.
    fn directory(&self, caller: &Caller, handle: &Handle) -> Result<(Found, super::Seen), Fault> {
        let found = self.enter_as(caller, handle)?;
        if found.node.kind != Kind::Directory {
            return Err(Fault::Os(Errno::NOTDIR));
        }
        let before = stat_of(&found.node)?;
        Ok((found, before))
    }
}

/// The very inode that is held, whatever its name leads to by now.
fn link_to(node: &Node, at: &Node, name: &[u8]) -> Result<(), Fault> {
    match linkat(nodes::links()?, node.link(), &at.fd, name, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => Err(Fault::Stale),
        Err(errno) => Err(errno.into()),
    }
}
