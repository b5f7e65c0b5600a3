//! The tree behind NFS: `/workspace` of every sandbox, by handles that outlive this server, as POSIX has it.
//!
//! ```text
//!  handle ─► MAC ─► sandbox there? ─► node held, or found again (find) ─► still beneath? ─► as the caller (act) ─► call
//!           handle.rs      look · list · data · change · make · entries: the calls, in the order of RFC 1813's needs
//! ```
//! All calls block, on threads that do nothing else. No lock is held over a system call on files, with one exception:
//! a walk over an export keeps others from walking it too. Nothing is opened by more than one name beneath a directory's
//! descriptor, through no link, mount or magic link; who may is the kernel's to say, call by call.
//! What HTTP looks at and then changes under a lock is not locked here: a client is to such a condition what a process
//! inside is, and what either wrote in between shows in the tag. Must not know: NFS's wire, RPC.

mod act;
mod change;
mod data;
mod entries;
mod find;
mod handle;
mod list;
mod look;
mod make;
mod marks;
mod nodes;
mod places;
mod seen;
mod sys;
#[cfg(test)]
mod tests;
mod types;

pub use handle::Handle;
pub use types::{
    Attributes, Caller, Changed, Changes, Create, Entry, Fault, Kind, ListEnd, ListEntry, ListWanted, ReadEnd, ReadTo,
    SetTime, Space, Special, Stable, Time, Weak,
};

use crate::files::{Files, Owners};
use crate::id::SandboxId;
use find::Walked;
use handle::{Signer, Target};
use marks::Marks;
use nodes::{Node, Nodes};
use places::Places;
use rustix::io::Errno;
use seen::{Seen, see};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// Exports whose roots are held open.
const EXPORTS_MAX: usize = 256;
/// Between looks for sandboxes that were deleted, while any is mounted.
const LOOK: Duration = Duration::from_millis(250);
/// Looks between sweeps for what was unlinked by others, and looks without use before something is let go.
const LOOKS_A_SWEEP: u32 = 8;
const LOOKS_A_TURN: u32 = 64;
const NAME_BYTES_MAX: usize = 255;

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// Says block and disk limit of a sandbox that there is.
pub type Find = Box<dyn Fn(SandboxId) -> Option<(u32, u64)> + Send + Sync>;

/// Are clients kept from what could hurt them, or do they get all that POSIX has?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clients {
    /// No setuid and setgid bit of root's is shown: what root of a sandbox has made would make its user root on a client
    /// that mounts without `nosuid`. No device is made, no owner shown that the sandbox has not.
    Guarded,
    /// Whoever runs the server has asked for all: these bits, devices and owners (`marks.rs`).
    Trusted,
}

/// The trees of all sandboxes. A clone is the same.
#[derive(Clone)]
pub struct Exports(Arc<Inner>);

/// What the calls share.
struct Inner {
    files: Files,
    signer: Signer,
    find_sandbox: Find,
    clients: Clients,
    exports: Mutex<HashMap<SandboxId, Arc<Export>>>,
    nodes: Nodes,
    places: Places,
    sweeper: OnceLock<thread::Thread>,
}

impl Inner {
    fn exports(&self) -> MutexGuard<'_, HashMap<SandboxId, Arc<Export>>> {
        self.exports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go the roots of sandboxes that are no more.
    fn forget_deleted(&self) {
        let ids: Vec<SandboxId> = self.exports().keys().copied().collect();
        for id in ids {
            if (self.find_sandbox)(id).is_none() {
                self.exports().remove(&id);
                self.nodes.forget_all(id);
            }
        }
    }
}

/// One sandbox's tree.
struct Export {
    id: SandboxId,
    owners: Owners,
    disk_bytes: u64,
    root: Arc<Node>,
    /// Where the root lies, as the kernel says it of a descriptor; all that is beneath begins with it.
    path: Vec<u8>,
    fsid: u64,
    walked: Mutex<Walked>,
    marks: Marks,
}

/// What a handle led to.
struct Found {
    export: Arc<Export>,
    node: Arc<Node>,
}

impl Exports {
    /// Handles are signed with `key`; `find` says block and disk limit of a sandbox that there is. Starts a thread that
    /// lets go what is no longer used.
    pub fn new(files: &Files, key: [u8; 32], find: Find, clients: Clients) -> std::io::Result<Exports> {
        let exports = Exports(Arc::new(Inner {
            files: files.clone(),
            signer: Signer::new(&key),
            find_sandbox: find,
            clients,
            exports: Mutex::default(),
            nodes: Nodes::new(),
            places: Places::default(),
            sweeper: OnceLock::new(),
        }));
        let held = Arc::downgrade(&exports.0);
        let sweeper = thread::Builder::new().name("nfs-sweep".to_owned()).spawn(move || {
            for round in 1_u32.. {
                let Some(inner) = held.upgrade() else { return };
                inner.forget_deleted();
                if round.is_multiple_of(LOOKS_A_SWEEP) {
                    inner.nodes.sweep(round.is_multiple_of(LOOKS_A_TURN));
                }
                let rest = if inner.exports().is_empty() { LOOK * LOOKS_A_SWEEP } else { LOOK };
                drop(inner);
                thread::park_timeout(rest);
            }
        })?;
        // Whoever counts descriptors finds it open from the start.
        nodes::links()?;
        exports.0.sweeper.get_or_init(|| sweeper.thread().clone());
        Ok(exports)
    }

