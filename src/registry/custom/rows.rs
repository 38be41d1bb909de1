//! The rows of custom kinds.
//!
//! Everybody holds rows as `&'static`, so a row that was made once stays for the life of the process.
//! What is kept so is small, names and flags, and is used again when the same kind is defined again;
//! schemas, which are large and change, hang behind a pointer that is swapped. [`ROWS`] bounds what
//! somebody who defines kinds without end could take; beyond it a kind is not served, and the log says
//! so. Of a kind whose definition is gone the schema goes, too.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Custom, DEFINITIONS, Version};
use crate::registry::kinds::{ResourceInfo, SubresourceInfo};
use crate::registry::strategy::{Hooks, NameRule};
use crate::store::{ListQuery, ObjectKey, Revision, Store, Stored};

/// How many rows a process makes at most.
const ROWS: usize = 10_000;
const OWN_VERBS: &[&str] = &["get", "patch", "update"];

/// Everything that a row says itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    group: String,
    version: String,
    kind: String,
    list_kind: String,
    plural: String,
    singular: String,
    short_names: Vec<String>,
    categories: Vec<String>,
    namespaced: bool,
    has_status: bool,
    has_scale: bool,
}

/// What a definition comes to.
struct Compiled {
    revision: Revision,
    rows: Vec<&'static ResourceInfo>,
}

#[derive(Default)]
struct Maps {
    /// By the definition's name.
    compiled: HashMap<String, Compiled>,
    rows: HashMap<Identity, &'static ResourceInfo>,
}

/// All rows that were made. The lock is held for map operations only.
#[derive(Default)]
pub(crate) struct Rows(Mutex<Maps>);

impl Rows {
    /// The row by its place in a URL.
    pub(crate) fn find(
        &self,
        store: &Store,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<&'static ResourceInfo> {
        let stored = store.get(&ObjectKey::new(
            DEFINITIONS,
            "",
            &format!("{plural}.{group}"),
        ))?;
        let rows = self.rows_of(&stored);
        rows.into_iter().find(|row| row.version == version)
    }

    /// A row by where its objects are stored, which is the name of its definition.
    pub(crate) fn find_stored(&self, store: &Store, name: &str) -> Option<&'static ResourceInfo> {
        let stored = store.get(&ObjectKey::new(DEFINITIONS, "", name))?;
        self.rows_of(&stored).into_iter().next()
    }

    /// A row of a definition whether it is served or not.
    pub(crate) fn any(&self, store: &Store, name: &str) -> Option<&'static ResourceInfo> {
        let stored = store.get(&ObjectKey::new(DEFINITIONS, "", name))?;
        let served = self.rows_of(&stored).into_iter().next();
        served.or_else(|| {
            let (identity, version) = versions(&stored, &stored.object["spec"]["names"]).pop()?;
            self.lock().intern(identity, version)
        })
    }

    /// The rows of all definitions, in the order of their names.
    pub(crate) fn all(&self, store: &Store) -> Vec<&'static ResourceInfo> {
        let found: Vec<Arc<Stored>> = definitions(store).collect();
        let rows = found
            .iter()
            .flat_map(|stored| self.rows_of(stored))
            .collect();
        if self.lock().compiled.len() > found.len() {
            self.lock().forget(store);
        }
        rows
    }

    /// The rows of one definition: those of its served versions, the preferred first.
    fn rows_of(&self, stored: &Arc<Stored>) -> Vec<&'static ResourceInfo> {
        let name = &*stored.key.name;
        // Whoever looked at an older version of the definition gets the newer one's rows.
        let known = |maps: &Maps| {
            let compiled = maps.compiled.get(name)?;
            (compiled.revision >= stored.revision).then(|| compiled.rows.clone())
        };
        if let Some(rows) = known(&self.lock()) {
            return rows;
        }
        let versions = served(stored);
        let mut maps = self.lock();
        if let Some(rows) = known(&maps) {
            return rows;
        }
        let rows: Vec<&'static ResourceInfo> = versions
            .into_iter()
            .filter_map(|(identity, version)| maps.intern(identity, version))
            .collect();
        let compiled = Compiled {
            revision: stored.revision,
            rows: rows.clone(),
        };
        maps.compiled.insert(name.to_owned(), compiled);
        rows
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Maps {
    /// Lets go of the schemas of definitions that are gone. A write that still holds such a row finds
    /// nothing to write to, and may not create.
    fn forget(&mut self, store: &Store) {
        self.compiled.retain(|name, compiled| {
            let is_there = store.get(&ObjectKey::new(DEFINITIONS, "", name)).is_some();
            if !is_there {
                for custom in compiled.rows.iter().filter_map(|row| row.custom) {
                    custom.version.store(Arc::new(custom.version().gone()));
                }
            }
            is_there
        });
    }

    fn intern(&mut self, identity: Identity, version: Version) -> Option<&'static ResourceInfo> {
        if let Some(row) = self.rows.get(&identity).copied() {
            if let Some(custom) = row.custom {
                custom.version.store(Arc::new(version));
            }
            return Some(row);
        }
        if self.rows.len() >= ROWS {
            tracing::error!(kind = identity.kind, "no more rows for custom kinds");
            return None;
        }
        let row: &'static ResourceInfo = Box::leak(Box::new(identity.row(version)));
        self.rows.insert(identity, row);
        Some(row)
    }
}

