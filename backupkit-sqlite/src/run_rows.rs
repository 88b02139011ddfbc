//! Runs as they stand in their table.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use backupkit_core::Result;
use backupkit_core::model::{AttemptPolicy, PauseReason};
use backupkit_core::state::{
    Actor, Cause, Dropped, LeaseRef, NewRun, Run, RunId, Scope, Slot, StoredRun, WorkerId, refusal,
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::{FromRow, SqliteConnection, SqliteExecutor};

use crate::SqliteStore;

/// A row of `runs`, but for its position.
#[derive(Debug, FromRow)]
pub(crate) struct RunRow {
    id: String,
    scope: String,
    number: i64,
    actor: String,
    kind: String,
    plan: Option<String>,
    retry_of: Option<String>,
    key: Option<String>,
    exclusive: Option<String>,
    priority: i32,
    max_attempts: u32,
    first_delay_nanos: i64,
    max_delay_nanos: i64,
    state: String,
    state_since: String,
    state_tick: String,
    wanted: String,
    wanted_since: String,
    wanted_tick: String,
    wanted_by: String,
    pause_reason: Option<String>,
    attempts: u32,
    progressed: bool,
    not_before: Option<String>,
    last_log: i64,
    created_at: String,
    started_at: Option<String>,
    ended_at: Option<String>,
    fence: i64,
    worker: Option<String>,
    lease_until: Option<String>,
    slots: String,
    title: String,
    cause_kind: Option<String>,
    cause_code: Option<String>,
    cause_message: Option<String>,
    progress: Option<String>,
    report: Option<String>,
    settings: String,
}

impl RunRow {
    pub(crate) fn decode(self, store: &SqliteStore) -> Result<StoredRun> {
        let id = self.id.clone();
        self.read().map_err(|Unreadable| store.damaged(&format!("run {id} is not readable")))
    }

    fn read(self) -> Result<StoredRun, Unreadable> {
        let new = NewRun {
            id: self.id.parse()?,
            kind: self.kind.parse()?,
            title: self.title,
            plan: parse(self.plan.as_deref())?,
            settings: json(self.settings)?,
            retry_of: parse(self.retry_of.as_deref())?,
            key: self.key,
            exclusive: self.exclusive,
            priority: self.priority,
            slots: decode_slots(&self.slots)?,
            attempts: AttemptPolicy {
                max_attempts: self.max_attempts,
                first_delay: Duration::from_nanos(self.first_delay_nanos.try_into()?),
                max_delay: Duration::from_nanos(self.max_delay_nanos.try_into()?),
            },
        };
        let cause = match (self.cause_kind, self.cause_message) {
            (Some(kind), Some(message)) => {
                Some(Cause { kind: kind.parse()?, code: self.cause_code, message })
            }
            _ => None,
        };
        let run = Run {
            number: self.number.try_into()?,
            scope: Scope::new(self.scope)?,
            actor: Actor::new(self.actor)?,
            new,
            state: self.state.parse()?,
            wanted: self.wanted.parse()?,
            wanted_since: self.wanted_since.parse()?,
            wanted_by: Actor::new(self.wanted_by)?,
            pause_reason: parse(self.pause_reason.as_deref())?,
            attempts: self.attempts,
            cause,
            not_before: parse(self.not_before.as_deref())?,
            progress: self.progress.map(json).transpose()?,
            report: self.report.map(json).transpose()?,
            last_log: self.last_log.try_into()?,
            created_at: self.created_at.parse()?,
            started_at: parse(self.started_at.as_deref())?,
            state_since: self.state_since.parse()?,
            ended_at: parse(self.ended_at.as_deref())?,
            worker: self.worker.map(WorkerId::new).transpose()?,
        };
        Ok(StoredRun {
            run,
            fence: self.fence.try_into()?,
            lease_until: parse(self.lease_until.as_deref())?,
            progressed: self.progressed,
            state_tick: self.state_tick.parse()?,
            wanted_tick: self.wanted_tick.parse()?,
        })
    }
}

/// It is not what this program writes.
struct Unreadable;

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(_: E) -> Self {
        Self
    }
}

