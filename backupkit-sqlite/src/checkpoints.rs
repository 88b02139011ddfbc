//! Checkpoints, noted packs and sealed outputs.

use async_trait::async_trait;
use backupkit_core::Result;
use backupkit_core::model::{BlobId, IndexId, LockId, PackId, SnapshotId};
use backupkit_core::state::{
    Checkpoints, LeaseRef, SealedOutput, check_adapter_value, check_checkpoint, check_part, refusal,
};
use bytes::Bytes;
use sqlx::{FromRow, SqliteExecutor};

use crate::SqliteStore;
use crate::run_rows::signed;

const ID_BYTES: usize = 32;

#[derive(Debug, FromRow)]
struct OutputRow {
    repository_id: String,
    snapshot: Vec<u8>,
    tree: Vec<u8>,
    lock: Vec<u8>,
    problems: i64,
    index_files: Vec<u8>,
    sealed: Vec<u8>,
}

impl OutputRow {
    /// Nothing if it is not what this program writes.
    fn decode(self) -> Option<SealedOutput> {
        let (index_files, rest) = self.index_files.as_chunks::<ID_BYTES>();
        rest.is_empty().then_some(())?;
        Some(SealedOutput {
            repository_id: self.repository_id,
            snapshot: SnapshotId::from_bytes(self.snapshot.try_into().ok()?),
            sealed: self.sealed.into(),
            tree: BlobId::from_bytes(self.tree.try_into().ok()?),
            lock: LockId::from_bytes(self.lock.try_into().ok()?),
            index_files: index_files.iter().copied().map(IndexId::from_bytes).collect(),
            problems: self.problems.cast_unsigned(),
        })
    }
}

impl SqliteStore {
    /// Refuses a lease that is lost, without reading the run.
    pub(crate) async fn check_lease(
        &self,
        executor: impl SqliteExecutor<'_>,
        lease: &LeaseRef,
    ) -> Result<()> {
        let held: Option<i64> = sqlx::query_scalar(
            "SELECT 1 FROM runs WHERE id = ? AND fence = ? AND worker IS NOT NULL",
        )
        .bind(lease.run().to_string())
        .bind(signed(lease.fence()))
        .fetch_optional(executor)
        .await
        .map_err(|error| self.failure(error))?;
        held.map(drop).ok_or_else(|| refusal::lease_lost(lease.run()))
    }
}

#[async_trait]
impl Checkpoints for SqliteStore {
    async fn save_checkpoint(
        &self,
        lease: &LeaseRef,
        part: u32,
        checkpoint: Bytes,
        reach: u64,
    ) -> Result<()> {
        check_part(part)?;
        check_checkpoint(&checkpoint)?;
        let run = lease.run().to_string();
        let mut change = self.begin().await?;
        self.check_lease(&mut *change, lease).await?;
        let before: Option<i64> =
            sqlx::query_scalar("SELECT reach FROM checkpoints WHERE run_id = ? AND part = ?")
                .bind(&run)
                .bind(part)
                .fetch_optional(&mut *change)
                .await
                .map_err(|error| self.failure(error))?;
        let before = before.unwrap_or_default().cast_unsigned();
        sqlx::query(
            "INSERT INTO checkpoints (run_id, part, reach, checkpoint) VALUES (?, ?, ?, ?) \
             ON CONFLICT (run_id, part) DO UPDATE SET \
             reach = excluded.reach, checkpoint = excluded.checkpoint",
        )
        .bind(&run)
        .bind(part)
        .bind(reach.max(before).cast_signed())
        .bind(&checkpoint[..])
        .execute(&mut *change)
        .await
        .map_err(|error| self.failure(error))?;
        if reach > before {
            sqlx::query("UPDATE runs SET progressed = 1 WHERE id = ?")
                .bind(&run)
                .execute(&mut *change)
                .await
                .map_err(|error| self.failure(error))?;
        }
        self.commit(change).await
    }

    async fn load_checkpoint(&self, lease: &LeaseRef, part: u32) -> Result<Option<Bytes>> {
        check_part(part)?;
        let mut reading = self.begin_reading().await?;
        self.check_lease(&mut *reading, lease).await?;
        let checkpoint: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT checkpoint FROM checkpoints WHERE run_id = ? AND part = ?")
                .bind(lease.run().to_string())
                .bind(part)
                .fetch_optional(&mut *reading)
                .await
                .map_err(|error| self.failure(error))?;
        Ok(checkpoint.map(Bytes::from))
    }

