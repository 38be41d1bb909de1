//! Objects as Kubernetes' protobuf, by the server's own table of the wire: what `kubectl` does.

use std::collections::HashMap;
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

type Table = HashMap<String, HashMap<u32, Vec<String>>>;

fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| {
        serde_json::from_str(include_str!("../../../src/apiserver/protobuf/table.json")).unwrap()
    })
}

/// The body that says `object`; `None` if its kind has no protobuf form.
pub(super) fn encode(object: &Value) -> Option<Vec<u8>> {
    let api_version = object["apiVersion"].as_str()?;
    let kind = object["kind"].as_str()?;
    let package = match api_version.split_once('/') {
        None => format!("core/{api_version}"),
        Some((group, version)) => format!("{}/{version}", group.split('.').next()?),
    };
    let raw = message(&format!("{package}.{kind}"), object)?;
    let mut meta = Vec::new();
    field(1, api_version.as_bytes(), &mut meta);
    field(2, kind.as_bytes(), &mut meta);
    let mut body = b"k8s\0".to_vec();
    field(1, &meta, &mut body);
    field(2, &raw, &mut body);
    Some(body)
}

fn message(name: &str, object: &Value) -> Option<Vec<u8>> {
    let fields = table().get(name)?;
    let mut numbers: Vec<&u32> = fields.keys().collect();
    numbers.sort();
    let mut bytes = Vec::new();
    for number in numbers {
        let parts = &fields[number];
        let (json, kind) = (&parts[0], &parts[1]);
        let flag = parts.get(2).map_or("", String::as_str);
        if flag == "i" {
            field(*number, &message(kind, object)?, &mut bytes);
            continue;
        }
        match (flag, &object[json]) {
            (_, Value::Null) => {}
            ("m", Value::Object(map)) => {
                for (key, value) in map {
                    let mut entry = Vec::new();
                    field(1, key.as_bytes(), &mut entry);
                    one(2, kind, value, &mut entry);
                    field(*number, &entry, &mut bytes);
                }
            }
            ("r", Value::Array(items)) => {
                for item in items {
                    one(*number, kind, item, &mut bytes);
                }
            }
            (_, value) => one(*number, kind, value, &mut bytes),
        }
    }
    Some(bytes)
}

fn one(number: u32, kind: &str, value: &Value, bytes: &mut Vec<u8>) {
    let text = || value.as_str().unwrap_or_default();
    match kind {
        "s" => field(number, text().as_bytes(), bytes),
        "B" => field(number, &STANDARD.decode(text()).unwrap_or_default(), bytes),
        "b" => numeric(number, u64::from(value == true), bytes),
        "i" => numeric(
            number,
            value.as_i64().unwrap_or_default().cast_unsigned(),
            bytes,
        ),
        "Q" => {
            let mut inner = Vec::new();
            field(
                1,
                value.to_string().trim_matches('"').as_bytes(),
                &mut inner,
            );
            field(number, &inner, bytes);
        }
        "I" => {
            let mut inner = Vec::new();
            if let Some(whole) = value.as_i64() {
                numeric(2, whole.cast_unsigned(), &mut inner);
            } else {
                numeric(1, 1, &mut inner);
                field(3, text().as_bytes(), &mut inner);
            }
            field(number, &inner, bytes);
        }
        "R" => {
            let mut inner = Vec::new();
            field(1, value.to_string().as_bytes(), &mut inner);
            field(number, &inner, bytes);
        }
        "T" | "U" => {
            let at: jiff::Timestamp = text().parse().unwrap_or_default();
            let mut inner = Vec::new();
            numeric(1, at.as_second().cast_unsigned(), &mut inner);
            field(number, &inner, bytes);
        }
        _ => match kind.strip_prefix('@') {
            Some(hidden) => {
                let wrapped = serde_json::json!({"*": value});
                field(
                    number,
                    &message(hidden, &wrapped).unwrap_or_default(),
                    bytes,
                );
            }
            None => field(number, &message(kind, value).unwrap_or_default(), bytes),
        },
    }
}

fn numeric(number: u32, value: u64, bytes: &mut Vec<u8>) {
    varint(u64::from(number) << 3, bytes);
    varint(value, bytes);
}

fn field(number: u32, content: &[u8], bytes: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, bytes);
    varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

fn varint(mut value: u64, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
