//! Which tools does the suite look for, and how are they listed? Names, arguments and texts are the suite's.
//!
//! A legacy session is asked things on its own stream, a modern client by an answer that wants input: what needs the one
//! is not listed to the other.

use crate::mcp::Era;
use rmcp::model::{JsonObject, Tool};
use serde_json::{Value, json};
use std::sync::Arc;

/// The tool with an argument that a header field repeats: field, argument.
pub(super) const REPEATED: (&str, (&str, &str)) = ("test_repeated_argument", ("mcp-param-region", "region"));

/// Who has a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Everyone,
    Only(Era),
}
use Who::{Everyone, Only};

type Row = (&'static str, &'static str, Who, fn() -> Value);

const LEGACY: Who = Only(Era::Legacy);
const MODERN: Who = Only(Era::Modern);

const ROWS: &[Row] = &[
    ("test_simple_text", "Answers with a text.", Everyone, nothing),
    ("test_image_content", "Answers with an image.", Everyone, nothing),
    ("test_audio_content", "Answers with a sound.", Everyone, nothing),
    ("test_embedded_resource", "Answers with an embedded resource.", Everyone, nothing),
    ("test_multiple_content_types", "Answers with a text, an image and a resource.", Everyone, nothing),
    ("test_error_handling", "Always fails.", Everyone, nothing),
    ("test_tool_with_logging", "Logs three times while it runs.", Everyone, nothing),
    ("test_tool_with_progress", "Tells its progress three times.", Everyone, nothing),
    ("json_schema_2020_12_tool", "Has a schema with words of JSON Schema 2020-12.", Everyone, words_of_2020_12),
    (REPEATED.0, "Has an argument that a header field repeats.", Everyone, region),
    ("test_trigger_tool_change", "Tells who listens that the tools have changed.", Everyone, nothing),
    ("test_trigger_prompt_change", "Tells who listens that the prompts have changed.", Everyone, nothing),
    ("test_sampling", "Has the client's model answer a prompt.", LEGACY, || text("prompt", "For the model.")),
    ("test_elicitation", "Asks the user.", LEGACY, || text("message", "Shown to the user.")),
    ("test_elicitation_sep1034_defaults", "Asks the user, with defaults.", LEGACY, nothing),
    ("test_elicitation_sep1330_enums", "Asks the user to choose.", LEGACY, nothing),
    ("test_reconnection", "Ends its stream before it answers; the client comes back for the answer.", LEGACY, nothing),
    ("test_missing_capability", "Needs a client that can sample.", MODERN, nothing),
    ("test_streaming_elicitation", "Asks the user, on a stream.", MODERN, nothing),
    ("test_logging_tool", "Logs, where the request wants to hear it.", MODERN, nothing),
    ("test_input_required_result_elicitation", "Asks the user for a name.", MODERN, nothing),
    ("test_input_required_result_sampling", "Asks the client's model.", MODERN, nothing),
    ("test_input_required_result_list_roots", "Asks for the client's roots.", MODERN, nothing),
    ("test_input_required_result_request_state", "Has its state carried by the client.", MODERN, nothing),
    ("test_input_required_result_multiple_inputs", "Asks three things at once.", MODERN, nothing),
    ("test_input_required_result_multi_round", "Asks twice, one after the other.", MODERN, nothing),
    ("test_input_required_result_tampered_state", "Refuses a state that is not its own.", MODERN, nothing),
    ("test_input_required_result_capabilities", "Asks only what the client can answer.", MODERN, nothing),
];

/// Whether this era has a tool of this name.
pub(super) fn is_there(name: &str, era: Era) -> bool {
    ROWS.iter().any(|row| row.0 == name && had_by(row.2, era))
}

/// Those of this era.
pub(super) fn listed(era: Era) -> Vec<Tool> {
    let rows = ROWS.iter().filter(|row| had_by(row.2, era));
    rows.map(|(name, about, _, schema)| Tool::new(*name, *about, Arc::new(object(schema())))).collect()
}

fn had_by(who: Who, era: Era) -> bool {
    who == Everyone || who == Only(era)
}

fn object(schema: Value) -> JsonObject {
    match schema {
        Value::Object(schema) => schema,
        _ => JsonObject::new(),
    }
}

fn nothing() -> Value {
    json!({"type": "object", "properties": {}})
}

fn text(name: &str, about: &str) -> Value {
    json!({"type": "object", "properties": {name: {"type": "string", "description": about}}, "required": [name]})
}

fn region() -> Value {
    let region = json!({"type": "string", "description": "Where.", "x-mcp-header": "Region"});
    json!({"type": "object", "properties": {"region": region}, "required": ["region"]})
}

fn words_of_2020_12() -> Value {
    let place = json!({"street": {"type": "string"}, "city": {"type": "string"}});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {"address": {"$anchor": "addressDef", "type": "object", "properties": place}},
        "properties": {
            "name": {"type": "string"},
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": {"type": "string"},
            "email": {"type": "string"},
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": false,
    })
}
