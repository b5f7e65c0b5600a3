//! What are the resources? The files of sandboxes, read by the operations that HTTP has for them.
//!
//! Listed are the roots of sandboxes; a directory that is read lists what it holds, with the URI of each. What is longer
//! than one answer may be is cut, and says so.

use super::Era;
use super::call::{invoke, json_of};
use super::content::{self, Part, Range, text_bytes};
use super::engine::Engine;
use super::message::Fault;
use super::methods::{bad_cursor, cut_uri, no_resource};
use super::offer::Asker;
use super::tools::READ_BYTES_MAX;
use super::uri::{Place, ROOT, TEMPLATE};
use crate::failure::{http_status, next_step};
use crate::http::slot::Slot;
use crate::operation::{Asked, Entry, Reply};
use crate::wire::base64;
use rmcp::model::{ErrorCode, ErrorData, ReadResourceResult, RequestId, Resource, ResourceContents, ResourceTemplate};
use serde_json::{Value, json};
use std::rc::Rc;
use workspace_core::{Error, Reason, SandboxId};

/// Sandboxes on one page.
const PAGE_MAX: u64 = 50;
/// Entries of a directory in one answer.
const ENTRIES_MAX: u64 = 1000;
const JSON: &str = "application/json";

/// How each resource is named.
pub(super) fn templates() -> Vec<ResourceTemplate> {
    let about = "A file of a sandbox, or what a directory holds. `path` is relative to /workspace, or absolute.";
    vec![ResourceTemplate::new(TEMPLATE, "workspace-file").with_title("File of a sandbox").with_description(about)]
}

/// Whose sandboxes are there to be seen?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sees {
    /// All of the server, as who may list them does.
    All,
    /// The session's own.
    Own,
}

/// One page of the roots of running sandboxes, oldest first.
pub(super) async fn list(
    asker: &Asker<'_>,
    sees: Sees,
    cursor: Option<String>,
) -> Result<(Vec<Resource>, Option<String>), Fault> {
    if sees == Sees::Own {
        return match cursor {
            Some(_) => Err(bad_cursor()),
            None => Ok((own(asker).await.map(|id| root(id, "")).into_iter().collect(), None)),
        };
    }
    let input = json!({"state": "running", "limit": PAGE_MAX, "cursor": cursor});
    let page = async { asked(asker.engine, operation(asker.engine, "sandbox_list")?, None, input).await };
    let page = page.await.map_err(|error| match error.details.as_deref() {
        Some("cursor") => bad_cursor(),
        _ => Fault { status: 200, id: None, error: said(&error, None) },
    })?;
    let of = |sandbox: &Value| {
        let id = sandbox["id"].as_str().and_then(SandboxId::parse)?;
        Some(root(id, sandbox["name"].as_str().unwrap_or_default()))
    };
    let roots = page["sandboxes"].as_array().into_iter().flatten().filter_map(of).collect();
    Ok((roots, page["next_cursor"].as_str().map(str::to_owned)))
}

/// The session's own sandbox, where it has made one.
pub(super) async fn own(asker: &Asker<'_>) -> Option<SandboxId> {
    *asker.own()?.lock().await
}

fn root(id: SandboxId, name: &str) -> Resource {
    let title = if name.is_empty() { id.as_str() } else { name };
    Resource::new(Place::write(id, ROOT), id.as_str())
        .with_title(format!("Files of {title}"))
        .with_description("What /workspace of this sandbox holds, with the uri of each file and directory.")
        .with_mime_type(JSON)
}

/// Reads a file, or lists a directory.
pub(super) async fn read(engine: &Rc<Engine>, place: &Place, uri: &str) -> Result<ReadResourceResult, Error> {
    let entry = operation(engine, "file_read")?;
    let slot = Slot::wait(engine.running(), entry, Some(place.sandbox)).await?;
    let part = Range { offset: 0, limit: READ_BYTES_MAX };
    let input = json!({"path": place.path});
    let reply = invoke(engine.shard().clone(), entry, Some(place.sandbox), input, part.asked()).await;
    let contents = match reply {
        Ok(Reply::Content(bytes)) => shown(content::take(bytes, part.limit).await?, &place.path, uri),
        Ok(_) => return Err(Error::new(Reason::Internal, "the file has no bytes")),
        Err(error) if error.reason == Reason::IsADirectory => {
            drop(slot);
            listing(engine, place, uri).await?
        }
        Err(error) => return Err(error),
    };
    Ok(ReadResourceResult::new(contents))
}

/// The first bytes of a file: text where they are, else base64.
fn shown(Part { mut bytes, size, .. }: Part, path: &str, uri: &str) -> Vec<ResourceContents> {
    let is_cut = (bytes.len() as u64) < size;
    // NUL is a character, but no reader of text expects it.
    let valid = text_bytes(&bytes, is_cut).filter(|_| !bytes.contains(&0));
    let content = match valid {
        Some(valid) => {
            bytes.truncate(valid);
            ResourceContents::text(String::from_utf8_lossy(&bytes), uri)
        }
        None => ResourceContents::blob(base64::encode(&bytes), uri),
    };
    let mut contents = vec![content.with_mime_type(media_type(path, valid.is_some()))];
    if is_cut {
        let note = format!(
            "Note: these are the first {} of {size} bytes. The rest is read with the tool file_read (`offset` {}), with \
             a command (tail -c +{}), or by GET /api/v1/sandboxes/ID/files with Range.",
            bytes.len(),
            bytes.len(),
            bytes.len() + 1
        );
        contents.push(ResourceContents::text(note, uri));
    }
    contents
}