impl SqliteStore {
    /// A run of whatever scope; nothing if there is none.
    pub(crate) async fn stored(
        &self,
        executor: impl SqliteExecutor<'_>,
        id: RunId,
    ) -> Result<Option<StoredRun>> {
        let row: Option<RunRow> = sqlx::query_as("SELECT * FROM runs WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(executor)
            .await
            .map_err(|error| self.failure(error))?;
        row.map(|row| row.decode(self)).transpose()
    }

    /// The run of a lease that is alive.
    pub(crate) async fn held(
        &self,
        executor: impl SqliteExecutor<'_>,
        lease: &LeaseRef,
    ) -> Result<StoredRun> {
        let stored = self.stored(executor, lease.run()).await?;
        let held = stored.filter(|stored| stored.is_held_by(lease));
        held.ok_or_else(|| refusal::lease_lost(lease.run()))
    }

    pub(crate) async fn insert(
        &self,
        connection: &mut SqliteConnection,
        stored: &StoredRun,
    ) -> Result<()> {
        let run = &stored.run;
        let new = &run.new;
        sqlx::query(
            "INSERT INTO runs (id, scope, number, actor, kind, plan, retry_of, key, exclusive, \
             priority, max_attempts, first_delay_nanos, max_delay_nanos, created_at, slots, title, \
             settings, state, state_since, state_tick, wanted, wanted_since, wanted_tick, \
             wanted_by, attempts, progressed, last_log, fence) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, \
             0, 0)",
        )
        .bind(new.id.to_string())
        .bind(run.scope.as_str())
        .bind(signed(run.number))
        .bind(run.actor.as_str())
        .bind(new.kind.as_str())
        .bind(new.plan.map(|plan| plan.to_string()))
        .bind(new.retry_of.map(|id| id.to_string()))
        .bind(&new.key)
        .bind(&new.exclusive)
        .bind(new.priority)
        .bind(new.attempts.max_attempts)
        .bind(nanos(new.attempts.first_delay))
        .bind(nanos(new.attempts.max_delay))
        .bind(time(run.created_at))
        .bind(encode_slots(&new.slots))
        .bind(&new.title)
        .bind(new.settings.get())
        .bind(run.state.as_str())
        .bind(time(run.state_since))
        .bind(stored.state_tick.to_string())
        .bind(run.wanted.as_str())
        .bind(time(run.wanted_since))
        .bind(stored.wanted_tick.to_string())
        .bind(run.wanted_by.as_str())
        .execute(connection)
        .await
        .map_err(|error| self.failure(error))?;
        Ok(())
    }

    /// Writes what can change of a run, and removes what goes with that.
    pub(crate) async fn keep(
        &self,
        connection: &mut SqliteConnection,
        stored: &StoredRun,
        dropped: Dropped,
    ) -> Result<()> {
        let (run, cause) = (&stored.run, stored.run.cause.as_ref());
        let id = run.new.id.to_string();
        sqlx::query(
            "UPDATE runs SET state = ?, state_since = ?, state_tick = ?, wanted = ?, \
             wanted_since = ?, wanted_tick = ?, wanted_by = ?, pause_reason = ?, attempts = ?, \
             progressed = ?, not_before = ?, started_at = ?, ended_at = ?, fence = ?, worker = ?, \
             lease_until = ?, cause_kind = ?, cause_code = ?, cause_message = ?, progress = ?, \
             report = ? WHERE id = ?",
        )
        .bind(run.state.as_str())
        .bind(time(run.state_since))
        .bind(stored.state_tick.to_string())
        .bind(run.wanted.as_str())
        .bind(time(run.wanted_since))
        .bind(stored.wanted_tick.to_string())
        .bind(run.wanted_by.as_str())
        .bind(run.pause_reason.map(PauseReason::as_str))
        .bind(run.attempts)
        .bind(stored.progressed)
        .bind(run.not_before.map(time))
        .bind(run.started_at.map(time))
        .bind(run.ended_at.map(time))
        .bind(signed(stored.fence))
        .bind(run.worker.as_ref().map(WorkerId::as_str))
        .bind(stored.lease_until.as_ref().map(ToString::to_string))
        .bind(cause.map(|cause| cause.kind.as_str()))
        .bind(cause.and_then(|cause| cause.code.as_deref()))
        .bind(cause.map(|cause| &cause.message[..]))
        .bind(run.progress.as_ref().map(|body| body.get()))
        .bind(run.report.as_ref().map(|body| body.get()))
        .bind(&id)
        .execute(&mut *connection)
        .await
        .map_err(|error| self.failure(error))?;
        self.keep_slots(connection, run).await?;
        let statements: &[&'static str] = match dropped {
            Dropped::Nothing => &[],
            Dropped::Outputs => &["DELETE FROM sealed_outputs WHERE run_id = ?"],
            Dropped::All => &[
                "DELETE FROM checkpoints WHERE run_id = ?",
                "DELETE FROM noted_packs WHERE run_id = ?",
                "DELETE FROM sealed_outputs WHERE run_id = ?",
                "DELETE FROM adapter_values WHERE run_id = ?",
            ],
        };
        for statement in statements {
            sqlx::query(*statement)
                .bind(&id)
                .execute(&mut *connection)
                .await
                .map_err(|error| self.failure(error))?;
        }
        Ok(())
    }

    /// A run holds its slots for as long as it is leased.
    async fn keep_slots(&self, connection: &mut SqliteConnection, run: &Run) -> Result<()> {
        let id = run.new.id.to_string();
        if run.worker.is_none() {
            sqlx::query("DELETE FROM held_slots WHERE run_id = ?")
                .bind(id)
                .execute(connection)
                .await
                .map_err(|error| self.failure(error))?;
            return Ok(());
        }
        for slot in &run.new.slots {
            sqlx::query(
                "INSERT OR IGNORE INTO held_slots (run_id, resource, most) VALUES (?, ?, ?)",
            )
            .bind(&id)
            .bind(&slot.resource)
            .bind(slot.most)
            .execute(&mut *connection)
            .await
            .map_err(|error| self.failure(error))?;
        }
        Ok(())
    }
}

/// A time as text in the order of time.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// A count as `SQLite` has it. None gets that far.
pub(crate) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Up to 292 years; longer waits are as good as these.
fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn parse<T: FromStr>(text: Option<&str>) -> Result<Option<T>, T::Err> {
    text.map(str::parse).transpose()
}

fn json(text: String) -> serde_json::Result<Arc<RawValue>> {
    Ok(RawValue::from_string(text)?.into())
}

fn encode_slots(slots: &[Slot]) -> String {
    let encode = |slot: &Slot| serde_json::json!({"resource": slot.resource, "most": slot.most});
    slots.iter().map(encode).collect::<serde_json::Value>().to_string()
}

fn decode_slots(text: &str) -> Result<Vec<Slot>, Unreadable> {
    let slots: Vec<serde_json::Value> = serde_json::from_str(text)?;
    let decode = |slot: &serde_json::Value| {
        let resource = slot.get("resource")?.as_str()?.to_owned();
        Some(Slot { resource, most: slot.get("most")?.as_u64()?.try_into().ok()? })
    };
    slots.iter().map(decode).collect::<Option<_>>().ok_or(Unreadable)
}
