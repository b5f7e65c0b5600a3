//! Which tools does a set have, and how do they look? THE list, filtered by profile; made once.
//!
//! What a tool takes is the operation's input: some fields have another name or unit (`AsTool`), and the sandbox, which
//! stands in HTTP's path, is an argument. What it answers is the operation's output.

use crate::operation::{AsTool, Carries, Effect, Entry, Profile};
use rmcp::model::{JsonObject, Tool, ToolAnnotations};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use workspace_core::{Error, Reason};

/// The argument that names the sandbox.
pub(super) const SANDBOX_ID: &str = "sandbox_id";
/// Of its header, behind `Mcp-Param-`.
pub(super) const SANDBOX_HEADER: &str = "mcp-param-sandbox-id";
/// Of a file, in one answer.
pub(super) const READ_BYTES_DEFAULT: u64 = 256 << 10;
pub(super) const READ_BYTES_MAX: u64 = 2 << 20;

/// The tools of one set, in the order of THE list.
pub(super) struct Tools {
    rows: Vec<Row>,
}

/// A tool, and what stands behind it.
pub(super) struct Row {
    pub(super) entry: &'static Entry,
    /// As it is listed.
    pub(super) tool: Tool,
    /// It works in a sandbox.
    pub(super) in_sandbox: bool,
    /// What tells of it while it goes on.
    pub(super) follow: Option<&'static Entry>,
}

impl Tools {
    /// Those of `operations` that belong to `profile`.
    pub(super) fn new(operations: &'static [Entry], profile: Profile) -> Tools {
        let of = |entry: &&Entry| entry.tool.is_some_and(|smallest| smallest <= profile);
        Tools { rows: operations.iter().filter(of).map(|entry| Row::new(entry, operations)).collect() }
    }

    /// The tool of this name.
    pub(super) fn find(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.entry.name == name)
    }

    /// All of them, as they are listed to a client that names a sandbox, or has one for itself where it names none.
    pub(super) fn listed(&self, has_own: bool) -> Vec<Tool> {
        self.rows.iter().map(|row| if has_own { row.without_sandbox() } else { row.tool.clone() }).collect()
    }
}

impl Row {
    fn new(entry: &'static Entry, operations: &'static [Entry]) -> Row {
        let in_sandbox = entry.routes.iter().any(|route| route.path.contains("{id}"));
        let shown = &entry.as_tool;
        let about = if shown.about.is_empty() { entry.summary } else { shown.about };
        let tool = Tool::new(entry.name, about, Arc::new(input_schema(entry, in_sandbox)))
            .with_title(shown.title)
            .with_annotations(annotations(entry));
        let tool = match output_schema(entry) {
            Some(schema) => tool.with_raw_output_schema(Arc::new(schema)),
            None => tool,
        };
        let follow = shown.follow.and_then(|name| operations.iter().find(|one| one.name == name));
        Row { entry, tool, in_sandbox, follow }
    }

