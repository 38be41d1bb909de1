//! Keeps the index current: reads what the store's log has to say since the last question.
//!
//! Four cursors into the log cost a question four comparisons while nothing changes. A cursor that
//! has fallen off the log's end (nobody has asked for long) is opened anew, and its kind with it.

use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::serde::de::DeserializeOwned;

use super::index::Index;
use crate::store::{Change, ChangeKind, Error, ListQuery, Store, Stored, Watch};

/// The four kinds, by where they are stored.
const RESOURCES: [(&str, Kind); 4] = [
    ("roles.rbac.authorization.k8s.io", Kind::Role),
    ("clusterroles.rbac.authorization.k8s.io", Kind::ClusterRole),
    ("rolebindings.rbac.authorization.k8s.io", Kind::RoleBinding),
    (
        "clusterrolebindings.rbac.authorization.k8s.io",
        Kind::ClusterRoleBinding,
    ),
];

#[derive(Clone, Copy)]
enum Kind {
    Role,
    ClusterRole,
    RoleBinding,
    ClusterRoleBinding,
}

pub(super) struct Feed {
    store: Store,
    watches: Option<Vec<(Kind, Watch)>>,
}

impl Feed {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            watches: None,
        }
    }

    /// Brings the index up to date. If that fails it stays empty, which allows nothing.
    pub(super) fn drain(&mut self, index: &RwLock<Index>) {
        if let Some(watches) = &mut self.watches {
            if follow(watches, index).is_ok() {
                return;
            }
            self.watches = None;
        }
        let mut index = write(index);
        *index = Index::default();
        match self.open(&mut index) {
            Ok(watches) => self.watches = Some(watches),
            Err(error) => tracing::error!(%error, "cannot read the roles of the cluster"),
        }
    }

    fn open(&self, index: &mut Index) -> Result<Vec<(Kind, Watch)>, Error> {
        let mut watches = Vec::with_capacity(RESOURCES.len());
        for (resource, kind) in RESOURCES {
            let scan = self.store.scan(&ListQuery {
                resource: resource.to_owned(),
                ..ListQuery::default()
            })?;
            let watch = self.store.watch(resource, None, scan.revision())?;
            for stored in scan {
                put(kind, &stored, index);
            }
            watches.push((kind, watch));
        }
        Ok(watches)
    }
}

/// Takes the index for itself only if there is something to write.
fn follow(watches: &mut [(Kind, Watch)], index: &RwLock<Index>) -> Result<(), Error> {
    for (kind, watch) in watches {
        while let Some(change) = watch.try_next() {
            apply(*kind, &change?, &mut write(index));
        }
    }
    Ok(())
}

fn write(index: &RwLock<Index>) -> RwLockWriteGuard<'_, Index> {
    index.write().unwrap_or_else(PoisonError::into_inner)
}

fn apply(kind: Kind, change: &Change, index: &mut Index) {
    match change.kind {
        ChangeKind::Created | ChangeKind::Updated => put(kind, &change.object, index),
        ChangeKind::Deleted => remove(kind, &change.object, index),
    }
}

fn remove(kind: Kind, stored: &Stored, index: &mut Index) {
    let (scope, name) = (&*stored.key.namespace, &*stored.key.name);
    match kind {
        Kind::Role | Kind::ClusterRole => index.remove_role(scope, name),
        Kind::RoleBinding | Kind::ClusterRoleBinding => index.remove_binding(scope, name),
    }
}

fn put(kind: Kind, stored: &Stored, index: &mut Index) {
    let (scope, name) = (&*stored.key.namespace, &*stored.key.name);
    let done = match kind {
        Kind::Role => typed::<Role>(stored).map(|role| {
            index.put_role(scope, name, role.rules.clone().unwrap_or_default());
        }),
        Kind::ClusterRole => typed::<ClusterRole>(stored).map(|role| {
            index.put_role(scope, name, role.rules.clone().unwrap_or_default());
        }),
        Kind::RoleBinding => typed::<RoleBinding>(stored).map(|binding| {
            let subjects = binding.subjects.as_deref().unwrap_or_default();
            index.put_binding(scope, name, binding.role_ref.clone(), subjects);
        }),
        Kind::ClusterRoleBinding => typed::<ClusterRoleBinding>(stored).map(|binding| {
            let subjects = binding.subjects.as_deref().unwrap_or_default();
            index.put_binding(scope, name, binding.role_ref.clone(), subjects);
        }),
    };
    if done.is_none() {
        remove(kind, stored, index);
    }
}

/// An object that cannot be read grants nothing.
fn typed<K: DeserializeOwned + Send + Sync + 'static>(stored: &Stored) -> Option<Arc<K>> {
    match stored.typed::<K>() {
        Ok(object) => Some(object),
        Err(error) => {
            tracing::error!(object = %stored.key.name, %error, "an unreadable role grants nothing");
            None
        }
    }
}