    async fn record_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
        packs: &[PackId],
    ) -> Result<()> {
        check_part(part)?;
        let mut change = self.begin().await?;
        self.check_lease(&mut *change, lease).await?;
        for pack in packs {
            sqlx::query(
                "INSERT OR IGNORE INTO noted_packs (run_id, part, repository_id, pack) \
                 VALUES (?, ?, ?, ?)",
            )
            .bind(lease.run().to_string())
            .bind(part)
            .bind(repository_id)
            .bind(&pack.as_bytes()[..])
            .execute(&mut *change)
            .await
            .map_err(|error| self.failure(error))?;
        }
        self.commit(change).await
    }

    async fn recorded_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
    ) -> Result<Vec<PackId>> {
        check_part(part)?;
        let mut reading = self.begin_reading().await?;
        self.check_lease(&mut *reading, lease).await?;
        let packs: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT pack FROM noted_packs WHERE run_id = ? AND part = ? AND repository_id = ? \
             ORDER BY pack",
        )
        .bind(lease.run().to_string())
        .bind(part)
        .bind(repository_id)
        .fetch_all(&mut *reading)
        .await
        .map_err(|error| self.failure(error))?;
        let damaged = |_| self.damaged("the id of a pack is not readable");
        packs.into_iter().map(|id| id.try_into().map(PackId::from_bytes).map_err(damaged)).collect()
    }

    async fn record_outputs(
        &self,
        lease: &LeaseRef,
        part: u32,
        outputs: &[SealedOutput],
    ) -> Result<()> {
        check_part(part)?;
        let run = lease.run().to_string();
        let mut change = self.begin().await?;
        let stored = self.held(&mut *change, lease).await?;
        let earlier = sqlx::query("DELETE FROM sealed_outputs WHERE run_id = ? AND part = ?")
            .bind(&run)
            .bind(part)
            .execute(&mut *change)
            .await
            .map_err(|error| self.failure(error))?;
        // What is refused is not committed.
        stored.check_outputs(earlier.rows_affected() > 0)?;
        for (place, output) in outputs.iter().enumerate() {
            let index_files: Vec<u8> =
                output.index_files.iter().flat_map(|id| *id.as_bytes()).collect();
            sqlx::query(
                "INSERT INTO sealed_outputs (run_id, part, place, repository_id, snapshot, tree, \
                 lock, problems, index_files, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&run)
            .bind(part)
            .bind(signed(place as u64))
            .bind(&output.repository_id)
            .bind(&output.snapshot.as_bytes()[..])
            .bind(&output.tree.as_bytes()[..])
            .bind(&output.lock.as_bytes()[..])
            .bind(output.problems.cast_signed())
            .bind(index_files)
            .bind(&output.sealed[..])
            .execute(&mut *change)
            .await
            .map_err(|error| self.failure(error))?;
        }
        self.commit(change).await
    }

    async fn recorded_outputs(&self, lease: &LeaseRef, part: u32) -> Result<Vec<SealedOutput>> {
        check_part(part)?;
        let mut reading = self.begin_reading().await?;
        self.check_lease(&mut *reading, lease).await?;
        let rows: Vec<OutputRow> = sqlx::query_as(
            "SELECT repository_id, snapshot, tree, lock, problems, index_files, sealed \
             FROM sealed_outputs WHERE run_id = ? AND part = ? ORDER BY place",
        )
        .bind(lease.run().to_string())
        .bind(part)
        .fetch_all(&mut *reading)
        .await
        .map_err(|error| self.failure(error))?;
        let damaged = || self.damaged("a sealed output is not readable");
        rows.into_iter().map(|row| row.decode().ok_or_else(damaged)).collect()
    }

    async fn set_adapter_value(
        &self,
        lease: &LeaseRef,
        part: u32,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<()> {
        check_part(part)?;
        check_adapter_value(key, value.as_deref())?;
        let mut change = self.begin().await?;
        self.check_lease(&mut *change, lease).await?;
        let query = match &value {
            Some(value) => sqlx::query(
                "INSERT INTO adapter_values (run_id, part, key, value) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (run_id, part, key) DO UPDATE SET value = excluded.value",
            )
            .bind(lease.run().to_string())
            .bind(part)
            .bind(key)
            .bind(&value[..]),
            None => {
                sqlx::query("DELETE FROM adapter_values WHERE run_id = ? AND part = ? AND key = ?")
                    .bind(lease.run().to_string())
                    .bind(part)
                    .bind(key)
            }
        };
        query.execute(&mut *change).await.map_err(|error| self.failure(error))?;
        self.commit(change).await
    }

    async fn adapter_values(
        &self,
        lease: &LeaseRef,
        part: u32,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        check_part(part)?;
        let mut reading = self.begin_reading().await?;
        self.check_lease(&mut *reading, lease).await?;
        // Keys with a prefix stand in a row that begins at the prefix itself.
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT key, value FROM adapter_values WHERE run_id = ?1 AND part = ?2 AND key >= ?3 \
             AND substr(key, 1, length(?3)) = ?3 AND (?4 IS NULL OR key > ?4) \
             ORDER BY key LIMIT ?5",
        )
        .bind(lease.run().to_string())
        .bind(part)
        .bind(prefix)
        .bind(after)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_all(&mut *reading)
        .await
        .map_err(|error| self.failure(error))?;
        Ok(rows.into_iter().map(|(key, value)| (key, Bytes::from(value))).collect())
    }
}
