//! How a tree inside becomes an archive: its parts come from a worker, the archive's heads are written here.
//!
//! So whatever is forged, an archive holds names below its directory only, none of them twice, and nothing that leads through a
//! link of its own: parts come in the order of a walk, each directory's names ascending, or not at all.

use super::node::is_name;
use super::{Worker, forged, refused};
use crate::error::{Error, Reason};
use crate::files::PIECE_BYTES_MAX;
use crate::files::archive::tar::{self, Entry, Kind};
use crate::files::path::SandboxPath;
use bytes::Bytes;
use rustix::fs::FileType;
use rustix::io::Errno;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileLook, FilePart};
use workspace_proto::{FILE_PARTS_MAX, FILE_PIECE_BYTES_MAX};

const DEPTH_MAX: usize = 512;
/// PATH_MAX without its NUL.
const PATH_BYTES_MAX: usize = 4095;
const MODE_MASK: u32 = 0o777;
/// Room for a part behind a piece that is nearly full.
const PART_BYTES_MAX: usize = FILE_PIECE_BYTES_MAX + (16 << 10);

/// An archive on its way out of a sandbox.
pub(in crate::files) struct InsidePacked {
    worker: Worker,
    path: SandboxPath,
    /// What came first: what forbids it is said before the answer begins.
    first: Option<Reply>,
    walk: Walk,
    ended: bool,
}

impl Worker {
    /// Packs a directory. 3005 for what is none.
    pub(in crate::files) async fn pack(self, path: SandboxPath) -> Result<InsidePacked, Error> {
        let look = FileLook { path: path.as_bytes().to_vec().into(), follow: true };
        match self.ask(Request::Pack(look)).await? {
            reply @ Reply::Failed(_) => Err(self::refused(reply, &path, &path)),
            first => Ok(InsidePacked { worker: self, path, first: Some(first), walk: Walk::default(), ended: false }),
        }
    }
}

impl InsidePacked {
    /// The next piece; empty behind the end.
    pub(in crate::files) async fn piece(&mut self) -> Result<Bytes, Error> {
        let mut out = Vec::with_capacity(PIECE_BYTES_MAX);
        while out.len() + PART_BYTES_MAX <= PIECE_BYTES_MAX && !self.ended {
            let reply = match self.first.take() {
                Some(first) => first,
                None => self.worker.next().await?,
            };
            match reply {
                Reply::Part(part) => self.walk.part(&part, &mut out)?,
                Reply::Data(bytes) => self.walk.data(&bytes, &mut out)?,
                Reply::Done(_) => {
                    self.walk.end()?;
                    out.resize(out.len() + 2 * tar::BLOCK, 0);
                    self.ended = true;
                }
                Reply::Failed(failed) if failed.errno == Errno::TOOBIG.raw_os_error().unsigned_abs() => {
                    let message = "the tree has too many entries or levels for an archive";
                    return Err(Error::new(Reason::InvalidPath, message));
                }
                reply => return Err(refused(reply, &self.path, &self.path)),
            }
        }
        Ok(out.into())
    }
}

/// What has come so far.
struct Walk {
    /// The directories that the last part lies in, and the last name in each.
    levels: Vec<(Vec<u8>, Vec<u8>)>,
    parts: u64,
    size: u64,
    /// Bytes of the last part that are still to come.
    left: u64,
}

impl Default for Walk {
    fn default() -> Walk {
        Walk { levels: vec![(Vec::new(), Vec::new())], parts: 0, size: 0, left: 0 }
    }
}

impl Walk {
    fn part(&mut self, part: &FilePart, out: &mut Vec<u8>) -> Result<(), Error> {
        self.end()?;
        self.parts += 1;
        let kind = match FileType::from_raw_mode(part.mode) {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Directory,
            FileType::Symlink => Kind::Symlink,
            _ => return Err(forged("a part of no kind")),
        };
        let is_link = kind == Kind::Symlink;
        let has_target = (1..=PATH_BYTES_MAX).contains(&part.target.len()) && !part.target.contains(&0);
        if part.hard || (is_link && !has_target) || (!is_link && !part.target.is_empty()) {
            return Err(forged("a link that can't be"));
        }
        if (kind != Kind::File && part.size > 0) || part.size > tar::SIZE_MAX || self.parts > FILE_PARTS_MAX {
            return Err(forged("a part of a size that can't be"));
        }
        self.step(&part.path)?;
        let mut path = part.path.to_vec();
        if kind == Kind::Directory {
            self.levels.push((path.clone(), Vec::new()));
            path.push(b'/');
        }
        let entry = Entry { path, kind, size: part.size, mode: part.mode & MODE_MASK, target: part.target.to_vec() };
        tar::write_head(out, &entry, part.modified_s);
        (self.size, self.left) = (part.size, part.size);
        Ok(())
    }

