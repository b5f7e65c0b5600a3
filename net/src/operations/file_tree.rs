//! What can be asked about entries of directories: list, show, make, move, copy, remove.

use super::bounds::{self, refuse};
use super::place::{self, Done, FILE_ERRORS};
use crate::operation::{AsTool, Call, Effect, Json, Limits, MIB, Operation, Profile, Route, delete, get, post};
use crate::wire::base64;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use workspace_core::files::{FileInfo, ListOptions};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

const DEPTH_MAX: u64 = 64;
const PAGE_MAX: u64 = 10_000;
const CURSOR_CHARS_MAX: usize = 8192;

/// For walks over trees, on one sandbox, counted per core.
const WALK: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 16 };

/// What to list.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct What {
    /// A directory: absolute, or below `/workspace`; `/workspace`.
    path: Option<String>,
    /// Levels of directories, 1 to 64; 1: the directory's own entries.
    depth: Option<u64>,
    /// Entries of one page, 1 to 10000; 10000.
    limit: Option<u64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl What {
    fn options(&self) -> Result<ListOptions, Error> {
        let after = match &self.cursor {
            None => None,
            Some(text) => {
                let known = (text.len() <= CURSOR_CHARS_MAX).then(|| base64::decode_url(text)).flatten();
                Some(
                    known
                        .and_then(|at| at.strip_prefix(b"/").map(<[u8]>::to_vec))
                        .ok_or_else(|| refuse("cursor", "is not one that this server gave"))?,
                )
            }
        };
        Ok(ListOptions {
            depth: bounds::number("depth", self.depth.unwrap_or(1), 1..=DEPTH_MAX)? as usize,
            limit: bounds::number("limit", self.limit.unwrap_or(PAGE_MAX), 1..=PAGE_MAX)? as usize,
            after,
        })
    }
}

/// One page of entries, each directory's by the bytes of their names.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Page {
    /// At most `limit`; fewer where paths are long.
    files: Vec<FileInfo>,
    /// For the next page; null on the last one.
    next_cursor: Option<String>,
}

pub(super) struct FileList;

impl Operation for FileList {
    const NAME: &'static str = "file_list";
    const SUMMARY: &'static str = "List a directory, and with `depth` those below it, in pages.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files/list"), get("/api/v1/sandboxes/{id}/fs/list")];
    const TOOL: Option<Profile> = Some(Profile::Developer);
    const AS_TOOL: AsTool = AsTool {
        title: "List a directory",
        about: "List what a directory of the sandbox holds, by default /workspace; depth 2 and more also lists directories below. `next_cursor` is there where more follows.",
        defaults: &[("limit", "1000")],
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Read;
    const LIMITS: Limits = WALK;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = What;
    type Output = Json<Page>;

    async fn call(shard: &Shard, call: Call<What>) -> Result<Self::Output, Error> {
        let text = call.input.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/workspace");
        let path = place::path("path", text)?;
        let listing = shard.files(call.sandbox()?)?.list(path, call.input.options()?).await?;
        Ok(Json(Page {
            files: listing.files,
            next_cursor: listing.next.map(|at| base64::encode_url(&[b"/", &at[..]].concat())),
        }))
    }
}

/// What to show.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Named {
    /// Absolute, or below `/workspace`. A symlink in the last place is shown itself, unless a `/` follows it.
    path: String,
}

pub(super) struct FileStat;

impl Operation for FileStat {
    const NAME: &'static str = "file_info";
    const SUMMARY: &'static str = "Show a file, directory or symlink.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files/info"), get("/api/v1/sandboxes/{id}/fs/stat")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Show a file",
        about: "Show type, size, permissions, owner and time of a file, directory or symlink, without reading it.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Read;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Named;
    type Output = Json<FileInfo>;

    async fn call(shard: &Shard, call: Call<Named>) -> Result<Self::Output, Error> {
        let path = place::path("path", &call.input.path)?;
        shard.files(call.sandbox()?)?.info(path).await.map(Json)
    }
}

/// Which directory to make.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct NewDirectory {
    /// Absolute, or below `/workspace`.
    path: String,
    /// Make what is missing above it too; one that is there already is fine.
    #[serde(default)]
    recursive: bool,
}

pub(super) struct FileMkdir;

impl Operation for FileMkdir {
    const NAME: &'static str = "file_mkdir";
    const SUMMARY: &'static str = "Make a directory.";
    const ROUTES: &'static [Route] =
        &[post("/api/v1/sandboxes/{id}/files/mkdir"), post("/api/v1/sandboxes/{id}/fs/mkdir")];
    const TOOL: Option<Profile> = Some(Profile::Developer);
    const AS_TOOL: AsTool = AsTool {
        title: "Make a directory",
        about: "Make a directory. With recursive those above it are made too, and one that is there already is fine.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = NewDirectory;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<NewDirectory>) -> Result<Self::Output, Error> {
        let path = place::path("path", &call.input.path)?;
        let done = Done::at(&path);
        let recursive = place::recursive(call.input.recursive);
        shard.files(call.sandbox()?)?.make_directory(path, recursive).await?;
        Ok(Json(done))
    }
}

