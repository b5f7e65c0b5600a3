//! `openapi.json`: it can be parsed, and it tells the truth about what answers.

use crate::kit::Server;
use serde_json::{Map, Value, json};

/// The description as the server gives it.
pub(crate) fn description(server: &Server) -> Value {
    server.get("/api/v1/openapi.json").expect(200).json()
}

/// A schema with `$ref` followed.
pub(crate) fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(name) => document.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name} is missing")),
        None => schema,
    }
}

/// The path of an operation as the document spells it, base path or not.
pub(crate) fn operation<'a>(document: &'a Value, method: &str, path: &str) -> &'a Value {
    let paths = document["paths"].as_object().expect("paths");
    let found = paths.iter().find(|(p, _)| p.as_str() == path || format!("/api/v1{p}") == path);
    let operations = found.unwrap_or_else(|| panic!("{path} is missing: {:?}", paths.keys())).1;
    assert!(operations[method].is_object(), "{method} {path} is missing");
    &operations[method]
}

/// The JSON schema of an operation's body.
pub(crate) fn body_properties<'a>(document: &'a Value, method: &str, path: &str) -> &'a Map<String, Value> {
    let schema = &operation(document, method, path)["requestBody"]["content"]["application/json"]["schema"];
    let schema = resolved(document, schema);
    schema["properties"].as_object().unwrap_or_else(|| panic!("{method} {path} has no properties: {schema}"))
}

/// One operation of the document.
pub(crate) struct Described {
    /// In capitals.
    pub(crate) method: String,
    /// With its braces, from the root.
    pub(crate) path: String,
    pub(crate) described: Value,
}

impl Described {
    /// What a request of it needs beside its input: an upgrade where the route is a WebSocket.
    pub(crate) fn headers(&self) -> &'static [(&'static str, &'static str)] {
        const UPGRADE: &[(&str, &str)] = &[
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        if self.described["responses"]["101"].is_object() { UPGRADE } else { &[] }
    }

    /// Name and schema of each parameter of its query.
    pub(crate) fn query(&self) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.described["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
        all.filter_map(|p| Some((p["name"].as_str()?, &p["schema"])))
    }

    /// The parameters that its query must have.
    pub(crate) fn required(&self) -> impl Iterator<Item = &str> {
        let all = self.described["parameters"].as_array().into_iter().flatten();
        all.filter(|p| p["in"] == "query" && p["required"] == true).filter_map(|p| p["name"].as_str())
    }
}

/// All operations of the document.
pub(crate) fn operations(document: &Value) -> Vec<Described> {
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        let base = if ["/api/v1/", "/terminal/"].iter().any(|root| path.starts_with(root)) { "" } else { "/api/v1" };
        for (method, described) in methods.as_object().expect("operations").iter().filter(|(m, _)| *m != "parameters") {
            let (method, path) = (method.to_uppercase(), format!("{base}{path}"));
            all.push(Described { method, path, described: described.clone() });
        }
    }
    all
}

/// A path with its names filled in: this sandbox, and this process or terminal.
pub(crate) fn with_names(path: &str, id: &str, item: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        "{id}" => id,
        name if name.starts_with('{') => item,
        word => word,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn every_described_route_answers_and_every_route_is_described() {
    let server = Server::start();
    let document = description(&server);
    assert!(document["openapi"].as_str().is_some_and(|v| v.starts_with("3.")), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    for (method, path) in [
        ("get", "/api/v1/health"),
        ("get", "/api/v1/sandboxes"),
        ("post", "/api/v1/sandboxes"),
        ("get", "/api/v1/sandboxes/{id}"),
        ("delete", "/api/v1/sandboxes/{id}"),
        ("post", "/api/v1/sandboxes/{id}/process/run"),
        ("get", "/terminal/{id}"),
    ] {
        let found = operation(&document, method, path);
        assert!(found["operationId"].is_string() && found["responses"].is_object(), "{method} {path}: {found}");
    }
    let missing = "a".repeat(32);
    for Described { method, path, .. } in operations(&document) {
        let answer = server.request(&method, &with_names(&path, &missing, "2"), &[], b"");
        // A build without npm says by a page that it has no terminal.
        let is_page = answer.header("content-type").is_some_and(|t| t.starts_with("text/html"));
        let code = if answer.status >= 400 && !is_page { answer.json()["code"].as_u64() } else { None };
        let unknown = matches!(answer.status, 404 | 405) && code == Some(1001);
        let missing = answer.status == 501 && !is_page;
        assert!(!unknown && !missing, "{method} {path}: {} {}", answer.status, answer.text());
    }
}

#[test]
fn bodies_are_described_field_by_field() {
    let server = Server::start();
    let document = description(&server);
    let create = body_properties(&document, "post", "/api/v1/sandboxes");
    for field in ["template", "name", "env", "metadata", "timeout", "resources", "network", "idle_timeout"] {
        assert!(create.contains_key(field), "{field}: {:?}", create.keys());
    }
    let run = body_properties(&document, "post", "/api/v1/sandboxes/{id}/process/run");
    for field in
        ["command", "args", "env", "cwd", "timeout", "stdin", "user", "max_output_bytes", "encoding", "partial"]
    {
        assert!(run.contains_key(field), "{field}: {:?}", run.keys());
    }
    let references = all_references(&document);
    for reference in &references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference} leads nowhere");
    }
    assert_ne!(json!(references), json!([]));
}

fn all_references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(map.values().flat_map(all_references)).collect()
        }
        Value::Array(items) => items.iter().flat_map(all_references).collect(),
        _ => Vec::new(),
    }
}
