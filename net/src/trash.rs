//! Removes what deletes have left in `trash/`, slowly, on a thread of its own.
//!
//! A sandbox's tree is hostile: std's remove_dir_all walks it by descriptors and never follows a symlink.

use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Tells that may wait; one is enough, the thread looks at the whole directory.
const TELLS_MAX: usize = 1;

/// How long the end of the program waits for it; the next start goes on.
const FINISH_MAX: Duration = Duration::from_secs(3);

/// Starts the thread; whatever already lies there is removed first. It ends when the last sender is dropped.
pub(crate) fn start(data_dir: &Path) -> std::io::Result<(flume::Sender<()>, JoinHandle<()>)> {
    let dir = data_dir.join("trash");
    let (tell, told) = flume::bounded(TELLS_MAX);
    let thread = thread::Builder::new().name("trash".to_owned()).spawn(move || {
        empty(&dir);
        while told.recv().is_ok() {
            empty(&dir);
        }
    })?;
    Ok((tell, thread))
}

/// Waits a moment for what is still to be removed. Call when the senders are dropped.
pub(crate) fn finish(thread: &JoinHandle<()>) {
    let deadline = Instant::now() + FINISH_MAX;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(2));
    }
}

fn empty(dir: &Path) {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries.flatten(),
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "the trash cannot be read");
            return;
        }
    };
    for path in entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>() {
        if let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "not removed; the next start tries again");
        }
    }
}
