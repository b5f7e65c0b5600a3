//! Which forms is a legacy client's user given? The suite looks at each field of their schemas.

use super::questions::Question;
use serde_json::json;

/// A name and an address.
pub(super) fn user(message: &str) -> Question {
    let text = |about: &str| json!({"type": "string", "description": about});
    let fields = json!({"username": text("User's response"), "email": text("User's email address")});
    Question::form("", message, fields, &["username", "email"])
}

/// Fields of each kind, filled in.
pub(super) fn defaults() -> Question {
    let fields = json!({
        "name": {"type": "string", "description": "User name", "default": "John Doe"},
        "age": {"type": "integer", "description": "User age", "default": 30},
        "score": {"type": "number", "description": "User score", "default": 95.5},
        "status": {"type": "string", "description": "User status", "enum": ["active", "inactive", "pending"],
            "default": "active"},
        "verified": {"type": "boolean", "description": "Verification status", "default": true},
    });
    Question::form("", "Please review and update the form fields with defaults", fields, &[])
}

/// Fields to choose in, in each way that a schema can say it.
pub(super) fn choices() -> Question {
    let titled = |of: &str| {
        let one = |value: &str, title: &str| json!({"const": value, "title": format!("{title} {of}")});
        json!([one("value1", "First"), one("value2", "Second"), one("value3", "Third")])
    };
    let plain = json!(["option1", "option2", "option3"]);
    let fields = json!({
        "untitledSingle": {"type": "string", "description": "Select one option", "enum": plain},
        "titledSingle": {"type": "string", "description": "Select one option with titles", "oneOf": titled("Option")},
        "legacyEnum": {"type": "string", "description": "Select one option (legacy)", "enum": ["opt1", "opt2", "opt3"],
            "enumNames": ["Option One", "Option Two", "Option Three"]},
        "untitledMulti": {"type": "array", "description": "Select several options", "minItems": 1, "maxItems": 3,
            "items": {"type": "string", "enum": plain}},
        "titledMulti": {"type": "array", "description": "Select several options with titles", "minItems": 1,
            "maxItems": 3, "items": {"anyOf": titled("Choice")}},
    });
    Question::form("", "Please select options from the enum fields", fields, &[])
}
