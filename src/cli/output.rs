//! `-o`: the forms in which objects are shown.

use std::str::FromStr;

use serde_json::{Value, json};

use super::failure::{Failure, Result};
use crate::api::json_path::Template;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Output {
    #[default]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
    JsonPath(Template),
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "table" => Ok(Self::Table),
            "wide" => Ok(Self::Wide),
            "json" => Ok(Self::Json),
            "yaml" => Ok(Self::Yaml),
            "name" => Ok(Self::Name),
            other => match other.strip_prefix("jsonpath=") {
                Some(template) => Template::parse(template).map(Self::JsonPath),
                None => Err(
                    "the forms are table, wide, json, yaml, name and jsonpath=TEMPLATE".to_owned(),
                ),
            },
        }
    }
}

impl Output {
    /// Whether the server's tables are what is shown.
    pub(super) fn is_table(&self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }

    /// The same as [`Self::whole`], without who owns which field: nobody reads that by chance.
    pub(super) fn object(&self, object: &Value, name: &str) -> Result<String> {
        match self {
            Self::Json | Self::Yaml => {
                let mut object = object.clone();
                hide_managed_fields(&mut object);
                self.whole(&object, name)
            }
            Self::Table | Self::Wide | Self::Name | Self::JsonPath(_) => self.whole(object, name),
        }
    }

    /// An object as text, with its line end. `name` is its full name, `deployment.apps/hello`.
    pub(super) fn whole(&self, object: &Value, name: &str) -> Result<String> {
        Ok(match self {
            Self::Table | Self::Wide | Self::Name => format!("{name}\n"),
            Self::Json => match serde_json::to_string_pretty(object) {
                Ok(text) => format!("{text}\n"),
                Err(error) => return Err(unprintable(&error)),
            },
            Self::Yaml => serde_saphyr::to_string(object).map_err(|error| unprintable(&error))?,
            Self::JsonPath(template) => template.render(object),
        })
    }
}

fn hide_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    let items = object.get_mut("items").and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(hide_managed_fields);
}

/// Several objects as the one that kubectl makes of them.
pub(super) fn as_list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "items": items, "kind": "List", "metadata": {"resourceVersion": ""}})
}

fn unprintable(error: &dyn std::error::Error) -> Failure {
    Failure::failed("Output", format!("encode the answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_parsed() {
        assert_eq!("wide".parse(), Ok(Output::Wide));
        assert!(matches!("jsonpath={.a}".parse(), Ok(Output::JsonPath(_))));
        for wrong in ["", "xml", "jsonpath", "jsonpath={.a"] {
            assert!(wrong.parse::<Output>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn objects_are_printed() {
        let object =
            json!({"kind": "Pod", "spec": {"on": "yes", "count": "12", "list": [{"a": 1}]}});
        let yaml = Output::Yaml.object(&object, "pod/a").unwrap();
        let read: Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, object, "{yaml}");
        let json = Output::Json.object(&object, "pod/a").unwrap();
        assert!(json.ends_with("}\n"));
        assert_eq!(Output::Name.object(&object, "pod/a").unwrap(), "pod/a\n");
    }
}
