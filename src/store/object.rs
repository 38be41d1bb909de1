//! One version of an object, and the draft that becomes one.
//!
//! The revision of a write is known only inside the writer, which everyone waits for, and it must
//! stand in the encoded object. Encoding there would make the writer the bottleneck, so a [`Draft`]
//! is encoded by its caller with a hole where `metadata.resourceVersion` goes; the writer copies
//! the bytes around the number and is done. `metadata.resourceVersion` is all that the store
//! knows of an object's shape; a value that is no map is kept as it is.

use std::any::Any;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value};

use super::key::{ObjectKey, Revision};

/// One version of one object; immutable and shared by everyone who looks at it.
/// `metadata.resourceVersion` of `object` is the revision: the store writes it.
pub struct Stored {
    pub key: ObjectKey,
    pub revision: Revision,
    pub object: Value,
    /// The revision that created the object: the id of its durable row. Zero where no row can be
    /// meant: past versions and objects of volatile resources.
    pub(super) created: Revision,
    json: OnceLock<Bytes>,
    typed: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Stored {
    /// A version made outside the store, say the answer to a dry run. Writes `revision` into it.
    pub fn new(key: ObjectKey, revision: Revision, mut object: Value) -> Self {
        write_revision(&mut object, revision);
        Self {
            key,
            revision,
            object,
            created: Revision(0),
            json: OnceLock::new(),
            typed: OnceLock::new(),
        }
    }

    /// A version read back from its durable encoding.
    pub(super) fn decode(
        key: ObjectKey,
        revision: Revision,
        created: Revision,
        json: Bytes,
    ) -> Result<Self, serde_json::Error> {
        let object = serde_json::from_slice(&json)?;
        Ok(Self {
            key,
            revision,
            object,
            created,
            json: OnceLock::from(json),
            typed: OnceLock::new(),
        })
    }

    /// The encoded object, made once and shared by all readers and watchers.
    pub fn json(&self) -> &Bytes {
        self.json.get_or_init(|| {
            let json = serde_json::to_vec(&self.object)
                .expect("a JSON value has string keys, so it always encodes");
            Bytes::from(json)
        })
    }

    /// The object as `T`, decoded once per version and shared. A version is asked for one `T` only
    /// (the kind's type); another `T` is decoded afresh.
    pub fn typed<T: serde::de::DeserializeOwned + Send + Sync + 'static>(
        &self,
    ) -> Result<Arc<T>, serde_json::Error> {
        if let Some(typed) = self.typed.get()
            && let Ok(typed) = Arc::clone(typed).downcast::<T>()
        {
            return Ok(typed);
        }
        let decoded = Arc::new(T::deserialize(&self.object)?);
        let shared: Arc<dyn Any + Send + Sync> = Arc::clone(&decoded) as _;
        let kept = Arc::clone(self.typed.get_or_init(|| shared));
        Ok(kept.downcast::<T>().unwrap_or(decoded))
    }

    /// The last version of a deleted object: the same object at the revision of its deletion.
    pub(super) fn tombstone(&self, revision: Revision) -> Self {
        Self::new(self.key.clone(), revision, self.object.clone())
    }

    /// What this version counts for in a bound on memory, without encoding it for that.
    pub(super) fn weight(&self) -> usize {
        const UNKNOWN: usize = 1024;
        self.json.get().map_or(UNKNOWN, Bytes::len)
    }
}

/// An object on its way into the store: everything done but the revision.
pub(super) struct Draft {
    object: Value,
    encoded: Option<Encoded>,
}

struct Encoded {
    text: Vec<u8>,
    /// Where the revision goes; absent for a value that is no map.
    hole: Option<usize>,
}

impl Draft {
    /// Encodes the object now, in the caller's task, if it is going to disk.
    pub(super) fn new(mut object: Value, durable: bool) -> Self {
        if let Some(slot) = revision_slot(&mut object) {
            *slot = Value::String(String::new());
        }
        let encoded = durable.then(|| encode_with_hole(&object));
        Self { object, encoded }
    }

    /// The encoded size, for bounds.
    pub(super) fn weight(&self) -> usize {
        self.encoded
            .as_ref()
            .map_or(0, |encoded| encoded.text.len())
    }

