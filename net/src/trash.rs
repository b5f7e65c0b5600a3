//! Removes what deletes have left in `trash/`, slowly, on a thread of its own.
//!
//! A sandbox's tree is hostile: it may be deeper than a stack or a process's descriptors go.

use rustix::fs::{Dir, Mode, OFlags};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use workspace_core::files::remove::tree;

/// Tells that may wait; one is enough, the thread looks at the whole directory.
const TELLS_MAX: usize = 1;

/// How long the end of the program waits for it; the next start goes on.
const FINISH_MAX: Duration = Duration::from_secs(3);

/// The thread, and the way to it.
pub(crate) struct Trash {
    /// Tells it to look.
    pub(crate) tell: flume::Sender<()>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

/// Starts the thread; whatever already lies there is removed first.
pub(crate) fn start(data_dir: &Path) -> std::io::Result<Trash> {
    let dir = data_dir.join("trash");
    let (tell, told) = flume::bounded(TELLS_MAX);
    let ending = Arc::new(AtomicBool::new(false));
    let ends = ending.clone();
    let thread = thread::Builder::new().name("trash".to_owned()).spawn(move || {
        let mut last = false;
        loop {
            empty(&dir);
            if last {
                return;
            }
            // Once more after the end is told: what came while the look before it lasted.
            last = told.recv().is_err() || ends.load(Ordering::Acquire);
        }
    })?;
    Ok(Trash { tell, ending, thread })
}

impl Trash {
    /// Waits a moment for what is still to be removed.
    pub(crate) fn finish(&self) {
        self.ending.store(true, Ordering::Release);
        let _ = self.tell.try_send(());
        let deadline = Instant::now() + FINISH_MAX;
        while !self.thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

fn empty(dir: &Path) {
    if let Err(error) = remove_all(dir) {
        tracing::warn!(path = %dir.display(), %error, "the trash cannot be read");
    }
}

fn remove_all(dir: &Path) -> rustix::io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let trash = rustix::fs::open(dir, flags, Mode::empty())?;
    let mut entries = Dir::read_from(&trash)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if let Err(error) = tree(&trash, name) {
            let name = String::from_utf8_lossy(name);
            tracing::warn!(%name, %error, "not removed from the trash; the next start tries again");
        }
    }
    Ok(())
}
