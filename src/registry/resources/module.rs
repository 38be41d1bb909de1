//! Modules: the wasm artifacts that pods name as their images. Their bytes are in the blob store;
//! here are the names, the tags and what inspection found.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::field_error::Errors;
use super::super::path::Path;
use super::super::strategy::{NameRule, Strategy};
use super::cell;
use crate::api::image::{self, Digest};
use crate::api::module::Module;
use crate::api::quantity::readable_bytes;
use crate::api::table::Column;

pub(crate) const COLUMNS: &[Column] = &[
    Column::text("Name"),
    Column::text("Tags"),
    Column::text("Role"),
    Column::text("WASI"),
    Column::text("Size"),
    Column::text("Age"),
    Column::text("Digest").wide(),
];

impl Strategy for Module {
    const NAMES: NameRule = NameRule::Label;

    fn validate(&self, errors: &mut Errors) {
        let spec = Path::Root.field("spec");
        let versions = spec.field("versions");
        for (index, version) in self.spec.versions.iter().enumerate() {
            if version.digest.parse::<Digest>().is_err() {
                let at = versions.index(index);
                errors.invalid(
                    &at.field("digest"),
                    &version.digest,
                    "must be `sha256:` and 64 lower-case hex digits",
                );
            }
        }
        let tags = spec.field("tags");
        for (tag, digest) in &self.spec.tags {
            if let Err(error) = image::check_tag(tag) {
                errors.invalid(&tags.key(tag), tag, &error.to_string());
            }
            if self.spec.version(digest).is_none() {
                errors.missing(&tags.key(tag), digest);
            }
        }
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let newest = self.spec.versions.last();
        vec![
            cell::name(&self.metadata),
            cell::joined(self.spec.tags.keys().cloned()),
            cell::or_none(newest.map(|version| version.role.as_str())),
            cell::or_none(newest.map(|version| version.wasi.as_str())),
            cell::or_none(
                newest
                    .map(|version| readable_bytes(version.size).replace(' ', ""))
                    .as_deref(),
            ),
            cell::age(&self.metadata, now),
            cell::or_none(newest.map(|version| version.digest.as_str())),
        ]
    }

    fn sample() -> Value {
        let digest = Digest::of(b"").to_string();
        json!({"apiVersion": "wasmorch.dev/v1", "kind": "Module", "metadata": {"name": "sample"},
            "spec": {"tags": {"latest": digest}, "versions": [{"digest": digest, "size": 8, "format": "CoreModule", "role": "Command"}]}})
    }
}

#[cfg(test)]
mod tests {
    use super::super::check;
    use super::*;

    #[test]
    fn tags_name_versions_that_are_there() {
        let absent = Digest::of(b"x").to_string();
        check::<Module>(
            "/spec/tags",
            &json!({"v1": absent}),
            &[&format!("spec.tags[v1]: Not found: \"{absent}\"")],
        );
        check::<Module>(
            "/spec/versions/0/digest",
            &json!("md5:1"),
            &[
                "spec.versions[0].digest: Invalid value: \"md5:1\": must be `sha256:` and 64 lower-case hex digits",
                &format!("spec.tags[latest]: Not found: \"{}\"", Digest::of(b"")),
            ],
        );
    }
}