/// What to remove.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Doomed {
    /// Absolute, or below `/workspace`. A symlink is removed itself.
    path: String,
    /// All that lies below too; without it a directory must be empty.
    #[serde(default)]
    recursive: bool,
}

pub(super) struct FileRemove;

impl Operation for FileRemove {
    const NAME: &'static str = "file_remove";
    const SUMMARY: &'static str = "Remove a file, a symlink, or a directory; with `recursive` all that lies in it.";
    const ROUTES: &'static [Route] =
        &[delete("/api/v1/sandboxes/{id}/files"), delete("/api/v1/sandboxes/{id}/fs/delete")];
    const TOOL: Option<Profile> = Some(Profile::Developer);
    const AS_TOOL: AsTool = AsTool {
        title: "Remove a file or directory",
        about: "Remove a file, symlink or empty directory; with recursive a directory and all that lies in it. It can not be undone.",
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Remove;
    const LIMITS: Limits = WALK;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Doomed;
    type Output = Json<Done>;

    async fn call(shard: &Shard, call: Call<Doomed>) -> Result<Self::Output, Error> {
        let path = place::path("path", &call.input.path)?;
        let done = Done::at(&path);
        shard.files(call.sandbox()?)?.remove(path, place::recursive(call.input.recursive)).await?;
        Ok(Json(done))
    }
}

/// From where to where.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Way {
    /// Absolute, or below `/workspace`; `src` too.
    #[serde(alias = "src")]
    source: String,
    /// The new path itself, not a directory to put it into; `dst` too.
    #[serde(alias = "dst")]
    destination: String,
    /// Replace a file, or an empty directory by a directory, that is there.
    #[serde(default)]
    overwrite: bool,
}

/// That it was done, from where and to where.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DoneTo {
    /// `true`.
    success: bool,
    /// Absolute, inside the sandbox.
    source: String,
    /// Absolute, inside the sandbox.
    destination: String,
}

pub(super) struct FileMove;

impl Operation for FileMove {
    const NAME: &'static str = "file_move";
    const SUMMARY: &'static str = "Move or rename a file, symlink or directory, in one step.";
    const ROUTES: &'static [Route] =
        &[post("/api/v1/sandboxes/{id}/files/move"), post("/api/v1/sandboxes/{id}/fs/move")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Move or rename",
        about: "Move or rename a file, symlink or directory in one step. dst is the new path itself, not a directory to put it into. With overwrite a file that is there is replaced.",
        renames: &[("source", "src"), ("destination", "dst")],
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Way;
    type Output = Json<DoneTo>;

    async fn call(shard: &Shard, call: Call<Way>) -> Result<Self::Output, Error> {
        let (source, destination) = ends(&call.input)?;
        let done = DoneTo { success: true, source: source.text(), destination: destination.text() };
        let replace = place::replace(call.input.overwrite);
        shard.files(call.sandbox()?)?.rename(source, destination, replace).await?;
        Ok(Json(done))
    }
}

pub(super) struct FileCopy;

impl Operation for FileCopy {
    const NAME: &'static str = "file_copy";
    const SUMMARY: &'static str = "Copy a file or a whole directory; the copy appears whole.";
    const ROUTES: &'static [Route] =
        &[post("/api/v1/sandboxes/{id}/files/copy"), post("/api/v1/sandboxes/{id}/fs/copy")];
    const TOOL: Option<Profile> = Some(Profile::Full);
    const AS_TOOL: AsTool = AsTool {
        title: "Copy",
        about: "Copy a file or a whole directory. dst is the new path itself, not a directory to put it into. With overwrite a file that is there is replaced.",
        renames: &[("source", "src"), ("destination", "dst")],
        ..AsTool::PLAIN
    };
    const EFFECT: Effect = Effect::Write;
    const LIMITS: Limits = WALK;
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = Way;
    type Output = Json<DoneTo>;

    async fn call(shard: &Shard, call: Call<Way>) -> Result<Self::Output, Error> {
        let (source, destination) = ends(&call.input)?;
        let done = DoneTo { success: true, source: source.text(), destination: destination.text() };
        let replace = place::replace(call.input.overwrite);
        shard.files(call.sandbox()?)?.copy(source, destination, replace).await?;
        Ok(Json(done))
    }
}

fn ends(way: &Way) -> Result<(workspace_core::files::SandboxPath, workspace_core::files::SandboxPath), Error> {
    Ok((place::path("source", &way.source)?, place::path("destination", &way.destination)?))
}
