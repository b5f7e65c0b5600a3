//! Every field of every operation on files, tried wrong, in the two trees and elsewhere: refused by its name, with every file as
//! it was. Made from `openapi.json`, so that a new field or route is tried without a new line here. Attacks F01, T06 and T07.

use crate::bad_fields::{kinds, refused};
use crate::files::Files;
use crate::kit::{Response, Server, with_query};
use crate::openapi::{Described, description, operations, resolved, with_names};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

/// Where the host's walk leads, and where only a worker inside comes.
const PLACES: [&str; 2] = ["/workspace/here", "/tmp/here"];

struct Field {
    name: String,
    kind: String,
}

/// All fields of an operation: of its query, and of its body where that is JSON.
fn fields(document: &Value, operation: &Described) -> Vec<Field> {
    let mut all: Vec<Field> = Vec::new();
    let mut add = |name: &str, schema: &Value| {
        if all.iter().all(|field| field.name != name) {
            all.push(Field { name: name.to_owned(), kind: kinds(document, schema).join(" ") });
        }
    };
    for (name, schema) in operation.query() {
        add(name, schema);
    }
    let body = resolved(document, &operation.described["requestBody"]["content"]["application/json"]["schema"]);
    for (name, schema) in body["properties"].as_object().unwrap_or(&Map::new()) {
        add(name, schema);
    }
    all
}

/// Values that are wrong wherever they stand, as text.
fn wrong(field: &Field) -> Vec<String> {
    let long = |bytes: usize| "x".repeat(bytes);
    let texts: Vec<String> = match field.name.as_str() {
        "path" | "source" | "destination" | "src" | "dst" => {
            let deep = "d/".repeat(2048);
            ["\0", "a\0b", "/tmp/a\0"].map(str::to_owned).into_iter().chain([long(256), deep]).collect()
        }
        "mode" => ["", "rw", "888", "0177777", "-1", "0x1ff", "+644"].map(str::to_owned).into(),
        "encoding" => ["", "latin1", "UTF8"].map(str::to_owned).into(),
        "pattern" => ["(", "a{1000}{1000}{1000}", "\\"].map(str::to_owned).into_iter().chain([long(4097)]).collect(),
        "glob" => ["[", "{a", "[z-a]"].map(str::to_owned).into_iter().chain([long(4097)]).collect(),
        "limit" => ["0", "10001"].map(str::to_owned).into(),
        "depth" => ["0", "4294967296"].map(str::to_owned).into(),
        "cursor" => ["\0"].map(str::to_owned).into(),
        _ => Vec::new(),
    };
    let by_kind: &[&str] = match field.kind.as_str() {
        kind if kind.contains("integer") => &["-1", "1.5", "x", "18446744073709551616", ""],
        kind if kind.contains("boolean") => &["yes", "2", "True", ""],
        _ => &[],
    };
    texts.into_iter().chain(by_kind.iter().map(|text| (*text).to_owned())).collect()
}

/// What makes a call right, and a change where the operation makes any.
fn right(operation: &Described, place: &str) -> Vec<(&'static str, String)> {
    let ends = |end: &str| operation.path.ends_with(end);
    if ends("/move") || ends("/copy") {
        return vec![("source", format!("{place}/from")), ("destination", format!("{place}/to"))];
    }
    let path = match operation.method.as_str() {
        "GET" if ends("/files") || ends("/read") => format!("{place}/f"),
        "GET" => place.to_owned(),
        _ if ends("/archive") => format!("{place}/unpacked"),
        "DELETE" => format!("{place}/gone"),
        _ => format!("{place}/new"),
    };
    vec![("path", path)]
}

struct Asked<'a> {
    server: &'a Server,
    operation: &'a Described,
    route: String,
}

impl Asked<'_> {
    /// With these fields in the query, and bytes for a body where one is taken.
    fn in_query(&self, pairs: &[(&str, &str)]) -> Response {
        let (headers, body): (&[(&str, &str)], &[u8]) = match self.operation.path.rsplit('/').next() {
            _ if !self.operation.described["requestBody"].is_object() => (self.operation.headers(), b""),
            Some("archive") => (&[("Content-Type", "application/x-tar")], &[0; 1024]),
            _ => (&[("Content-Type", "application/octet-stream")], b"new"),
        };
        self.server.request(&self.operation.method, &with_query(&self.route, pairs), headers, body)
    }

    /// With these fields in a JSON body.
    fn in_body(&self, fields: &Map<String, Value>) -> Response {
        self.server.request(
            &self.operation.method,
            &self.route,
            &[],
            Value::Object(fields.clone()).to_string().as_bytes(),
        )
    }
}

