//! THE list as documents: `openapi.json` for programs, `docs/reference.md` for people.
//!
//! Schemas are those of the types that are decoded and encoded; nothing is written by hand twice.

mod carried;

use crate::failure::http_status;
use crate::operation::{Access, COMMON_ERRORS, Entry, Method, Route};
use crate::operations::OPERATIONS;
use bytes::Bytes;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;
use workspace_core::Reason;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| {
    let text = serde_json::to_vec(&document(OPERATIONS));
    text.unwrap_or_default().into()
});

/// The OpenAPI document, made once.
pub fn bytes() -> Bytes {
    DOCUMENT.clone()
}

/// The OpenAPI 3.1 document of a list of operations.
pub fn document(operations: &[Entry]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|s| {
        s.definitions_path = "/components/schemas".into();
        s.meta_schema = None;
    });
    let mut inputs = settings.clone().into_generator();
    let mut outputs = settings.for_serialize().into_generator();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let input = (operation.input)(&mut inputs);
        let output = (operation.output)(&mut outputs);
        for (index, route) in operation.routes.iter().enumerate() {
            // An operationId stands there once; other routes are aliases.
            let id = if index == 0 { operation.name.to_owned() } else { format!("{}_{index}", operation.name) };
            let input = resolve(input.as_value(), inputs.definitions());
            let described = describe(operation, route, &id, &input, output.as_ref().map(|s| s.as_value()));
            paths.entry(route.path).or_default().insert(route.method.name().to_lowercase(), described);
        }
    }
    let mut schemas = inputs.take_definitions(true);
    schemas.extend(outputs.take_definitions(true));
    schemas.insert("Error".to_owned(), error_schema());
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Elevo Workspace", "version": env!("CARGO_PKG_VERSION"), "license": {"name": "Apache-2.0"}},
        "security": [{"bearer": []}, {"key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    })
}

/// The schema behind a reference, so that its fields can be shown one by one.
fn resolve(schema: &Value, definitions: &Map<String, Value>) -> Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|r| r.rsplit('/').next());
    name.and_then(|name| definitions.get(name)).unwrap_or(schema).clone()
}

fn describe(operation: &Entry, route: &Route, id: &str, input: &Value, output: Option<&Value>) -> Value {
    let mut described =
        json!({"operationId": id, "summary": operation.summary, "responses": responses(operation, output)});
    let mut parameters: Vec<Value> = parameters_of(route.path)
        .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
        .collect();
    let input = &without_names(input, route.path);
    if route.method.has_body() {
        described["requestBody"] = json!({"required": true, "content": {"application/json": {"schema": input}}});
    } else {
        let required = |name: &str| input["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        for (name, schema) in input.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let mut parameter = json!({"name": name, "in": "query", "schema": schema});
            if required(name) {
                parameter["required"] = true.into();
            }
            parameters.push(parameter);
        }
    }
    if operation.name == "sandbox_create" {
        parameters
            .push(json!({"name": "Idempotency-Key", "in": "header", "schema": {"type": "string", "maxLength": 255}}));
    }
    if let Some(protocols) = operation.socket {
        parameters.push(json!({"name": "api_key", "in": "query", "schema": {"type": "string",
            "description": "The API key, where the client can't send it in a header."}}));
        parameters.push(json!({"name": "Sec-WebSocket-Protocol", "in": "header",
            "schema": {"type": "string", "enum": protocols}}));
    }
    carried::describe(operation, route, input, &mut described, &mut parameters);
    if !parameters.is_empty() {
        described["parameters"] = parameters.into();
    }
    if operation.access == Access::Open {
        described["security"] = json!([]);
    }
    described
}

