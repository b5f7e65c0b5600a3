//! How a parsed object becomes an input: by serde, with the path of the field that does not fit.
//!
//! `null` counts as absent (several clients send it for what was not set), unknown fields are ignored (so that newer
//! clients can talk to older servers), and no type is turned into another: `"1"` is no number, `1.0` is no integer.
//! In a query everything is text, so there `1` and `true` are read where a number or a boolean is asked for.

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde_json::Value;
use std::fmt;

const PATH_BYTES_MAX: usize = 128;

/// Where the object comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A JSON body: types are as they stand there.
    Json,
    /// A query: everything is text.
    Text,
}

/// A field that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// E.g. `env.HOME`; empty for the whole.
    pub path: String,
    what: String,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            write!(f, "the body {}", self.what)
        } else {
            write!(f, "`{}` {}", self.path, self.what)
        }
    }
}

impl std::error::Error for Wrong {}

impl Wrong {
    /// What is wrong with it, e.g. "is missing".
    pub fn what(&self) -> &str {
        &self.what
    }

    fn within(mut self, outer: &str) -> Wrong {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.path = format!("{outer}{dot}{}", self.path);
        if self.path.len() > PATH_BYTES_MAX {
            let cut = (0..=PATH_BYTES_MAX).rev().find(|i| self.path.is_char_boundary(*i)).unwrap_or(0);
            self.path.truncate(cut);
        }
        self
    }
}

impl serde::de::Error for Wrong {
    fn custom<T: fmt::Display>(what: T) -> Wrong {
        Wrong { path: String::new(), what: what.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Wrong {
        let found = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a number with a fraction or too large",
            Unexpected::Str(_) => "a string",
            Unexpected::Seq => "an array",
            Unexpected::Map => "an object",
            _ => "another type",
        };
        Wrong::custom(format_args!("must be {}, not {found}", plain(expected)))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Wrong {
        Wrong::custom(format_args!("must be {}", plain(expected)))
    }

    fn missing_field(field: &'static str) -> Wrong {
        Wrong { path: field.to_owned(), what: "is missing".to_owned() }
    }
}

/// What serde calls by the names of Rust's types.
fn plain(expected: &dyn Expected) -> String {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "an integer that is not negative".to_owned(),
        "i8" | "i16" | "i32" | "i64" | "isize" => "an integer".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a sequence" => "an array".to_owned(),
        "a map" => "an object".to_owned(),
        _ if text.starts_with("struct ") => "an object".to_owned(),
        _ => text,
    }
}

/// Makes an input of a parsed object.
pub fn decode<T: DeserializeOwned>(value: &Value, source: Source) -> Result<T, Wrong> {
    T::deserialize(At { value, source })
}

#[derive(Clone, Copy)]
struct At<'a> {
    value: &'a Value,
    source: Source,
}

impl<'a> At<'a> {
    /// The text of a query's value, where another type is asked for.
    fn text(self) -> Option<&'a str> {
        match (self.source, self.value) {
            (Source::Text, Value::String(text)) => Some(text),
            _ => None,
        }
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong>
    where
        'a: 'de,
    {
        let Some(text) = self.text() else { return self.deserialize_any(visitor) };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Wrong::invalid_value(Unexpected::Other("text"), &visitor));
        }
        match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(number), _) => visitor.visit_u64(number),
            (_, Ok(number)) => visitor.visit_i64(number),
            _ => Err(Wrong::invalid_value(Unexpected::Other("text"), &visitor)),
        }
    }
}

macro_rules! integers {
    ($($name:ident)*) => { $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.integer(visitor)
    })* };
}

