//! The durable log in SQLite: load at the start, one transaction per batch, small deletions.
//!
//! sqlx runs each connection on a thread of its own, so a statement costs two thread switches and
//! never blocks a worker of the runtime. That is why a small batch is sent as *one* text, `BEGIN`
//! to `COMMIT`, and why larger ones insert up to [`ROWS`] rows by a statement. The texts take few
//! shapes and stay prepared.
//!
//! Durability: WAL with `synchronous=FULL`, so `COMMIT` returns after the log is on the disk. The
//! automatic checkpoint is off, because it would run inside some unlucky commit: see
//! `checkpoint.rs`. Rows are found by their integer id alone; what the names are is for the loader.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions as _, Connection as _};

use super::key::Revision;
use super::object::Stored;
use super::{Change, ChangeKind};

/// The most rows of one statement; SQLite's own limit is 32,766 parameters.
const ROWS: usize = 64;

/// The log is cut back to this size when it starts anew.
const WAL_KEPT: u64 = 64 << 20;

/// Free pages that are not worth a rewrite of the file: 16 MiB.
const FREE_KEPT: i64 = 4096;

/// Everything that one transaction writes.
pub(super) struct Transaction<'a> {
    /// Changes of durable resources, in revision order.
    pub(super) changes: &'a [Change],
    /// Raise the mark below which all revisions may have been given out.
    pub(super) reserve: Option<Revision>,
    /// Drop the kept changes up to here.
    pub(super) compact: Option<Revision>,
}

pub(super) struct Database {
    pub(super) connection: SqliteConnection,
}

impl Database {
    pub(super) async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let mut connection = connect(path).await?;
        sqlx::migrate!("./migrations")
            .run(&mut connection)
            .await
            .map_err(|error| sqlx::Error::Migrate(Box::new(error)))?;
        let mut database = Self { connection };
        database.shrink().await?;
        Ok(database)
    }

    /// Gives pages back to the file system when most of the file is free. Free pages are used
    /// again, so this matters only after a time of many more objects; a start is the moment when
    /// nobody waits for a write.
    async fn shrink(&mut self) -> Result<(), sqlx::Error> {
        let sql = "SELECT freelist_count, page_count FROM pragma_freelist_count, pragma_page_count";
        let (free, pages): (i64, i64) = sqlx::query_as(sql).fetch_one(&mut self.connection).await?;
        if free > FREE_KEPT && free > pages / 2 {
            self.execute("VACUUM".to_owned(), None).await?;
        }
        Ok(())
    }

    /// All of it or nothing; after an error the connection is ready for the next.
    pub(super) async fn commit(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> Result<(), sqlx::Error> {
        let result = self.run(transaction).await;
        if result.is_err() {
            // Fails when SQLite has rolled back by itself, which is as good.
            let _ = self.execute("ROLLBACK".to_owned(), None).await;
        }
        result
    }

    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.connection.close().await
    }

    async fn run(&mut self, transaction: &Transaction<'_>) -> Result<(), sqlx::Error> {
        let rows = Rows::of(transaction.changes);
        if let Some((sql, arguments)) = rows.single_text(transaction)? {
            return self.execute(sql, Some(arguments)).await;
        }
        self.execute("BEGIN IMMEDIATE".to_owned(), None).await?;
        for (sql, arguments) in rows.statements()? {
            self.execute(sql, Some(arguments)).await?;
        }
        if let Some(Revision(reserved)) = transaction.reserve {
            let arguments = integers([reserved])?;
            self.execute("UPDATE marks SET reserved = ?".to_owned(), Some(arguments))
                .await?;
        }
        if let Some(Revision(compacted)) = transaction.compact {
            let arguments = integers([compacted, compacted])?;
            let sql = "DELETE FROM changes WHERE revision <= ?; UPDATE marks SET compacted = ?";
            self.execute(sql.to_owned(), Some(arguments)).await?;
        }
        self.execute("COMMIT".to_owned(), None).await
    }

    async fn execute(
        &mut self,
        sql: String,
        arguments: Option<SqliteArguments>,
    ) -> Result<(), sqlx::Error> {
        // The text is made of constants and question marks only.
        let sql = AssertSqlSafe(sql);
        match arguments {
            Some(arguments) => {
                sqlx::query_with(sql, arguments)
                    .execute(&mut self.connection)
                    .await?
            }
            None => sqlx::query(sql).execute(&mut self.connection).await?,
        };
        Ok(())
    }
}

