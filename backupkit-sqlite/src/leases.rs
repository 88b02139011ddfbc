//! Leases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use backupkit_core::model::{RunInput, RunState, Wanted};
use backupkit_core::state::{
    Claim, Dropped, Lease, LeaseRef, Leases, Moment, Renewal, Report, Run, RunId, WorkerId,
    check_progress, refusal,
};
use backupkit_core::{ErrorKind, Result};
use serde_json::value::RawValue;
use sqlx::SqliteExecutor;

use crate::SqliteStore;
use crate::run_rows::{signed, time};

/// The next run to be claimed. The index is named, so that no planner reads all of the history. Those that rest as soon as they are claimed wait for nothing.
const NEXT: &str = "\
    SELECT id FROM runs INDEXED BY runs_waiting WHERE worker IS NULL AND ended_at IS NULL \
    AND state || ' ' || wanted IN (SELECT value FROM json_each(?1)) \
    AND (?2 IS NULL OR id = ?2) \
    AND (state = 'queued' AND wanted = 'pause' \
        OR (not_before IS NULL OR not_before <= ?3) AND NOT EXISTS ( \
            SELECT 1 FROM json_each(runs.slots) AS slot WHERE ( \
                SELECT COUNT(*) >= MIN(slot.value ->> 'most', \
                    COALESCE(MIN(held_slots.most), slot.value ->> 'most')) \
                FROM held_slots WHERE held_slots.resource = slot.value ->> 'resource'))) \
    ORDER BY priority DESC, position LIMIT 1 OFFSET ?4";

impl SqliteStore {
    async fn next(
        &self,
        executor: impl SqliteExecutor<'_>,
        claim: &Claim,
        now: &Moment,
        skipped: u32,
    ) -> Result<Option<RunId>> {
        let id: Option<String> = sqlx::query_scalar(NEXT)
            .bind(claimable())
            .bind(claim.only.map(|only| only.to_string()))
            .bind(time(now.at()))
            .bind(skipped)
            .fetch_optional(executor)
            .await
            .map_err(|error| self.failure(error))?;
        id.map(|id| self.run_id(&id)).transpose()
    }

    fn run_id(&self, id: &str) -> Result<RunId> {
        id.parse().map_err(|_| self.damaged(&format!("run {id} is not readable")))
    }

    fn decode_renewal(&self, lease: &LeaseRef, found: Option<(String, String)>) -> Result<Renewal> {
        let (wanted, state) = found.ok_or_else(|| refusal::lease_lost(lease.run()))?;
        match (wanted.parse(), state.parse()) {
            (Ok(wanted), Ok(state)) => Ok(Renewal { wanted, state }),
            _ => Err(self.damaged(&format!("run {} is not readable", lease.run()))),
        }
    }