impl<'de> Deserializer<'de> for At<'de> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(n), ..) => visitor.visit_u64(n),
                (_, Some(n), _) => visitor.visit_i64(n),
                (.., n) => visitor.visit_f64(n.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter().enumerate(), source: self.source }),
            Value::Object(map) => visitor.visit_map(Entries { map: map.iter(), next: None, source: self.source }),
        }
    }

    integers! { deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.text() {
            None => self.deserialize_any(visitor),
            Some("true" | "1") => visitor.visit_bool(true),
            Some("false" | "0") => visitor.visit_bool(false),
            Some(_) => Err(Wrong::custom("must be true or false")),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value {
            Value::String(name) => visitor.visit_enum(Name(name)),
            _ => Err(Wrong::custom("must be a string")),
        }
    }

    /// Numbers with a fraction never come from a query.
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Wrong> {
        self.deserialize_any(visitor)
    }

    /// Arrays would be taken for structs, field by field in order.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if self.value.is_object() { self.deserialize_any(visitor) } else { Err(Wrong::custom("must be an object")) }
    }

    serde::forward_to_deserialize_any! {
        i128 u128 f32 char str string bytes byte_buf unit unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    source: Source,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Wrong;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Wrong> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        seed.deserialize(At { value, source: self.source }).map(Some).map_err(|e| e.within(&index.to_string()))
    }
}

struct Entries<'a> {
    map: serde_json::map::Iter<'a>,
    next: Option<(&'a String, &'a Value)>,
    source: Source,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Wrong;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Wrong> {
        self.next = self.map.by_ref().find(|(_, value)| !value.is_null());
        self.next.map(|(key, _)| seed.deserialize(key.as_str().into_deserializer())).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Wrong> {
        let (key, value) = self.next.take().ok_or_else(|| Wrong::custom("has a value without a key"))?;
        seed.deserialize(At { value, source: self.source }).map_err(|e| e.within(key))
    }
}

struct Name<'a>(&'a str);

impl<'de> EnumAccess<'de> for Name<'de> {
    type Error = Wrong;
    type Variant = Name<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Name<'de>), Wrong> {
        seed.deserialize(self.0.into_deserializer()).map(|value| (value, self))
    }
}

impl<'de> VariantAccess<'de> for Name<'de> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Wrong> {
        Err(Wrong::custom("must be a string"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::custom("must be a string"))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Wrong> {
        Err(Wrong::custom("must be a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Input {
        command: String,
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        timeout: Option<u64>,
        cpus: Option<f64>,
        #[serde(default)]
        partial: bool,
    }

    fn wrong(value: Value) -> String {
        decode::<Input>(&value, Source::Json).unwrap_err().to_string()
    }

    #[test]
    fn names_the_field() {
        assert_eq!(wrong(json!({})), "`command` is missing");
        assert_eq!(wrong(json!({"command": 1})), "`command` must be a string, not an integer");
        assert_eq!(wrong(json!({"command": "a", "args": ["b", 2]})), "`args.1` must be a string, not an integer");
        assert_eq!(wrong(json!({"command": "a", "args": "b"})), "`args` must be an array, not a string");
        assert_eq!(wrong(json!({"command": "a", "env": {"A": {}}})), "`env.A` must be a string, not an object");
        for timeout in [json!(1.5), json!(1e3), json!("1"), json!(-1), json!(1.8446744073709552e19), json!([1])] {
            let text = wrong(json!({"command": "a", "timeout": timeout}));
            assert!(text.starts_with("`timeout` must be an integer"), "{text}");
        }
        assert_eq!(wrong(json!([])), "the body must be an object");
        assert!(wrong(json!({"command": "a", "env": {"é".repeat(300): 1}})).len() < 200);
    }

    #[test]
    fn null_is_absent_and_strangers_are_ignored() {
        let value = json!({"command": "a", "args": null, "env": null, "timeout": null, "cpus": 1, "later": [{}]});
        let input: Input = decode(&value, Source::Json).unwrap();
        assert_eq!((input.args.len(), input.timeout, input.cpus), (0, None, Some(1.0)));
    }

    #[test]
    fn a_query_is_text() {
        let value = json!({"command": "1", "timeout": "5", "partial": "true"});
        let input: Input = decode(&value, Source::Text).unwrap();
        assert_eq!((input.command.as_str(), input.timeout, input.partial), ("1", Some(5), true));
        for timeout in ["", "+5", "-", "1.5", "18446744073709551616", " 5", "-5"] {
            assert!(decode::<Input>(&json!({"command": "1", "timeout": timeout}), Source::Text).is_err(), "{timeout}");
        }
    }
}
