//! Keys in the order of their bytes, whatever the order is in which a server lists them.
//!
//! All of them have to be there before the first one is known. Those that are more than fit into memory
//! wait as sorted runs in a file without a name, which the system removes with the process.

mod runs;

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};

use self::runs::{Merge, Runs};
use super::super::bucket::{PagedKey, incomplete};
use super::order::Order;
use crate::error::{Error, ErrorKind, Result};

/// Keys in memory take about so much, at most, before they are written.
const RUN_BYTES: usize = 32 << 20;
/// What a key takes in memory besides its text.
const KEY_BYTES: usize = 128;
/// Keys that are given at a time.
const BATCH: usize = 1_000;

/// Makes the file for runs, once there is one to write. It may block.
type MakeFile = Box<dyn FnOnce() -> Result<Arc<File>> + Send>;

/// Where a listing is sorted.
enum State {
    Listing { pages: BoxStream<'static, Result<Vec<PagedKey>>>, sorter: Sorter },
    Merging(Merge),
    Ended,
}

struct Sorter {
    keys: Vec<PagedKey>,
    bytes: usize,
    run_bytes: usize,
    runs: Option<Runs>,
    make_file: Option<MakeFile>,
    /// What pages were made of.
    pages: HashSet<u64>,
}

/// Whether keys that follow each other are in no order that a server may list in.
pub(super) fn is_unordered(keys: &[PagedKey]) -> bool {
    let mut order = Order::unknown();
    keys.windows(2).any(|pair| order.take(&pair[0].key, &pair[1].key).is_err())
}

/// All keys of these pages, each once, in the order of their bytes.
///
/// A page that comes twice is an error: then others may be missing. Of an object that was replaced
/// meanwhile, and is listed before and after that, the newer one counts.
pub(super) fn sorted(
    pages: BoxStream<'static, Result<Vec<PagedKey>>>,
    make_file: impl FnOnce() -> Result<Arc<File>> + Send + 'static,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    sorted_in_runs_of(RUN_BYTES, pages, make_file)
}

fn sorted_in_runs_of(
    run_bytes: usize,
    pages: BoxStream<'static, Result<Vec<PagedKey>>>,
    make_file: impl FnOnce() -> Result<Arc<File>> + Send + 'static,
) -> BoxStream<'static, Result<Vec<PagedKey>>> {
    let sorter = Sorter {
        keys: Vec::new(),
        bytes: 0,
        run_bytes,
        runs: None,
        make_file: Some(Box::new(make_file)),
        pages: HashSet::new(),
    };
    stream::unfold(State::Listing { pages, sorter }, |state| async move {
        match next(state).await {
            Ok(Some((keys, state))) => Some((Ok(keys), state)),
            Ok(None) => None,
            Err(error) => Some((Err(error), State::Ended)),
        }
    })
    .boxed()
}

async fn next(state: State) -> Result<Option<(Vec<PagedKey>, State)>> {
    let mut merge = match state {
        State::Listing { pages, sorter } => sorter.sort(pages).await?,
        State::Merging(merge) => merge,
        State::Ended => return Ok(None),
    };
    let (merge, batch) = blocking(move || {
        let batch = merge.batch(BATCH)?;
        Ok((merge, batch))
    })
    .await?;
    Ok((!batch.is_empty()).then_some((batch, State::Merging(merge))))
}

impl Sorter {
    async fn sort(mut self, mut pages: BoxStream<'static, Result<Vec<PagedKey>>>) -> Result<Merge> {
        while let Some(page) = pages.next().await {
            let page = page?;
            if page.len() > 1 && !self.pages.insert(hash(&page)) {
                return Err(incomplete("list the bucket", "a page comes twice"));
            }
            let text = |key: &PagedKey| {
                let version = key.version.as_ref().map_or(0, String::len);
                key.key.len() + key.etag.len() + version + KEY_BYTES
            };
            self.bytes += page.iter().map(text).sum::<usize>();
            self.keys.extend(page);
            if self.bytes >= self.run_bytes {
                self = blocking(move || self.write()).await?;
            }
        }
        drop(pages);
        blocking(move || {
            self.keys.sort_unstable_by(runs::by_key);
            let runs = self.runs.unwrap_or_default();
            runs.merge(self.keys)
        })
        .await
    }

    /// Writes what is in memory. Blocks.
    fn write(mut self) -> Result<Self> {
        self.keys.sort_unstable_by(runs::by_key);
        if let Some(make_file) = self.make_file.take() {
            self.runs = Some(Runs::new(make_file()?));
        }
        if let Some(runs) = &mut self.runs {
            runs.write(&self.keys)?;
        }
        self.keys.clear();
        self.bytes = 0;
        Ok(self)
    }
}

/// Does work that blocks.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let panicked = |error: tokio::task::JoinError| {
        let why = "the task that sorts the keys of a bucket panicked";
        Error::new(ErrorKind::Internal, why).with_source(error)
    };
    tokio::task::spawn_blocking(work).await.map_err(panicked)?
}

/// A number of the keys of a page, in whichever order they are.
fn hash(page: &[PagedKey]) -> u64 {
    let of_key = |key: &PagedKey| {
        let mut hasher = DefaultHasher::new();
        key.key.hash(&mut hasher);
        hasher.finish()
    };
    page.iter().map(of_key).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests;