/// What a directory holds.
async fn listing(engine: &Rc<Engine>, place: &Place, uri: &str) -> Result<Vec<ResourceContents>, Error> {
    let page = entries(engine, place.sandbox, &place.path, ENTRIES_MAX, None).await?;
    let of = |entry: &Value| {
        let path = entry["path"].as_str().unwrap_or_default();
        json!({"name": entry["name"], "type": entry["type"], "size": entry["size"], "modified_at": entry["modified_at"],
            "uri": Place::write(place.sandbox, path)})
    };
    let entries: Vec<Value> = page["files"].as_array().into_iter().flatten().map(of).collect();
    let text = json!({"entries": entries}).to_string();
    let mut contents = vec![ResourceContents::text(text, uri).with_mime_type(JSON)];
    if page["next_cursor"].is_string() {
        let note =
            format!("Note: these are the first {ENTRIES_MAX} entries; the tool file_list gives the rest (`cursor`).");
        contents.push(ResourceContents::text(note, uri));
    }
    Ok(contents)
}

/// One page of a directory, as file_list answers.
pub(super) async fn entries(
    engine: &Rc<Engine>,
    sandbox: SandboxId,
    path: &str,
    limit: u64,
    cursor: Option<&str>,
) -> Result<Value, Error> {
    let input = json!({"path": path, "limit": limit, "cursor": cursor});
    asked(engine, operation(engine, "file_list")?, Some(sandbox), input).await
}

/// An operation of THE list.
pub(super) fn operation(engine: &Rc<Engine>, name: &str) -> Result<&'static Entry, Error> {
    engine.operation(name).ok_or_else(|| Error::new(Reason::NotImplemented, format!("this server has no {name}")))
}

/// Calls an operation whose answer is JSON.
pub(super) async fn asked(
    engine: &Rc<Engine>,
    entry: &'static Entry,
    sandbox: Option<SandboxId>,
    input: Value,
) -> Result<Value, Error> {
    let _slot = Slot::wait(engine.running(), entry, sandbox).await?;
    let reply = invoke(engine.shard().clone(), entry, sandbox, input, Asked::default()).await?;
    json_of(reply).map(|(_, value)| value)
}

/// What is said where a resource can't be had.
pub(super) fn refused(era: Era, id: &RequestId, uri: &str, error: &Error) -> Fault {
    if let Some(source) = &error.source {
        tracing::warn!(source, "a resource was refused");
    }
    match error.reason {
        Reason::SandboxNotFound | Reason::FileNotFound | Reason::NotADirectory | Reason::InvalidPath => {
            no_resource(era, id, uri).because(&error.message)
        }
        _ => Fault { status: 200, id: Some(id.clone()), error: said(error, Some(uri)) },
    }
}

fn said(error: &Error, uri: Option<&str>) -> ErrorData {
    let reason = error.reason;
    let code = match http_status(reason) {
        400..=428 => ErrorCode::INVALID_PARAMS,
        _ => ErrorCode::INTERNAL_ERROR,
    };
    let text = format!("{} ({}): {}\nNext: {}", reason.name(), reason.code(), error.message, next_step(reason));
    ErrorData::new(code, text, uri.map(|uri| json!({"uri": cut_uri(uri), "reason": reason.name()})))
}

/// By the last part of its name, which is all that a client could go by too.
fn media_type(path: &str, is_text: bool) -> &'static str {
    let name = path.rsplit('/').next().unwrap_or_default();
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    match (is_text, end.as_str()) {
        (true, "md" | "markdown") => "text/markdown",
        (true, "html" | "htm") => "text/html",
        (true, "css") => "text/css",
        (true, "csv") => "text/csv",
        (true, "json") => JSON,
        (true, "xml") => "application/xml",
        (true, "svg") => "image/svg+xml",
        (true, _) => "text/plain",
        (false, "png") => "image/png",
        (false, "jpg" | "jpeg") => "image/jpeg",
        (false, "gif") => "image/gif",
        (false, "webp") => "image/webp",
        (false, "pdf") => "application/pdf",
        (false, "wav") => "audio/wav",
        (false, "mp3") => "audio/mpeg",
        (false, "zip") => "application/zip",
        (false, _) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(bytes: &[u8], size: u64, path: &str) -> Vec<Value> {
        let shown = shown(Part { bytes: bytes.to_vec(), size, tag: None }, path, "u");
        shown.iter().map(|content| serde_json::to_value(content).unwrap()).collect()
    }

    #[test]
    fn text_is_text_and_all_else_base64() {
        let text = contents("é".as_bytes(), 2, "a.MD");
        assert_eq!(text, [json!({"uri": "u", "mimeType": "text/markdown", "text": "é"})]);
        assert_eq!(contents(b"", 0, "a/b.c/d")[0]["mimeType"], "text/plain");
        assert_eq!(contents(b"\xff", 1, "x.png"), [json!({"uri": "u", "mimeType": "image/png", "blob": "/w=="})]);
        assert_eq!(contents(b"a\0", 2, "a.md")[0]["mimeType"], "application/octet-stream");
    }

    #[test]
    fn what_is_cut_says_so_and_no_character_is() {
        let cut = contents(b"ab\xc3", 9, "a");
        assert_eq!(cut[0]["text"], "ab");
        assert!(cut[1]["text"].as_str().unwrap().contains("the first 2 of 9 bytes"), "{cut:?}");
        assert_eq!(contents(b"ab\xc3", 3, "a")[0]["blob"], "YWLD", "it is its end, so it is no text");
    }
}
