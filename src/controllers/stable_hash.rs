//! A short hash of an object's meaning, for names: the same for ever and in every process.
//!
//! It is taken over JSON with sorted keys, so it does not depend on how the object was spelt.

use std::collections::BTreeMap;

use serde_json::Value;

/// FNV-1a over the canonical text, written in the alphabet of generated names. `collisions` gives
/// another hash of the same value.
pub(super) fn of(value: &Value, collisions: i32) -> String {
    let mut text = String::new();
    canonical(value, &mut text);
    if collisions > 0 {
        text.push_str(&collisions.to_string());
    }
    let hash = text.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    encode(hash)
}

/// `k8s.io/apimachinery/pkg/util/rand.SafeEncodeString` of the decimal digits.
fn encode(hash: u32) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let digits = hash.to_string();
    digits
        .bytes()
        .map(|byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]))
        .collect()
}

/// JSON with sorted keys, whatever map serde_json was built with.
fn canonical(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            text.push('{');
            for (key, field) in sorted {
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                canonical(field, text);
                text.push(',');
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for item in items {
                canonical(item, text);
                text.push(',');
            }
            text.push(']');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            text.push_str(&value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_hash_is_fixed_for_ever() {
        // It names objects in people's clusters.
        assert_eq!(of(&json!({}), 0), HASH_OF_NOTHING);
        let value = json!({"b": [1, null, "x"], "a": {"d": true, "c": 1.5}});
        assert_ne!(of(&value, 0), of(&value, 1));
    }

    /// FNV-1a of `{}` is 1,415,952,421.
    const HASH_OF_NOTHING: &str = "5859f96865";
}
