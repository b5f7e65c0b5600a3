//! Is the root of a watch still where it was when it began? The directories above it are watched too: a move of one of
//! them ends the watch.

use super::super::Change;
use super::super::instance::Instance;
use super::super::limit;
use super::{BENEATH, Role, Watcher};
use crate::error::{Error, Reason};
use crate::files::failure;
use rustix::fs::{Mode, OFlags, openat2};
use rustix::io::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// How often a place is looked up that others move meanwhile.
const TRIES_MAX: u32 = 16;

impl Watcher {
    /// The root, or one above it, is not where it was.
    pub(super) fn gone(&mut self, wd: i32, instance: &Instance<Role>) -> Result<(), Error> {
        let root = self.view.root();
        for user in instance.users(wd).iter().filter(|user| user.watch == self.id) {
            match user.role {
                Role::Node(key) if key != root => {}
                Role::Top => return Err(Error::new(Reason::SandboxNotFound, "the sandbox's files are gone")),
                Role::Node(_) | Role::Above | Role::Parent => return Err(self.lost()),
            }
        }
        Ok(())
    }

    /// Its root is not there any more.
    pub(super) fn lost(&mut self) -> Error {
        if self.begun.is_none() {
            self.sender.tell(Change::Removed { path: self.base.clone(), is_dir: true });
        }
        Error::new(Reason::FileNotFound, "the watched directory was removed or moved; watch it where it is now")
    }

    pub(super) fn is(&self, role: Role, wd: i32, instance: &Instance<Role>) -> bool {
        instance.users(wd).contains(&self.user(role))
    }

    /// Watches the directories above the root, so that their moves end it: no path would be right any more.
    pub(super) fn guard(&mut self, top: &OwnedFd, instance: &mut Instance<Role>) -> Result<(), Error> {
        let place = |fd: &OwnedFd| rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new());
        for _ in 0..TRIES_MAX {
            instance.leave_all(self.id);
            let at = place(&self.root).map_err(failure::anywhere)?;
            let above = place(top).map_err(failure::anywhere)?;
            let Some(below) = at.as_bytes().strip_prefix(above.as_bytes()) else { continue };
            let mut ends =
                below.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).peekable();
            let watched = instance.watch_place(top, self.user(Role::Top)).and_then(|_| {
                while let Some(end) = ends.next() {
                    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let directory = openat2(top, &below[1..end], flags, Mode::empty(), BENEATH)?;
                    if ends.peek().is_some() {
                        instance.watch_place(&directory, self.user(Role::Above))?;
                    } else {
                        self.name = below[end + 1..].to_vec();
                        instance.watch_removals(&directory, self.user(Role::Parent))?;
                    }
                }
                Ok(())
            });
            match watched {
                Ok(()) if place(&self.root).is_ok_and(|now| now == at) => return Ok(()),
                Err(Errno::NOSPC) => return Err(limit::machine()),
                Ok(()) | Err(_) => {}
            }
        }
        Err(failure::anywhere(Errno::NOENT))
    }
}
