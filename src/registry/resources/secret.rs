//! Secrets. `stringData` is how one is written, `data` how it is kept.
//!
//! A type that Kubernetes knows promises keys to whoever mounts the Secret; any other is the user's own.

use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Map, Value, json};

use super::super::field_error::Errors;
use super::super::filter::Selectable;
use super::super::path::Path;
use super::super::strategy::Strategy;
use super::cell;
use super::config_data::{validate_frozen, validate_key, validate_size};
use crate::api::annotations::{SERVICE_ACCOUNT_NAME, SERVICE_ACCOUNT_TOKEN};
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Type"),
    Column::integer("Data"),
    Column::text("Age"),
];
pub(crate) const FIELDS: &[Selectable] = &[Selectable::field("type")];

impl Strategy for Secret {
    fn set_defaults(&mut self) {
        if self.type_.as_deref().is_none_or(str::is_empty) {
            self.type_ = Some("Opaque".to_owned());
        }
        if let Some(text) = self.string_data.take() {
            let bytes = text
                .into_iter()
                .map(|(key, value)| (key, ByteString(value.into_bytes())));
            self.data.get_or_insert_default().extend(bytes);
        }
    }

    fn validate(&self, errors: &mut Errors) {
        let path = Path::Root.field("data");
        for key in self.data.iter().flat_map(|data| data.keys()) {
            validate_key(&path, key, errors);
        }
        let size = self.data.iter().flatten().map(|(_, value)| value.0.len());
        validate_size(&path, size.sum(), errors);
        validate_type(self, &path, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut Errors) {
        errors.immutable(&Path::Root.field("type"), &self.type_, &old.type_);
        if old.immutable == Some(true) {
            validate_frozen("immutable", &self.immutable, &old.immutable, errors);
            validate_frozen("data", &self.data, &old.data, errors);
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        vec![
            cell::name(&self.metadata),
            self.type_.clone().unwrap_or_default().into(),
            self.data
                .as_ref()
                .map_or(0, std::collections::BTreeMap::len)
                .into(),
            cell::age(&self.metadata, now),
        ]
    }

    fn sample() -> Value {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sample"}, "stringData": {"key": "value"}})
    }
}

/// What the type promises.
fn validate_type(secret: &Secret, data: &Path<'_>, errors: &mut Errors) {
    let value = |key: &str| secret.data.as_ref()?.get(key).map(|value| &value.0);
    let mut need = |keys: &[&str]| {
        for key in keys {
            errors.required(&data.key(key), "");
        }
    };
    match secret.type_.as_deref().unwrap_or_default() {
        SERVICE_ACCOUNT_TOKEN => {
            let annotations = secret.metadata.annotations.as_ref();
            let name = annotations.and_then(|all| all.get(SERVICE_ACCOUNT_NAME));
            if name.is_none_or(String::is_empty) {
                let path = Path::Root.field("metadata");
                let path = path.field("annotations");
                errors.required(&path.key(SERVICE_ACCOUNT_NAME), "");
            }
        }
        "kubernetes.io/dockercfg" => validate_json(".dockercfg", value, data, errors),
        "kubernetes.io/dockerconfigjson" => {
            validate_json(".dockerconfigjson", value, data, errors);
        }
        // Either may be missing, and both may be empty.
        "kubernetes.io/basic-auth"
            if value("username").is_none() && value("password").is_none() =>
        {
            need(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(Vec::is_empty) => {
            need(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => {
            let missing = ["tls.crt", "tls.key"].map(|key| value(key).is_none().then_some(key));
            missing.into_iter().flatten().for_each(|key| need(&[key]));
        }
        _ => {}
    }
}

/// A key that must be there and hold a JSON object, which is never shown.
fn validate_json<'a>(
    key: &str,
    value: impl Fn(&str) -> Option<&'a Vec<u8>>,
    data: &Path<'_>,
    errors: &mut Errors,
) {
    let Some(bytes) = value(key) else {
        return errors.required(&data.key(key), "");
    };
    let complaint = match serde_json::from_slice::<Map<String, Value>>(bytes) {
        Ok(_) => return,
        Err(error) if error.is_eof() => "unexpected end of JSON input".to_owned(),
        Err(error) if error.is_data() => "json: not an object".to_owned(),
        Err(error) => error.to_string(),
    };
    errors.invalid(&data.key(key), "<secret contents redacted>", &complaint);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(type_: &str, annotations: &Value, data: &Value) -> Vec<String> {
        let secret =
            json!({"metadata": {"annotations": annotations}, "type": type_, "stringData": data});
        let mut secret: Secret = serde_json::from_value(secret).expect("a Secret");
        secret.set_defaults();
        let mut errors = Errors::default();
        secret.validate(&mut errors);
        errors.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_type_has_the_keys_that_it_promises() {
        let of = |type_: &str, data: Value| {
            mistakes(&format!("kubernetes.io/{type_}"), &json!({}), &data)
        };
        let tls = of("tls", json!({}));
        assert_eq!(
            tls,
            [
                "data[tls.crt]: Required value",
                "data[tls.key]: Required value"
            ]
        );
        assert!(of("tls", json!({"tls.crt": "", "tls.key": ""})).is_empty());
        let ssh = of("ssh-auth", json!({"ssh-privatekey": ""}));
        assert_eq!(ssh, ["data[ssh-privatekey]: Required value"]);
        assert_eq!(of("basic-auth", json!({})).len(), 2);
        assert!(of("basic-auth", json!({"password": ""})).is_empty());
        for (type_, key) in [
            ("dockercfg", ".dockercfg"),
            ("dockerconfigjson", ".dockerconfigjson"),
        ] {
            assert_eq!(
                of(type_, json!({})),
                [format!("data[{key}]: Required value")]
            );
            assert!(of(type_, json!({key: "{\"auths\": {}}"})).is_empty());
            assert_eq!(
                of(type_, json!({key: "{"})),
                [format!(
                    "data[{key}]: Invalid value: \"<secret contents redacted>\": unexpected end of JSON input"
                )]
            );
            assert_eq!(of(type_, json!({key: "[]"})).len(), 1);
        }
        assert!(mistakes("example.com/own", &json!({}), &json!({})).is_empty());
    }

    #[test]
    fn a_token_is_of_an_account() {
        let of = |annotations: Value| mistakes(SERVICE_ACCOUNT_TOKEN, &annotations, &json!({}));
        assert_eq!(
            of(json!({})),
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
        );
        assert!(of(json!({"kubernetes.io/service-account.name": "robot"})).is_empty());
    }
}
