//! All places of one sandbox: the two trees that lie on the host, in any state of it, and the rest inside, while it runs.
//!
//! ```text
//!  call ─► Tree (host) ─ leads elsewhere ─► Inside: a worker for this call ─► the same call there
//! ```
//! A call with any path elsewhere is done wholly inside, where all of them lead where they lead for a process.

use super::elsewhere::Worker;
use super::resolve::is_elsewhere;
use super::write::Upload;
use super::{
    Content, FileInfo, ListOptions, Listing, Packed, Piece, Received, Recursive, Replace, SandboxPath, SearchOptions,
    SearchResult, Tree, WriteOptions, Written,
};
use crate::error::Error;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use std::ops::Deref;
use std::rc::Rc;

/// How a worker comes to be in a sandbox; 2004 where that does not run.
pub type Inside = Rc<dyn Fn() -> LocalBoxFuture<'static, Result<Worker, Error>>>;

/// The files of one sandbox, wherever they lie. What is not here is the tree's, for the host's two trees alone.
pub struct Places {
    tree: Tree,
    inside: Inside,
}

impl Deref for Places {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}

/// Does a call on the host, or inside where a path of it leads there.
macro_rules! either {
    ($self:ident, [$($path:ident),+], $name:ident($($argument:expr),*)) => {{
        let known = $($path.is_elsewhere())||+;
        let here = if known { None } else { Some($self.tree.$name($($argument.clone()),*).await) };
        match here {
            Some(Err(error)) if is_elsewhere(&error) => {}
            Some(done) => return done,
            None => {}
        }
        ($self.inside)().await?.$name($($argument),*).await
    }};
}

impl Places {
    /// A tree on the host, and the way to the rest.
    pub fn new(tree: Tree, inside: Inside) -> Places {
        Places { tree, inside }
    }

    /// As [`Tree::open`].
    pub async fn open(&self, path: SandboxPath) -> Result<Content, Error> {
        either!(self, [path], open(path))
    }

    /// As [`Tree::info`].
    pub async fn info(&self, path: SandboxPath) -> Result<FileInfo, Error> {
        either!(self, [path], info(path))
    }

    /// As [`Tree::list`].
    pub async fn list(&self, path: SandboxPath, options: ListOptions) -> Result<Listing, Error> {
        either!(self, [path], list(path, options))
    }

    /// As [`Tree::make_directory`].
    pub async fn make_directory(&self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        either!(self, [path], make_directory(path, recursive))
    }

    /// As [`Tree::remove`].
    pub async fn remove(&self, path: SandboxPath, recursive: Recursive) -> Result<(), Error> {
        either!(self, [path], remove(path, recursive))
    }

    /// As [`Tree::rename`]; between file systems a copy that appears whole, and then the end of the source.
    pub async fn rename(&self, source: SandboxPath, destination: SandboxPath, replace: Replace) -> Result<(), Error> {
        either!(self, [source, destination], rename(source, destination, replace))
    }

    /// As [`Tree::copy`].
    pub async fn copy(&self, source: SandboxPath, destination: SandboxPath, replace: Replace) -> Result<(), Error> {
        either!(self, [source, destination], copy(source, destination, replace))
    }

    /// As [`Tree::search`].
    pub async fn search(&self, path: SandboxPath, options: SearchOptions) -> Result<SearchResult, Error> {
        if path.is_elsewhere() {
            // What is wrong with it is said before somebody is asked.
            options.check()?;
        }
        either!(self, [path], search(path, options))
    }

    /// As [`Tree::pack`].
    pub async fn pack(&self, path: SandboxPath) -> Result<Packed, Error> {
        if !path.is_elsewhere() {
            match self.tree.pack(path.clone()).await {
                Err(error) if is_elsewhere(&error) => {}
                packed => return packed,
            }
        }
        Ok(Packed::inside((self.inside)().await?.pack(path).await?))
    }

    /// As [`Tree::receive`].
    pub async fn receive(&self, path: SandboxPath) -> Result<Received, Error> {
        if !path.is_elsewhere() {
            match self.tree.receive(path.clone()).await {
                Err(error) if is_elsewhere(&error) => {}
                begun => return begun,
            }
        }
        self.tree.receive_inside(path, (self.inside)().await?).await
    }

    /// As [`Tree::begin`].
    pub async fn begin(&self, path: SandboxPath, options: WriteOptions) -> Result<Upload, Error> {
        if !path.is_elsewhere() {
            match self.tree.begin(path.clone(), options.clone()).await {
                Err(error) if is_elsewhere(&error) => {}
                begun => return begun,
            }
        }
        Upload::inside((self.inside)().await?, path, options).await
    }

    /// As [`Tree::write`].
    pub async fn write(&self, path: SandboxPath, options: WriteOptions, bytes: Bytes) -> Result<Written, Error> {
        if !path.is_elsewhere() {
            match self.tree.write(path.clone(), options.clone(), bytes.clone()).await {
                Err(error) if is_elsewhere(&error) => {}
                written => return written,
            }
        }
        let mut upload = Upload::inside((self.inside)().await?, path, options).await?;
        upload.piece(Piece::Memory(bytes)).await?;
        upload.finish().await
    }
}
