//! Decodes Kubernetes' protobuf bodies into the JSON form of the same object.
//!
//! `kubectl` from 1.32 on sends every built-in kind so and does not fall back, so it must be read;
//! answers stay JSON, which every client takes. The envelope is `k8s\0` and a `runtime.Unknown`
//! (type, raw message); what the raw message means is in `protobuf/table.json`:
//!
//! `{"core/v1.Pod": {"1": ["metadata", "meta/v1.ObjectMeta"], …}}`, where a field is its JSON name,
//! its type and its flags. Types: `s` string, `b` bool, `i` integer, `d` double, `B` bytes, `T` time,
//! `U` time with microseconds, `D` duration, `Q` quantity, `I` integer or string, `R` raw JSON,
//! another message, or `@message` for a list that hides in a message. Flags: `r` repeated, `m` map,
//! `p` pointer (its zero value is kept), `i` inlined. The table is generated from the struct tags of
//! k8s.io/api 0.32 and 0.34 (Apache-2.0); it is data about the wire and needs no change when a kind is served
//! that it already has.
//!
//! The input is hostile: every length is checked against what is there, and depth is bounded.

mod wire;

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use wire::{Reader, Wire, bytes_field, varint_field};

const MAGIC: &[u8] = b"k8s\0";
/// The deepest real message is about twelve deep (JSON schemas aside, which are not served).
const MAX_DEPTH: usize = 48;

/// Why bytes are not an object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("it does not begin with the protobuf envelope")]
    Envelope,
    #[error("a field runs over the end of its message")]
    Truncated,
    #[error("it has a field of an unknown wire type")]
    WireType,
    #[error("it is nested too deeply")]
    TooDeep,
    #[error("a string is not UTF-8")]
    Utf8,
    #[error("{0} is not valid")]
    Field(&'static str),
    #[error("its kind {0} has no protobuf form here; send JSON")]
    UnknownKind(String),
}

type Message = HashMap<u32, Field>;

struct Field {
    name: String,
    kind: Kind,
    repeated: bool,
    map: bool,
    pointer: bool,
    inline: bool,
}

enum Kind {
    Text,
    Bool,
    Integer,
    Double,
    Bytes,
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    Raw,
    Message(String),
    HiddenList(String),
}

impl Kind {
    fn parse(text: &str) -> Self {
        match text {
            "s" => Self::Text,
            "b" => Self::Bool,
            "i" => Self::Integer,
            "d" => Self::Double,
            "B" => Self::Bytes,
            "T" => Self::Time,
            "U" => Self::MicroTime,
            "D" => Self::Duration,
            "Q" => Self::Quantity,
            "I" => Self::IntOrString,
            "R" => Self::Raw,
            _ => match text.strip_prefix('@') {
                Some(message) => Self::HiddenList(message.to_owned()),
                None => Self::Message(text.to_owned()),
            },
        }
    }
}

fn table() -> &'static HashMap<String, Message> {
    static TABLE: OnceLock<HashMap<String, Message>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let raw: HashMap<String, HashMap<u32, Vec<String>>> =
            serde_json::from_str(include_str!("protobuf/table.json"))
                .expect("the generated table is checked by a test");
        raw.into_iter()
            .map(|(name, fields)| {
                let fields = fields
                    .into_iter()
                    .map(|(number, parts)| (number, field(&parts)))
                    .collect();
                (name, fields)
            })
            .collect()
    })
}

fn field(parts: &[String]) -> Field {
    let flags = parts.get(2).map_or("", String::as_str);
    Field {
        name: parts[0].clone(),
        kind: Kind::parse(&parts[1]),
        repeated: flags == "r",
        map: flags == "m",
        pointer: flags == "p",
        inline: flags == "i",
    }
}

/// Decodes a body.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, Error> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or(Error::Envelope)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(envelope);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => {
                let mut reader = Reader::new(bytes);
                while let Some((number, wire)) = reader.next()? {
                    match (number, wire) {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let message = message_of(&api_version, &kind)
        .ok_or_else(|| Error::UnknownKind(format!("{api_version} {kind}")))?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    decode_message(message, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

/// The message of a kind. Options exist once, in `meta/v1`, whatever group they are sent to.
fn message_of(api_version: &str, kind: &str) -> Option<&'static Message> {
    let package = match api_version.split_once('/') {
        None => format!("core/{api_version}"),
        Some((group, version)) => {
            let group = group.split('.').next().unwrap_or(group);
            format!("{group}/{version}")
        }
    };
    table()
        .get(&format!("{package}.{kind}"))
        .or_else(|| table().get(&format!("meta/v1.{kind}")))
}

fn decode_message(
    message: &Message,
    bytes: &[u8],
    object: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::TooDeep);
    }
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        let Some(field) = message.get(&number) else {
            continue;
        };
        if field.map {
            let (key, value) = map_entry(&field.kind, wire, depth)?;
            if let Value::Object(map) = object
                .entry(&field.name)
                .or_insert_with(|| Value::Object(Map::new()))
            {
                map.insert(key, value);
            }
        } else if field.repeated {
            if let Value::Array(items) = object
                .entry(&field.name)
                .or_insert_with(|| Value::Array(Vec::new()))
            {
                push_items(items, &field.kind, wire, depth)?;
            }
        } else if field.inline {
            if let (Kind::Message(name), Wire::Bytes(bytes)) = (&field.kind, wire)
                && let Some(inlined) = table().get(name)
            {
                decode_message(inlined, bytes, object, depth + 1)?;
            }
        } else {
            let value = value(&field.kind, wire, depth)?;
            if !value.is_null() && (field.pointer || !is_zero(&value)) {
                object.insert(field.name.clone(), value);
            }
        }
    }
    Ok(())
}

