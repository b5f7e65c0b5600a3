//! How files, directories, links, FIFOs and sockets are made, as the caller and with its mode.
//!
//! A name is made by one call that refuses what is there, then opened, then finished: owner, mode and times that were
//! asked for. The change of a directory is in the file system's memory at the answer, not on disk: decision 0018.

use super::marks::Mark;
use super::{
    Attributes, Caller, Changed, Changes, Clients, Create, Entry, Exports, Fault, Found, Handle, Kind, SetTime,
    Special, Time, Weak, act, checked, stat_of,
};
use rustix::fs::{FileType, Mode, mkdirat, mknodat, symlinkat};
use rustix::io::Errno;

const TARGET_BYTES_MAX: usize = 4095;
/// A time that any file system and the protocol hold: 31 bits of a verifier.
const VERIFIER_MASK: u32 = 0x7fff_ffff;

impl Exports {
    /// Makes a regular file.
    pub fn create(&self, caller: &Caller, directory: &Handle, name: &[u8], how: &Create) -> Changed<Entry> {
        self.make(caller, directory, name, |at, name| match how {
            Create::Guarded(changes) => self.make_file(at, name, caller, changes),
            Create::Unchecked(changes) => match self.make_file(at, name, caller, changes) {
                Err(Fault::Os(Errno::EXIST)) => self.take_file(at, name, caller, changes),
                made => made,
            },
            Create::Exclusive(verifier) => self.make_exclusively(at, name, caller, *verifier),
        })
    }

    fn make_file(&self, at: &Found, name: &[u8], caller: &Caller, changes: &Changes) -> Result<Entry, Fault> {
        mknodat(&at.node.fd, name, FileType::RegularFile, mode_of(changes), 0)?;
        self.made(at, name, caller, changes)
    }

    /// One that is there is cut where that is asked; nothing else of it changes.
    fn take_file(&self, at: &Found, name: &[u8], caller: &Caller, changes: &Changes) -> Result<Entry, Fault> {
        let entry = self.take_in(at, name)?;
        if entry.attributes.kind != Kind::File {
            return Err(Fault::Os(Errno::EXIST));
        }
        let Some(size) = changes.size else { return Ok(entry) };
        let found = self.found(at, &entry)?;
        self.apply(&found, caller, &Changes { size: Some(size), ..Changes::default() })?;
        Ok(Entry { attributes: self.attributes_of(&found)?, ..entry })
    }

    /// The verifier is kept in both times, until the client sets these: a call that comes again finds its own file.
    fn make_exclusively(&self, at: &Found, name: &[u8], caller: &Caller, verifier: [u8; 8]) -> Result<Entry, Fault> {
        let half = |at: usize| {
            let word = u32::from_be_bytes([verifier[at], verifier[at + 1], verifier[at + 2], verifier[at + 3]]);
            Time { seconds: i64::from(word & VERIFIER_MASK), nanoseconds: 0 }
        };
        let (mtime, atime) = (half(0), half(4));
        let times = Changes {
            mtime: Some(SetTime::At(mtime)),
            atime: Some(SetTime::At(atime)),
            mode: Some(0),
            ..Changes::default()
        };
        match self.make_file(at, name, caller, &times) {
            Err(Fault::Os(Errno::EXIST)) => {
                let entry = self.take_in(at, name)?;
                let has = entry.attributes;
                let is_ours = has.kind == Kind::File && has.size == 0 && (has.mtime, has.atime) == (mtime, atime);
                if is_ours { Ok(entry) } else { Err(Fault::Os(Errno::EXIST)) }
            }
            made => made,
        }
    }

    /// Makes a directory.
    pub fn make_directory(
        &self,
        caller: &Caller,
        directory: &Handle,
        name: &[u8],
        changes: &Changes,
    ) -> Changed<Entry> {
        self.make(caller, directory, name, |at, name| {
            self.take(at, caller, 1)?;
            mkdirat(&at.node.fd, name, mode_of(changes))?;
            // A directory inherits setgid where its parent has it, and keeps it whatever mode is asked for.
            self.made(at, name, caller, changes)
        })
    }

