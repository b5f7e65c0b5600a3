//! How a query string is read: split, decoded once, each name at most once, `a.b=c` as a field of a field.
//!
//! Source: WHATWG URL, application/x-www-form-urlencoded, but strict: a broken escape, a NUL, or text that is not
//! UTF-8 is refused instead of being replaced.

use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;

/// Pairs in one query.
pub const PAIRS_MAX: usize = 128;

/// Why a query is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed query: {}", self.0)
    }
}

/// Reads a query as an object of strings. A name with a dot, `metadata.owner`, is a field of the object before the dot.
pub fn object(text: &str) -> Result<Value, Malformed> {
    let mut object = Map::new();
    for (count, pair) in text.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if count >= PAIRS_MAX {
            return Err(Malformed(format!("more than {PAIRS_MAX} parameters")));
        }
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (decode(name)?, decode(value)?);
        let (map, key) = match name.split_once('.') {
            Some((outer, inner)) => {
                let slot = object.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                (slot.as_object_mut().ok_or_else(|| twice(outer))?, inner)
            }
            None => (&mut object, &*name),
        };
        if map.insert(key.to_owned(), Value::String(value.into_owned())).is_some() {
            return Err(twice(&name));
        }
    }
    Ok(Value::Object(object))
}

fn twice(name: &str) -> Malformed {
    let name: String = name.chars().take(64).collect();
    Malformed(format!("{name:?} is there twice"))
}

/// Decodes `%XX` and `+`, exactly once.
pub fn decode(text: &str) -> Result<Cow<'_, str>, Malformed> {
    if !text.bytes().any(|b| matches!(b, b'%' | b'+' | 0)) {
        return Ok(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                let (high, low) = (digit(bytes.next()), digit(bytes.next()));
                high.zip(low).map(|(h, l)| (h << 4 | l) as u8).ok_or_else(|| Malformed("a broken % escape".into()))?
            }
            byte => byte,
        };
        if byte == 0 {
            return Err(Malformed("a NUL".into()));
        }
        decoded.push(byte);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Malformed("text that is not UTF-8".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_pairs_once() {
        let query = "state=running&metadata.a%2Eb=c+d&metadata.x=%2525&&empty=&bare";
        let expected = json!({"state": "running", "metadata": {"a.b": "c d", "x": "%25"}, "empty": "", "bare": ""});
        assert_eq!(object(query).unwrap(), expected);
        assert_eq!(object("").unwrap(), json!({}));
    }

    #[test]
    fn refuses_the_ambiguous() {
        for bad in
            ["a=1&a=2", "a=%", "a=%4", "a=%zz", "a=%00", "a=%ff", "a=%c0%af", "m=1&m.k=2", "m.k=1&m.k=2", "m.k=2&m=1"]
        {
            assert!(object(bad).is_err(), "{bad}");
        }
        assert!(object(&"a&".repeat(200)).is_err());
        let many: Vec<String> = (0..200).map(|i| format!("a{i}=1")).collect();
        assert!(object(&many.join("&")).is_err());
    }
}