    /// The tool for a client that need not name a sandbox.
    fn without_sandbox(&self) -> Tool {
        let mut tool = self.tool.clone();
        let schema = Arc::make_mut(&mut tool.input_schema);
        if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
            required.retain(|name| name != SANDBOX_ID);
        }
        if let Some(argument) = schema.get_mut("properties").and_then(|properties| properties.get_mut(SANDBOX_ID)) {
            argument["description"] =
                "The sandbox to work in. Leave it out to work in the one that is yours alone: it is \
                made at the first call and removed when you go."
                    .into();
        }
        tool
    }

    /// Turns the tool's arguments into the operation's input.
    pub(super) fn input(&self, mut arguments: JsonObject) -> Result<Value, Error> {
        let AsTool { hides, renames, seconds, defaults, .. } = self.entry.as_tool;
        arguments.remove(SANDBOX_ID);
        for hidden in hides {
            arguments.remove(*hidden);
        }
        for (field, argument) in renames {
            if let Some(value) = arguments.remove(*argument) {
                arguments.insert((*field).to_owned(), value);
            }
        }
        for field in seconds {
            let Some(value) = arguments.get_mut(*field).filter(|value| !value.is_null()) else { continue };
            // Whole seconds may come as 1.0 from clients whose only number is a float.
            let whole =
                value.as_u64().or_else(|| value.as_f64().filter(|s| s.fract() == 0.0 && *s >= 0.0).map(|s| s as u64));
            let Some(whole) = whole else {
                let message = format!("`{field}` must be whole seconds, 0 = none");
                return Err(Error::new(Reason::InvalidRequest, message).details(*field));
            };
            *value = whole.saturating_mul(1000).into();
        }
        for (field, value) in defaults {
            let asked = arguments.get(*field).is_some_and(|value| !value.is_null());
            if let (false, Ok(value)) = (asked, serde_json::from_str(value)) {
                arguments.insert((*field).to_owned(), value);
            }
        }
        Ok(Value::Object(arguments))
    }
}

fn annotations(entry: &Entry) -> ToolAnnotations {
    ToolAnnotations::with_title(entry.as_tool.title)
        .read_only(entry.effect == Effect::Read)
        // A command may do anything inside its sandbox; a file may be written over.
        .destructive(entry.effect != Effect::Read && entry.name != "sandbox_create" && entry.name != "file_mkdir")
        .idempotent(entry.effect != Effect::Write)
        .open_world(false)
}

fn settings() -> SchemaSettings {
    SchemaSettings::draft2020_12().with(|s| {
        s.inline_subschemas = true;
        s.meta_schema = None;
    })
}

fn input_schema(entry: &Entry, in_sandbox: bool) -> JsonObject {
    let AsTool { hides, renames, seconds, defaults, .. } = entry.as_tool;
    let mut generator = settings().into_generator();
    let schema = (entry.input)(&mut generator).to_value();
    let mut properties = Map::new();
    let mut required = Vec::new();
    if in_sandbox {
        let about = "The sandbox to work in: the id that sandbox_create gave.";
        properties.insert(
            SANDBOX_ID.to_owned(),
            json!({"type": "string", "description": about, "x-mcp-header": "Sandbox-Id"}),
        );
        required.push(Value::from(SANDBOX_ID));
    }
    let must = |name: &String| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        if hides.contains(&name.as_str()) {
            continue;
        }
        let mut field = field.clone();
        if seconds.contains(&name.as_str()) {
            field = json!({"type": "integer", "minimum": 0, "maximum": 315_360_000, "description":
                "Seconds until the command and all its descendants are ended; 0 or absent: no limit."});
        }
        if let Some((_, value)) = defaults.iter().find(|(of, _)| of == name)
            && let Ok(value) = serde_json::from_str::<Value>(value)
        {
            field["default"] = value;
        }
        let shown = renames.iter().find(|(of, _)| of == name).map_or(name.as_str(), |(_, shown)| shown);
        if must(name) || (entry.name == "file_write" && name == "content") {
            required.push(shown.into());
        }
        properties.insert(shown.to_owned(), field);
    }
    if entry.carries == Carries::Answers {
        let number = |about: &str, min: u64, max: u64, default: u64| json!({"type": "integer", "description": about, "minimum": min, "maximum": max, "default": default});
        properties.insert("offset".into(), number("The first byte to read.", 0, 1 << 53, 0));
        properties.insert("limit".into(), number("Bytes to read at most.", 1, READ_BYTES_MAX, READ_BYTES_DEFAULT));
    }
    let mut object = JsonObject::new();
    object.insert("type".into(), "object".into());
    object.insert("properties".into(), Value::Object(properties));
    object.insert("required".into(), Value::Array(required));
    object
}