    pub(super) fn finish(self, key: ObjectKey, revision: Revision, created: Revision) -> Stored {
        let json = OnceLock::new();
        if let Some(encoded) = self.encoded {
            let _ = json.set(encoded.fill(revision));
        }
        let mut object = self.object;
        write_revision(&mut object, revision);
        Stored {
            key,
            revision,
            object,
            created,
            json,
            typed: OnceLock::new(),
        }
    }
}

impl Encoded {
    fn fill(self, revision: Revision) -> Bytes {
        let Some(hole) = self.hole else {
            return Bytes::from(self.text);
        };
        let digits = revision.0.to_string();
        let mut json = Vec::with_capacity(self.text.len() + digits.len());
        json.extend_from_slice(&self.text[..hole]);
        json.extend_from_slice(digits.as_bytes());
        json.extend_from_slice(&self.text[hole..]);
        Bytes::from(json)
    }
}

fn write_revision(object: &mut Value, revision: Revision) {
    if let Some(slot) = revision_slot(object) {
        *slot = Value::String(revision.0.to_string());
    }
}

fn revision_slot(object: &mut Value) -> Option<&mut Value> {
    let metadata = object
        .as_object_mut()?
        .entry("metadata")
        .or_insert_with(|| Value::Object(Map::new()));
    Some(
        metadata
            .as_object_mut()?
            .entry("resourceVersion")
            .or_insert(Value::Null),
    )
}

fn encode_with_hole(object: &Value) -> Encoded {
    let mut text = Vec::with_capacity(1024);
    let mut hole = None;
    match object.as_object() {
        Some(fields) => write_map(&mut text, fields, |text, name, value| {
            match value.as_object() {
                Some(metadata) if name == "metadata" => {
                    write_map(text, metadata, |text, name, value| {
                        if name == "resourceVersion" {
                            hole = Some(text.len() + 1);
                        }
                        write_value(text, value);
                    });
                }
                _ => write_value(text, value),
            }
        }),
        None => write_value(&mut text, object),
    }
    Encoded { text, hole }
}

fn write_map(
    text: &mut Vec<u8>,
    fields: &Map<String, Value>,
    mut write_field: impl FnMut(&mut Vec<u8>, &str, &Value),
) {
    text.push(b'{');
    for (index, (name, value)) in fields.iter().enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut *text, name).expect("memory takes every write");
        text.push(b':');
        write_field(text, name, value);
    }
    text.push(b'}');
}

fn write_value(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value)
        .expect("memory takes every write, and a JSON value always encodes");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(object: Value, expected: &Value) {
        let key = ObjectKey::new("pods", "default", "a");
        let stored =
            Draft::new(object.clone(), true).finish(key.clone(), Revision(42), Revision(7));
        assert_eq!(&stored.object, expected);
        let encoded: Value = serde_json::from_slice(stored.json()).unwrap();
        assert_eq!(&encoded, expected, "the encoding says the same");
        assert_eq!(stored.json(), Stored::new(key, Revision(42), object).json());
    }

    #[test]
    fn the_revision_is_written_into_object_and_encoding() {
        let at_42 = json!({"metadata": {"name": "a", "resourceVersion": "42"}, "spec": {"x": 1}});
        check(json!({"metadata": {"name": "a"}, "spec": {"x": 1}}), &at_42);
        check(
            json!({"metadata": {"name": "a", "resourceVersion": "41"}, "spec": {"x": 1}}),
            &at_42,
        );
        check(
            json!({"metadata": {"name": "a", "resourceVersion": {"odd": 1}}, "spec": {"x": 1}}),
            &at_42,
        );
        check(json!({}), &json!({"metadata": {"resourceVersion": "42"}}));
        check(
            json!({"spec": {"metadata": {"resourceVersion": "x\"y"}}, "a\"b": "é\n"}),
            &json!({"spec": {"metadata": {"resourceVersion": "x\"y"}}, "a\"b": "é\n", "metadata": {"resourceVersion": "42"}}),
        );
        check(json!({"metadata": 3}), &json!({"metadata": 3}));
        check(json!(["no", "map"]), &json!(["no", "map"]));
    }

    #[test]
    fn a_version_is_decoded_once() {
        let stored = Stored::new(ObjectKey::new("pods", "", "a"), Revision(1), json!({}));
        let first = stored.typed::<Map<String, Value>>().unwrap();
        let second = stored.typed::<Map<String, Value>>().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let other = stored.typed::<Value>().unwrap();
        assert_eq!(*other, stored.object);
    }
}
