//! Who works on places that only the sandbox's own mounts have? The worker: this program again, inside, as the commands'
//! user, for one caller.
//!
//! ```text
//!  server ── h2 ──► agent ── socket ──► worker: link.rs ─► which request? ─► place.rs ─► read · write · tree · copy · pack · unpack · search
//!                                         ▲ 0 and 1                 paths are the kernel's to resolve
//! ```
//! It has no right that its caller's commands have not, so no path, link or race leads it anywhere that they can't go:
//! it checks for honesty (whole files, nothing special opened), not for safety. Any process of the same user may kill or
//! stop it; it keeps nothing, and what it has begun goes with it. No thread, no runtime: one request after the other.

mod copy;
mod link;
mod pack;
mod place;
mod read;
mod search;
mod tree;
mod unpack;
mod write;

use link::Link;
use read::Open;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use std::process::ExitCode;
use unpack::Parcel;
use workspace_proto::agent::file_reply::Reply;
use workspace_proto::agent::file_request::Request;
use workspace_proto::agent::{FileDone, FileFailed, FileNode};
use write::Draft;

/// Why a request was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The kernel refused; at the destination of two.
    At(Errno, bool),
    /// Nobody waits for it any more, or what came is no request.
    Gone,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Fault {
        Fault::At(errno, false)
    }
}

/// The failure is the destination's.
fn destination(errno: Errno) -> Fault {
    Fault::At(errno, true)
}

/// The life of a worker, with its link at 0 and 1.
pub(crate) fn run() -> ExitCode {
    // Others of the same user could read from us what they can read anyhow; but not steer us by ptrace.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // A tree takes a descriptor for each level.
    let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
    let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: hard, maximum: hard });
    let mut worker = Worker { link: Link::default(), open: None, coming: Coming::Nothing };
    while let Ok(Some(request)) = worker.link.receive() {
        let reply = match worker.answer(request) {
            Ok(None) => continue,
            Ok(Some(reply)) => reply,
            Err(Fault::At(errno, destination)) => failed(errno, destination, 0),
            Err(Fault::Gone) => break,
        };
        if worker.link.send(reply).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

fn failed(errno: Errno, destination: bool, part: u64) -> Reply {
    Reply::Failed(FileFailed { errno: errno.raw_os_error().unsigned_abs(), destination, part })
}

struct Worker {
    link: Link,
    /// The file that is read.
    open: Option<Open>,
    coming: Coming,
}

/// What is written: whose `data` comes.
enum Coming {
    Nothing,
    File(Draft),
    Parts(Parcel),
}

impl Worker {
    /// `None`: this request has no answer, or not yet.
    fn answer(&mut self, request: Request) -> Result<Option<Reply>, Fault> {
        let node = |node: FileNode| Ok(Some(Reply::Node(node)));
        let done = Ok(Some(Reply::Done(FileDone {})));
        match request {
            Request::Look(look) => return node(read::look(&look.path, look.follow)?),
            Request::Open(look) => {
                let (seen, open) = read::open(&look.path, look.follow)?;
                self.open = open;
                return node(seen);
            }
            Request::Read(range) => {
                let Some(open) = &mut self.open else { return Err(Fault::Gone) };
                open.read(range.offset, range.length, &mut self.link)?;
            }
            Request::Entries(window) => {
                return Ok(Some(Reply::Entries(read::entries(&window.path, &window.from, window.limit)?)));
            }
            Request::Begin(begin) => {
                self.coming = Coming::Nothing;
                let (seen, draft) = Draft::begin(begin.path.to_vec(), begin.append)?;
                self.coming = draft.map_or(Coming::Nothing, Coming::File);
                return node(seen);
            }
            Request::Unpack(look) => {
                self.coming = Coming::Nothing;
                let (seen, parcel) = Parcel::begin(look.path.to_vec())?;
                self.coming = parcel.map_or(Coming::Nothing, Coming::Parts);
                return node(seen);
            }
            Request::Data(bytes) => {
                match &mut self.coming {
                    Coming::File(draft) => draft.data(&bytes),
                    Coming::Parts(parcel) => parcel.data(&bytes),
                    Coming::Nothing => return Err(Fault::Gone),
                }
                return Ok(None);
            }
            Request::Part(part) => {
                let Coming::Parts(parcel) = &mut self.coming else { return Err(Fault::Gone) };
                parcel.part(&part);
                return Ok(None);
            }
            Request::Commit(commit) => {
                let Coming::File(draft) = std::mem::replace(&mut self.coming, Coming::Nothing) else {
                    return Err(Fault::Gone);
                };
                return node(draft.commit(&commit, &mut self.link)?);
            }
            Request::Unite(_) => {
                let Coming::Parts(mut parcel) = std::mem::replace(&mut self.coming, Coming::Nothing) else {
                    return Err(Fault::Gone);
                };
                match parcel.unite(&mut self.link) {
                    Ok(()) => {}
                    Err(Fault::At(errno, destination)) => {
                        return Ok(Some(failed(errno, destination, parcel.failed().unwrap_or(0))));
                    }
                    Err(Fault::Gone) => return Err(Fault::Gone),
                }
            }
            Request::Pack(look) => pack::pack(&look.path, &mut self.link)?,
            Request::Search(asked) => return Ok(Some(Reply::Searched(search::search(&asked, &mut self.link)?))),
            Request::Make(make) => tree::make(&make.path, make.parents)?,
            Request::Rename(way) => tree::rename(&way, &mut self.link)?,
            Request::Copy(way) => copy::copy(&way, &mut self.link)?,
            Request::Remove(remove) => tree::remove(&remove.path, remove.recursive, &mut self.link)?,
        }
        done
    }
}
