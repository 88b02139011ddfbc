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
/// So many failures in a row that may pass, or be those of all: then it is the destination that fails.
/// Each of them was tried for long.
const MOST_IN_A_ROW: usize = 8;

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
/// An object that cannot be retained is a failure in the report, also for a reason that may pass: the
/// others are retained all the same. Cancel safe: it may be done again.
///
/// # Errors
/// `Unsupported` if nothing is retained there; those of the destination that are not of one object, such
/// as that it cannot be listed, or fails with one object after the other; `Cancelled`.
pub(crate) async fn extend(run: &ExtensionRun) -> Result<ExtensionReport> {
    run.cancel.unless_cancelled(Box::pin(extend_all(run))).await
}

async fn extend_all(run: &ExtensionRun) -> Result<ExtensionReport> {
    let report = ExtensionReport { dry_run: run.dry_run, ..ExtensionReport::default() };
    let mut tally = Tally { run, report, n_in_a_row: 0 };
    let config = config_key()?;
    let first = run.repository.destination().extend_retention(&config, run.dry_run).await;
    match first {
        // It says the same of all others.
        Err(error) if error.is(ErrorKind::Unsupported) => return Err(error),
        first => tally.note(first, false)?,
    }
    for kind in [FileKind::Key, FileKind::Snapshot, FileKind::Index] {
        let ids = run.repository.list(kind).await?;
        let keys: Vec<_> = ids.iter().map(|id| kind.key(id)).collect();
        tally.extend_objects(stream::iter(keys).boxed(), true).await?;
    }
    let packs = tally.indexed_packs().await?;
    let keys = stream::iter(packs).map(|id| pack_key(&id));
    tally.extend_objects(keys.boxed(), false).await?;
    run.counters.set_listing_done();
    Ok(tally.report)
}

/// What has become of objects so far.
struct Tally<'a> {
    run: &'a ExtensionRun,
    report: ExtensionReport,
    /// How many have failed since one was fine, for reasons that may be those of all.
    n_in_a_row: usize,
}

impl Tally<'_> {
    /// The packs that all index files together name.
    async fn indexed_packs(&mut self) -> Result<HashSet<PackId>> {
        let run = self.run;
        let files = list_index_files(&run.repository).await?;
        let mut read = stream::iter(files)
            .map(|(id, bytes)| async move {
                (id, read_index_file(&run.repository, &run.pool, id, bytes).await)
            })
            .buffer_unordered(concurrency(&run.repository));
        let mut packs = HashSet::new();
        while let Some((id, indexed)) = read.next().await {
            match indexed {
                Ok(indexed) => {
                    self.n_in_a_row = 0;
                    packs.extend(indexed.iter().map(|pack| pack.id));
                }
                Err(error) => {
                    let is_of_file = is_of_stored_bytes(&error);
                    let doing = format!("retain the packs that index {id} names");
                    self.fail(error.while_doing(doing), is_of_file)?;
                }
            }
        }
        Ok(packs)
    }

    /// `may_go`: whether somebody may remove them meanwhile.
    async fn extend_objects(
        &mut self,
        keys: BoxStream<'_, Result<ObjectKey>>,
        may_go: bool,
    ) -> Result<()> {
        let run = self.run;
        let destination = run.repository.destination();
        let mut extending = keys
            .map(|key| async move {
                let key = key?;
                Ok::<_, Error>(destination.extend_retention(&key, run.dry_run).await)
            })
            .buffer_unordered(destination.capabilities().concurrency.max(1));
        while let Some(extended) = extending.next().await {
            self.note(extended?, may_go)?;
        }
        Ok(())
    }

    fn note(&mut self, extended: Result<Extension>, may_go: bool) -> Result<()> {
        let count = match extended {
            Ok(Extension::Extended) => &mut self.report.extended,
            Ok(Extension::LongEnough) => &mut self.report.long_enough,
            Ok(Extension::TooNew) => &mut self.report.too_new,
            Err(error) if error.is(ErrorKind::NotFound) && may_go => return Ok(()),
            Err(error) => {
                let is_of_object = is_of_one_object(&error);
                self.fail(error, is_of_object)?;
                self.looked_at();
                return Ok(());
            }
        };
        *count += 1;
        self.n_in_a_row = 0;
        self.looked_at();
        Ok(())
    }

    fn looked_at(&mut self) {
        self.report.objects += 1;
        self.run.counters.add_listed(1);
        self.run.counters.add_finished(1);
    }

    /// Takes note of a failure, unless that is one of all that is left.
    fn fail(&mut self, error: Error, is_of_object: bool) -> Result<()> {
        self.n_in_a_row = if is_of_object { 0 } else { self.n_in_a_row + 1 };
        if is_final(&error) || self.n_in_a_row >= MOST_IN_A_ROW {
            return Err(error);
        }
        self.report.failed += 1;
        // The same is often true of all: the count tells of the others.
        if self.report.failures.len() < MOST_FAILURES {
            self.run.events.note(Level::Error, error.report());
            self.report.failures.push(error.to_string());
        }
        Ok(())
    }
}

/// Whether an error ends all of it.
fn is_final(error: &Error) -> bool {
    use ErrorKind::{Cancelled, Internal, Unauthenticated};
    matches!(error.kind(), Cancelled | Internal | Unauthenticated)
}

/// Whether others will fare better: an error that lasts may be that of the destination.
fn is_of_one_object(error: &Error) -> bool {
    !error.is(ErrorKind::InvalidConfig) && error.retry() == Retry::Never
}