fn output_schema(entry: &Entry) -> Option<JsonObject> {
    let mut generator = settings().for_serialize().into_generator();
    let schema = (entry.output)(&mut generator)?.to_value();
    let Value::Object(mut schema) = schema else { return None };
    if entry.carries == Carries::Answers
        && let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut)
    {
        let about = "Where the next part begins; absent where this was the last.";
        properties.insert("next_offset".into(), json!({"type": "integer", "description": about}));
    }
    schema.insert("type".into(), "object".into());
    Some(schema)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::OPERATIONS;

    const FULL: [&str; 14] = [
        "sandbox_create",
        "sandbox_list",
        "sandbox_get",
        "sandbox_delete",
        "process_run",
        "process_kill",
        "file_read",
        "file_write",
        "file_list",
        "file_info",
        "file_mkdir",
        "file_move",
        "file_copy",
        "file_remove",
    ];

    fn names(profile: Profile) -> Vec<String> {
        Tools::new(OPERATIONS, profile).listed(false).iter().map(|tool| tool.name.to_string()).collect()
    }

    #[test]
    fn one_six_and_fourteen_tools_by_name() {
        assert_eq!(names(Profile::Executor), ["process_run"]);
        let six = ["process_run", "file_read", "file_write", "file_list", "file_mkdir", "file_remove"];
        assert_eq!(names(Profile::Developer), six);
        assert_eq!(names(Profile::Full), FULL);
    }

    #[test]
    fn every_tool_can_be_acted_on() {
        for row in Tools::new(OPERATIONS, Profile::Full).rows {
            let (tool, name) = (serde_json::to_value(&row.tool).unwrap(), row.entry.name);
            assert!(!row.entry.as_tool.title.is_empty() && row.entry.as_tool.about.len() > 40, "{name}");
            assert_eq!(tool["inputSchema"]["properties"][SANDBOX_ID].is_object(), row.in_sandbox, "{name}");
            assert_eq!(row.in_sandbox, !["sandbox_create", "sandbox_list"].contains(&name), "{name}");
            for (field, schema) in tool["inputSchema"]["properties"].as_object().unwrap() {
                let about = schema["description"].as_str().or(schema["anyOf"][0]["description"].as_str());
                assert!(about.is_some(), "{name}.{field} says nothing: {schema}");
            }
            assert_eq!(tool["outputSchema"]["type"], "object", "{name}");
            assert!(!tool.to_string().contains("$ref"), "{name}");
        }
    }

    #[test]
    fn who_has_a_sandbox_need_not_name_one() {
        for tool in Tools::new(OPERATIONS, Profile::Full).listed(true) {
            let required = tool.input_schema["required"].as_array().unwrap();
            assert!(!required.contains(&json!(SANDBOX_ID)), "{}", tool.name);
        }
        let read = &Tools::new(OPERATIONS, Profile::Developer).listed(true)[1];
        assert_eq!(read.input_schema["required"], json!(["path"]));
    }

    #[test]
    fn arguments_become_the_operations_input() {
        let tools = Tools::new(OPERATIONS, Profile::Full);
        let input = |tool: &str, arguments: Value| {
            let Value::Object(arguments) = arguments else { panic!("an object") };
            tools.find(tool).unwrap().input(arguments)
        };
        let run = input("process_run", json!({"sandbox_id": "x", "command": "a", "timeout": 2, "tag": "t"})).unwrap();
        assert_eq!(run, json!({"command": "a", "timeout": 2000, "partial": true, "max_output_bytes": 131072}));
        assert_eq!(input("process_run", json!({"timeout": 2.0})).unwrap()["timeout"], 2000);
        for wrong in [json!(1.5), json!("1"), json!(-1), json!([])] {
            assert!(input("process_run", json!({"timeout": wrong})).is_err());
        }
        let way = input("file_move", json!({"src": "a", "dst": "b"})).unwrap();
        assert_eq!(way, json!({"source": "a", "destination": "b"}));
    }
}