    /// Runs to which time might do something, found without those that have ended.
    async fn passing(&self, now: &Moment) -> Result<Vec<RunId>> {
        let ids: Vec<String> = sqlx::query_scalar(
            "SELECT id FROM runs INDEXED BY runs_active WHERE ended_at IS NULL AND (worker IS NOT NULL \
             OR wanted = 'cancel' OR state = 'paused' AND not_before <= ?) ORDER BY position",
        )
        .bind(time(now.at()))
        .fetch_all(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        ids.iter().map(|id| self.run_id(id)).collect()
    }
}

#[async_trait]
impl Leases for SqliteStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Lease>> {
        // Workers that find nothing do not hold up those who write.
        let now = Moment::now(&self.env)?;
        if self.next(self.readers(), claim, &now, 0).await?.is_none() {
            return Ok(None);
        }
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        let (mut lease, mut skipped, mut unreadable) = (None, 0, None);
        while lease.is_none() {
            let Some(next) = self.next(&mut *change, claim, &now, skipped).await? else { break };
            match self.stored(&mut *change, next).await {
                Ok(Some(mut stored)) => {
                    lease = stored.claim(claim, &now)?;
                    self.keep(&mut change, &stored, Dropped::Nothing).await?;
                }
                Ok(None) => break,
                // One that is damaged does not hold up the others.
                Err(error) if error.is(ErrorKind::Corrupt) => {
                    (skipped, unreadable) = (skipped + 1, Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        self.commit(change).await?;
        match (lease, unreadable) {
            (None, Some(error)) => Err(error),
            (lease, _) => Ok(lease),
        }
    }

    async fn renew(
        &self,
        lease: &LeaseRef,
        time: Duration,
        progress: Option<Arc<RawValue>>,
    ) -> Result<Renewal> {
        check_progress(progress.as_ref())?;
        let mut change = self.begin().await?;
        let until = Moment::now(&self.env)?.lease_until(time);
        let renewal: Option<(String, String)> = sqlx::query_as(
            "UPDATE runs SET lease_until = ?, progress = COALESCE(?, progress) \
             WHERE id = ? AND fence = ? AND worker IS NOT NULL RETURNING wanted, state",
        )
        .bind(until.to_string())
        .bind(progress.as_ref().map(|body| body.get()))
        .bind(lease.run().to_string())
        .bind(signed(lease.fence()))
        .fetch_optional(&mut *change)
        .await
        .map_err(|error| self.failure(error))?;
        let renewal = self.decode_renewal(lease, renewal)?;
        self.commit(change).await?;
        Ok(renewal)
    }

    async fn renewal(&self, lease: &LeaseRef) -> Result<Renewal> {
        let renewal = sqlx::query_as(
            "SELECT wanted, state FROM runs WHERE id = ? AND fence = ? AND worker IS NOT NULL",
        )
        .bind(lease.run().to_string())
        .bind(signed(lease.fence()))
        .fetch_optional(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        self.decode_renewal(lease, renewal)
    }

    async fn report(&self, lease: &LeaseRef, input: RunInput, report: Report) -> Result<Run> {
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        let mut stored = self.held(&mut *change, lease).await?;
        let dropped = stored.report(input, report, &now)?;
        self.keep(&mut change, &stored, dropped).await?;
        self.commit(change).await?;
        Ok(stored.run)
    }

    async fn holders(&self) -> Result<Vec<WorkerId>> {
        let workers: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT worker FROM runs WHERE worker IS NOT NULL ORDER BY worker",
        )
        .fetch_all(self.readers())
        .await
        .map_err(|error| self.failure(error))?;
        let damaged = || self.damaged("the name of a worker is not readable");
        workers.into_iter().map(|worker| WorkerId::new(worker).map_err(|_| damaged())).collect()
    }

    async fn sweep(&self, dead: &[WorkerId], most: usize) -> Result<usize> {
        let now = Moment::now(&self.env)?;
        let (mut due, mut unreadable) = (Vec::new(), None);
        for id in self.passing(&now).await? {
            match self.stored(self.readers(), id).await {
                Ok(stored) if stored.as_ref().is_some_and(|run| run.is_due(dead, &now)) => {
                    due.push(id);
                }
                Ok(_) => {}
                // One that is damaged does not hold up the others.
                Err(error) if error.is(ErrorKind::Corrupt) => unreadable = Some(error),
                Err(error) => return Err(error),
            }
        }
        if due.is_empty() || most == 0 {
            return unreadable.map_or(Ok(0), Err);
        }
        let mut change = self.begin().await?;
        let now = Moment::now(&self.env)?;
        let mut moved = 0;
        for id in due.into_iter().take(most) {
            // Things may have changed meanwhile.
            let Some(mut stored) = self.stored(&mut *change, id).await? else { continue };
            let Some(dropped) = stored.sweep(dead, &now)? else { continue };
            self.keep(&mut change, &stored, dropped).await?;
            moved += 1;
        }
        self.commit(change).await?;
        Ok(moved)
    }
}

/// All pairs of state and wish in which a run can be claimed.
fn claimable() -> String {
    let pairs = RunState::ALL.iter().flat_map(|state| {
        let wishes = Wanted::ALL.iter().filter(|wanted| state.is_claimable(**wanted));
        wishes.map(move |wanted| serde_json::Value::from(format!("{state} {wanted}")))
    });
    pairs.collect::<serde_json::Value>().to_string()
}
