//! Places that only a running sandbox's own mounts have (`/tmp`, `/etc`, …): worked on by a worker inside, as the commands'
//! user, and judged here.
//!
//! ```text
//!  Worker ─ask─► channel ─► owner's core: one request, its answers ─► agent ─► the worker, inside
//!         ◄───── checked: kind, size, name, order, count — whatever it says, it harms nobody but its own sandbox
//! ```
//! Any process of that user may forge what it says: a forged answer is a wrong answer about that sandbox, never more.
//! Dropping a [`Worker`] ends it.

mod node;
mod pack;
mod read;
mod search;
mod tree;
mod unpack;
mod write;

pub(super) use pack::InsidePacked;
pub(super) use write::InsideUpload;

use super::failure;
use super::path::SandboxPath;
use crate::error::{Error, Reason};
use node::Seen;
use rustix::io::Errno;
use std::time::Instant;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;

/// Of one step, e.g. the copy of a large tree.
const WORK_S_MAX: u64 = 3600;
/// How often it may say that it goes on working, beside once a second.
const WORKING_SLACK: u64 = 8;

/// A worker, asked from any core. A clone is the same one: one asks at a time.
#[derive(Clone)]
pub struct Worker {
    /// What is asked.
    pub(crate) requests: flume::Sender<Request>,
    /// What it says; an error is final.
    pub(crate) replies: flume::Receiver<Result<Reply, Error>>,
    /// Never sent to: disconnected when the last clone is dropped.
    pub(crate) _here: flume::Sender<()>,
}

impl Worker {
    /// Asks without waiting for an answer.
    async fn tell(&self, request: Request) -> Result<(), Error> {
        match self.requests.send_async(request).await {
            Ok(()) => Ok(()),
            // What ended it was said before.
            Err(_) => Err(self.replies.try_iter().find_map(Result::err).unwrap_or_else(|| forged("it has ended"))),
        }
    }

    /// What it says next, but that it goes on working: once a second, and not for ever.
    async fn next(&self) -> Result<Reply, Error> {
        let begun = Instant::now();
        for said in 0.. {
            match self.said().await? {
                Reply::Working(_) => {}
                reply => return Ok(reply),
            }
            let seconds = begun.elapsed().as_secs();
            if said > seconds + WORKING_SLACK || seconds > WORK_S_MAX {
                break;
            }
        }
        Err(forged("work without an end"))
    }

    /// As [`Worker::next`], also that it goes on working.
    async fn said(&self) -> Result<Reply, Error> {
        match self.replies.recv_async().await {
            Ok(reply) => reply,
            Err(_) => Err(forged("it has ended")),
        }
    }

    async fn ask(&self, request: Request) -> Result<Reply, Error> {
        self.tell(request).await?;
        self.next().await
    }

    /// Asks for what is answered with a node; `None`: there is nothing.
    async fn seen(&self, request: Request, path: &SandboxPath) -> Result<Option<Seen>, Error> {
        match self.ask(request).await? {
            Reply::Node(node) => Seen::check(node),
            reply => Err(refused(reply, path, path)),
        }
    }

    /// Asks for what is only done.
    async fn done(&self, request: Request, source: &SandboxPath, destination: &SandboxPath) -> Result<(), Error> {
        match self.ask(request).await? {
            Reply::Done(_) => Ok(()),
            reply => Err(refused(reply, source, destination)),
        }
    }
}

/// Why it was not done; or an answer that does not belong here.
fn refused(reply: Reply, source: &SandboxPath, destination: &SandboxPath) -> Error {
    let Reply::Failed(failed) = reply else { return forged("an answer to another question") };
    let path = if failed.destination { destination } else { source };
    let errno =
        Errno::from_raw_os_error(i32::try_from(failed.errno).ok().filter(|n| (1..4096).contains(n)).unwrap_or(5));
    match errno {
        Errno::ROFS => Error::new(
            Reason::PermissionDenied,
            format!(
                "{}: lies in a read-only part of the sandbox; write below /workspace, /home/user or /tmp",
                path.brief()
            ),
        ),
        Errno::ACCESS | Errno::PERM => Error::new(
            Reason::PermissionDenied,
            format!("{}: the user that commands run as may not do this", path.brief()),
        ),
        // Outside of the two trees a refusal that we do not know is the sandbox's, not ours.
        errno => match failure::of(errno, path) {
            error if error.reason == Reason::Internal => {
                Error::new(Reason::InvalidPath, format!("{}: the kernel refuses this ({errno})", path.brief()))
            }
            error => error,
        },
    }
}

/// Something inside says what can't be.
fn forged(what: &'static str) -> Error {
    let message =
        "what works on files inside the sandbox was ended or disturbed there (killed, or out of memory); try again";
    Error::new(Reason::ProcessExecutionFailed, message).source(what)
}
