//! What a text means that comes over a terminal's WebSocket: a control message, or plain input.
//!
//! ```text
//!  {"type":"input","data":"ls\r"}   {"type":"resize","cols":120,"rows":40}   {"type":"ping"}
//! ```
//! An object with a known `type` is a control message; other fields of it are left for later versions.

use super::json;
use serde_json::{Map, Value};
use std::fmt;

/// Columns and rows, at most.
pub const SIZE_MAX: u64 = 4096;

/// The server's answer to a ping.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// A control message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    /// Text for the program.
    Input(String),
    /// Another size, both 1..=[`SIZE_MAX`].
    Resize {
        /// Characters of a row.
        cols: u32,
        /// Rows.
        rows: u32,
    },
    /// To be answered with [`PONG`].
    Ping,
}

/// Why a text is no control message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It is none at all: no JSON object, or no known `type`. As input it means what it says.
    Unknown,
    /// It is meant to be one, and this field is missing or out of its bounds.
    Field(&'static str),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Unknown => f.write_str("not a control message: a JSON object whose type is input, resize or ping"),
            Wrong::Field("data") => f.write_str("`data` must be a string"),
            Wrong::Field(name) => write!(f, "`{name}` must be an integer from 1 to {SIZE_MAX}"),
        }
    }
}

/// Reads a control message.
pub fn read(text: &str) -> Result<Control, Wrong> {
    // What is typed is read this far at most: only an object can be one.
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(Wrong::Unknown);
    }
    let Ok(Value::Object(mut object)) = json::parse(text.as_bytes()) else { return Err(Wrong::Unknown) };
    match object.get("type").and_then(Value::as_str) {
        Some("input") => match object.remove("data") {
            Some(Value::String(data)) => Ok(Control::Input(data)),
            _ => Err(Wrong::Field("data")),
        },
        Some("resize") => Ok(Control::Resize { cols: length(&object, "cols")?, rows: length(&object, "rows")? }),
        Some("ping") => Ok(Control::Ping),
        _ => Err(Wrong::Unknown),
    }
}

fn length(object: &Map<String, Value>, name: &'static str) -> Result<u32, Wrong> {
    let number = object.get(name).and_then(Value::as_u64).filter(|number| (1..=SIZE_MAX).contains(number));
    number.map(|number| number as u32).ok_or(Wrong::Field(name))
}

/// The last word of a terminal whose program has ended.
pub fn exit(exit_code: i32) -> String {
    format!(r#"{{"type":"exit","code":{exit_code}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages() {
        for (text, control) in [
            (r#"{"type":"input","data":"ls\r\u0003"}"#, Control::Input("ls\r\u{3}".to_owned())),
            (r#" {"type":"input","data":"","later":[1]}"#, Control::Input(String::new())),
            (r#"{"type":"resize","cols":1,"rows":4096}"#, Control::Resize { cols: 1, rows: 4096 }),
            ("\n{\"type\":\"ping\"}\n", Control::Ping),
        ] {
            assert_eq!(read(text), Ok(control), "{text}");
        }
    }

    #[test]
    fn everything_else_is_not() {
        for text in [
            "",
            "ls\r",
            "{",
            "{}",
            "[]",
            "null",
            r#""ping""#,
            r#"{"type":"pong"}"#,
            r#"{"type":1}"#,
            r#"{"Type":"ping"}"#,
            r#"{"type":"ping"} {"#,
            r#"{"type":"ping","type":"ping"}"#,
            "\u{feff}{\"type\":\"ping\"}",
            r#"[{"type":"ping"}]"#,
        ] {
            assert_eq!(read(text), Err(Wrong::Unknown), "{text}");
        }
        for (text, field) in [
            (r#"{"type":"input"}"#, "data"),
            (r#"{"type":"input","data":1}"#, "data"),
            (r#"{"type":"resize","rows":1}"#, "cols"),
            (r#"{"type":"resize","cols":0,"rows":1}"#, "cols"),
            (r#"{"type":"resize","cols":80,"rows":65536}"#, "rows"),
            (r#"{"type":"resize","cols":80,"rows":4294967297}"#, "rows"),
            (r#"{"type":"resize","cols":80,"rows":-1}"#, "rows"),
            (r#"{"type":"resize","cols":"80","rows":24}"#, "cols"),
            (r#"{"type":"resize","cols":80.5,"rows":24}"#, "cols"),
        ] {
            assert_eq!(read(text), Err(Wrong::Field(field)), "{text}");
        }
    }
}
