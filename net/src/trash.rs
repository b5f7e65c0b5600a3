//! Removes what deletes have left in `trash/`, slowly, on a thread of its own.
//!
//! A sandbox's tree is hostile: std's remove_dir_all walks it by descriptors and never follows a symlink.

use std::path::{Path, PathBuf};
use std::thread;

/// Tells that may wait; one is enough, the thread looks at the whole directory.
const TELLS_MAX: usize = 1;

/// Starts the thread; whatever already lies there is removed first. It ends when the sender is dropped.
pub(crate) fn start(data_dir: &Path) -> std::io::Result<flume::Sender<()>> {
    let dir = data_dir.join("trash");
    let (tell, told) = flume::bounded(TELLS_MAX);
    thread::Builder::new().name("trash".to_owned()).spawn(move || {
        empty(&dir);
        while told.recv().is_ok() {
            empty(&dir);
        }
    })?;
    Ok(tell)
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
