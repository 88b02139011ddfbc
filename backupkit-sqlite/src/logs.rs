//! Logs.

use async_trait::async_trait;
use backupkit_core::Result;
use backupkit_core::model::Level;
use backupkit_core::state::{
    LeaseRef, LogFilter, LogLine, Logs, NewLogLine, RunId, Scope, refusal,
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::FromRow;

use crate::SqliteStore;
use crate::run_rows::{signed, time};

/// So many lines are looked at in one go: 13 MiB at most.
const PAGE: i64 = 200;
/// So many lines are removed before others may write.
const REMOVED_AT_ONCE: u32 = 10_000;

#[derive(Debug, FromRow)]
struct LineRow {
    number: i64,
    at: String,
    level: i64,
    code: String,
    text: String,
    body: String,
}

impl LineRow {
    /// Nothing if it is not what this program writes.
    fn decode(self) -> Option<LogLine> {
        let level = [Level::Info, Level::Warning, Level::Error];
        let line = NewLogLine {
            at: self.at.parse().ok()?,
            level: *level.iter().find(|level| rank(**level) == self.level)?,
            code: self.code,
            text: self.text,
            body: RawValue::from_string(self.body).ok()?.into(),
        };
        Some(LogLine { number: self.number.try_into().ok()?, line })
    }
}

fn rank(level: Level) -> i64 {
    match level {
        Level::Info => 0,
        Level::Warning => 1,
        Level::Error => 2,
    }
}

#[async_trait]
impl Logs for SqliteStore {
    async fn append_logs(&self, lease: &LeaseRef, lines: &[NewLogLine]) -> Result<u64> {
        lines.iter().try_for_each(NewLogLine::check)?;
        let run = lease.run().to_string();
        let mut change = self.begin().await?;
        let last: Option<i64> = sqlx::query_scalar(
            "UPDATE runs SET last_log = last_log + ? WHERE id = ? AND fence = ? \
             AND worker IS NOT NULL RETURNING last_log",
        )
        .bind(signed(lines.len() as u64))
        .bind(&run)
        .bind(signed(lease.fence()))
        .fetch_optional(&mut *change)
        .await
        .map_err(|error| self.failure(error))?;
        let last = last.ok_or_else(|| refusal::lease_lost(lease.run()))?;
        for (number, line) in (last - signed(lines.len() as u64) + 1..).zip(lines) {
            sqlx::query(
                "INSERT INTO log_lines (run_id, number, at, level, code, text, body) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(&run)
            .bind(number)
            .bind(time(line.at))
            .bind(rank(line.level))
            .bind(&line.code)
            .bind(&line.text)
            .bind(line.body.get())
            .execute(&mut *change)
            .await
            .map_err(|error| self.failure(error))?;
        }
        self.commit(change).await?;
        Ok(last.cast_unsigned())
    }

    async fn logs(
        &self,
        scope: &Scope,
        run: RunId,
        filter: &LogFilter,
        after: u64,
        most: usize,
    ) -> Result<Vec<LogLine>> {
        let mut lines = Vec::new();
        let mut after = signed(after);
        while lines.len() < most {
            let rows: Vec<LineRow> = sqlx::query_as(
                "SELECT log_lines.* FROM runs JOIN log_lines ON log_lines.run_id = runs.id \
                 WHERE runs.id = ? AND runs.scope = ? AND log_lines.number > ? AND level >= ? \
                 ORDER BY log_lines.number LIMIT ?",
            )
            .bind(run.to_string())
            .bind(scope.as_str())
            .bind(after)
            .bind(filter.level.map_or(0, rank))
            .bind(PAGE)
            .fetch_all(self.readers())
            .await
            .map_err(|error| self.failure(error))?;
            let Some(last) = rows.last() else { break };
            after = last.number;
            for row in rows {
                let line =
                    row.decode().ok_or_else(|| self.damaged("a log line is not readable"))?;
                if lines.len() < most && filter.lets_through(&line.line) {
                    lines.push(line);
                }
            }
        }
        Ok(lines)
    }

    async fn remove_logs(&self, scope: &Scope, ended_before: Timestamp) -> Result<u64> {
        let mut removed = 0;
        loop {
            // Bit by bit, as workers wait for the only writer.
            let mut change = self.begin().await?;
            let bit = sqlx::query(
                "DELETE FROM log_lines WHERE (run_id, number) IN \
                 (SELECT run_id, log_lines.number FROM runs JOIN log_lines ON run_id = runs.id \
                 WHERE scope = ? AND ended_at < ? LIMIT ?)",
            )
            .bind(scope.as_str())
            .bind(time(ended_before))
            .bind(REMOVED_AT_ONCE)
            .execute(&mut *change)
            .await
            .map_err(|error| self.failure(error))?
            .rows_affected();
            self.commit(change).await?;
            removed += bit;
            if bit < u64::from(REMOVED_AT_ONCE) {
                return Ok(removed);
            }
        }
    }
}