pub(super) async fn connect(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .statement_cache_capacity(4 * ROWS)
        .pragma("wal_autocheckpoint", "0")
        .pragma("journal_size_limit", WAL_KEPT.to_string())
        .disable_statement_logging()
        .connect()
        .await
}

/// What a batch does to the tables.
struct Rows<'a> {
    /// By row id: the version to keep, or none if the row goes. An object that changes twice in a
    /// batch is written once.
    objects: BTreeMap<u64, Option<&'a Stored>>,
    changes: &'a [Change],
}

impl<'a> Rows<'a> {
    fn of(changes: &'a [Change]) -> Self {
        let mut objects = BTreeMap::new();
        for change in changes {
            match (change.kind, &change.previous) {
                (ChangeKind::Created | ChangeKind::Updated, _) => {
                    objects.insert(change.object.created.0, Some(&*change.object));
                }
                (ChangeKind::Deleted, Some(previous)) => {
                    objects.insert(previous.created.0, None);
                }
                (ChangeKind::Deleted, None) => {}
            }
        }
        Self { objects, changes }
    }

    fn kept(&self) -> Vec<(u64, &'a Stored)> {
        let rows = self.objects.iter();
        rows.filter_map(|(id, stored)| stored.map(|stored| (*id, stored)))
            .collect()
    }

    fn removed(&self) -> Vec<u64> {
        let removed = self.objects.iter().filter(|(_, stored)| stored.is_none());
        removed.map(|(id, _)| *id).collect()
    }

    /// The whole transaction as one text, where that text is one of few.
    fn single_text(
        &self,
        transaction: &Transaction<'_>,
    ) -> Result<Option<(String, SqliteArguments)>, sqlx::Error> {
        let plain = transaction.reserve.is_none() && transaction.compact.is_none();
        let (kept, removed) = (self.kept(), self.removed());
        let few_shapes = removed.is_empty() || self.changes.len() == 1;
        if !plain || !few_shapes || self.changes.is_empty() || self.changes.len() > ROWS {
            return Ok(None);
        }
        let mut sql = "BEGIN IMMEDIATE;".to_owned();
        let mut arguments = SqliteArguments::default();
        if !kept.is_empty() {
            sql += &upsert(kept.len());
            sql.push(';');
            bind_objects(&mut arguments, &kept)?;
        }
        if !removed.is_empty() {
            sql += &delete(removed.len());
            sql.push(';');
            bind_ids(&mut arguments, &removed)?;
        }
        sql += &insert_changes(self.changes.len());
        sql += ";COMMIT";
        bind_changes(&mut arguments, self.changes)?;
        Ok(Some((sql, arguments)))
    }

    fn statements(&self) -> Result<Vec<(String, SqliteArguments)>, sqlx::Error> {
        let mut statements = Vec::new();
        for rows in chunks(&self.kept()) {
            let mut arguments = SqliteArguments::default();
            bind_objects(&mut arguments, rows)?;
            statements.push((upsert(rows.len()), arguments));
        }
        for ids in chunks(&self.removed()) {
            let mut arguments = SqliteArguments::default();
            bind_ids(&mut arguments, ids)?;
            statements.push((delete(ids.len()), arguments));
        }
        for changes in chunks(self.changes) {
            let mut arguments = SqliteArguments::default();
            bind_changes(&mut arguments, changes)?;
            statements.push((insert_changes(changes.len()), arguments));
        }
        Ok(statements)
    }
}

