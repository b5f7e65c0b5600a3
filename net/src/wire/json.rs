//! JSON that cannot hurt: its depth and size are known before a parser recurses into it, and no key is there twice.
//!
//! Duplicate keys are refused: readers disagree on which one counts. The text must be UTF-8 without a byte order mark.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Nested arrays and objects.
pub const DEPTH_MAX: usize = 32;
/// Values and keys in one document: what a document of 1 MiB may cost in memory is bounded by it.
pub const VALUES_MAX: usize = 128 << 10;

/// Why the bytes are not acceptable JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed JSON: {}", self.0)
    }
}

/// Reads a document. Neither stack nor memory depend on what the bytes ask for.
pub fn parse(bytes: &[u8]) -> Result<Value, Malformed> {
    guard(bytes)?;
    serde_json::from_slice::<Strict>(bytes).map(|s| s.0).map_err(|e| Malformed(e.to_string()))
}

/// Walks over the bytes once, without recursion, and counts. What is not JSON at all is left to the parser.
fn guard(bytes: &[u8]) -> Result<(), Malformed> {
    let (mut depth, mut values, mut at) = (0usize, 1usize, 0usize);
    while let Some(byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'"' => at = string_end(bytes, at),
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' | b':' => values += 1,
            _ => {}
        }
        if depth > DEPTH_MAX {
            return Err(Malformed(format!("nested deeper than {DEPTH_MAX}")));
        }
        if values > VALUES_MAX {
            return Err(Malformed(format!("more than {VALUES_MAX} values")));
        }
    }
    Ok(())
}

/// The index after the quote that ends the string which starts at `at`.
fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    bytes.len()
}

/// A value whose objects have each key once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Strict, D::Error> {
        from.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = from.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            let Strict(value) = from.next_value()?;
            if map.contains_key(&key) {
                let key: String = key.chars().take(64).collect();
                return Err(serde::de::Error::custom(format_args!("the key {key:?} is there twice")));
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_refused_before_they_are_parsed() {
        for bomb in [
            "[".repeat(200_000),
            "{\"a\":".repeat(200_000),
            format!("[{}]", vec!["0"; 200_000].join(",")),
            format!("{{{}}}", (0..100_000).map(|i| format!("\"{i}\":0")).collect::<Vec<_>>().join(",")),
        ] {
            assert!(parse(bomb.as_bytes()).is_err());
        }
        let deep = format!("{}{}", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX));
        assert!(parse(deep.as_bytes()).is_ok());
        assert!(parse(format!("[{deep}]").as_bytes()).is_err());
        assert!(parse(br#"{"a":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"[[[["}"#).is_ok());
    }

    #[test]
    fn odd_documents_have_one_reading() {
        for bad in [
            &b""[..],
            b"{\"a\":1,\"a\":2}",
            b"{\"e\":{\"b\":1,\"b\":1}}",
            b"1e999999",
            b"\"\\ud800\"",
            b"\"\xff\"",
            b"\xef\xbb\xbf{}",
            b"{} {}",
            b"{\"a\":NaN}",
            b"{'a':1}",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
        assert_eq!(parse(b"18446744073709551615").unwrap(), Value::from(u64::MAX));
        assert!(parse(b"18446744073709551616").unwrap().as_u64().is_none());
        assert_eq!(parse(br#""\u0000""#).unwrap(), Value::from("\0"));
    }
}