    /// Makes a symbolic link; its target is text.
    pub fn symlink(
        &self,
        caller: &Caller,
        directory: &Handle,
        name: &[u8],
        target: &[u8],
        changes: &Changes,
    ) -> Changed<Entry> {
        self.make(caller, directory, name, |at, name| {
            match target.len() {
                0 => return Err(Fault::Os(Errno::INVAL)),
                1..=TARGET_BYTES_MAX if !target.contains(&0) => {}
                1..=TARGET_BYTES_MAX => return Err(Fault::Os(Errno::INVAL)),
                _ => return Err(Fault::Os(Errno::NAMETOOLONG)),
            }
            self.take(at, caller, 1)?;
            symlinkat(target, &at.node.fd, name)?;
            self.made(at, name, caller, &Changes { mode: None, ..changes.clone() })
        })
    }

    /// Makes a FIFO or a socket; for trusted clients, what they see as a device.
    pub fn make_node(
        &self,
        caller: &Caller,
        directory: &Handle,
        name: &[u8],
        special: Special,
        changes: &Changes,
    ) -> Changed<Entry> {
        self.make(caller, directory, name, |at, name| {
            let mark = match special {
                Special::Fifo | Special::Socket => None,
                _ if self.0.clients == Clients::Guarded => return Err(Fault::NotSupported),
                // As mknod(2) has it.
                _ if caller.uid != 0 => return Err(Fault::Os(Errno::PERM)),
                Special::CharacterDevice(major, minor) => Some(Mark::Device(Kind::CharacterDevice, major, minor)),
                Special::BlockDevice(major, minor) => Some(Mark::Device(Kind::BlockDevice, major, minor)),
            };
            let kind = if special == Special::Fifo { FileType::Fifo } else { FileType::Socket };
            mknodat(&at.node.fd, name, kind, mode_of(changes), 0)?;
            let entry = self.made(at, name, caller, changes)?;
            let Some(mark) = mark else { return Ok(entry) };
            let found = self.found(at, &entry)?;
            at.export.marks.put(&self.0.files, &at.export, &found.node.target, mark)?;
            Ok(Entry { attributes: self.attributes_of(&found)?, ..entry })
        })
    }

    fn make(
        &self,
        caller: &Caller,
        directory: &Handle,
        name: &[u8],
        make: impl FnOnce(&Found, &[u8]) -> Result<Entry, Fault>,
    ) -> Changed<Entry> {
        let entered = self.enter_as(caller, directory).and_then(|at| {
            let before = stat_of(&at.node)?;
            Ok((at, before))
        });
        let (at, before) = match entered {
            Ok(entered) => entered,
            Err(fault) => return Changed { result: Err(fault), weak: Weak::default() },
        };
        let result = match (at.node.kind, checked(name)) {
            (_, Err(fault)) => Err(fault),
            (Kind::Directory, Ok(b"." | b"..")) => Err(Fault::Os(Errno::EXIST)),
            (Kind::Directory, Ok(name)) => make(&at, name),
            _ => Err(Fault::Os(Errno::NOTDIR)),
        };
        Changed { result, weak: self.after(&at, Some(&before)) }
    }

    /// What was just made, finished.
    fn made(&self, at: &Found, name: &[u8], caller: &Caller, changes: &Changes) -> Result<Entry, Fault> {
        // Its maker may be refused to look: a directory without x, that one may write to, makes nothing.
        let entry = self.take_in(at, name)?;
        let inherits = entry.attributes.mode & changes.mode.map_or(0, |mode| !mode) & super::SETGID;
        let changes = match entry.attributes.kind {
            Kind::Directory if inherits != 0 => {
                Changes { mode: changes.mode.map(|mode| mode | inherits), ..changes.clone() }
            }
            _ => changes.clone(),
        };
        let found = self.found(at, &entry)?;
        let attributes: Attributes = self.finish(&found, caller, &changes, &entry.attributes)?;
        Ok(Entry { attributes, ..entry })
    }

    /// What an entry names, held.
    fn found(&self, at: &Found, entry: &Entry) -> Result<Found, Fault> {
        let target = self.0.signer.verify(&entry.handle)?;
        match self.0.nodes.get(&target) {
            Some(node) => Ok(Found { export: at.export.clone(), node }),
            // So much else is asked for that it was let go meanwhile.
            None => {
                act::as_server()?;
                Ok(Found { export: at.export.clone(), node: self.find(&at.export, &target)? })
            }
        }
    }
}

fn mode_of(changes: &Changes) -> Mode {
    Mode::from_raw_mode(changes.mode.unwrap_or(0) & 0o7777)
}
