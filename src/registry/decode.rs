//! Strict decoding: from JSON to a kind's Rust type, saying what got lost on the way.
//!
//! Two things of a request must not vanish silently. Fields that the type does not know are
//! reported with their path, found while decoding rather than by a second pass: the generated
//! decoders ask for unknown fields as "ignored", and this deserializer takes note of each such
//! request. Keys that occur twice are seen only in the text, so [`parse_json`] looks for them
//! while it reads. A wrong JSON type ends decoding with the path at which it was met.
//!
//! `null` in a typed object means absent and is skipped.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use super::path::Path;

/// A body as read, and the paths of the keys that occurred twice in it (the last one counts).
#[derive(Debug)]
pub struct Parsed {
    pub value: Value,
    pub duplicates: Vec<String>,
}

/// Reads JSON text and takes note of duplicate keys.
pub fn parse_json(text: &[u8]) -> Result<Parsed, serde_json::Error> {
    let duplicates = RefCell::default();
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = Reader {
        path: &Path::Root,
        duplicates: &duplicates,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(Parsed {
        value,
        duplicates: duplicates.into_inner(),
    })
}

/// An object in its type, and the paths of the fields that the type does not know.
pub(crate) struct Decoded<T> {
    pub(crate) object: T,
    pub(crate) unknown: Vec<String>,
}

/// A value of the wrong JSON type (or an unreadable text), and where.
#[derive(Debug)]
pub(crate) struct WrongType {
    path: Option<String>,
    message: String,
}

impl WrongType {
    /// A complaint about what `metadata` holds.
    pub(crate) fn in_metadata(mut self) -> Self {
        let path = match self.path.as_deref() {
            None | Some("") => "metadata".to_owned(),
            Some(path) => format!("metadata.{path}"),
        };
        self.path = Some(path);
        self
    }

    fn at(mut self, path: &Path<'_>) -> Self {
        self.path.get_or_insert_with(|| path.to_string());
        self
    }
}

impl fmt::Display for WrongType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_deref() {
            None | Some("") => f.write_str(&self.message),
            Some(path) => write!(f, "{path}: {}", self.message),
        }
    }
}

impl std::error::Error for WrongType {}

impl serde::de::Error for WrongType {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self {
            path: None,
            message: message.to_string(),
        }
    }
}

/// Decodes `value` as `T`.
pub(crate) fn decode<T: DeserializeOwned>(value: &Value) -> Result<Decoded<T>, WrongType> {
    let unknown = RefCell::default();
    let object = T::deserialize(Node {
        value,
        path: &Path::Root,
        unknown: &unknown,
    })?;
    let mut unknown = unknown.into_inner();
    // Types that are not Kubernetes' own leave the type's name to us.
    unknown.retain(|path| path != "apiVersion" && path != "kind");
    Ok(Decoded { object, unknown })
}

/// A value to be decoded, where it stands, and who wants to hear of unknown fields.
#[derive(Clone, Copy)]
struct Node<'de, 'a> {
    value: &'de Value,
    path: &'a Path<'a>,
    unknown: &'a RefCell<Vec<String>>,
}

