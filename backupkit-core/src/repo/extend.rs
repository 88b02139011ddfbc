//! Retaining a repository for longer, where a destination keeps what was written from being deleted.
//!
//! All that a restore needs is looked at: config, keys, indexes, snapshots, and the packs that indexes
//! name. Locks come and go, and packs that no index names are nobody's.

use std::collections::HashSet;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::fetch::is_of_stored_bytes;
use super::layout::{FileKind, config_key, pack_key};
use super::load_index::{concurrency, list_index_files, read_index_file};
use super::repository::Repository;
use crate::counters::Counters;
use crate::destination::{Extension, ObjectKey};
use crate::error::{Error, ErrorKind, Result, Retry};
use crate::events::Events;
use crate::model::{Level, PackId};
use crate::pool::Pool;
use crate::token::CancelToken;

/// So many failures are kept in a report; all are told.
const MOST_FAILURES: usize = 1000;

/// What became of a repository that was to be retained for longer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ExtensionReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Objects that a restore needs.
    pub objects: u64,
    /// Those that are retained for longer now, or would be.
    pub extended: u64,
    /// Those that are retained for long enough already.
    pub long_enough: u64,
    /// Those that were written so lately that they are left for the next time.
    pub too_new: u64,
    /// Those that are not retained for long enough, and unreadable index files, whose packs nobody knows.
    pub failed: u64,
    /// Why, of the first 1,000 of them.
    pub failures: Vec<String>,
}

impl ExtensionReport {
    /// Whether all that a restore needs is retained for long enough.
    pub fn is_complete(&self) -> bool {
        self.failed == 0
    }
}

/// What an extension works with.
#[derive(Debug, Clone)]
pub(crate) struct ExtensionRun {
    pub(crate) repository: Repository,
    pub(crate) pool: Pool,
    pub(crate) events: Events,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel: CancelToken,
    pub(crate) dry_run: bool,
}

/// Retains a repository for longer. Take a shared lock before.
///
/// An object that cannot be retained is a failure in the report. Cancel safe: it may be done again.
///
/// # Errors
/// `Unsupported` if nothing is retained there; those of the destination that are not of one object, such
/// as that it cannot be reached; `Cancelled`.
pub(crate) async fn extend(run: &ExtensionRun) -> Result<ExtensionReport> {
    run.cancel.unless_cancelled(Box::pin(extend_all(run))).await
}

async fn extend_all(run: &ExtensionRun) -> Result<ExtensionReport> {
    let mut report = ExtensionReport { dry_run: run.dry_run, ..ExtensionReport::default() };
    let config = config_key()?;
    let first = run.repository.destination().extend_retention(&config, run.dry_run).await;
    match first {
        // It says the same of all others.
        Err(error) if error.is(ErrorKind::Unsupported) => return Err(error),
        first => report.note(run, first, false)?,
    }
    for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Index] {
        let ids = run.repository.list(kind).await?;
        let keys: Vec<_> = ids.iter().map(|id| kind.key(id)).collect();
        extend_objects(run, &mut report, stream::iter(keys).boxed(), true).await?;
    }
    let packs = indexed_packs(run, &mut report).await?;
    let keys = stream::iter(packs).map(|id| pack_key(&id));
    extend_objects(run, &mut report, keys.boxed(), false).await?;
    run.counters.set_listing_done();
    Ok(report)
}

/// The packs that all index files together name.
async fn indexed_packs(
    run: &ExtensionRun,
    report: &mut ExtensionReport,
) -> Result<HashSet<PackId>> {
    let files = list_index_files(&run.repository).await?;
    let mut read = stream::iter(files)
        .map(|(id, bytes)| async move {
            (id, read_index_file(&run.repository, &run.pool, id, bytes).await)
        })
        .buffer_unordered(concurrency(&run.repository));
    let mut packs = HashSet::new();
    while let Some((id, indexed)) = read.next().await {
        match indexed {
            Ok(indexed) => packs.extend(indexed.iter().map(|pack| pack.id)),
            Err(error) if is_of_stored_bytes(&error) => {
                let doing = format!("retain the packs that index {id} names");
                report.fail(run, &error.while_doing(doing));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(packs)
}

/// `may_go`: whether somebody may remove them meanwhile.
async fn extend_objects(
    run: &ExtensionRun,
    report: &mut ExtensionReport,
    keys: BoxStream<'_, Result<ObjectKey>>,
    may_go: bool,
) -> Result<()> {
    let destination = run.repository.destination();
    let mut extending = keys
        .map(|key| async move {
            let key = key?;
            Ok::<_, Error>(destination.extend_retention(&key, run.dry_run).await)
        })
        .buffer_unordered(destination.capabilities().concurrency.max(1));
    while let Some(extended) = extending.next().await {
        report.note(run, extended?, may_go)?;
    }
    Ok(())
}

impl ExtensionReport {
    fn note(
        &mut self,
        run: &ExtensionRun,
        extended: Result<Extension>,
        may_go: bool,
    ) -> Result<()> {
        match extended {
            Ok(Extension::Extended) => self.extended += 1,
            Ok(Extension::LongEnough) => self.long_enough += 1,
            Ok(Extension::TooNew) => self.too_new += 1,
            Err(error) if error.is(ErrorKind::NotFound) && may_go => return Ok(()),
            Err(error) if is_of_one_object(&error) => {
                self.fail(run, &error);
            }
            Err(error) => return Err(error),
        }
        self.objects += 1;
        run.counters.add_listed(1);
        run.counters.add_finished(1);
        Ok(())
    }

    fn fail(&mut self, run: &ExtensionRun, error: &Error) {
        self.failed += 1;
        // The same is often true of all: the count tells of the others.
        if self.failures.len() < MOST_FAILURES {
            run.events.note(Level::Error, error.report());
            self.failures.push(error.to_string());
        }
    }
}

/// Whether other objects may fare better.
fn is_of_one_object(error: &Error) -> bool {
    use ErrorKind::{Cancelled, Internal, InvalidConfig, Unauthenticated};
    let is_of_all = matches!(error.kind(), Cancelled | Internal | InvalidConfig | Unauthenticated);
    !is_of_all && error.retry() == Retry::Never
}
