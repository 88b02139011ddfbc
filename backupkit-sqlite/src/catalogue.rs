//! Connections, repositories and plans.

use async_trait::async_trait;
use backupkit_core::Result;
use backupkit_core::secret::MasterKeyId;
use backupkit_core::state::{
    Actor, Catalogue, Change, ChangeKind, Draft, Record, RecordId, RecordKind, RecordRef, Scope,
    refusal,
};
use jiff::Timestamp;
use sqlx::{Sqlite, SqliteExecutor, Transaction};

use crate::SqliteStore;
use crate::rows::{ChangeRow, RecordRow, ScopedRow, encode_needs, encode_secrets};

/// In the table of settings, under a name that no setting has.
const SEALING_KEY: &str = "catalogue:sealing-key";

/// A change that is being made.
struct Changing<'a> {
    store: &'a SqliteStore,
    scope: &'a Scope,
    actor: &'a Actor,
    now: Timestamp,
    transaction: Transaction<'static, Sqlite>,
}

impl SqliteStore {
    async fn change<'a>(&'a self, scope: &'a Scope, actor: &'a Actor) -> Result<Changing<'a>> {
        let transaction = self.begin().await?;
        Ok(Changing { store: self, scope, actor, now: self.env.now(), transaction })
    }

    fn decode_all(&self, rows: Vec<RecordRow>) -> Result<Vec<Record>> {
        rows.into_iter().map(|row| row.decode(self)).collect()
    }

    async fn record(
        &self,
        executor: impl SqliteExecutor<'_>,
        scope: &Scope,
        itself: RecordRef,
    ) -> Result<Option<Record>> {
        let row: Option<RecordRow> =
            sqlx::query_as("SELECT * FROM records WHERE id = ? AND scope = ? AND kind = ?")
                .bind(itself.id.to_string())
                .bind(scope.as_str())
                .bind(itself.kind.as_str())
                .fetch_optional(executor)
                .await
                .map_err(|error| self.failure(error))?;
        row.map(|row| row.decode(self)).transpose()
    }

    async fn sealing_key_in(
        &self,
        executor: impl SqliteExecutor<'_>,
    ) -> Result<Option<MasterKeyId>> {
        let kept = self.value(executor, SEALING_KEY).await?;
        let parse = |text: String| text.parse().map_err(|_| self.damaged("its sealing key"));
        kept.map(parse).transpose()
    }

    async fn users_of(
        &self,
        executor: impl SqliteExecutor<'_>,
        scope: &Scope,
        itself: RecordRef,
    ) -> Result<Vec<Record>> {
        let rows = sqlx::query_as(
            "SELECT records.* FROM needs JOIN records ON records.id = needs.record_id \
             WHERE needs.needed_id = ? AND records.scope = ? AND records.id <> needs.needed_id",
        )
        .bind(itself.id.to_string())
        .bind(scope.as_str())
        .fetch_all(executor)
        .await
        .map_err(|error| self.failure(error))?;
        let mut users = self.decode_all(rows)?;
        users.retain(|user| user.content.needs.contains(&itself));
        users.sort_by(|a, b| {
            (a.itself.kind, &a.content.name).cmp(&(b.itself.kind, &b.content.name))
        });
        Ok(users)
    }
}

