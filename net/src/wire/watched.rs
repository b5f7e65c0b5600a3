//! How a change of files looks as a server-sent event: unnamed, one `data:` line, the id a number that grows.
//!
//! JSON in ASCII line ends: no name of a file can end a line or begin a field.
//! Source: WHATWG HTML, server-sent events.

use serde::Serialize;
use std::io::Write;
use workspace_core::files::{Change, name};

#[derive(Serialize)]
struct Stands<'a> {
    r#type: &'a str,
    path: &'a str,
    recursive: bool,
}

#[derive(Serialize)]
struct At<'a> {
    r#type: &'a str,
    path: String,
    is_dir: bool,
}

#[derive(Serialize)]
struct Moved<'a> {
    r#type: &'a str,
    from: String,
    to: String,
    is_dir: bool,
}

#[derive(Serialize)]
struct Bare<'a> {
    r#type: &'a str,
}

#[derive(Serialize)]
struct Failure<'a> {
    r#type: &'a str,
    message: &'a str,
    reason: &'a str,
}

/// From here on everything is told.
pub fn stands(out: &mut Vec<u8>, id: u64, path: &str, recursive: bool) {
    event(out, Some(id), &Stands { r#type: "watching", path, recursive });
}

/// One change.
pub fn change(out: &mut Vec<u8>, id: u64, change: &Change) {
    let mut at = |r#type, path: &[u8], is_dir| event(out, Some(id), &At { r#type, path: name::show(path), is_dir });
    match change {
        Change::Created { path, is_dir } => at("created", path, *is_dir),
        Change::Modified { path, is_dir } => at("modified", path, *is_dir),
        Change::Removed { path, is_dir } => at("removed", path, *is_dir),
        Change::Moved { from, to, is_dir } => {
            let (from, to) = (name::show(from), name::show(to));
            event(out, Some(id), &Moved { r#type: "moved", from, to, is_dir: *is_dir });
        }
        Change::Overflow => event(out, Some(id), &Bare { r#type: "overflow" }),
    }
}

/// Why nothing more will come.
pub fn error(out: &mut Vec<u8>, message: &str, reason: &str) {
    event(out, None, &Failure { r#type: "error", message, reason });
}

fn event(out: &mut Vec<u8>, id: Option<u64>, value: &impl Serialize) {
    // Writing to memory does not fail.
    if let Some(id) = id {
        let _ = writeln!(out, "id: {id}");
    }
    out.extend_from_slice(b"data: ");
    let _ = serde_json::to_writer(&mut *out, value);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_can_forge_an_event_and_the_longest_can_be_read() {
        let hostile = b"/a\n\ndata: {\"type\":\"overflow\"}\n\nid: 7\r\nretry: 1\r\xff\0";
        let mut out = Vec::new();
        change(&mut out, 9, &Change::Created { path: hostile.to_vec(), is_dir: true });
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.split(['\n', '\r']).collect();
        assert_eq!((lines.len(), lines[0], lines[2], lines[3]), (4, "id: 9", "", ""));
        let event: serde_json::Value = serde_json::from_str(lines[1].strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name::read(event["path"].as_str().unwrap()), hostile);
        for byte in [0x01, 0xff, b'"'] {
            let mut out = Vec::new();
            let path = vec![byte; 4095];
            change(&mut out, u64::MAX, &Change::Moved { from: path.clone(), to: path, is_dir: false });
            assert!(out.len() < 64 << 10, "{}", out.len());
        }
    }
}