    /// One sandbox's export: open already, or opened. `Stale` where there is no such sandbox. Called as the server.
    fn export(&self, id: SandboxId) -> Result<Arc<Export>, Fault> {
        let Some((block, disk_bytes)) = (self.0.find_sandbox)(id) else {
            self.0.exports().remove(&id);
            return Err(Fault::Stale);
        };
        let known = self.0.exports().get(&id).cloned();
        if let Some(export) = known
            && export.disk_bytes == disk_bytes
        {
            return Ok(export);
        }
        act::as_server()?;
        let owners = self.0.files.owners(block);
        let fd = self.0.files.workspace_of(id, owners).map_err(|_| Fault::Stale)?;
        let stat = see(&fd)?;
        let target = Target { id, inode: stat.inode, generation: find::generation(&fd, c"", &stat)? };
        let root = Arc::new(Node::new(fd, target, &stat));
        let path = path_of(&root)?;
        let fsid = sys::hash(id.as_str().bytes());
        let marks = match self.0.clients {
            Clients::Guarded => Marks::default(),
            Clients::Trusted => Marks::load(&self.0.files, id, owners),
        };
        let export = Arc::new(Export { marks, id, owners, disk_bytes, root, path, fsid, walked: Mutex::default() });
        let mut exports = self.0.exports();
        if exports.len() >= EXPORTS_MAX {
            exports.clear();
        }
        exports.insert(id, export.clone());
        drop(exports);
        if let Some(sweeper) = self.0.sweeper.get() {
            sweeper.unpark();
        }
        Ok(export)
    }

    /// Goes where a handle leads, and makes sure that it still lies in its export.
    fn enter(&self, handle: &Handle) -> Result<Found, Fault> {
        let target = self.0.signer.verify(handle)?;
        let mut export = self.export(target.id)?;
        for _ in 0..2 {
            if target == export.root.target && beneath(&export, &export.root) {
                return Ok(Found { node: export.root.clone(), export });
            }
            if let Some(node) = self.0.nodes.get(&target) {
                if beneath(&export, &node) {
                    return Ok(Found { export, node });
                }
                self.0.nodes.forget(&target);
            }
            if beneath(&export, &export.root) {
                break;
            }
            // The root itself was moved or replaced.
            self.0.exports().remove(&target.id);
            export = self.export(target.id)?;
        }
        act::as_server()?;
        let node = self.find(&export, &target)?;
        if !beneath(&export, &node) {
            return Err(Fault::Stale);
        }
        Ok(Found { export, node })
    }

    /// The same, and the thread is the caller from here on.
    fn enter_as(&self, caller: &Caller, handle: &Handle) -> Result<Found, Fault> {
        let found = self.enter(handle)?;
        act::as_caller(found.export.owners, caller)?;
        Ok(found)
    }

    /// Attributes of what is held; `Stale` where its last name has gone.
    fn attributes_of(&self, found: &Found) -> Result<Attributes, Fault> {
        let stat = stat_of(&found.node)?;
        Ok(self.shown(&found.export, &found.node.target, &stat))
    }

    fn shown(&self, export: &Export, target: &Target, stat: &Seen) -> Attributes {
        let (uid, gid) = (export.owners.inside(stat.uid), export.owners.inside(stat.gid));
        let (kind, mut mode) = (stat.kind(), stat.mode & 0o7777);
        if self.0.clients == Clients::Guarded && kind != Kind::Directory {
            mode &= if uid == 0 { !SETUID } else { !0 };
            mode &= if gid == 0 { !SETGID } else { !0 };
        }
        let mut attributes = Attributes {
            kind,
            mode,
            links: stat.links,
            uid,
            gid,
            size: stat.size,
            used: stat.used,
            rdev: stat.rdev,
            fsid: export.fsid,
            fileid: stat.inode,
            atime: stat.atime,
            mtime: stat.mtime,
            ctime: stat.ctime,
        };
        export.marks.show(target, &mut attributes);
        attributes
    }

    fn after(&self, found: &Found, before: Option<&Seen>) -> Weak {
        let before = before.map(|stat| (stat.size, stat.mtime, stat.ctime));
        Weak { before, after: self.attributes_of(found).ok() }
    }
}

fn stat_of(node: &Node) -> Result<Seen, Fault> {
    see(&node.fd)?.named()
}

/// Where the kernel says that a descriptor's name lies now.
fn path_of(node: &Node) -> Result<Vec<u8>, Fault> {
    Ok(rustix::fs::readlinkat(nodes::links()?, node.link(), Vec::with_capacity(256))?.into_bytes())
}

/// Is the name by which a node was opened still in its export? Its file may have others.
fn beneath(export: &Export, node: &Node) -> bool {
    const GONE: &[u8] = b" (deleted)";
    match path_of(node) {
        Ok(path) => match path.strip_prefix(&export.path[..]) {
            Some([]) => true,
            Some(rest) => rest[0] == b'/' && !rest.ends_with(GONE),
            None => false,
        },
        // Deeper than a path can say.
        Err(Fault::Os(Errno::NAMETOOLONG)) => find::climbs_to(node, &export.root),
        Err(_) => false,
    }
}

/// A name of one entry that may be made, removed or moved.
fn plain(name: &[u8]) -> Result<&[u8], Fault> {
    match checked(name)? {
        b"." | b".." => Err(Fault::Os(Errno::INVAL)),
        name => Ok(name),
    }
}

/// A name of one entry.
fn checked(name: &[u8]) -> Result<&[u8], Fault> {
    if name.len() > NAME_BYTES_MAX {
        return Err(Fault::Os(Errno::NAMETOOLONG));
    }
    if name.is_empty() || name.contains(&0) || name.contains(&b'/') {
        return Err(Fault::Os(Errno::INVAL));
    }
    Ok(name)
}
