//! How attributes are set: in the order in which none of them undoes another, each as the caller.
//!
//! Size first, while the old mode still counts; then the owner, whose change takes bits of the mode away; then the mode;
//! the times last, for all of these move them.

use super::data::{may_write, open_for_writing};
use super::marks::Mark;
use super::nodes::links;
use super::{
    Attributes, Caller, Changed, Changes, Clients, Exports, Fault, Found, Handle, Kind, SetTime, Time, Weak, act,
    stat_of,
};
use crate::files::NOBODY;
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid};
use rustix::io::Errno;

impl Exports {
    /// Sets attributes. With a guard, only where it is the ctime.
    pub fn change(&self, caller: &Caller, handle: &Handle, changes: &Changes, guard: Option<Time>) -> Changed<()> {
        let entered = self.enter_as(caller, handle).and_then(|found| {
            let before = stat_of(&found.node)?;
            Ok((found, before))
        });
        let (found, before) = match entered {
            Ok(entered) => entered,
            Err(fault) => return Changed { result: Err(fault), weak: Weak::default() },
        };
        let result = match guard {
            Some(guard) if guard != before.ctime => Err(Fault::NotSync),
            _ => self.apply(&found, caller, changes),
        };
        Changed { result, weak: self.after(&found, Some(&before)) }
    }

    pub(super) fn apply(&self, found: &Found, caller: &Caller, changes: &Changes) -> Result<(), Fault> {
        if let Some(size) = changes.size {
            self.resize(found, caller, size)?;
        }
        if changes.uid.is_some() || changes.gid.is_some() {
            let on_disk = |id: Option<u32>| {
                let owners = found.export.owners;
                id.and_then(|id| owners.on_disk(id).or_else(|| owners.on_disk(NOBODY)))
            };
            let (uid, gid) = (on_disk(changes.uid).map(Uid::from_raw), on_disk(changes.gid).map(Gid::from_raw));
            rustix::fs::chownat(&found.node.fd, "", uid, gid, AtFlags::EMPTY_PATH)?;
            if self.0.clients == Clients::Trusted {
                self.mark_owner(found, caller, changes)?;
            }
        }
        // A link has no mode of its own.
        if let Some(mode) = changes.mode
            && found.node.kind != Kind::Symlink
        {
            rustix::fs::chmodat(links()?, found.node.link(), Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())?;
        }
        if changes.atime.is_some() || changes.mtime.is_some() {
            let times = Timestamps { last_access: time(changes.atime), last_modification: time(changes.mtime) };
            rustix::fs::utimensat(&found.node.fd, "", &times, AtFlags::EMPTY_PATH)?;
        }
        Ok(())
    }

    /// Remembers owners that the sandbox has not, for those who ask again.
    fn mark_owner(&self, found: &Found, caller: &Caller, changes: &Changes) -> Result<(), Fault> {
        let (export, target) = (&found.export, &found.node.target);
        let now = self.attributes_of(found)?;
        let (uid, gid) = (changes.uid.unwrap_or(now.uid), changes.gid.unwrap_or(now.gid));
        let is_foreign = |id: u32| export.owners.on_disk(id).is_none();
        match is_foreign(uid) || is_foreign(gid) {
            true => export.marks.put(&self.0.files, export, target, Mark::Owner(uid, gid))?,
            false => export.marks.remove(&self.0.files, export, target, b'o')?,
        }
        act::as_caller(export.owners, caller)
    }

    fn resize(&self, found: &Found, caller: &Caller, size: u64) -> Result<(), Fault> {
        match found.node.kind {
            Kind::File => {}
            Kind::Directory => return Err(Fault::Os(Errno::ISDIR)),
            _ => return Err(Fault::Os(Errno::INVAL)),
        }
        if i64::try_from(size).is_err() {
            return Err(Fault::Os(Errno::FBIG));
        }
        may_write(found, caller)?;
        let before = stat_of(&found.node)?;
        let file = open_for_writing(found, caller)?;
        rustix::fs::ftruncate(&file, size)?;
        let freed = stat_of(&found.node).map_or(0, |after| before.used.saturating_sub(after.used));
        self.0.files.settle_space(found.export.id, freed, 0);
        Ok(())
    }

    /// What is to be set on something that was just made with `mode`, as far as it is not so already.
    pub(super) fn finish(
        &self,
        found: &Found,
        caller: &Caller,
        changes: &Changes,
        made: &Attributes,
    ) -> Result<Attributes, Fault> {
        let differs = |wanted: Option<u32>, has: u32| wanted.filter(|wanted| *wanted != has);
        let owners = found.export.owners;
        // Owners that are its own already are no change; others only root may give.
        let rest = Changes {
            mode: differs(changes.mode.map(|mode| mode & 0o7777), made.mode),
            uid: differs(changes.uid, made.uid),
            gid: differs(changes.gid, made.gid),
            size: changes.size.filter(|size| *size != made.size && made.kind == Kind::File),
            ..changes.clone()
        };
        if rest == Changes::default() || owners.are_one() && rest.mode.is_none() && rest.size.is_none() {
            return Ok(*made);
        }
        act::as_caller(owners, caller)?;
        self.apply(found, caller, &rest)?;
        self.attributes_of(found)
    }
}

fn time(time: Option<SetTime>) -> Timespec {
    match time {
        None => Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        Some(SetTime::Now) => Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
        Some(SetTime::At(at)) => Timespec { tv_sec: at.seconds, tv_nsec: i64::from(at.nanoseconds.min(999_999_999)) },
    }
}
