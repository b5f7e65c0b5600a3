//! Whole directories as tar archives, down and up.

use super::place::{self, FILE_ERRORS};
use crate::content::{Chunks, Content, Part, Wanted};
use crate::operation::{
    Call, Carries, Effect, Incoming, Json, Limits, MIB, Operation, Output, Profile, Reply, Route, get, put,
};
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;
use workspace_core::files::{Packed, Unpacked};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

const TAR: &str = "application/x-tar";
const ARCHIVES: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 8 };

/// Which directory.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Directory {
    /// Absolute, or below `/workspace`; `/workspace`.
    path: Option<String>,
}

impl Directory {
    fn path(&self) -> Result<workspace_core::files::SandboxPath, Error> {
        place::path("path", self.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/workspace"))
    }
}

/// An archive on its way out.
pub(super) struct Archive(Content);

impl Output for Archive {
    const MEDIA_TYPE: &'static str = TAR;

    fn reply(self) -> Result<Reply, Error> {
        Ok(Reply::Content(self.0))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

struct Sent(Packed);

impl Chunks for Sent {
    fn next(&mut self) -> LocalBoxFuture<'_, Option<Result<Bytes, Error>>> {
        Box::pin(self.0.next())
    }
}

pub(super) struct FilePack;

impl Operation for FilePack {
    const NAME: &'static str = "file_pack";
    const SUMMARY: &'static str = "Read a whole directory as a tar archive.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files/archive")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const LIMITS: Limits = ARCHIVES;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Directory;
    type Output = Archive;

    async fn call(shard: &Shard, call: Call<Directory>) -> Result<Archive, Error> {
        let path = call.input.path()?;
        let last = path.components().next_back().unwrap_or(b"files").to_vec();
        let packed = shard.files(call.sandbox()?)?.pack(path).await?;
        Ok(Archive(Content {
            part: Part::Whole,
            size: None,
            tag: None,
            modified_us: None,
            media_type: TAR,
            name: [&last[..], b".tar"].concat(),
            pieces: Box::new(Sent(packed)),
        }))
    }
}

pub(super) struct FileUnpack;

impl Operation for FileUnpack {
    const NAME: &'static str = "file_unpack";
    const SUMMARY: &'static str = "Write many files at once: a tar archive into a directory, all of it or nothing.";
    const ROUTES: &'static [Route] = &[put("/api/v1/sandboxes/{id}/files/archive")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Write;
    const CARRIES: Carries = Carries::Takes;
    const LIMITS: Limits = ARCHIVES;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Directory;
    type Output = Json<Unpacked>;

    async fn call(shard: &Shard, call: Call<Directory>) -> Result<Self::Output, Error> {
        let path = call.input.path()?;
        let mut received = shard.files(call.sandbox()?)?.receive(path).await?;
        match call.incoming {
            Some(Incoming::Whole(bytes)) => received.piece(bytes).await?,
            Some(Incoming::Stream(mut stream)) => {
                while let Some(piece) = stream.next(Wanted::Memory).await? {
                    received.piece(piece.into_memory()?).await?;
                }
            }
            None => {
                let message = "the body must be a tar archive, with `Content-Type: application/x-tar`";
                return Err(Error::new(Reason::InvalidRequest, message));
            }
        }
        received.unpack().await.map(Json)
    }
}
