//! A signal as callers name it: a number, or a name with or without `SIG`, in any case.

use super::bounds::refuse;
use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use std::fmt;
use workspace_core::Error;

/// signal(7), the same on x86 and aarch64.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
];

/// A number or a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
pub(super) struct Signal(
    /// `None`: not a signal.
    #[schemars(with = "Written")]
    Option<u32>,
);

/// For the schema.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code)] // Only its shape is used.
enum Written {
    Number(u32),
    Name(String),
}

impl Signal {
    /// 1 to 64.
    pub(super) fn number(self) -> Result<u32, Error> {
        self.0.ok_or_else(|| refuse("signal", "must be 1 to 64, or the name of a signal"))
    }
}

impl<'de> serde::Deserialize<'de> for Signal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signal, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Signal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Signal, E> {
                Ok(Signal((1..=64).contains(&number).then_some(number as u32)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Signal, E> {
                Ok(Signal(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Signal, E> {
                let upper = text.to_ascii_uppercase();
                let short = upper.strip_prefix("SIG").unwrap_or(&upper);
                Ok(Signal((1..).zip(NAMES).find(|(_, name)| *name == short).map(|(number, _)| number)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_and_names_are_signals() {
        let read = |value: serde_json::Value| serde_json::from_value::<Signal>(value).ok().and_then(|s| s.0);
        for (value, number) in [(json!(15), 15), (json!("TERM"), 15), (json!("sigkill"), 9), (json!(64), 64)] {
            assert_eq!(read(value), Some(number));
        }
        for value in
            [json!(0), json!(65), json!(-1), json!("15"), json!(""), json!("SIG"), json!("SIGSIGINT"), json!(1.5)]
        {
            assert_eq!(read(value.clone()), None, "{value}");
        }
        assert!(NAMES[8] == "KILL" && NAMES[14] == "TERM" && NAMES[27] == "WINCH");
    }
}