fn parameters_of(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

/// The input without the fields that the path gives.
fn without_names(input: &Value, path: &str) -> Value {
    let mut input = input.clone();
    for name in parameters_of(path) {
        if let Some(properties) = input["properties"].as_object_mut() {
            properties.remove(name);
        }
        if let Some(required) = input["required"].as_array_mut() {
            required.retain(|field| field != name);
        }
    }
    input
}

fn responses(operation: &Entry, output: Option<&Value>) -> Value {
    let mut responses = Map::new();
    if operation.socket.is_some() {
        responses.insert(operation.status.to_string(), json!({"description": "The connection is a WebSocket now."}));
        responses
            .insert("426".to_owned(), json!({"description": "No upgrade was asked for.", "content": error_content()}));
    } else {
        responses.insert(operation.status.to_string(), success(operation, output));
    }
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for reason in COMMON_ERRORS.iter().chain(operation.errors) {
        by_status.entry(http_status(*reason)).or_default().push(reason.name());
    }
    for (status, names) in by_status {
        let content = match operation.access {
            Access::KeyOrPage => json!({operation.media_type: {"schema": {"type": "string"}}}),
            Access::Key | Access::Open => error_content(),
        };
        responses.insert(status.to_string(), json!({"description": names.join(", "), "content": content}));
    }
    Value::Object(responses)
}

fn success(operation: &Entry, output: Option<&Value>) -> Value {
    let unknown = if operation.media_type == "application/json" { "object" } else { "string" };
    let schema = output.cloned().unwrap_or_else(|| json!({"type": unknown}));
    json!({"description": "Done.", "content": {operation.media_type: {"schema": schema}}})
}

fn error_content() -> Value {
    json!({"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}})
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "required": ["code", "reason", "message", "retryable", "request_id"],
        "properties": {
            "code": {"type": "integer", "enum": Reason::ALL.iter().map(|r| r.code()).collect::<Vec<_>>()},
            "reason": {"type": "string", "enum": Reason::ALL.iter().map(|r| r.name()).collect::<Vec<_>>()},
            "message": {"type": "string"},
            "details": {"type": "string"},
            "retryable": {"type": "boolean"},
            "request_id": {"type": "string"},
        },
    })
}

/// `docs/reference.md`, whole.
pub fn reference(operations: &[Entry]) -> String {
    let document = document(operations);
    let mut text = String::from(
        "# Reference\n\nMade from the declarations that route the requests; do not edit. \
         `openapi.json`, served by the server, says the same for programs.\n\n## Operations\n",
    );
    for operation in operations {
        text += &format!("\n### {}\n\n{}\n\n", operation.name, operation.summary);
        for route in operation.routes {
            text += &format!("    {} {}\n", route.method.name(), route.path);
        }
        if let Some(tool) = operation.tool {
            text += &format!("\nMCP tool from the set `{}` on.\n", format!("{tool:?}").to_lowercase());
        }
        let Some(route) = operation.routes.first() else { continue };
        let described = &document["paths"][route.path][route.method.name().to_lowercase()];
        let mut seen = Vec::new();
        table(&mut text, "Input", &input_of(described, route.method), &document, &mut seen);
        let output = &described["responses"][operation.status.to_string()]["content"][operation.media_type]["schema"];
        table(&mut text, &format!("Answer ({})", operation.status), output, &document, &mut seen);
        if !operation.errors.is_empty() {
            let names: Vec<String> = operation.errors.iter().map(|r| format!("`{}`", r.name())).collect();
            text += &format!("\nFails with {}.\n", names.join(", "));
        }
    }
    text += "\n## Failures\n\nEvery operation can also fail with the first nine.\n\n| code | reason | HTTP | retry |\n|---|---|---|---|\n";
    let own = Reason::ALL.iter().filter(|r| !COMMON_ERRORS.contains(r));
    for reason in COMMON_ERRORS.iter().chain(own) {
        let retry = if reason.retryable() { "yes" } else { "no" };
        text += &format!("| {} | `{}` | {} | {retry} |\n", reason.code(), reason.name(), http_status(*reason));
    }
    text
}

fn input_of(described: &Value, method: Method) -> Value {
    if method.has_body() {
        return described["requestBody"]["content"]["application/json"]["schema"].clone();
    }
    let query = || described["parameters"].as_array().into_iter().flatten().filter(|p| p["in"] == "query");
    let properties: Map<String, Value> =
        query().map(|p| (p["name"].as_str().unwrap_or_default().to_owned(), p["schema"].clone())).collect();
    let required: Vec<&Value> = query().filter(|p| p["required"] == true).map(|p| &p["name"]).collect();
    json!({"properties": properties, "required": required})
}

/// A table of an object's fields, and after it those of the objects within.
fn table(text: &mut String, title: &str, schema: &Value, document: &Value, seen: &mut Vec<String>) {
    let Some(definitions) = document["components"]["schemas"].as_object() else { return };
    let schema = resolve(schema, definitions);
    let Some(properties) = schema.get("properties").and_then(Value::as_object).filter(|p| !p.is_empty()) else {
        return;
    };
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    *text += &format!("\n{title}:\n\n| field | type | |\n|---|---|---|\n");
    for (name, field) in properties {
        let mark = if required.contains(&name.as_str()) { "" } else { "?" };
        let about = field["description"].as_str().unwrap_or_default().replace('\n', " ").replace('|', "\\|");
        *text += &format!("| `{name}`{mark} | {} | {about} |\n", type_of(field));
    }
    for field in properties.values() {
        if let Some(inner) = reference_in(field).filter(|inner| !seen.contains(inner)) {
            seen.push(inner.clone());
            let schema = json!({"$ref": format!("#/components/schemas/{inner}")});
            table(text, &inner, &schema, document, seen);
        }
    }
}

fn type_of(field: &Value) -> String {
    if let Some(name) = reference_in(field) {
        return if field["type"] == "array" { format!("array of {name}") } else { name };
    }
    match &field["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
        Value::String(name) if name == "array" => {
            format!("array of {}", field["items"]["type"].as_str().unwrap_or("any"))
        }
        Value::String(name) if name == "object" => "object of strings".to_owned(),
        Value::String(name) => name.clone(),
        _ => "any".to_owned(),
    }
}

fn reference_in(field: &Value) -> Option<String> {
    let direct = [&field["$ref"], &field["items"]["$ref"], &field["anyOf"][0]["$ref"]];
    direct.into_iter().find_map(|r| r.as_str()).and_then(|r| r.rsplit('/').next()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_in_the_document_has_its_definition() {
        let document = document(OPERATIONS);
        let text = document.to_string();
        let names: Vec<&str> =
            text.split("#/components/schemas/").skip(1).filter_map(|t| t.split('"').next()).collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
        assert_eq!(document["paths"]["/api/v1/sandboxes"]["post"]["operationId"], "sandbox_create");
    }

    /// `BLESS=1 cargo test -p workspace-server reference` writes the page.
    #[test]
    fn the_reference_page_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/reference.md");
        let current = reference(OPERATIONS);
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")).unwrap();
            std::fs::write(path, &current).unwrap();
        }
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == current, "docs/reference.md is stale: BLESS=1 cargo test -p workspace-server reference");
    }
}