impl<'de> Deserializer<'de> for Node<'de, '_> {
    type Error = WrongType;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WrongType> {
        let result = match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => {
                if let Some(value) = number.as_i64() {
                    visitor.visit_i64(value)
                } else if let Some(value) = number.as_u64() {
                    visitor.visit_u64(value)
                } else {
                    visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN))
                }
            }
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items {
                items: items.iter().enumerate(),
                node: self,
            }),
            Value::Object(fields) => visitor.visit_map(Fields {
                rest: fields.iter(),
                current: None,
                node: self,
            }),
        };
        result.map_err(|error| error.at(self.path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WrongType> {
        if self.value.is_null() {
            visitor.visit_none()
        } else {
            visitor
                .visit_some(self)
                .map_err(|error| error.at(self.path))
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, WrongType> {
        visitor
            .visit_newtype_struct(self)
            .map_err(|error| error.at(self.path))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, WrongType> {
        self.unknown.borrow_mut().push(self.path.to_string());
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier
    }
}

struct Items<'de, 'a, I> {
    items: I,
    node: Node<'de, 'a>,
}

impl<'de, I: Iterator<Item = (usize, &'de Value)>> SeqAccess<'de> for Items<'de, '_, I> {
    type Error = WrongType;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, WrongType> {
        let Some((index, value)) = self.items.next() else {
            return Ok(None);
        };
        let path = self.node.path.index(index);
        seed.deserialize(Node {
            value,
            path: &path,
            unknown: self.node.unknown,
        })
        .map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.size_hint().0)
    }
}

struct Fields<'de, 'a> {
    rest: serde_json::map::Iter<'de>,
    current: Option<(&'de String, &'de Value)>,
    node: Node<'de, 'a>,
}

impl<'de> MapAccess<'de> for Fields<'de, '_> {
    type Error = WrongType;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, WrongType> {
        self.current = self.rest.find(|(_, value)| !value.is_null());
        match self.current {
            Some((key, _)) => seed
                .deserialize(BorrowedStrDeserializer::new(key))
                .map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, WrongType> {
        let Some((key, value)) = self.current.take() else {
            return Err(WrongType::custom("a value without a key"));
        };
        let path = self.node.path.field(key);
        seed.deserialize(Node {
            value,
            path: &path,
            unknown: self.node.unknown,
        })
    }
}

/// Builds a `Value` from text.
#[derive(Clone, Copy)]
struct Reader<'a> {
    path: &'a Path<'a>,
    duplicates: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Reader<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
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

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let path = self.path.index(array.len());
            let seed = Reader {
                path: &path,
                duplicates: self.duplicates,
            };
            match items.next_element_seed(seed)? {
                Some(item) => array.push(item),
                None => return Ok(Value::Array(array)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let path = self.path.field(&key);
            if map.contains_key(&key) {
                self.duplicates.borrow_mut().push(path.to_string());
            }
            let seed = Reader {
                path: &path,
                duplicates: self.duplicates,
            };
            let value = fields.next_value_seed(seed)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    #[test]
    fn unknown_fields_are_named_and_dropped() {
        let value = json!({"apiVersion": "v1", "kind": "Pod", "foo": 1, "metadata": {"name": "a", "creationTimestamp": null},
            "spec": {"containers": [{"name": "c", "imagee": "x"}], "volumes": null}});
        let decoded = decode::<Pod>(&value).unwrap();
        assert_eq!(decoded.unknown, ["foo", "spec.containers[0].imagee"]);
        assert_eq!(
            serde_json::to_value(decoded.object).unwrap(),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "c"}]}})
        );
    }

    #[test]
    fn a_wrong_type_is_named_with_its_path() {
        let wrong = |value: Value| decode::<Pod>(&value).err().unwrap().to_string();
        assert_eq!(
            wrong(json!({"spec": {"containers": [{"name": 5}]}})),
            "spec.containers[0].name: invalid type: integer `5`, expected a string"
        );
        assert_eq!(
            wrong(json!({"spec": {"hostNetwork": "yes"}})),
            "spec.hostNetwork: invalid type: string \"yes\", expected a boolean"
        );
        assert!(
            wrong(json!({"metadata": {"creationTimestamp": "noon"}}))
                .starts_with("metadata.creationTimestamp: ")
        );
    }

    #[test]
    fn duplicate_keys_are_seen_in_the_text() {
        let parsed =
            parse_json(br#"{"a": 1, "b": [{"c": 1, "c": 2}], "a": 3, "d": null}"#).unwrap();
        assert_eq!(parsed.duplicates, ["b[0].c", "a"]);
        assert_eq!(parsed.value, json!({"a": 3, "b": [{"c": 2}], "d": null}));
        assert!(parse_json(b"{} x").is_err());
    }
}
