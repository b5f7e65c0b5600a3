//! Which resources does the suite read? Two that stay, one that changes, and one for each id of a template.

use super::content::PNG;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;
use std::sync::atomic::{AtomicU64, Ordering};

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
/// It says how often it was subscribed to, so that a client that subscribes sees it change.
const WATCHED: &str = "test://watched-resource";
const TEMPLATE: (&str, &str) = ("test://template/", "/data");

static SUBSCRIBED: AtomicU64 = AtomicU64::new(0);

/// Those with a fixed name.
pub(super) fn listed() -> Vec<Resource> {
    let text = Resource::new(TEXT, "static-text").with_description("A text that stays.").with_mime_type("text/plain");
    let binary =
        Resource::new(BINARY, "static-binary").with_description("An image that stays.").with_mime_type("image/png");
    let watched = Resource::new(WATCHED, "watched-resource")
        .with_description("A text that changes when it is subscribed to.")
        .with_mime_type("text/plain");
    vec![text, binary, watched]
}

/// The others.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let template = ResourceTemplate::new(format!("{}{{id}}{}", TEMPLATE.0, TEMPLATE.1), "template")
        .with_description("A text for each id.")
        .with_mime_type("application/json");
    vec![template]
}

/// What one holds; `None` where there is none of this name.
pub(super) fn read(uri: &str) -> Option<ReadResourceResult> {
    let contents = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri),
        BINARY => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        WATCHED => ResourceContents::text(format!("subscribed to {} times", SUBSCRIBED.load(Ordering::Relaxed)), uri),
        _ => {
            let id = uri.strip_prefix(TEMPLATE.0)?.strip_suffix(TEMPLATE.1)?;
            if id.is_empty() || id.contains('/') {
                return None;
            }
            let text = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            ResourceContents::text(text.to_string(), uri).with_mime_type("application/json")
        }
    };
    Some(ReadResourceResult::new(vec![contents]))
}

/// Notes a subscription. True where the resource has changed by it, `None` where there is no such resource.
pub(super) fn subscribe(uri: &str) -> Option<bool> {
    read(uri)?;
    let changes = uri == WATCHED;
    if changes {
        SUBSCRIBED.fetch_add(1, Ordering::Relaxed);
    }
    Some(changes)
}
