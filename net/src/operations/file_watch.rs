//! Follow what changes in a sandbox's tree, whoever changes it.
//!
//! Nothing is kept for a client that was away: one that comes back is told to list again, and then what changes.

use super::place::{self, FILE_ERRORS};
use crate::operation::{Abandoned, Call, Effect, Events, Follow, Limits, MIB, Operation, Profile, Route, get};
use crate::wire::watched;
use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use schemars::JsonSchema;
use serde::Deserialize;
use workspace_core::files::{Change, Watch};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

/// Events are sent when this much has collected, even where more are there.
const PAGE_BYTES_MAX: usize = 64 << 10;

/// What to watch.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct What {
    /// A directory: absolute, or below `/workspace`; `/workspace`.
    path: Option<String>,
    /// Also what happens in the directories below it.
    #[serde(default)]
    recursive: bool,
}

/// Reads the changes and writes them as server-sent events.
struct Written {
    watch: Watch,
    /// The last event's.
    id: u64,
    /// What the client is told first.
    first: Option<Vec<u8>>,
}

impl Written {
    /// False behind the last event.
    fn write(&mut self, change: Result<Change, Error>, out: &mut Vec<u8>) -> bool {
        match change {
            Ok(change) => {
                self.id = self.id.wrapping_add(1);
                watched::change(out, self.id, &change);
                true
            }
            Err(error) => {
                watched::error(out, &error.message, error.reason.name());
                false
            }
        }
    }

    async fn next(&mut self, out: &mut Vec<u8>) -> bool {
        if let Some(first) = self.first.take() {
            out.extend_from_slice(&first);
            return true;
        }
        let change = self.watch.next().await;
        let mut goes_on = self.write(change, out);
        while goes_on && out.len() < PAGE_BYTES_MAX {
            let Some(change) = self.watch.ready() else { break };
            goes_on = self.write(Ok(change), out);
        }
        goes_on
    }
}

impl Events for Written {
    fn write_next<'a>(&'a mut self, out: &'a mut Vec<u8>) -> LocalBoxFuture<'a, bool> {
        self.next(out).boxed_local()
    }
}

pub(super) struct FileWatch;

impl Operation for FileWatch {
    const NAME: &'static str = "file_watch";
    const SUMMARY: &'static str = "Follow what is created, modified, removed and moved in a directory, and with `recursive` below it, as server-sent events.";
    const ROUTES: &'static [Route] = &[get("/api/v1/sandboxes/{id}/files/watch")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ABANDONED: Abandoned = Abandoned::Cancel;
    const LIMITS: Limits = Limits { body_bytes_max: MIB, in_flight_max_per_sandbox: 64 };
    const ERRORS: &'static [Reason] = FILE_ERRORS;
    type Input = What;
    type Output = Follow;

    async fn call(shard: &Shard, call: Call<What>) -> Result<Follow, Error> {
        let sandbox = call.sandbox()?;
        let path =
            place::path("path", call.input.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/workspace"))?;
        let recursive = call.input.recursive;
        let shown = path.text();
        let watch = shard.files(sandbox)?.watch(path, place::recursive(recursive)).await?;
        // Ids go on where a client left off, so that they grow for it.
        let had = call.last_event_id.as_ref().map(|id| id.trim().parse::<u64>().unwrap_or(0));
        let mut first = Vec::new();
        let mut id = had.unwrap_or(0).wrapping_add(1);
        watched::stands(&mut first, id, &shown, recursive);
        if had.is_some() {
            id = id.wrapping_add(1);
            watched::change(&mut first, id, &Change::Overflow);
        }
        Ok(Follow(Some(Box::new(Written { watch, id, first: Some(first) }))))
    }
}
