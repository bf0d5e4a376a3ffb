//! JSON as the gateway accepts it: no duplicate keys, bounded depth, nothing behind the value.
//!
//! Two readers that disagree about a duplicate key are a way past a check, so there is no such body.
//! Not a check of what the JSON means. Start at [`parse`].

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::limits::JSON_DEPTH_MAX;

/// Why a body is not accepted. The texts hold nothing of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonRefused {
    /// Not JSON, or something behind it.
    #[error("the body is not one JSON value in UTF-8")]
    Syntax,
    /// A key twice in one object.
    #[error("an object of the body holds the same key twice")]
    DuplicateKey,
    /// Nested deeper than [`JSON_DEPTH_MAX`].
    #[error("the body is nested deeper than 32 levels")]
    Depth,
}

/// Reads a body.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, JsonRefused> {
    let mut found = None;
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let read = Strict {
        depth: 0,
        found: &mut found,
    }
    .deserialize(&mut reader);
    match (found, read) {
        (Some(refused), _) => Err(refused),
        (None, Ok(value)) if reader.end().is_ok() => Ok(value),
        _ => Err(JsonRefused::Syntax),
    }
}

struct Strict<'a> {
    depth: usize,
    found: &'a mut Option<JsonRefused>,
}

impl Strict<'_> {
    fn deeper(&mut self) -> Strict<'_> {
        Strict {
            depth: self.depth + 1,
            found: self.found,
        }
    }

    fn refuse<E: serde::de::Error>(&mut self, refused: JsonRefused) -> E {
        *self.found = Some(refused);
        E::custom(refused)
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<Value, D::Error> {
        if self.depth > JSON_DEPTH_MAX {
            return Err(self.refuse(JsonRefused::Depth));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper())? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.refuse::<A::Error>(JsonRefused::DuplicateKey));
            }
            let value = entries.next_value_seed(self.deeper())?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ordinary_json_is_read_as_it_is() {
        let text = r#" {"a": [1, -2, 2.5, "é\n", true, null], "b": {"a": {}}} "#;
        assert_eq!(
            parse(text.as_bytes()),
            Ok(json!({"a": [1, -2, 2.5, "é\n", true, null], "b": {"a": {}}}))
        );
    }

    #[test]
    fn duplicate_keys_are_refused_at_any_depth_and_through_escapes() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":[{"a":1,"b":2,"a":3}]}"#,
            r#"{"a":1,"\u0061":2}"#,
        ] {
            assert_eq!(
                parse(text.as_bytes()),
                Err(JsonRefused::DuplicateKey),
                "{text}"
            );
        }
        assert!(parse(br#"[{"a":1},{"a":1}]"#).is_ok());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_ok());
        assert_eq!(
            parse(nested(JSON_DEPTH_MAX + 2).as_bytes()),
            Err(JsonRefused::Depth)
        );
        assert_eq!(parse(nested(100_000).as_bytes()), Err(JsonRefused::Depth));
    }

    #[test]
    fn anything_else_is_no_json() {
        for text in [
            &b""[..],
            b"{",
            b"{} {}",
            b"nan",
            b"{\"a\":1,}",
            b"\xff",
            b"{\"a\":1e999}",
        ] {
            assert_eq!(parse(text), Err(JsonRefused::Syntax), "{text:?}");
        }
    }
}
