//! Find lines and files in a sandbox's tree.

use super::bounds;
use super::place::{self, FILE_ERRORS};
use crate::operation::{Call, Effect, Json, Limits, MIB, Operation, Profile, Route, get};
use schemars::JsonSchema;
use serde::Deserialize;
use workspace_core::files::{SearchOptions, SearchResult};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

const MATCHES_MAX: u64 = 10_000;
const MATCHES_DEFAULT: u64 = 1000;

/// What to look for, and where.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct What {
    /// A directory or a file: absolute, or below `/workspace`; `/workspace`.
    path: Option<String>,
    /// A regular expression for lines, as Rust's `regex` crate reads them; without it files are listed.
    pattern: Option<String>,
    /// Of files only: a pattern for names (`*.rs`), or with a `/` for paths below the directory (`src/**/*.rs`).
    glob: Option<String>,
    /// Upper and lower case are the same.
    #[serde(default)]
    ignore_case: bool,
    /// Names that begin with a dot too.
    #[serde(default)]
    hidden: bool,
    /// Matches at most, 1 to 10000; 1000.
    limit: Option<u64>,
}

pub(super) struct FileSearch;

impl Operation for FileSearch {
    const NAME: &'static str = "file_search";
    const SUMMARY: &'static str = "Find lines by a regular expression, and files by a pattern, for at most 10 s.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files/search")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 4 };
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = What;
    type Output = Json<SearchResult>;

    async fn call(shard: &Shard, call: Call<What>) -> Result<Self::Output, Error> {
        let sandbox = call.sandbox()?;
        let What { path, pattern, glob, ignore_case, hidden, limit } = call.input;
        for (field, text) in [("pattern", &pattern), ("glob", &glob)] {
            bounds::text(field, text.as_deref().unwrap_or_default(), 0..=4096)?;
        }
        let limit = bounds::number("limit", limit.unwrap_or(MATCHES_DEFAULT), 1..=MATCHES_MAX)? as usize;
        let path = place::path("path", path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/workspace"))?;
        let options = SearchOptions { pattern, glob, ignore_case, hidden, limit };
        shard.files(sandbox)?.search(path, options).await.map(Json)
    }
}
