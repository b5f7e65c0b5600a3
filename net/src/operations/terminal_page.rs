//! The terminal page: one file of `net/terminal`, the same for everybody, which asks for the rest itself.
//!
//! Must not know: what the page does. Its policy allows its own script alone and came with it from its build.

use crate::operation::{Access, Call, Document, Effect, Nothing, Operation, Output, Profile, Reply, Route, get};
use bytes::Bytes;
use schemars::{Schema, SchemaGenerator};
use workspace_core::shard::Shard;
use workspace_core::{Error, Reason};

static HTML: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/terminal.html"));
const HEADERS: &str = include_str!(concat!(env!("OUT_DIR"), "/terminal.headers"));

/// The page, or what says how to build it.
#[derive(Debug)]
pub(super) struct Page;

impl Output for Page {
    const MEDIA_TYPE: &'static str = "text/html";

    fn reply(self) -> Result<Reply, Error> {
        Ok(Reply::Document(Document {
            status: if cfg!(terminal_page) { None } else { Some(501) },
            media_type: "text/html; charset=utf-8",
            headers: HEADERS,
            bytes: Bytes::from_static(HTML),
        }))
    }

    fn schema(_: &mut SchemaGenerator) -> Option<Schema> {
        None
    }
}

pub(super) struct TerminalPage;

impl Operation for TerminalPage {
    const NAME: &'static str = "terminal_page";
    const SUMMARY: &'static str = "Show a terminal in a browser; the page asks for a key where one is needed.";
    const ROUTES: &'static [Route] = &[get("/terminal/{id}")];
    const TOOL: Option<Profile> = None;
    const EFFECT: Effect = Effect::Read;
    const ACCESS: Access = Access::KeyOrPage;
    const ERRORS: &'static [Reason] = &[Reason::SandboxNotFound];
    type Input = Nothing;
    type Output = Page;

    async fn call(_: &Shard, _: Call<Nothing>) -> Result<Page, Error> {
        Ok(Page)
    }
}