/// Cuts rows into pieces of few different lengths, so that their statements stay prepared.
fn chunks<T>(mut rows: &[T]) -> Vec<&[T]> {
    let mut pieces = Vec::new();
    for length in [ROWS, ROWS / 4, ROWS / 16, 1] {
        while rows.len() >= length {
            let (piece, rest) = rows.split_at(length);
            pieces.push(piece);
            rows = rest;
        }
    }
    pieces
}

fn upsert(rows: usize) -> String {
    let columns = "id, resource, namespace, name, revision, object";
    values("INSERT OR REPLACE INTO objects", columns, rows)
}

fn insert_changes(rows: usize) -> String {
    let columns = "revision, kind, resource, namespace, name, previous_revision, previous";
    values("INSERT INTO changes", columns, rows)
}

fn values(verb: &str, columns: &str, rows: usize) -> String {
    let marks = vec!["?"; columns.split(',').count()].join(",");
    let rows = vec![format!("({marks})"); rows].join(",");
    format!("{verb} ({columns}) VALUES {rows}")
}

fn delete(rows: usize) -> String {
    let mut sql = "DELETE FROM objects WHERE id IN (?".to_owned();
    for _ in 1..rows {
        let _ = write!(sql, ",?");
    }
    sql.push(')');
    sql
}

fn bind_objects(
    arguments: &mut SqliteArguments,
    rows: &[(u64, &Stored)],
) -> Result<(), sqlx::Error> {
    for (id, stored) in rows {
        add(arguments, *id as i64)?;
        bind_key(arguments, stored)?;
        add(arguments, stored.revision.0 as i64)?;
        add(arguments, text(stored)?)?;
    }
    Ok(())
}

fn bind_changes(arguments: &mut SqliteArguments, changes: &[Change]) -> Result<(), sqlx::Error> {
    for change in changes {
        add(arguments, change.revision.0 as i64)?;
        add(arguments, change.kind.code())?;
        bind_key(arguments, &change.object)?;
        let previous = change.previous.as_deref();
        add(
            arguments,
            previous.map(|previous| previous.revision.0 as i64),
        )?;
        add(arguments, previous.map(text).transpose()?)?;
    }
    Ok(())
}

fn bind_key(arguments: &mut SqliteArguments, stored: &Stored) -> Result<(), sqlx::Error> {
    add(arguments, &*stored.key.resource)?;
    add(arguments, &*stored.key.namespace)?;
    add(arguments, &*stored.key.name)
}

fn bind_ids(arguments: &mut SqliteArguments, ids: &[u64]) -> Result<(), sqlx::Error> {
    ids.iter().try_for_each(|id| add(arguments, *id as i64))
}

fn integers<const N: usize>(values: [u64; N]) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    bind_ids(&mut arguments, &values)?;
    Ok(arguments)
}

fn text(stored: &Stored) -> Result<&str, sqlx::Error> {
    std::str::from_utf8(stored.json()).map_err(|error| sqlx::Error::Encode(error.into()))
}

fn add<'t, T>(arguments: &mut SqliteArguments, value: T) -> Result<(), sqlx::Error>
where
    T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    arguments.add(value).map_err(sqlx::Error::Encode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_have_few_lengths_and_lose_nothing() {
        for length in [0, 1, 3, 4, 5, 16, 63, 64, 65, 200, 1000] {
            let rows: Vec<usize> = (0..length).collect();
            let pieces = chunks(&rows);
            assert_eq!(pieces.concat(), rows);
            assert!(
                pieces
                    .iter()
                    .all(|piece| [1, 4, 16, 64].contains(&piece.len()))
            );
        }
    }

    #[test]
    fn texts_have_a_mark_for_each_column() {
        assert_eq!(upsert(2).matches('?').count(), 12);
        assert_eq!(insert_changes(3).matches('?').count(), 21);
        assert_eq!(delete(2), "DELETE FROM objects WHERE id IN (?,?)");
    }
}
