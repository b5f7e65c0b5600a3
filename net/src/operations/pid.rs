//! The pid of a process as callers name it. What can't be one names no process: 4001, like one that is unknown.

use schemars::JsonSchema;
use serde::de::{Deserializer, Visitor};
use std::fmt;
use workspace_core::{Error, Reason};

/// A number, or its text in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
pub(super) struct Pid(
    /// Inside the sandbox; `None`: no pid.
    #[schemars(with = "u32")]
    Option<u32>,
);

impl Pid {
    /// The pid of a process that a caller may have: never that of the sandbox's first process.
    pub(super) fn number(self) -> Result<u32, Error> {
        self.0.filter(|pid| *pid > 1 && i32::try_from(*pid).is_ok()).ok_or_else(|| {
            let message =
                "no such process; GET …/process lists those that are alive and those that ended a short while ago";
            Error::new(Reason::ProcessNotFound, message)
        })
    }
}

impl<'de> serde::Deserialize<'de> for Pid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pid, D::Error> {
        struct Read;
        impl Visitor<'_> for Read {
            type Value = Pid;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Pid, E> {
                Ok(Pid(u32::try_from(number).ok()))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Pid, E> {
                Ok(Pid(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Pid, E> {
                let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
                Ok(Pid(text.parse().ok().filter(|_| is_plain)))
            }
        }
        deserializer.deserialize_any(Read)
    }
}