    /// Goes to the part's directory, which must be one that the walk is in, and to a name behind the last one there.
    fn step(&mut self, path: &[u8]) -> Result<(), Error> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            // An absolute name has nothing above it either.
            Some(0) => return Err(forged("an absolute name")),
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        while self.levels.last().is_some_and(|(level, _)| level != above) {
            self.levels.pop();
        }
        if self.levels.len() > DEPTH_MAX || path.len() > PATH_BYTES_MAX || !is_name(name) {
            return Err(forged("a name that can't be"));
        }
        match self.levels.last_mut() {
            Some((_, last)) if name > &last[..] => {
                *last = name.to_vec();
                Ok(())
            }
            _ => Err(forged("parts out of order")),
        }
    }

    fn data(&mut self, bytes: &Bytes, out: &mut Vec<u8>) -> Result<(), Error> {
        let is_piece = (1..=FILE_PIECE_BYTES_MAX).contains(&bytes.len());
        self.left =
            self.left.checked_sub(bytes.len() as u64).filter(|_| is_piece).ok_or_else(|| forged("bytes of no part"))?;
        out.extend_from_slice(bytes);
        if self.left == 0 {
            tar::pad(out, self.size);
        }
        Ok(())
    }

    fn end(&self) -> Result<(), Error> {
        if self.left == 0 { Ok(()) } else { Err(forged("a part without its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use workspace_proto::Message;
    use workspace_proto::agent::FileReply;

    fn part(path: &'static str, mode: u32, size: u64) -> Reply {
        let target = if mode == 0o120_777 { "t" } else { "" };
        Reply::Part(FilePart { path: path.into(), mode, size, target: target.into(), ..FilePart::default() })
    }

    /// What a walk makes of some replies.
    fn packed(replies: &[Reply]) -> Option<Vec<u8>> {
        let (mut walk, mut out) = (Walk::default(), Vec::new());
        for reply in replies {
            match reply {
                Reply::Part(part) => walk.part(part, &mut out).ok()?,
                Reply::Data(bytes) => walk.data(bytes, &mut out).ok()?,
                _ => return None,
            }
        }
        walk.end().ok().map(|()| out)
    }

    #[test]
    fn parts_are_a_walk_or_nothing() {
        let (file, dir, link) = (0o100_644, 0o040_755, 0o120_777);
        let piece = |text: &'static str| Reply::Data(Bytes::from_static(text.as_bytes()));
        let good = [
            part("a", dir, 0),
            part("a/b", dir, 0),
            part("a/b/c", file, 3),
            piece("12"),
            piece("3"),
            part("a/l", link, 0),
            part("b", file, 0),
        ];
        assert_eq!(packed(&good).map(|out| out.len()), Some(5 * tar::BLOCK + tar::BLOCK));
        for bad in [
            vec![part("/etc", file, 0)],
            vec![part("../x", file, 0)],
            vec![part("..", dir, 0)],
            vec![part("", dir, 0)],
            vec![part("a/x", file, 0)],
            vec![part("a", dir, 0), part("a/../x", file, 0)],
            vec![part("a", dir, 0), part("a//x", file, 0)],
            vec![part("l", link, 0), part("l/x", file, 0)],
            // A directory of the same name behind a link, which some readers would go through.
            vec![part("l", link, 0), part("l", dir, 0), part("l/x", file, 0)],
            vec![part("b", file, 0), part("a", file, 0)],
            vec![part("a", dir, 0), part("b", file, 0), part("a/x", file, 0)],
            vec![part("a", file, 2), piece("123")],
            vec![part("a", file, 2), piece("1")],
            vec![part("a", file, 2), part("b", file, 0)],
            vec![part("a", dir, 5)],
            vec![part("a", 0o010_644, 0)],
            vec![part("a\0", file, 0)],
            vec![piece("1")],
        ] {
            assert_eq!(packed(&bad), None, "{bad:?}");
        }
    }

    /// Whatever is said: an archive of names below its directory, or a refusal.
    fn any_replies(input: &[u8]) {
        let (mut replies, mut rest) = (Vec::new(), input);
        while let Ok(FileReply { reply: Some(reply) }) = FileReply::decode_length_delimited(&mut rest) {
            replies.push(reply);
        }
        let Some(out) = packed(&replies) else { return };
        assert_eq!(out.len() % tar::BLOCK, 0);
        for reply in &replies {
            if let Reply::Part(part) = reply {
                assert!(part.path.split(|b| *b == b'/').all(is_name));
            }
        }
    }

    #[test]
    fn any_parts_are_an_archive_or_refused() {
        let of = |replies: Vec<Reply>| -> Vec<u8> {
            replies.into_iter().flat_map(|r| FileReply { reply: Some(r) }.encode_length_delimited_to_vec()).collect()
        };
        let corpus = [
            of(vec![part("a", 0o040_755, 0), part("a/b", 0o100_644, 1), Reply::Data(Bytes::from_static(b"x"))]),
            of(vec![part("l", 0o120_777, 0), part("l/x", 0o100_644, 0)]),
        ];
        crate::fuzz::run(any_replies, &corpus.each_ref().map(Vec::as_slice));
    }
}
