//! OpenAPI v2 in protobuf: the `openapi.v2.Document` of gnostic, which kubectl before 1.29 cannot do
//! without.
//!
//! Only an encoder, for the constructs that clients read; field numbers are gnostic's. Value rules
//! (lengths, patterns) are left to the JSON form: no client of this one looks at them.

use serde_json::Value;

/// The document in protobuf.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, document["swagger"].as_str());
    let mut info = Message::default();
    info.text(1, document["info"]["title"].as_str());
    info.text(2, document["info"]["version"].as_str());
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in fields(&document["paths"]) {
        paths.message(2, &named(path, &path_item(item)));
    }
    out.message(8, &paths);
    let mut definitions = Message::default();
    for (name, schema) in fields(&document["definitions"]) {
        definitions.message(1, &named(name, &encode_schema(schema)));
    }
    out.message(9, &definitions);
    out.0
}

fn fields(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (field, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (8, "patch"),
    ] {
        if let Some(operation) = item.get(method) {
            out.message(field, &encode_operation(operation));
        }
    }
    for parameter in items(&item["parameters"]) {
        out.message(9, &encode_parameter(parameter));
    }
    out
}

fn encode_operation(operation: &Value) -> Message {
    let mut out = Message::default();
    out.text(5, operation["operationId"].as_str());
    for media in items(&operation["produces"]) {
        out.text(6, media.as_str());
    }
    for media in items(&operation["consumes"]) {
        out.text(7, media.as_str());
    }
    for parameter in items(&operation["parameters"]) {
        out.message(8, &encode_parameter(parameter));
    }
    let mut responses = Message::default();
    for (code, response) in fields(&operation["responses"]) {
        let mut schema_item = Message::default();
        schema_item.message(1, &encode_schema(&response["schema"]));
        let mut body = Message::default();
        body.text(1, response["description"].as_str());
        body.message(2, &schema_item);
        let mut value = Message::default();
        value.message(1, &body);
        responses.message(1, &named(code, &value));
    }
    out.message(9, &responses);
    extensions(&mut out, 13, operation);
    out
}

/// `ParametersItem { parameter: Parameter { body | non_body } }`.
fn encode_parameter(parameter: &Value) -> Message {
    let mut inner = Message::default();
    let place = parameter["in"].as_str();
    if place == Some("body") {
        let mut body = Message::default();
        body.text(2, parameter["name"].as_str());
        body.text(3, place);
        body.flag(4, parameter["required"] == true);
        body.message(5, &encode_schema(&parameter["schema"]));
        inner.message(1, &body);
    } else {
        let is_query = place == Some("query");
        let mut schema = Message::default();
        schema.flag(1, parameter["required"] == true);
        schema.text(2, place);
        schema.text(4, parameter["name"].as_str());
        schema.text(if is_query { 6 } else { 5 }, parameter["type"].as_str());
        let mut non_body = Message::default();
        non_body.message(if is_query { 3 } else { 4 }, &schema);
        inner.message(2, &non_body);
    }
    let mut out = Message::default();
    out.message(1, &inner);
    out
}

fn encode_schema(schema: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, schema["$ref"].as_str());
    out.text(2, schema["format"].as_str());
    out.text(4, schema["description"].as_str());
    if let Some(default) = schema.get("default") {
        let mut any = Message::default();
        any.text(2, Some(&default.to_string()));
        out.message(5, &any);
    }
    for field in items(&schema["required"]) {
        out.text(19, field.as_str());
    }
    match &schema["additionalProperties"] {
        Value::Bool(is_allowed) => {
            let mut item = Message::default();
            item.flag(2, *is_allowed);
            out.message(21, &item);
        }
        inner @ Value::Object(_) => {
            let mut item = Message::default();
            item.message(1, &encode_schema(inner));
            out.message(21, &item);
        }
        _ => {}
    }
    if let Some(kind) = schema["type"].as_str() {
        let mut kinds = Message::default();
        kinds.text(1, Some(kind));
        out.message(22, &kinds);
    }
    if schema["items"].is_object() {
        let mut item = Message::default();
        item.message(1, &encode_schema(&schema["items"]));
        out.message(23, &item);
    }
    if schema["properties"].is_object() {
        let mut properties = Message::default();
        for (name, property) in fields(&schema["properties"]) {
            properties.message(1, &named(name, &encode_schema(property)));
        }
        out.message(25, &properties);
    }
    extensions(&mut out, 31, schema);
    out
}

/// `NamedAny { name, value: Any { yaml } }`; JSON is YAML.
fn extensions(out: &mut Message, field: u32, value: &Value) {
    for (name, extension) in fields(value).filter(|(name, _)| name.starts_with("x-")) {
        let mut any = Message::default();
        any.text(2, Some(&extension.to_string()));
        out.message(field, &named(name, &any));
    }
}

fn named(name: &str, value: &Message) -> Message {
    let mut out = Message::default();
    out.text(1, Some(name));
    out.message(2, value);
    out
}

/// A message being written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.varint(u64::from(field << 3 | 2));
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, text: Option<&str>) {
        if let Some(text) = text {
            self.bytes(field, text.as_bytes());
        }
    }

    fn message(&mut self, field: u32, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn flag(&mut self, field: u32, value: bool) {
        if value {
            self.varint(u64::from(field << 3));
            self.varint(1);
        }
    }
}