fn takes_bytes(operation: &Described) -> bool {
    let content = operation.described["requestBody"]["content"].as_object();
    content.is_none_or(|types| types.keys().any(|kind| kind != "application/json"))
}

#[test]
fn every_field_of_files_tried_wrong_changes_nothing() {
    let server = Server::start();
    let files = Files::new(&server);
    let document = description(&server);
    for place in PLACES {
        files.sh(&format!(
            "mkdir -p {place}/gone {place}/d; cd {place}; echo kept >f; echo from >from; ln -s /etc link"
        ));
    }
    let look = "find /workspace /home/user /tmp /dev/shm -printf '%p %y %s %l %m %u %T@ %C@\\n' | sort; cat /workspace/here/f /tmp/here/f";
    let mut before = files.sh(look);
    let (mut tried, mut names) = (0, BTreeSet::new());
    let is_files = |operation: &Described| {
        let below = operation.path.strip_prefix("/api/v1/sandboxes/{id}/").unwrap_or_default();
        below.starts_with("files") || below.starts_with("fs/")
    };
    for operation in operations(&document).iter().filter(|operation| is_files(operation)) {
        // A watch that is right does not end.
        let (is_watch, route) = (operation.path.ends_with("/watch"), with_names(&operation.path, &files.id, "1"));
        let asked = Asked { server: &server, operation, route: route.clone() };
        let has_json = operation.described["requestBody"]["content"]["application/json"].is_object();
        for place in PLACES {
            let base = right(operation, place);
            let others = |name: &str| -> Vec<(&'static str, &str)> {
                base.iter().filter(|(other, _)| *other != name).map(|(name, value)| (*name, value.as_str())).collect()
            };
            let mut expected = |answer: &Response, name: &str, shown: &str| {
                refused(answer, name, &format!("{} {route}: {shown}", operation.method));
                tried += 1;
            };
            for field in fields(&document, operation) {
                let name = field.name.as_str();
                names.insert(name.to_owned());
                for text in wrong(&field) {
                    if takes_bytes(operation) && name != "content" && !(name == "cursor" && text.contains('\0')) {
                        let mut pairs = others(name);
                        pairs.push((name, &text));
                        let answer = asked.in_query(&pairs);
                        // A NUL in a query is refused before anybody looks at the name.
                        let shown = if text.contains('\0') { "" } else { name };
                        expected(&answer, shown, &text);
                    }
                    if has_json {
                        let mut body: Map<String, Value> =
                            others(name).into_iter().map(|(name, value)| (name.to_owned(), json!(value))).collect();
                        if fields(&document, operation).iter().any(|field| field.name == "content") {
                            body.insert("content".to_owned(), json!("new"));
                        }
                        body.insert(name.to_owned(), json!(text));
                        expected(&asked.in_body(&body), name, &text);
                    }
                }
            }
            // Fields of the head.
            if !is_watch && operation.path.ends_with("/files") && operation.method != "DELETE" {
                for (header, value) in [
                    ("If-Match", "unquoted"),
                    ("If-None-Match", "\"a"),
                    ("If-Match", ""),
                    ("If-None-Match", "*, \"a\""),
                ] {
                    let pairs: Vec<_> = base.iter().map(|(name, value)| (*name, value.as_str())).collect();
                    let all = [(header, value), ("Content-Type", "application/octet-stream")];
                    let body: &[u8] = if operation.method == "PUT" { b"new" } else { b"" };
                    let headers = if operation.method == "PUT" { &all[..] } else { &all[..1] };
                    let answer = server.request(&operation.method, &with_query(&route, &pairs), headers, body);
                    assert_eq!(answer.status, 400, "{header}: {value}: {}", answer.text());
                    answer.assert_error_form();
                    tried += 1;
                }
            }
            assert_eq!(files.sh(look), before, "{} {route}: nothing was changed", operation.method);
            if is_watch {
                continue;
            }
            // The control: without a wrong field it is done, and seen where it is a change.
            let pairs: Vec<_> = base.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let answer = match takes_bytes(operation) {
                true => asked.in_query(&pairs),
                false => asked.in_body(&base.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect()),
            };
            assert_eq!(answer.status, 200, "{} {route}: {}", operation.method, answer.text());
            let after = files.sh(look);
            assert_eq!(after == before, operation.method == "GET", "{} {route}", operation.method);
            files.sh(&format!("cd {place}; rm -rf new to unpacked; mkdir -p gone; [ -e from ] || echo from >from"));
            before = files.sh(look);
        }
    }
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    for name in ["append", "content", "cursor", "depth", "destination", "encoding", "glob", "hidden", "limit", "mode"] {
        assert!(names.contains(name), "{name} is tried: {all:?}");
    }
    assert!(tried > 300, "{tried} cases");
}
