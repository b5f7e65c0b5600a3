//! The way to a sandbox's files, from any core: its record says where they are, the file threads do the rest; what lies
//! only inside is asked for there.

use super::{Shard, not_found};
use crate::error::Error;
use crate::files::Places;
use crate::id::SandboxId;
use futures_util::FutureExt;
use std::rc::Rc;

impl Shard {
    /// The files of a sandbox: its two trees in whatever state it is, the rest while it runs; 2001 once its deletion has
    /// begun.
    pub fn files(&self, id: SandboxId) -> Result<Places, Error> {
        let tree = match self.0.store.get(&id)? {
            Some(record) if !record.dying => self.0.files.of(id, record.block, record.resources.disk_bytes),
            _ => return Err(not_found(id)),
        };
        let shard = self.clone();
        let inside = move || {
            let shard = shard.clone();
            async move { shard.inside(id).await }.boxed_local()
        };
        Ok(Places::new(tree, Rc::new(inside)))
    }
}
