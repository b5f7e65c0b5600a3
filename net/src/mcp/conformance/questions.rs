//! What is a client asked, and what is an answer to it? The same questions go to a legacy session as requests, and to a
//! modern client within an answer that wants input.

use serde_json::{Map, Value, json};

/// Something that only the client, its user or its model knows.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Among the questions of one answer.
    pub(super) key: &'static str,
    pub(super) method: &'static str,
    pub(super) params: Value,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// This.
    Said(String),
    /// The user does not want to say.
    Declined,
}

impl Question {
    /// For the user: a form of one field.
    pub(super) fn field(key: &'static str, message: &str, name: &str, kind: &str) -> Question {
        Question::form(key, message, json!({name: {"type": kind}}), &[name])
    }

    /// For the user: a form of these fields.
    pub(super) fn form(key: &'static str, message: &str, fields: Value, required: &[&str]) -> Question {
        let schema = json!({"type": "object", "properties": fields, "required": required});
        let params = json!({"message": message, "requestedSchema": schema});
        Question { key, method: "elicitation/create", params }
    }

    /// For the model.
    pub(super) fn sample(key: &'static str, prompt: &str) -> Question {
        let message = json!({"role": "user", "content": {"type": "text", "text": prompt}});
        Question { key, method: "sampling/createMessage", params: json!({"messages": [message], "maxTokens": 100}) }
    }

    /// For the client's roots.
    pub(super) fn roots(key: &'static str) -> Question {
        Question { key, method: "roots/list", params: json!({}) }
    }

    /// What a client must be able to do to answer.
    pub(super) fn capability(&self) -> &'static str {
        self.method.split_once('/').map_or(self.method, |(capability, _)| capability)
    }

    /// Reads what came back; `None` where it is no answer to this.
    pub(super) fn read(&self, reply: &Value) -> Option<Reply> {
        match self.method {
            "elicitation/create" => match reply["action"].as_str()? {
                "accept" => filled(&self.params["requestedSchema"], reply["content"].as_object()?).map(Reply::Said),
                "decline" | "cancel" => Some(Reply::Declined),
                _ => None,
            },
            "sampling/createMessage" => {
                let is_whole = reply["role"].is_string() && reply["model"].is_string();
                reply["content"]["text"].as_str().filter(|_| is_whole).map(|text| Reply::Said(text.to_owned()))
            }
            _ => {
                let uris = reply["roots"].as_array()?.iter().map(|root| root["uri"].as_str());
                uris.collect::<Option<Vec<&str>>>().map(|uris| Reply::Said(uris.join(" ")))
            }
        }
    }
}

/// The fields of a form that was filled in as its schema says.
fn filled(schema: &Value, content: &Map<String, Value>) -> Option<String> {
    let is_required =
        |name: &String| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let mut said = Vec::new();
    for (name, field) in schema["properties"].as_object()? {
        match content.get(name) {
            None if is_required(name) => return None,
            None => {}
            Some(value) if is_of(value, field["type"].as_str().unwrap_or_default()) => {
                said.push(value.as_str().map_or_else(|| value.to_string(), str::to_owned));
            }
            Some(_) => return None,
        }
    }
    Some(said.join(" "))
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "array" => value.as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_what_was_asked_for() {
        let name = Question::field("a", "Who?", "name", "string");
        let said = |text: &str| Some(Reply::Said(text.to_owned()));
        assert_eq!(name.read(&json!({"action": "accept", "content": {"name": "Ada", "more": 1}})), said("Ada"));
        assert_eq!(name.read(&json!({"action": "cancel"})), Some(Reply::Declined));
        for wrong in
            [json!(1), json!({"action": "accept"}), json!({"action": "accept", "content": {"name": 1}}), json!({})]
        {
            assert_eq!(name.read(&wrong), None, "{wrong}");
        }
        let sample = Question::sample("b", "?");
        let reply = json!({"role": "assistant", "model": "m", "content": {"type": "text", "text": "x"}});
        assert_eq!((sample.read(&reply), sample.read(&json!({"content": {"text": "x"}}))), (said("x"), None));
        let roots = Question::roots("c");
        assert_eq!(
            roots.read(&json!({"roots": [{"uri": "file:///a"}, {"uri": "file:///b"}]})),
            said("file:///a file:///b")
        );
        assert_eq!(roots.read(&json!({"roots": [{"name": "a"}]})), None);
        assert_eq!([name.capability(), sample.capability(), roots.capability()], ["elicitation", "sampling", "roots"]);
    }
}