/// A number that changes with the definitions.
pub(crate) fn state(store: &Store) -> u64 {
    let mut hasher = DefaultHasher::new();
    for stored in definitions(store) {
        (&*stored.key.name, stored.revision.0).hash(&mut hasher);
    }
    hasher.finish()
}

pub(crate) fn definitions(store: &Store) -> impl Iterator<Item = Arc<Stored>> {
    let query = ListQuery {
        resource: DEFINITIONS.to_owned(),
        ..ListQuery::default()
    };
    // Only reads of the past can fail.
    store.scan(&query).into_iter().flatten()
}

/// The served versions of a definition that is established.
fn served(stored: &Arc<Stored>) -> Vec<(Identity, Version)> {
    let definition = &stored.object;
    if !is_true(definition, "Established") {
        return Vec::new();
    }
    let mut served = versions(stored, &definition["status"]["acceptedNames"]);
    served.retain(|(_, version)| version.is_served);
    served
}

/// All versions of a definition, the preferred first, by these names.
fn versions(stored: &Arc<Stored>, names: &Value) -> Vec<(Identity, Version)> {
    let spec = &stored.object["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(text).collect()
    };
    let mut versions: Vec<(Identity, Version)> = spec["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(index, version)| {
            let compiled = Version::compile(stored, index);
            let identity = Identity {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                kind: text(&names["kind"]),
                list_kind: text(&names["listKind"]),
                plural: text(&names["plural"]),
                singular: text(&names["singular"]),
                short_names: texts(&names["shortNames"]),
                categories: texts(&names["categories"]),
                namespaced: spec["scope"] == "Namespaced",
                has_status: compiled.has_status,
                has_scale: compiled.scale.is_some(),
            };
            (identity, compiled)
        })
        .collect();
    versions.sort_by_key(|(identity, _)| std::cmp::Reverse(priority(&identity.version)));
    versions
}

/// Whether a condition of a definition holds.
pub(crate) fn is_true(definition: &Value, kind: &str) -> bool {
    definition["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

/// Kubernetes' order of versions: `v2`, `v1`, `v1beta2`, `v1alpha1`, then other names by the alphabet.
pub fn priority(version: &str) -> (u8, u64, u64, std::cmp::Reverse<String>) {
    let other = || (0, 0, 0, std::cmp::Reverse(version.to_owned()));
    let Some(rest) = version.strip_prefix('v') else {
        return other();
    };
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (major, rest) = rest.split_at(end);
    let (stage, minor) = match rest {
        "" => (3, "0"),
        _ => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => (2, minor),
            (_, Some(minor)) => (1, minor),
            (None, None) => return other(),
        },
    };
    match (major.parse(), minor.parse()) {
        (Ok(major), Ok(minor)) => (stage, major, minor, std::cmp::Reverse(String::new())),
        _ => other(),
    }
}

impl Identity {
    fn row(&self, version: Version) -> ResourceInfo {
        let keep = |text: &str| -> &'static str { Box::leak(text.to_owned().into_boxed_str()) };
        let keep_all = |texts: &[String]| -> &'static [&'static str] {
            let texts: Vec<&'static str> = texts.iter().map(|text| keep(text)).collect();
            Box::leak(texts.into_boxed_slice())
        };
        let (group, of_version, kind) = (keep(&self.group), keep(&self.version), keep(&self.kind));
        let qualified = keep(&format!("{}.{}", self.plural, self.group));
        let mut subresources = Vec::new();
        if self.has_status {
            subresources.push(SubresourceInfo {
                name: "status",
                kind,
                group,
                version: of_version,
                verbs: OWN_VERBS,
            });
        }
        if self.has_scale {
            subresources.push(SubresourceInfo {
                name: "scale",
                kind: "Scale",
                group: "autoscaling",
                version: "v1",
                verbs: OWN_VERBS,
            });
        }
        ResourceInfo {
            group,
            version: of_version,
            kind,
            plural: keep(&self.plural),
            singular: keep(&self.singular),
            short_names: keep_all(&self.short_names),
            categories: keep_all(&self.categories),
            namespaced: self.namespaced,
            subresources: Box::leak(subresources.into_boxed_slice()),
            columns: &[],
            qualified,
            sample: || Value::Null,
            storage: qualified,
            fields: &[],
            hooks: Hooks::custom(NameRule::Subdomain),
            list_kind: Some(keep(&self.list_kind)),
            custom: Some(Box::leak(Box::new(Custom::new(version)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_in_kubernetes() {
        let mut versions = [
            "foo10",
            "v1",
            "v11alpha2",
            "v10",
            "v3beta1",
            "v12alpha1",
            "v10beta3",
            "foo1",
            "v2",
            "v11beta2",
            "v3",
        ];
        versions.sort_by_key(|version| std::cmp::Reverse(priority(version)));
        assert_eq!(
            versions,
            [
                "v10",
                "v3",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v3beta1",
                "v12alpha1",
                "v11alpha2",
                "foo1",
                "foo10"
            ]
        );
    }
}
