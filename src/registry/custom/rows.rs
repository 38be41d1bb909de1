//! The rows of custom kinds.
//!
//! Everybody holds rows as `&'static`, so a row that was made once stays for the life of the process.
//! What is kept so is small, a few names and flags, and is used again when the same kind is defined
//! again; schemas and short names, which are large or change, hang behind a pointer that is swapped. [`ROWS`] bounds what
//! somebody who defines kinds without end could take; beyond it a kind is not served, and the log says
//! so. Of a kind whose definition is gone the schema goes, too.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::{Custom, DEFINITIONS, Version};
use crate::registry::kinds::{ResourceInfo, SubresourceInfo, TABLE, VERBS};
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

    /// A row of a definition whether it is served or not. One that never got its names has none: what
    /// is stored under them is somebody else's.
    pub(crate) fn any(&self, store: &Store, name: &str) -> Option<&'static ResourceInfo> {
        let stored = store.get(&ObjectKey::new(DEFINITIONS, "", name))?;
        if !is_true(&stored.object, "Established") {
            return None;
        }
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
        let before = maps.compiled.insert(name.to_owned(), compiled);
        for row in before.into_iter().flat_map(|before| before.rows) {
            if !rows.iter().any(|kept| std::ptr::eq(*kept, row)) {
                supersede(row, &rows);
            }
        }
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

/// Lets go of the schema of a row that is served no longer. Where a row follows it, as of a kind that
/// has got a status, whoever holds the old one sees what that one says.
fn supersede(row: &'static ResourceInfo, rows: &[&'static ResourceInfo]) {
    let Some(custom) = row.custom else { return };
    let next = rows.iter().find(|next| next.version == row.version);
    let next = next.and_then(|next| next.custom);
    let version = next.map_or_else(|| Arc::new(custom.version().gone()), Custom::version);
    custom.version.store(version);
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

/// All versions of a definition, the preferred first, by these names; none if its objects would lie
/// where another kind's do, whatever its status says.
fn versions(stored: &Arc<Stored>, names: &Value) -> Vec<(Identity, Version)> {
    let spec = &stored.object["spec"];
    let storage =
        |names: &Value| Some([names["plural"].as_str()?, spec["group"].as_str()?].join("."));
    if is_built_in(&stored.key.name) || storage(names).as_deref() != Some(&*stored.key.name) {
        return Vec::new();
    }
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
            let mut compiled = Version::compile(stored, index);
            compiled.short_names = texts(&names["shortNames"]);
            compiled.categories = texts(&names["categories"]);
            let identity = Identity {
                group: text(&spec["group"]),
                version: text(&version["name"]),
                kind: text(&names["kind"]),
                list_kind: text(&names["listKind"]),
                plural: text(&names["plural"]),
                singular: text(&names["singular"]),
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

/// Whether a definition of this name would be of a kind of the table.
pub(crate) fn is_built_in(definition: &str) -> bool {
    TABLE
        .iter()
        .any(|row| row.storage == definition || row.qualified == definition)
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
            short_names: &[],
            categories: &[],
            namespaced: self.namespaced,
            verbs: VERBS,
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
mod tests;
