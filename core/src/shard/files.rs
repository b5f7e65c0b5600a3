//! The way to a sandbox's files, from any core: its record says where they are, the file threads do the rest.

use super::{Shard, not_found};
use crate::error::Error;
use crate::files::Tree;
use crate::id::SandboxId;

impl Shard {
    /// The files of a sandbox, in whatever state it is; 2001 once its deletion has begun.
    pub fn files(&self, id: SandboxId) -> Result<Tree, Error> {
        match self.0.store.get(&id)? {
            Some(record) if !record.dying => Ok(self.0.files.of(id, record.block, record.resources.disk_bytes)),
            _ => Err(not_found(id)),
        }
    }
}
