//! Uploads that nobody goes on with.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::adapters::s3::bucket::Bucket;
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::destination::{Leftovers, ObjectKey};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// After a failure, nothing is dropped for so long.
const AGAIN: Duration = Duration::from_mins(1);

/// An upload whose caller has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    key: String,
    /// Nothing if the reply that named it was lost.
    id: Option<String>,
}

impl Orphan {
    pub(super) fn known(key: &ObjectKey, id: &str) -> Self {
        Self { key: key.to_string(), id: Some(id.to_owned()) }
    }

    pub(super) fn unknown(key: &ObjectKey) -> Self {
        Self { key: key.to_string(), id: None }
    }
}

/// Uploads of this process whose callers have gone. A call that is dropped cannot wait for a reply, so
/// the next one drops them; what a crash leaves, [`remove_abandoned`] finds.
#[derive(Debug, Clone, Default)]
pub(super) struct Orphans(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// One call at a time drops them; others do not wait for it.
    dropping: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    orphans: VecDeque<Orphan>,
    /// What is being sent.
    under_way: Vec<Orphan>,
    /// When to try again, since boot.
    not_before: Duration,
    /// The key may not drop uploads, and need not be asked to again.
    is_refused: bool,
}

impl Orphans {
    /// Adds an upload when this is dropped, unless it is over by then.
    pub(super) fn guard(&self, orphan: Orphan) -> Unfinished {
        self.state().under_way.push(orphan.clone());
        Unfinished { orphans: self.clone(), orphan, is_over: false }
    }

    /// Drops them, with one attempt for each and none for a while after a failure. They stay known until
    /// they are gone.
    pub(super) async fn drop_all(&self, bucket: &Bucket, env: &Env) {
        let Ok(_alone) = self.0.dropping.try_lock() else { return };
        let is_early = env.clock().elapsed_since_boot() < self.state().not_before;
        while let Some(orphan) = self.first().filter(|_| !is_early) {
            match self.drop_one(bucket, &orphan).await {
                Ok(()) => self.state().orphans.retain(|other| *other != orphan),
                Err(error) if is_final(&error) => {
                    let mut state = self.state();
                    state.is_refused = true;
                    state.orphans.clear();
                }
                Err(_) => {
                    let again = env.clock().elapsed_since_boot().saturating_add(AGAIN);
                    self.state().not_before = again;
                    return;
                }
            }
        }
    }

    async fn drop_one(&self, bucket: &Bucket, orphan: &Orphan) -> Result<()> {
        if let Some(id) = &orphan.id {
            return bucket.abort_upload(&orphan.key, id).await;
        }
        for upload in bucket.open_uploads(&orphan.key).await? {
            let found = Orphan { key: upload.key, id: Some(upload.id) };
            let is_lost = found.key == orphan.key && !self.state().under_way.contains(&found);
            if let Some(id) = found.id.filter(|_| is_lost) {
                bucket.abort_upload(&found.key, &id).await?;
            }
        }
        Ok(())
    }

    fn first(&self) -> Option<Orphan> {
        self.state().orphans.front().cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An upload that is under way.
#[derive(Debug)]
pub(super) struct Unfinished {
    orphans: Orphans,
    orphan: Orphan,
    is_over: bool,
}

impl Unfinished {
    /// The upload is complete, or gone.
    pub(super) fn over(mut self) {
        self.is_over = true;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = self.orphans.state();
        if let Some(place) = state.under_way.iter().position(|other| *other == self.orphan) {
            state.under_way.swap_remove(place);
        }
        if !self.is_over && !state.is_refused {
            state.orphans.push_back(self.orphan.clone());
        }
    }
}

/// Whether nothing gets better by asking again.
fn is_final(error: &Error) -> bool {
    error.code() == NOT_IMPLEMENTED || error.is(ErrorKind::PermissionDenied)
}

/// Drops uploads below a prefix that began so long ago.
pub(super) async fn remove_abandoned(
    bucket: &Bucket,
    env: &Env,
    prefix: &ObjectKey,
    unchanged_for: Duration,
    dry_run: bool,
) -> Result<Leftovers> {
    let found = match bucket.open_uploads(prefix.as_str()).await {
        // Some servers keep no list, and some keys may not see it: then others have to clear up.
        Err(error) if is_final(&error) => return Ok(Leftovers::default()),
        found => found?,
    };
    let now = env.now();
    let mut leftovers = Leftovers::default();
    for upload in found {
        let is_ours = ObjectKey::new(&*upload.key).is_ok_and(|key| key.is_below(prefix));
        let is_old = upload.started.is_some_and(|started| {
            let age = Duration::try_from(now.duration_since(started)).unwrap_or_default();
            age >= unchanged_for
        });
        if !is_ours || !is_old {
            continue;
        }
        leftovers.add(bucket.uploaded_bytes(&upload.key, &upload.id).await?);
        if !dry_run {
            bucket.abort_upload(&upload.key, &upload.id).await?;
        }
    }
    Ok(leftovers)
}