impl Changing<'_> {
    /// A record in the revision that the caller saw.
    async fn at(&mut self, itself: RecordRef, revision: u64) -> Result<Record> {
        let found = self.store.record(&mut *self.transaction, self.scope, itself).await?;
        let record = found.ok_or_else(|| refusal::missing(itself))?;
        if record.revision == revision {
            Ok(record)
        } else {
            Err(refusal::stale(itself.kind, &record.content.name))
        }
    }

    async fn check_id_is_free(&mut self, itself: RecordRef) -> Result<()> {
        let used: Option<String> = sqlx::query_scalar("SELECT id FROM records WHERE id = ?")
            .bind(itself.id.to_string())
            .fetch_optional(&mut *self.transaction)
            .await
            .map_err(|error| self.store.failure(error))?;
        if used.is_some() { Err(refusal::id_taken(itself)) } else { Ok(()) }
    }

    /// Whether the content may stand in the record of this id.
    async fn check(&mut self, itself: RecordRef, draft: &Draft) -> Result<()> {
        draft.check()?;
        draft.check_sealing(self.store.sealing_key_in(&mut *self.transaction).await?)?;
        let holder: Option<String> =
            sqlx::query_scalar("SELECT id FROM records WHERE scope = ? AND kind = ? AND name = ?")
                .bind(self.scope.as_str())
                .bind(itself.kind.as_str())
                .bind(&draft.name)
                .fetch_optional(&mut *self.transaction)
                .await
                .map_err(|error| self.store.failure(error))?;
        if holder.is_some_and(|holder| holder != itself.id.to_string()) {
            return Err(refusal::name_taken(itself.kind, &draft.name));
        }
        for needed in &draft.needs {
            let found = self.store.record(&mut *self.transaction, self.scope, *needed).await?;
            found.ok_or_else(|| refusal::missing(*needed))?;
        }
        Ok(())
    }

    /// Writes a record, whether or not it was there.
    async fn put(&mut self, record: &Record) -> Result<()> {
        let (Record { itself, revision, content, created_at, updated_at }, store) =
            (record, self.store);
        let id = itself.id.to_string();
        sqlx::query(
            "INSERT INTO records \
             (id, scope, kind, name, revision, body, secrets, needs, created_at, updated_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET \
             name = excluded.name, revision = excluded.revision, body = excluded.body, \
             secrets = excluded.secrets, needs = excluded.needs, updated_at = excluded.updated_at",
        )
        .bind(&id)
        .bind(self.scope.as_str())
        .bind(itself.kind.as_str())
        .bind(&content.name)
        .bind(i64::try_from(*revision).map_err(|_| store.damaged("a revision is too large"))?)
        .bind(content.body.get())
        .bind(encode_secrets(&content.secrets))
        .bind(encode_needs(&content.needs))
        .bind(created_at.to_string())
        .bind(updated_at.to_string())
        .execute(&mut *self.transaction)
        .await
        .map_err(|error| store.failure(error))?;
        sqlx::query("DELETE FROM needs WHERE record_id = ?")
            .bind(&id)
            .execute(&mut *self.transaction)
            .await
            .map_err(|error| store.failure(error))?;
        for needed in &content.needs {
            sqlx::query("INSERT OR IGNORE INTO needs (record_id, needed_id) VALUES (?, ?)")
                .bind(&id)
                .bind(needed.id.to_string())
                .execute(&mut *self.transaction)
                .await
                .map_err(|error| store.failure(error))?;
        }
        Ok(())
    }

    /// Notes the change and makes it true.
    async fn commit(mut self, kind: ChangeKind, record: &Record) -> Result<()> {
        sqlx::query(
            "INSERT INTO changes (scope, number, at, actor, kind, record_kind, record_id, name) \
             VALUES (?1, (SELECT COALESCE(MAX(number), 0) + 1 FROM changes WHERE scope = ?1), \
             ?2, ?3, ?4, ?5, ?6, ?7)",
        )
        .bind(self.scope.as_str())
        .bind(self.now.to_string())
        .bind(self.actor.as_str())
        .bind(kind.as_str())
        .bind(record.itself.kind.as_str())
        .bind(record.itself.id.to_string())
        .bind(&record.content.name)
        .execute(&mut *self.transaction)
        .await
        .map_err(|error| self.store.failure(error))?;
        self.store.commit(self.transaction).await
    }
}

#[async_trait]
impl Catalogue for SqliteStore {
    async fn create(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        draft: Draft,
    ) -> Result<Record> {
        let mut change = self.change(scope, actor).await?;
        change.check_id_is_free(itself).await?;
        change.check(itself, &draft).await?;
        let now = change.now;
        let record =
            Record { itself, revision: 1, content: draft, created_at: now, updated_at: now };
        change.put(&record).await?;
        change.commit(ChangeKind::Create, &record).await?;
        Ok(record)
    }

