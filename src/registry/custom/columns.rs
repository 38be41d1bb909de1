//! `additionalPrinterColumns`: what `kubectl get` shows of a custom resource.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::json_path::Path;
use crate::api::table;

/// A column that a definition adds after the name.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    name: String,
    kind: String,
    format: String,
    description: String,
    priority: i64,
    /// A path that cannot be read shows nothing; the definition with it was refused.
    path: Option<Path>,
}

const NAME_DESCRIPTION: &str = "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a client to request the generation of an appropriate name automatically. Name is primarily intended for creation idempotence and configuration definition. Cannot be updated. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names";
const AGE_DESCRIPTION: &str = "CreationTimestamp is a timestamp representing the server time when this object was created. It is not guaranteed to be set in happens-before order across separate operations. Clients may not set this value. It is represented in RFC3339 form and is in UTC.";

/// The columns of a version; without any, the age.
pub(super) fn of(columns: &Value) -> Vec<Column> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let columns = columns.as_array().map_or(&[][..], Vec::as_slice);
    if columns.is_empty() {
        return vec![Column {
            name: "Age".to_owned(),
            kind: "date".to_owned(),
            format: String::new(),
            description: AGE_DESCRIPTION.to_owned(),
            priority: 0,
            path: Path::simple(".metadata.creationTimestamp").ok(),
        }];
    }
    columns
        .iter()
        .map(|column| Column {
            name: text(&column["name"]),
            kind: text(&column["type"]),
            format: text(&column["format"]),
            description: text(&column["description"]),
            priority: column["priority"].as_i64().unwrap_or(0),
            path: Path::simple(&text(&column["jsonPath"])).ok(),
        })
        .collect()
}

/// How a table announces them.
pub(crate) fn definitions(columns: &[Column]) -> Vec<Value> {
    let name = json!({
        "name": "Name", "type": "string", "format": "name", "description": NAME_DESCRIPTION, "priority": 0,
    });
    let own = columns.iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    std::iter::once(name).chain(own).collect()
}

/// One row's cells.
pub(crate) fn cells(columns: &[Column], object: &Value, now: Timestamp) -> Vec<Value> {
    let name = object["metadata"]["name"].clone();
    let own = columns.iter().map(|column| {
        let found = column.path.as_ref().map(|path| path.find(object));
        match found.as_ref().and_then(|found| found.first()) {
            Some(value) => cell(&column.kind, value, now),
            None => Value::Null,
        }
    });
    std::iter::once(name).chain(own).collect()
}

fn cell(kind: &str, value: &Value, now: Timestamp) -> Value {
    match (kind, value) {
        ("integer", Value::Number(number)) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => number.as_f64().map_or(Value::Null, |it| json!(it as i64)),
        },
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("string", Value::String(text)) => text.as_str().into(),
        ("string", Value::Null) => Value::Null,
        ("string", value) => value.to_string().into(),
        ("date", Value::String(text)) => match text.parse() {
            Ok(since) => table::age(Some(since), now).into(),
            Err(_) => "<invalid>".into(),
        },
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_of_their_columns_types() {
        let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
        let columns = of(&json!([
            column("N", "integer", ".spec.n"),
            column("S", "string", ".spec.n"),
            column("M", "string", ".spec.map"),
            column("B", "boolean", ".spec.b"),
            column("D", "date", ".spec.d"),
            column("Wrong", "integer", ".spec.b"),
            column("Absent", "string", ".spec.x.y"),
        ]));
        let object = json!({"metadata": {"name": "a"}, "spec": {"n": 3, "map": {"a": 1}, "b": true, "d": "2027-01-01T00:00:00Z"}});
        let now = "2027-01-01T00:05:00Z".parse().unwrap();
        assert_eq!(
            cells(&columns, &object, now),
            [
                json!("a"),
                json!(3),
                json!("3"),
                json!("{\"a\":1}"),
                json!(true),
                json!("5m"),
                Value::Null,
                Value::Null
            ]
        );
        let age = of(&Value::Null);
        assert_eq!(definitions(&age)[1]["name"], "Age");
        assert_eq!(definitions(&age)[0]["format"], "name");
    }
}
