//! All that lies below a directory, as parts for an archive: sent as it is met. Links stay links; FIFOs, sockets and devices
//! are left out, and so is what vanishes or may not be read. The archive itself is written by the server.

use super::Fault;
use super::link::Link;
use super::place::{self, Last, kind, reopen};
use rustix::fs::{Dir, FileType, Mode, OFlags, openat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use workspace_proto::agent::FilePart;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::{FILE_PARTS_MAX, FILE_PIECE_BYTES_MAX};

const DEPTH_MAX: usize = 512;
/// PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;

/// A directory of the walk.
struct Level {
    fd: OwnedFd,
    names: std::vec::IntoIter<Vec<u8>>,
    path: Vec<u8>,
}

impl Level {
    /// In order: so that none comes twice, whatever happens to the directory meanwhile, and the server can see that.
    fn open(fd: OwnedFd, path: Vec<u8>, link: &mut Link) -> Result<Level, Fault> {
        let (mut names, mut entries) = (Vec::new(), Dir::read_from(&fd)?);
        while let Some(entry) = entries.read() {
            link.step()?;
            match entry?.file_name().to_bytes() {
                b"." | b".." => {}
                _ if names.len() as u64 >= FILE_PARTS_MAX => return Err(Errno::TOOBIG.into()),
                name => names.push(name.to_vec()),
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(Level { fd, names: names.into_iter(), path })
    }
}

/// Sends them.
pub(super) fn pack(path: &[u8], link: &mut Link) -> Result<(), Fault> {
    let (fd, stat) = place::look(path, Last::Follow)?;
    if kind(&stat) != FileType::Directory {
        return Err(Errno::NOTDIR.into());
    }
    let top = reopen(&fd, &stat, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let (mut levels, mut parts) = (vec![Level::open(top, Vec::new(), link)?], 0);
    while let Some(level) = levels.last_mut() {
        link.step()?;
        let Some(name) = level.names.next() else {
            levels.pop();
            continue;
        };
        parts += 1;
        let path = if level.path.is_empty() { name.clone() } else { [&level.path[..], b"/", &name[..]].concat() };
        if parts > FILE_PARTS_MAX || path.len() > PATH_BYTES_MAX || levels.len() >= DEPTH_MAX {
            return Err(Errno::TOOBIG.into());
        }
        let Some(level) = levels.last() else { break };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(node) = openat(&level.fd, &name[..], flags, Mode::empty()) else { continue };
        let Ok(stat) = rustix::fs::fstat(&node) else { continue };
        let modified_s = u64::try_from(stat.st_mtime).unwrap_or(0);
        let mut part = FilePart { path: path.clone().into(), mode: stat.st_mode, modified_s, ..FilePart::default() };
        match kind(&stat) {
            FileType::RegularFile => {
                let Ok(file) = reopen(&node, &stat, OFlags::RDONLY) else { continue };
                part.size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
                let size = part.size;
                link.queue(Reply::Part(part))?;
                bytes(&file, size, link)?;
            }
            FileType::Symlink => {
                let Ok(target) = rustix::fs::readlinkat(&node, "", Vec::new()) else { continue };
                part.target = target.into_bytes().into();
                link.queue(Reply::Part(part))?;
            }
            FileType::Directory => {
                let Ok(fd) = reopen(&node, &stat, OFlags::RDONLY | OFlags::DIRECTORY) else { continue };
                link.queue(Reply::Part(part))?;
                levels.push(Level::open(fd, path, link)?);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sends a file's bytes, as many as were said.
fn bytes(file: &OwnedFd, size: u64, link: &mut Link) -> Result<(), Fault> {
    let mut at = 0;
    while at < size {
        let wanted = (size - at).min(FILE_PIECE_BYTES_MAX as u64) as usize;
        let mut piece = Vec::with_capacity(wanted);
        let spare = rustix::buffer::spare_capacity(&mut piece);
        match rustix::io::pread(file, spare, at) {
            // It became shorter: what was said can't be kept.
            Ok(0) => return Err(Errno::IO.into()),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        piece.truncate(wanted);
        at += piece.len() as u64;
        link.queue(Reply::Data(piece.into()))?;
        link.look()?;
    }
    Ok(())
}