    async fn update(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
        draft: Draft,
    ) -> Result<Record> {
        let mut change = self.change(scope, actor).await?;
        let created_at = change.at(itself, revision).await?.created_at;
        change.check(itself, &draft).await?;
        let (revision, updated_at) = (revision + 1, change.now);
        let record = Record { itself, revision, content: draft, created_at, updated_at };
        change.put(&record).await?;
        change.commit(ChangeKind::Update, &record).await?;
        Ok(record)
    }

    async fn delete(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
    ) -> Result<()> {
        let mut change = self.change(scope, actor).await?;
        let record = change.at(itself, revision).await?;
        let users = self.users_of(&mut *change.transaction, scope, itself).await?;
        if !users.is_empty() {
            return Err(refusal::in_use(&record, &users));
        }
        sqlx::query("DELETE FROM records WHERE id = ?")
            .bind(itself.id.to_string())
            .execute(&mut *change.transaction)
            .await
            .map_err(|error| self.failure(error))?;
        change.commit(ChangeKind::Delete, &record).await
    }

    async fn get(&self, scope: &Scope, itself: RecordRef) -> Result<Option<Record>> {
        self.record(self.readers(), scope, itself).await
    }

    async fn find(&self, scope: &Scope, kind: RecordKind, name: &str) -> Result<Option<Record>> {
        let row: Option<RecordRow> =
            sqlx::query_as("SELECT * FROM records WHERE scope = ? AND kind = ? AND name = ?")
                .bind(scope.as_str())
                .bind(kind.as_str())
                .bind(name)
                .fetch_optional(self.readers())
                .await
                .map_err(|error| self.failure(error))?;
        row.map(|row| row.decode(self)).transpose()
    }

    async fn list(
        &self,
        scope: &Scope,
        kind: RecordKind,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Record>> {
        let rows = sqlx::query_as(
            "SELECT * FROM records WHERE scope = ? AND kind = ? AND name > ? ORDER BY name LIMIT ?",
        )
        .bind(scope.as_str())
        .bind(kind.as_str())
        // No name is empty.
        .bind(after.unwrap_or_default())
        .bind(limit(most))
        .fetch_all(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        self.decode_all(rows)
    }

    async fn users(&self, scope: &Scope, itself: RecordRef) -> Result<Vec<Record>> {
        self.users_of(self.readers(), scope, itself).await
    }

    async fn changes(&self, scope: &Scope, after: u64, most: usize) -> Result<Vec<Change>> {
        let rows: Vec<ChangeRow> = sqlx::query_as(
            "SELECT number, at, actor, kind, record_kind, record_id, name FROM changes \
             WHERE scope = ? AND number > ? ORDER BY number LIMIT ?",
        )
        .bind(scope.as_str())
        .bind(i64::try_from(after).unwrap_or(i64::MAX))
        .bind(limit(most))
        .fetch_all(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        rows.into_iter().map(|row| row.decode(self)).collect()
    }

    async fn sealing_key(&self) -> Result<Option<MasterKeyId>> {
        self.sealing_key_in(self.readers()).await
    }

    async fn swap_sealing_key(
        &self,
        expected: Option<MasterKeyId>,
        key: MasterKeyId,
    ) -> Result<bool> {
        let text = |key: MasterKeyId| key.to_string();
        self.swap(SEALING_KEY, expected.map(text).as_deref(), Some(&text(key))).await
    }

    async fn sealed(&self, after: Option<RecordId>, most: usize) -> Result<Vec<(Scope, Record)>> {
        let rows: Vec<ScopedRow> = sqlx::query_as(
            "SELECT * FROM records WHERE secrets <> '' AND id > ? ORDER BY id LIMIT ?",
        )
        .bind(after.map(|after| after.to_string()).unwrap_or_default())
        .bind(limit(most))
        .fetch_all(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        rows.into_iter().map(|row| row.decode(self)).collect()
    }
}

pub(crate) fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
