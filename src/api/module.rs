//! `Module`, wasmorch's own kind (`wasmorch.dev/v1`): a named wasm artifact with its tags.
//!
//! A module is what a container image is elsewhere. Its bytes live in the blob store under their
//! digest; the object holds, per pushed version, what inspection found, and which tag points at
//! which version. Modules are namespaced: a pod names the modules of its own namespace.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group.
pub const GROUP: &str = "wasmorch.dev";
/// The API version.
pub const VERSION: &str = "v1";

/// A named wasm artifact.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "dev.wasmorch.v1.Module")]
pub struct Module {
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What was pushed.
    #[serde(default)]
    pub spec: ModuleSpec,
}

/// Tags and versions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "dev.wasmorch.v1.ModuleSpec")]
pub struct ModuleSpec {
    /// Tag to digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Every version pushed, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<ModuleVersion>,
}

/// One pushed artifact and what inspection found in it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "dev.wasmorch.v1.ModuleVersion")]
pub struct ModuleVersion {
    /// `sha256:…` of the bytes.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// `Component` or `CoreModule`.
    pub format: String,
    /// `Command` (runs to its end) or `Handler` (answers HTTP requests).
    pub role: String,
    /// `0.1`, `0.2`, `0.3`, or empty when it imports no WASI.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wasi: String,
    /// Imported interfaces or import modules, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<String>,
    /// Exported interfaces or functions, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exports: Vec<String>,
    /// The read-only files that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<ModuleFiles>,
    /// When it was pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pushed_at: Option<Time>,
}

/// The files of a version; they are in its bytes and count in its size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "dev.wasmorch.v1.ModuleFiles")]
pub struct ModuleFiles {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the files together.
    pub size: u64,
}

impl ModuleSpec {
    /// The version with this digest.
    pub fn version(&self, digest: &str) -> Option<&ModuleVersion> {
        self.versions
            .iter()
            .find(|version| version.digest == digest)
    }
}

impl k8s_openapi::Resource for Module {
    const API_VERSION: &'static str = "wasmorch.dev/v1";
    const GROUP: &'static str = GROUP;
    const KIND: &'static str = "Module";
    const VERSION: &'static str = VERSION;
    const URL_PATH_SEGMENT: &'static str = "modules";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl k8s_openapi::Metadata for Module {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
