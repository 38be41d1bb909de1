//! Reading the durable log back into memory at the start.
//!
//! The `changes` table keeps only the version before each change (it would otherwise hold every
//! object twice); the version after it is found by walking the changes backwards, because it is
//! what the key's next change replaced, or what is in `objects` now. A row that does not fit is
//! refused: a store that starts with a part of its objects would have the controllers delete the
//! rest of the world.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::key::{ObjectKey, Revision};
use super::object::Stored;
use super::state::Snapshot;
use super::{Change, ChangeKind};

pub(super) struct Loaded {
    /// At the first revision of this run: all up to it may have been given out before.
    pub(super) snapshot: Snapshot,
    /// In revision order.
    pub(super) changes: Vec<Change>,
    pub(super) reserved: Revision,
    pub(super) compacted: Revision,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("read the durable log")]
    Sql(#[from] sqlx::Error),
    #[error("decode `{key}` at revision {revision}")]
    Decode {
        key: ObjectKey,
        revision: Revision,
        #[source]
        source: serde_json::Error,
    },
    #[error("the durable log contradicts itself at revision {revision}: {what}; restore a backup")]
    Inconsistent {
        revision: Revision,
        what: &'static str,
    },
}

pub(super) async fn load(
    connection: &mut SqliteConnection,
    volatile: &HashSet<String>,
) -> Result<Loaded, Error> {
    forget_volatile(connection, volatile).await?;
    let marks = sqlx::query("SELECT reserved, compacted FROM marks")
        .fetch_one(&mut *connection)
        .await?;
    let (mut reserved, compacted) = (revision(&marks, 0)?, revision(&marks, 1)?);
    let mut names = Names::default();
    let mut snapshot = load_objects(connection, &mut names).await?;
    let changes = load_changes(connection, &snapshot, &mut names).await?;
    if let Some(last) = changes.last() {
        reserved = reserved.max(last.revision);
    }
    snapshot.revision = snapshot.revision.max(reserved);
    Ok(Loaded {
        snapshot,
        changes,
        reserved,
        compacted,
    })
}

/// A resource that was durable in an earlier run and is volatile now begins empty.
async fn forget_volatile(
    connection: &mut SqliteConnection,
    volatile: &HashSet<String>,
) -> Result<(), Error> {
    for resource in volatile {
        sqlx::query("DELETE FROM objects WHERE resource = ?1")
            .bind(resource)
            .execute(&mut *connection)
            .await?;
        sqlx::query("DELETE FROM changes WHERE resource = ?1")
            .bind(resource)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// The snapshot's revision is the largest of its objects'.
async fn load_objects(
    connection: &mut SqliteConnection,
    names: &mut Names,
) -> Result<Snapshot, Error> {
    let mut snapshot = Snapshot::default();
    let sql = "SELECT resource, namespace, name, revision, id, object FROM objects";
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        let key = names.key(&row, 0)?;
        let (revision, created) = (revision(&row, 3)?, revision(&row, 4)?);
        let stored = decode(key, revision, created, row.try_get(5)?)?;
        snapshot.revision = snapshot.revision.max(revision);
        if snapshot.insert(Arc::new(stored)).is_some() {
            return Err(Error::Inconsistent {
                revision,
                what: "two rows hold one object",
            });
        }
    }
    Ok(snapshot)
}

async fn load_changes(
    connection: &mut SqliteConnection,
    snapshot: &Snapshot,
    names: &mut Names,
) -> Result<Vec<Change>, Error> {
    let sql = "SELECT resource, namespace, name, revision, kind, previous_revision, previous \
               FROM changes ORDER BY revision DESC";
    let mut rows = sqlx::query(sql).fetch(connection);
    let mut changes = Vec::new();
    // What was there before the changes that have been read already.
    let mut later: HashMap<ObjectKey, Option<Arc<Stored>>> = HashMap::new();
    while let Some(row) = rows.try_next().await? {
        let key = names.key(&row, 0)?;
        let revision = revision(&row, 3)?;
        let inconsistent = |what| Error::Inconsistent { revision, what };
        let kind = ChangeKind::from_code(row.try_get(4)?)
            .ok_or_else(|| inconsistent("an unknown kind of change"))?;
        let previous = previous(&row, &key)?;
        let after = match later.remove(&key) {
            Some(after) => after,
            None => snapshot.get(&key).cloned(),
        };
        let object = match (kind, &previous, after) {
            (ChangeKind::Deleted, Some(previous), None) => Arc::new(previous.tombstone(revision)),
            (ChangeKind::Created, None, Some(after))
            | (ChangeKind::Updated, Some(_), Some(after))
                if after.revision == revision =>
            {
                after
            }
            _ => return Err(inconsistent("the versions of an object do not follow")),
        };
        later.insert(key, previous.clone());
        changes.push(Change {
            revision,
            kind,
            object,
            previous,
        });
    }
    changes.reverse();
    Ok(changes)
}

fn previous(row: &SqliteRow, key: &ObjectKey) -> Result<Option<Arc<Stored>>, Error> {
    let (at, json): (Option<i64>, Option<String>) = (row.try_get(5)?, row.try_get(6)?);
    let (Some(at), Some(json)) = (at, json) else {
        return Ok(None);
    };
    let stored = decode(key.clone(), Revision(at as u64), Revision(0), json)?;
    Ok(Some(Arc::new(stored)))
}

fn decode(
    key: ObjectKey,
    revision: Revision,
    created: Revision,
    json: String,
) -> Result<Stored, Error> {
    Stored::decode(key.clone(), revision, created, Bytes::from(json)).map_err(|source| {
        Error::Decode {
            key,
            revision,
            source,
        }
    })
}

fn revision(row: &SqliteRow, column: usize) -> Result<Revision, sqlx::Error> {
    Ok(Revision(row.try_get::<i64, _>(column)? as u64))
}

/// Resources and namespaces are few: their names are shared between all keys.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn key(&mut self, row: &SqliteRow, column: usize) -> Result<ObjectKey, sqlx::Error> {
        Ok(ObjectKey {
            resource: self.share(row.try_get(column)?),
            namespace: self.share(row.try_get(column + 1)?),
            name: row.try_get::<&str, _>(column + 2)?.into(),
        })
    }

    fn share(&mut self, name: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(name) {
            return Arc::clone(shared);
        }
        let shared: Arc<str> = name.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }
}
