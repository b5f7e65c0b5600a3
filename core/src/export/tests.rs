//! Does the tree do what a client may expect, and nothing else? As root, in a directory of its own.

mod bytes;
mod handles;
mod who;

use super::*;
use crate::files::Numbering;
use rustix::io::Errno;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const DISK_BYTES: u64 = 1 << 30;

struct Ground {
    top: PathBuf,
    id: SandboxId,
    there: Arc<AtomicBool>,
    disk_bytes: u64,
}

impl Ground {
    fn new() -> Ground {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = std::env::temp_dir().join(format!("workspace-export-{}-{count}", std::process::id()));
        let id = SandboxId::from_random([count as u8 + 1; 20]);
        for name in ["workspace", "home"] {
            std::fs::create_dir_all(top.join(id.as_str()).join(name)).unwrap();
        }
        Ground { top, id, there: Arc::new(AtomicBool::new(true)), disk_bytes: DISK_BYTES }
    }

    /// As a server does at its start.
    fn exports(&self) -> Exports {
        self.exports_for(Clients::Guarded)
    }

    fn exports_for(&self, clients: Clients) -> Exports {
        let files = Files::start(&self.top, Numbering::Same, 1).unwrap();
        let (id, there, disk_bytes) = (self.id, self.there.clone(), self.disk_bytes);
        let find = move |asked: SandboxId| (asked == id && there.load(Ordering::Relaxed)).then_some((0, disk_bytes));
        Exports::new(&files, [7; 32], Box::new(find), clients).unwrap()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.top.join(self.id.as_str()).join("workspace").join(below)
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = act::as_server();
        let _ = std::fs::remove_dir_all(&self.top);
    }
}

fn caller(id: u32) -> Caller {
    Caller { uid: id, gid: id, groups: Vec::new() }
}

fn mode(mode: u32) -> Changes {
    Changes { mode: Some(mode), ..Changes::default() }
}

fn file(exports: &Exports, at: &Handle, name: &str, who: u32, bits: u32) -> Handle {
    exports.create(&caller(who), at, name.as_bytes(), &Create::Guarded(mode(bits))).result.unwrap().handle
}

fn find(exports: &Exports, at: &Handle, name: &str) -> Result<Entry, Fault> {
    exports.lookup(&caller(0), at, name.as_bytes()).0
}

fn read(exports: &Exports, who: u32, handle: &Handle) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    exports.read(&caller(who), handle, 0, ReadTo::Memory(&mut bytes), 1 << 20, &|| ()).map(|_| bytes)
}

fn is_root() -> bool {
    let is = rustix::process::geteuid().is_root();
    if !is {
        eprintln!("skipped: needs root");
    }
    is
}
