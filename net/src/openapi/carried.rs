//! How documents describe bytes: those that a request brings, and those that an answer gives.

use crate::content::Carries;
use crate::operation::{Entry, Route};
use serde_json::{Map, Value, json};

/// Fields of an input that only a JSON body can hold.
const BODY_FIELDS: [&str; 2] = ["content", "encoding"];
const BYTES: &str = "application/octet-stream";

/// Adds to a described operation what its bytes are, and to its parameters what its head may say.
pub(super) fn describe(
    operation: &Entry,
    route: &Route,
    input: &Value,
    described: &mut Value,
    parameters: &mut Vec<Value>,
) {
    let mut header = |name: &str, about: &str| {
        parameters.push(json!({"name": name, "in": "header", "schema": {"type": "string"}, "description": about}));
    };
    match operation.carries {
        Carries::Json => return,
        Carries::Answers => {
            header("Accept", "`application/octet-stream`: the bytes themselves.");
            header("Range", "One range of bytes.");
            header("If-Range", "The tag that the range is of.");
        }
        Carries::Takes => {}
    }
    header("If-Match", "Tags of which the file must have one, or `*`: it must exist.");
    header("If-None-Match", "Tags of which the file must have none, or `*`: it must not exist.");
    let bytes = json!({"schema": {"type": "string", "format": "binary"}});
    if operation.carries == Carries::Answers {
        let responses = &mut described["responses"];
        responses[operation.status.to_string()]["content"][BYTES] = bytes.clone();
        responses["206"] = json!({"description": "The range.", "content": {BYTES: bytes}});
        responses["304"] = json!({"description": "The client has it."});
        for (status, about) in [("415", "The file is not UTF-8."), ("416", "No such range.")] {
            let schema = json!({"schema": {"$ref": "#/components/schemas/Error"}});
            responses[status] = json!({"description": about, "content": {"application/json": schema}});
        }
        return;
    }
    if !route.method.has_body() {
        return;
    }
    let none = Map::new();
    let fields = input.get("properties").and_then(Value::as_object).unwrap_or(&none);
    if !fields.contains_key("content") {
        // Nothing but bytes can be the content.
        described["requestBody"]["content"] = json!({});
    }
    described["requestBody"]["content"][BYTES] = bytes;
    for (name, schema) in fields.iter().filter(|(name, _)| !BODY_FIELDS.contains(&name.as_str())) {
        parameters.push(json!({"name": name, "in": "query", "schema": schema,
            "description": "Here or in a JSON body."}));
    }
}
