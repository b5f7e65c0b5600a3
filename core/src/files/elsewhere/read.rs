//! How a file's bytes come out of a sandbox: asked for in one go, sent in pieces, none of which is held twice.
//!
//! A file in /proc has no length and some bytes: what says that it is empty is read to its end, within a bound.

use super::{Worker, forged, refused};
use crate::error::{Error, Reason};
use crate::files::failure;
use crate::files::info::Kind;
use crate::files::path::SandboxPath;
use crate::files::read::{Content, Source};
use bytes::Bytes;
use rustix::io::Errno;
use workspace_proto::FILE_PIECE_BYTES_MAX;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileLook, FileRange};

/// A file up to this length is read before it is answered; sysfs says one page, and has less.
const WHOLE_BYTES_MAX: u64 = 64 << 10;
/// Of a file that tells no length.
const UNSIZED_BYTES_MAX: u64 = 8 << 20;

impl Worker {
    /// Opens a file for reading. 3007 for a directory, 3004 for what is neither.
    pub(in crate::files) async fn open(self, path: SandboxPath) -> Result<Content, Error> {
        let request = Request::Open(FileLook { path: path.as_bytes().to_vec().into(), follow: true });
        let seen = self.seen(request, &path).await?.ok_or_else(|| failure::of(Errno::NOENT, &path))?;
        match seen.kind() {
            Kind::File if path.wants_directory() => return Err(failure::of(Errno::NOTDIR, &path)),
            Kind::File => {}
            Kind::Directory => return Err(failure::of(Errno::ISDIR, &path)),
            Kind::Symlink | Kind::Other => return Err(failure::special(&path)),
        }
        let whole = match seen.size() {
            0 => Some(self.collect(UNSIZED_BYTES_MAX, &path).await?),
            1..=WHOLE_BYTES_MAX => Some(self.collect(WHOLE_BYTES_MAX, &path).await?),
            _ => None,
        };
        let name = path.components().next_back().unwrap_or_default().to_vec();
        Ok(Content {
            size: whole.as_ref().map_or(seen.size(), |bytes| bytes.len() as u64),
            tag: seen.tag(),
            modified_us: seen.modified_us(),
            name,
            source: Source::Inside(self, path),
            whole,
        })
    }

    async fn collect(&self, bytes_max: u64, path: &SandboxPath) -> Result<Bytes, Error> {
        let mut all = Vec::new();
        let mut left = bytes_max + 1;
        self.tell(Request::Read(FileRange { offset: 0, length: left })).await?;
        while let Some(piece) = self.piece(&mut left, path).await? {
            all.extend_from_slice(&piece);
        }
        if all.len() as u64 > bytes_max {
            let message =
                format!("{}: tells no length, or a wrong one, and has more than {bytes_max} bytes", path.brief());
            return Err(Error::new(Reason::InvalidPath, message));
        }
        Ok(all.into())
    }

    /// Asks for a part of the open file, which comes by [`Worker::piece`].
    pub(in crate::files) async fn begin_read(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.tell(Request::Read(FileRange { offset, length })).await
    }

    /// The next piece of what was asked for; `None` behind the last.
    pub(in crate::files) async fn piece(&self, left: &mut u64, path: &SandboxPath) -> Result<Option<Bytes>, Error> {
        match self.next().await? {
            Reply::Data(bytes) if (1..=FILE_PIECE_BYTES_MAX).contains(&bytes.len()) && bytes.len() as u64 <= *left => {
                *left -= bytes.len() as u64;
                Ok(Some(bytes))
            }
            Reply::Data(_) => Err(forged("more bytes than were asked for, or none")),
            Reply::Done(_) => Ok(None),
            reply => Err(refused(reply, path, path)),
        }
    }
}
