//! Old runs in the state store.

use jiff::Timestamp;

use crate::error::Result;
use crate::state::{LogFilter, Run, RunFilter, Scope, StateStore};

/// So many runs are read or removed at once, as workers wait for the store meanwhile.
const AT_ONCE: usize = 100;

/// Removes runs that ended before a time, and counts them.
pub(super) async fn remove_runs(
    store: &dyn StateStore,
    scope: &Scope,
    before: Timestamp,
) -> Result<u64> {
    let mut count = 0;
    loop {
        let removed = store.remove_ended(scope, before, AT_ONCE).await?.len();
        count += removed as u64;
        if removed < AT_ONCE {
            return Ok(count);
        }
    }
}

/// Counts what [`remove_runs`] would remove.
pub(super) async fn count_runs(
    store: &dyn StateStore,
    scope: &Scope,
    before: Timestamp,
) -> Result<u64> {
    let (mut count, mut pages) = (0, Pages::new(store, scope, before));
    while let Some(page) = pages.next().await? {
        count += page.len() as u64;
    }
    Ok(count)
}

/// Counts the lines of runs that ended before a time.
pub(super) async fn count_lines(
    store: &dyn StateStore,
    scope: &Scope,
    before: Timestamp,
) -> Result<u64> {
    let (mut count, mut pages) = (0_u64, Pages::new(store, scope, before));
    while let Some(page) = pages.next().await? {
        for run in page {
            let first = store.logs(scope, run.new.id, &LogFilter::default(), 0, 1).await?;
            // Numbers have no gaps.
            let lines = first.first().map(|first| (run.last_log + 1).saturating_sub(first.number));
            count = count.saturating_add(lines.unwrap_or_default());
        }
    }
    Ok(count)
}

/// The runs of a scope that ended before a time, a page at a time.
struct Pages<'a> {
    store: &'a dyn StateStore,
    scope: &'a Scope,
    before: Timestamp,
    filter: RunFilter,
    next: Option<u64>,
    is_over: bool,
}

impl<'a> Pages<'a> {
    fn new(store: &'a dyn StateStore, scope: &'a Scope, before: Timestamp) -> Self {
        Self { store, scope, before, filter: RunFilter::ended(), next: None, is_over: false }
    }

    async fn next(&mut self) -> Result<Option<Vec<Run>>> {
        if self.is_over {
            return Ok(None);
        }
        let mut page = self.store.runs(self.scope, &self.filter, self.next, AT_ONCE).await?;
        self.is_over = page.len() < AT_ONCE;
        self.next = page.last().map(|run| run.number);
        page.retain(|run| run.ended_at.is_some_and(|ended_at| ended_at < self.before));
        Ok(Some(page))
    }
}
