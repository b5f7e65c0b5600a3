//! How a file is written inside: begun, sent, put in its place by the worker in one step. Its conditions are looked at here
//! and hold until then: the worker is told which file it may replace.

use super::node::Seen;
use super::{Worker, refused};
use crate::error::{Error, Reason};
use crate::files::failure;
use crate::files::info::{Kind, Tags};
use crate::files::path::SandboxPath;
use crate::files::{WriteOptions, Written};
use bytes::Bytes;
use rustix::io::Errno;
use workspace_proto::FILE_PIECE_BYTES_MAX;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileBegin, FileCommit, FileNode};

const MODE_MASK: u32 = 0o777;

/// A file that is being written inside. Dropping it leaves nothing.
pub(in crate::files) struct InsideUpload {
    worker: Worker,
    path: SandboxPath,
    options: WriteOptions,
    /// What stood there when it was begun.
    there: Option<FileNode>,
}

impl InsideUpload {
    pub(in crate::files) async fn begin(
        worker: Worker,
        path: SandboxPath,
        options: WriteOptions,
    ) -> Result<InsideUpload, Error> {
        if path.wants_directory() {
            return Err(failure::of(Errno::ISDIR, &path));
        }
        let request = FileBegin { path: path.as_bytes().to_vec().into(), append: options.append };
        let there = worker.seen(Request::Begin(request), &path).await?;
        match there.as_ref().map(Seen::kind) {
            None | Some(Kind::File) => {}
            Some(Kind::Directory) => return Err(failure::of(Errno::ISDIR, &path)),
            Some(_) => return Err(failure::special(&path)),
        }
        options.conditions.check(there.as_ref().map(Seen::judged).as_ref())?;
        Ok(InsideUpload { worker, path, options, there: there.map(|seen| seen.0) })
    }

    pub(in crate::files) async fn piece(&mut self, mut bytes: Bytes) -> Result<(), Error> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(FILE_PIECE_BYTES_MAX));
            self.worker.tell(Request::Data(piece)).await?;
        }
        Ok(())
    }

    pub(in crate::files) async fn finish(self) -> Result<Written, Error> {
        let conditions = &self.options.conditions;
        let only_new = self.there.is_none() && !conditions.is_empty() || conditions.if_none_match == Some(Tags::Any);
        let commit = FileCommit {
            has_mode: self.options.mode.is_some(),
            mode: self.options.mode.unwrap_or(0) & MODE_MASK,
            only_new,
            same: self.there.filter(|_| !only_new && !conditions.is_empty()),
        };
        let changed = || Error::new(Reason::PreconditionFailed, "the file was changed meanwhile; read it again");
        match self.worker.ask(Request::Commit(commit)).await? {
            Reply::Node(node) => {
                let seen = Seen::check(node)?.ok_or_else(|| super::forged("a file that is not there"))?;
                Ok(Written { size: seen.size(), tag: seen.tag() })
            }
            Reply::Failed(failed) if failed.errno == Errno::STALE.raw_os_error().unsigned_abs() => Err(changed()),
            Reply::Failed(failed) if only_new && failed.errno == Errno::EXIST.raw_os_error().unsigned_abs() => {
                Err(changed())
            }
            reply => Err(refused(reply, &self.path, &self.path)),
        }
    }
}