/// Go's zero value, which a field that is no pointer does not show.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// One element; numbers may come packed.
fn push_items(
    items: &mut Vec<Value>,
    kind: &Kind,
    wire: Wire<'_>,
    depth: usize,
) -> Result<(), Error> {
    if let (Kind::Integer | Kind::Bool, Wire::Bytes(bytes)) = (kind, wire) {
        let mut reader = Reader::new(bytes);
        while !reader.is_at_end() {
            let number = Wire::Varint(reader.varint()?);
            items.push(value(kind, number, depth)?);
        }
        return Ok(());
    }
    items.push(value(kind, wire, depth)?);
    Ok(())
}

fn map_entry(kind: &Kind, wire: Wire<'_>, depth: usize) -> Result<(String, Value), Error> {
    let Wire::Bytes(bytes) = wire else {
        return Err(Error::WireType);
    };
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(bytes);
    while let Some((number, wire)) = reader.next()? {
        match (number, wire) {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = Some(value(kind, wire, depth)?),
            _ => {}
        }
    }
    let value = match (found, kind) {
        (Some(value), _) => value,
        (None, Kind::Text | Kind::Bytes | Kind::Quantity) => json!(""),
        (None, _) => json!({}),
    };
    Ok((key, value))
}

fn value(kind: &Kind, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    Ok(match (kind, wire) {
        (Kind::Bool, Wire::Varint(number)) => json!(number != 0),
        (Kind::Integer, Wire::Varint(number)) => json!(number as i64),
        (Kind::Double, Wire::Fixed64(bits)) => json!(f64::from_bits(bits)),
        (Kind::Text, Wire::Bytes(bytes)) => json!(text(bytes)?),
        (Kind::Bytes, Wire::Bytes(bytes)) => json!(STANDARD.encode(bytes)),
        (Kind::Time, Wire::Bytes(bytes)) => time(bytes, false)?,
        (Kind::MicroTime, Wire::Bytes(bytes)) => time(bytes, true)?,
        (Kind::Duration, Wire::Bytes(bytes)) => {
            let nanoseconds = varint_field(bytes, 1)?.unwrap_or(0) as i64;
            json!(format!("{}s", nanoseconds as f64 / 1e9))
        }
        (Kind::Quantity, Wire::Bytes(bytes)) => {
            json!(text(bytes_field(bytes, 1)?.unwrap_or_default())?)
        }
        (Kind::IntOrString, Wire::Bytes(bytes)) => match varint_field(bytes, 1)?.unwrap_or(0) {
            0 => json!(varint_field(bytes, 2)?.unwrap_or(0) as i64),
            _ => json!(text(bytes_field(bytes, 3)?.unwrap_or_default())?),
        },
        (Kind::Raw, Wire::Bytes(bytes)) => match bytes_field(bytes, 1)? {
            Some(raw) if !raw.is_empty() => {
                serde_json::from_slice(raw).map_err(|_| Error::Field("raw JSON"))?
            }
            _ => Value::Null,
        },
        (Kind::Message(name), Wire::Bytes(bytes)) => {
            let message = table().get(name).ok_or(Error::Field("the table"))?;
            let mut object = Map::new();
            decode_message(message, bytes, &mut object, depth + 1)?;
            Value::Object(object)
        }
        (Kind::HiddenList(name), Wire::Bytes(bytes)) => {
            let message = table().get(name).ok_or(Error::Field("the table"))?;
            let mut object = Map::new();
            decode_message(message, bytes, &mut object, depth + 1)?;
            object.remove("*").unwrap_or_else(|| json!([]))
        }
        (
            Kind::Bool
            | Kind::Integer
            | Kind::Double
            | Kind::Text
            | Kind::Bytes
            | Kind::Time
            | Kind::MicroTime
            | Kind::Duration
            | Kind::Quantity
            | Kind::IntOrString
            | Kind::Raw
            | Kind::Message(_)
            | Kind::HiddenList(_),
            _,
        ) => return Err(Error::WireType),
    })
}

/// `Time{1 seconds, 2 nanoseconds}`; an empty one is no time at all.
fn time(bytes: &[u8], with_microseconds: bool) -> Result<Value, Error> {
    let Some(seconds) = varint_field(bytes, 1)? else {
        return Ok(Value::Null);
    };
    let nanoseconds = varint_field(bytes, 2)?.unwrap_or(0) as i32;
    let at = Timestamp::new(seconds as i64, nanoseconds).map_err(|_| Error::Field("a time"))?;
    Ok(json!(if with_microseconds {
        format!("{at:.6}")
    } else {
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }))
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    std::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| Error::Utf8)
}

#[cfg(test)]
mod tests;
