//! Checking a repository: that all that snapshots name is there, and is what was written.
//!
//! The structure is always checked: config, keys, index files, presence and size of packs, snapshots, and every
//! tree once, whatever number of snapshots holds it. Bytes of files are read only if asked for.
//! Nothing is written, so a shared lock is enough: a backup may go on meanwhile, a prune may not.

mod findings;
mod keys;
mod pack_data;
mod packs;
mod trees;

use std::sync::Arc;

use serde::Serialize;

use super::fetch::{BlobFetcher, is_of_stored_bytes};
use super::layout::FileKind;
use super::repository::Repository;
use crate::counters::Counters;
use crate::error::Result;
use crate::events::Events;
use crate::model::{BlobId, Finding, SnapshotId};
use crate::pool::Pool;
use crate::token::CancelToken;
use findings::Findings;

/// Trees that were read are not read again, so nothing needs to be kept.
const RECENT_BYTES: usize = 0;

/// What to check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CheckOptions {
    /// Whether to read the packs.
    pub read_data: ReadData,
}

/// Which packs to read, decrypt, decompress and hash.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadData {
    /// None of them.
    #[default]
    No,
    /// Every one.
    All,
    /// One of several parts of about the same size, so that checks on `of` days read everything.
    Part {
        /// Which part, from 1 on.
        number: u8,
        /// How many parts there are.
        of: u8,
    },
}

/// What a check found.
#[derive(Debug, Clone, Default, Serialize)]
#[non_exhaustive]
pub struct CheckReport {
    /// Snapshots that were looked into.
    pub snapshots: u64,
    /// Trees that were read, each once.
    pub trees: u64,
    /// Different blobs in the index.
    pub blobs: u64,
    /// Packs in the index.
    pub packs: u64,
    /// Packs that were read in full.
    pub read_packs: u64,
    /// Bytes read for it.
    pub read_bytes: u64,
    /// The first 1,000 findings.
    pub findings: Vec<Finding>,
    /// How many there were in all. None: everything checked is whole.
    pub finding_count: u64,
    /// What is no damage and yet worth knowing, such as room that a prune would free.
    pub notes: Vec<String>,
}

impl CheckReport {
    /// Whether nothing is damaged, as far as was checked.
    pub fn is_clean(&self) -> bool {
        self.finding_count == 0
    }
}

/// What a check works with.
#[derive(Debug, Clone)]
pub(crate) struct CheckRun {
    pub(crate) repository: Repository,
    pub(crate) pool: Pool,
    pub(crate) events: Events,
    pub(crate) counters: Arc<Counters>,
    pub(crate) cancel: CancelToken,
}

/// Checks a repository. Take a shared lock before.
///
/// Damage is a finding, never an error. Cancel safe.
///
/// # Errors
/// Those of the destination that are not of one object, such as that it cannot be reached;
/// `Cancelled`.
pub(crate) async fn check(run: &CheckRun, options: CheckOptions) -> Result<CheckReport> {
    tokio::select! {
        biased;
        () = run.cancel.cancelled() => Err(crate::Error::cancelled()),
        report = check_all(run, options) => report,
    }
}

async fn check_all(run: &CheckRun, options: CheckOptions) -> Result<CheckReport> {
    let findings = Findings::new(&run.events);
    keys::check(run, &findings).await?;
    // In this order: what a backup beside us adds was complete before it was listed.
    let roots = load_snapshots(run, &findings).await?;
    let packs::IndexedPacks { index, packs } = packs::load(run, &findings).await?;
    let packs = packs::compare_with_files(run, &findings, packs, options.read_data).await?;
    let mut report = CheckReport {
        snapshots: roots.len() as u64,
        blobs: index.len() as u64,
        packs: packs.len() as u64,
        ..CheckReport::default()
    };
    let index = Arc::new(index);
    let (repository, pool) = (run.repository.clone(), run.pool.clone());
    let fetcher = BlobFetcher::new(repository, index, pool, RECENT_BYTES);
    report.trees = trees::check(run, &fetcher, roots, &findings).await?;
    drop(fetcher);
    run.counters.set_listing_done();
    let read = pack_data::check(run, packs, &findings).await?;
    report.read_packs = read.packs;
    report.read_bytes = read.bytes;
    findings.finish(&mut report);
    Ok(report)
}

/// Returns the root of each snapshot that can be read.
async fn load_snapshots(run: &CheckRun, findings: &Findings) -> Result<Vec<(SnapshotId, BlobId)>> {
    use futures::StreamExt as _;
    let ids = run.repository.list(FileKind::Snapshot).await?;
    let concurrency = run.repository.destination().capabilities().concurrency.max(1);
    let mut loaded = futures::stream::iter(ids.into_iter().map(SnapshotId::from_bytes))
        .map(|id| async move { (id, run.repository.snapshot(id).await) })
        .buffer_unordered(concurrency);
    let mut roots = Vec::new();
    while let Some((id, snapshot)) = loaded.next().await {
        match snapshot {
            Ok(snapshot) => roots.push((id, snapshot.tree)),
            // A forget beside us may remove a snapshot.
            Err(error) if error.is(crate::ErrorKind::NotFound) => {}
            Err(error) if is_of_stored_bytes(&error) => {
                findings.add(format!("snapshot {id}"), &error, None);
            }
            Err(error) => return Err(error),
        }
    }
    roots.sort_unstable();
    Ok(roots)
}

impl ReadData {
    /// Whether a pack is to be read.
    fn includes(self, pack: &crate::model::PackId) -> bool {
        match self {
            Self::No => false,
            Self::All => true,
            Self::Part { number, of } => {
                let parts = of.max(1);
                // Ids are evenly spread.
                pack.as_bytes()[0] % parts == number.saturating_sub(1) % parts
            }
        }
    }
}
