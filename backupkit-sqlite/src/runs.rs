//! Runs.

use async_trait::async_trait;
use backupkit_core::Result;
use backupkit_core::model::{RunState, Wanted};
use backupkit_core::state::{
    Actor, Moment, NewRun, Run, RunFilter, RunId, Runs, Scope, StoredRun, refusal,
};
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, Transaction};

use crate::SqliteStore;
use crate::catalogue::limit;
use crate::run_rows::{RunRow, signed, time};

const SAME: &str = "SELECT * FROM runs WHERE scope = ? AND key = ?";
const ACTIVE: &str =
    "SELECT * FROM runs WHERE scope = ? AND exclusive = ? AND ended_at IS NULL LIMIT 1";

impl SqliteStore {
    /// A run of this scope, to be changed.
    async fn stored_in(
        &self,
        change: &mut Transaction<'static, Sqlite>,
        scope: &Scope,
        id: RunId,
    ) -> Result<StoredRun> {
        let stored = self.stored(&mut **change, id).await?;
        let stored = stored.filter(|stored| stored.run.scope == *scope);
        stored.ok_or_else(|| refusal::run_missing(id))
    }

    /// The run of a scope that a query finds by a word.
    async fn find_run(
        &self,
        connection: &mut SqliteConnection,
        query: &'static str,
        scope: &Scope,
        word: Option<&String>,
    ) -> Result<Option<Run>> {
        let Some(word) = word else { return Ok(None) };
        let row: Option<RunRow> = sqlx::query_as(query)
            .bind(scope.as_str())
            .bind(word)
            .fetch_optional(connection)
            .await
            .map_err(|error| self.failure(error))?;
        Ok(row.map(|row| row.decode(self)).transpose()?.map(|stored| stored.run))
    }

    async fn next_number(&self, connection: &mut SqliteConnection, scope: &Scope) -> Result<u64> {
        let number: i64 = sqlx::query_scalar(
            "INSERT INTO run_numbers (scope, last) VALUES (?, 1) \
             ON CONFLICT (scope) DO UPDATE SET last = last + 1 RETURNING last",
        )
        .bind(scope.as_str())
        .fetch_one(connection)
        .await
        .map_err(|error| self.failure(error))?;
        u64::try_from(number).map_err(|_| self.damaged("the number of a run is negative"))
    }
}

#[async_trait]
impl Runs for SqliteStore {
    async fn create_run(&self, scope: &Scope, actor: &Actor, run: NewRun) -> Result<Run> {
        run.check()?;
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        if let Some(same) = self.find_run(&mut change, SAME, scope, run.key.as_ref()).await? {
            return Ok(same);
        }
        if self.stored(&mut *change, run.id).await?.is_some() {
            return Err(refusal::run_id_taken(run.id));
        }
        let active = self.find_run(&mut change, ACTIVE, scope, run.exclusive.as_ref()).await?;
        if let Some(active) = &active {
            return Err(refusal::run_active(active));
        }
        let number = self.next_number(&mut change, scope).await?;
        let stored = StoredRun::new(number, scope, actor, run, &now);
        self.insert(&mut change, &stored).await?;
        self.commit(change).await?;
        Ok(stored.run)
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        let stored = self.stored(self.readers(), id).await?;
        Ok(stored.map(|stored| stored.run).filter(|run| run.scope == *scope))
    }

    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<Run>> {
        let mut query = list_query(scope, filter, before, most);
        let rows: Vec<RunRow> = query
            .build_query_as()
            .fetch_all(self.readers())
            .await
            .map_err(|error| self.failure(error))?;
        rows.into_iter().map(|row| Ok(row.decode(self)?.run)).collect()
    }

    async fn ask(&self, scope: &Scope, actor: &Actor, id: RunId, wanted: Wanted) -> Result<Run> {
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        let mut stored = self.stored_in(&mut change, scope, id).await?;
        let dropped = stored.ask(actor, wanted, &now)?;
        self.keep(&mut change, &stored, dropped).await?;
        self.commit(change).await?;
        Ok(stored.run)
    }

    async fn mend(&self, scope: &Scope, id: RunId) -> Result<Run> {
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        let mut stored = self.stored_in(&mut change, scope, id).await?;
        let dropped = stored.mend(&now)?;
        self.keep(&mut change, &stored, dropped).await?;
        self.commit(change).await?;
        Ok(stored.run)
    }

    async fn remove_ended(
        &self,
        scope: &Scope,
        before: Timestamp,
        most: usize,
    ) -> Result<Vec<RunId>> {
        let mut change = self.begin().await?;
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM runs WHERE scope = ? AND ended_at < ? ORDER BY number LIMIT ?",
        )
        .bind(scope.as_str())
        .bind(time(before))
        .bind(limit(most))
        .fetch_all(&mut *change)
        .await
        .map_err(|error| self.failure(error))?;
        for id in &ids {
            // All that belongs to it goes with it.
            sqlx::query("DELETE FROM runs WHERE id = ?")
                .bind(id)
                .execute(&mut *change)
                .await
                .map_err(|error| self.failure(error))?;
        }
        self.commit(change).await?;
        let damaged = |id| self.damaged(&format!("run {id} is not readable"));
        ids.iter().map(|id| id.parse().map_err(|_| damaged(id))).collect()
    }

    async fn version(&self) -> Result<u64> {
        // https://www.sqlite.org/pragma.html#pragma_data_version
        let version: i64 = sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(self.watcher())
            .await
            .map_err(|error| self.failure(error))?;
        Ok(version.cast_unsigned())
    }
}

/// One look at the newest of each state, so that no list reads more of the history than it shows.
fn list_query(
    scope: &Scope,
    filter: &RunFilter,
    before: Option<u64>,
    most: usize,
) -> QueryBuilder<Sqlite> {
    let states: Vec<Option<RunState>> = match &filter.states[..] {
        [] => vec![None],
        states => {
            RunState::ALL.iter().filter(|state| states.contains(state)).copied().map(Some).collect()
        }
    };
    let mut query = QueryBuilder::new("SELECT * FROM runs WHERE position IN (");
    for (place, state) in states.into_iter().enumerate() {
        query.push(if place == 0 { "" } else { " UNION ALL " });
        query.push("SELECT position FROM (SELECT position FROM runs WHERE scope = ");
        query.push_bind(scope.as_str().to_owned());
        query.push(" AND number < ").push_bind(before.map_or(i64::MAX, signed));
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.as_str());
        }
        if let Some(plan) = filter.plan {
            query.push(" AND plan = ").push_bind(plan.to_string());
        }
        if let Some(kind) = filter.kind {
            query.push(" AND kind = ").push_bind(kind.as_str());
        }
        query.push(" ORDER BY number DESC LIMIT ").push_bind(limit(most)).push(")");
    }
    query.push(") ORDER BY number DESC LIMIT ").push_bind(limit(most));
    query
}
