//! Logs.

use async_trait::async_trait;
use jiff::Timestamp;

use super::InMemoryStore;
use crate::error::Result;
use crate::state::{LeaseRef, LogFilter, LogLine, Logs, NewLogLine, RunId, Scope};

#[async_trait]
impl Logs for InMemoryStore {
    async fn append_logs(&self, lease: &LeaseRef, lines: &[NewLogLine]) -> Result<u64> {
        lines.iter().try_for_each(NewLogLine::check)?;
        let mut kept = self.kept();
        let folder = kept.held_mut(lease)?;
        let number = &mut folder.stored.run.last_log;
        for line in lines {
            *number += 1;
            folder.log.push(LogLine { number: *number, line: line.clone() });
        }
        let number = *number;
        kept.version += 1;
        Ok(number)
    }

    async fn logs(
        &self,
        scope: &Scope,
        run: RunId,
        filter: &LogFilter,
        after: u64,
        most: usize,
    ) -> Result<Vec<LogLine>> {
        let kept = self.kept();
        let folder = kept.find(run).filter(|folder| folder.stored.run.scope == *scope);
        let lines = folder.into_iter().flat_map(|folder| &folder.log);
        let lines = lines.filter(|line| line.number > after && filter.lets_through(&line.line));
        Ok(lines.take(most).cloned().collect())
    }

    async fn remove_logs(&self, scope: &Scope, ended_before: Timestamp) -> Result<u64> {
        let mut kept = self.kept();
        let mut removed = 0;
        for folder in kept.runs.values_mut() {
            let run = &folder.stored.run;
            let has_ended = run.ended_at.is_some_and(|ended_at| ended_at < ended_before);
            if run.scope == *scope && has_ended {
                removed += folder.log.len() as u64;
                folder.log = Vec::new();
            }
        }
        kept.version += u64::from(removed > 0);
        Ok(removed)
    }
}
