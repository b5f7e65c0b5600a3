//! How do answers look that have the same form in every endpoint: lists in pages, and what is not there?

use super::Era;
use super::engine::Answer;
use super::message::{self, Fault, Request};
use rmcp::model::{ErrorCode, ErrorData, PaginatedRequestParams, RequestId};
use serde_json::json;

/// Of a URI, in an error.
const SHOWN_BYTES_MAX: usize = 1024;

/// Answers a list that may be kept, or one that is another one soon: `list!(era, request, ListToolsResult, page)`, where
/// `page` takes a cursor and gives items and the next cursor.
macro_rules! list {
    ($era:expr, $request:expr, $list:ident, $page:expr) => {
        list!($era, $request, $list, $page, $era.caching())
    };
    ($era:expr, $request:expr, $list:ident, $page:expr, $caching:expr) => {{
        let (era, request): (Era, &mut Request) = ($era, $request);
        match methods::cursor(request) {
            Ok(cursor) => match $page(cursor).await {
                Ok((items, next)) => {
                    let mut list = $list::with_all_items(items);
                    list.next_cursor = next;
                    list.result_type = era.result_type();
                    list.meta = era.meta();
                    (list.ttl_ms, list.cache_scope) = $caching;
                    Ok(methods::one(message::response(&request.id, list)))
                }
                Err(fault) => Err(Fault::of(fault, &request.id)),
            },
            Err(fault) => Err(fault),
        }
    }};
}
pub(super) use list;

/// Where the page that is asked for begins; `None`: it is the first.
pub(super) fn cursor(request: &mut Request) -> Result<Option<String>, Fault> {
    let page: PaginatedRequestParams = message::params(request)?;
    Ok(page.cursor)
}

/// The page of a list that fits on its first one, so that no cursor was ever given.
pub(super) async fn only_page<T>(items: Vec<T>, cursor: Option<String>) -> Result<(Vec<T>, Option<String>), Fault> {
    if cursor.is_some() { Err(bad_cursor()) } else { Ok((items, None)) }
}

/// A cursor that no page had.
pub(super) fn bad_cursor() -> Fault {
    invalid_params("`cursor` is not one that this server gave; list again without it")
}

/// What is wrong with what a known method was given.
pub(super) fn invalid_params(message: impl Into<String>) -> Fault {
    Fault::new(200, ErrorCode::INVALID_PARAMS, message)
}

/// What is not there: each era has its own code for a resource.
pub(super) fn no_resource(era: Era, id: &RequestId, uri: &str) -> Fault {
    let code = match era {
        Era::Legacy => ErrorCode::RESOURCE_NOT_FOUND,
        Era::Modern => ErrorCode::INVALID_PARAMS,
    };
    let error = ErrorData::new(code, "no such resource", Some(json!({"uri": cut_uri(uri)})));
    Fault { status: 200, id: Some(id.clone()), error }
}

/// What an error shows of a URI.
pub(super) fn cut_uri(uri: &str) -> &str {
    &uri[..uri.floor_char_boundary(SHOWN_BYTES_MAX)]
}

/// An answer of one message.
pub(super) fn one(bytes: Vec<u8>) -> Answer {
    Answer::Message { status: 200, bytes, session: None }
}
