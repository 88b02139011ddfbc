//! What the server keeps, tried before anything relies on it.
//!
//! Each feature is tried by itself, so that a refusal of one is never taken for that of another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use tokio::sync::OnceCell;

use super::Place;
use super::names::Oddity;
use crate::adapters::s3::bucket::{Condition, ObjectRef};
use crate::adapters::s3::errors::NOT_IMPLEMENTED;
use crate::adapters::s3::object::{ObjectLock, ObjectRecord};
use crate::adapters::s3::payload::Parts;
use crate::error::{Error, ErrorKind, Result, Retry};

/// The entity tag of no object.
const OTHER_TAG: &str = "\"00000000000000000000000000000000\"";
const CONTENT: &[u8] = b"BackupKit tries here what this server keeps.\n";

/// Which conditions of writes a server keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Kept {
    /// That there is no such object.
    pub(super) absent: bool,
    /// That the object has a certain tag.
    pub(super) tag: bool,
}

/// What was tried so far.
#[derive(Debug, Default)]
pub(super) struct Trials {
    writes: OnceCell<Kept>,
    uploads: OnceCell<Kept>,
    tags: OnceCell<bool>,
    /// Whether the bucket has refused a lock, and taken the same object without.
    refuses_locks: AtomicBool,
    /// Whether this key must not know what locks an object.
    hides_locks: AtomicBool,
    access_lists: OnceCell<bool>,
    owner: OnceCell<Option<String>>,
    odd: [OnceCell<bool>; Oddity::ALL.len()],
}

impl Place {
    /// Which conditions the server keeps of objects that are written in one request.
    pub(super) async fn keeps_of_writes(&self) -> Result<Kept> {
        if !self.settings.conditional_writes {
            return Ok(Kept::default());
        }
        let tried = self.trials.writes.get_or_try_init(|| async {
            let key = self.tried_key()?;
            let tried = self.try_writes(&key).await;
            self.remove_tried(&key).await;
            tried
        });
        tried.await.copied().map_err(while_trying)
    }

    /// Which conditions the server keeps of objects that are written in parts.
    pub(super) async fn keeps_of_uploads(&self) -> Result<Kept> {
        if !self.settings.conditional_writes {
            return Ok(Kept::default());
        }
        let tried = self.trials.uploads.get_or_try_init(|| async {
            let key = self.tried_key()?;
            let tried = self.try_uploads(&key).await;
            self.remove_tried(&key).await;
            tried
        });
        tried.await.copied().map_err(while_trying)
    }

    /// Whether the server keeps tags: those that were just written with an object are read, once.
    pub(super) async fn keeps_tags(
        &self,
        key: &str,
        written: &BTreeMap<String, String>,
    ) -> Result<bool> {
        let tried = self.trials.tags.get_or_try_init(|| async {
            match self.bucket.tags(ObjectRef::newest(key)).await {
                Ok(found) => Ok(found.tags == *written),
                // Who may not read them may well write them.
                Err(error) if error.is(ErrorKind::PermissionDenied) => Ok(true),
                Err(error) if error.retry() == Retry::Never => Ok(false),
                Err(error) => Err(error),
            }
        });
        tried.await.copied()
    }

    /// Whether the server is known to keep no tags.
    pub(super) fn is_without_tags(&self) -> bool {
        self.trials.tags.get() == Some(&false)
    }

    /// Says that the server has refused tags, and took the same object without them.
    pub(super) fn set_without_tags(&self) {
        // Whoever came first knew the same.
        let _ = self.trials.tags.set(false);
    }

    /// Whether an object has the lock that it was written with; nothing if this key must not know. Each is
    /// looked at: what a server does with one says nothing of the next, and nobody sees a lock that is
    /// missing.
    pub(super) async fn has_lock(&self, key: &str, written: &ObjectLock) -> Result<Option<bool>> {
        if self.trials.hides_locks.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let Some(found) = self.bucket.look(key).await? else { return Ok(Some(false)) };
        if found.lock.is_some_and(|lock| lock.covers(written)) {
            return Ok(Some(true));
        }
        // Servers put locks on such a reply only for those who may ask for them, and some never do.
        match self.ask_for_lock(key, written).await {
            Ok(lock) => Ok(Some(lock.is_some_and(|lock| lock.covers(written)))),
            Err(error) if error.is(ErrorKind::PermissionDenied) => {
                self.trials.hides_locks.store(true, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) if error.retry() == Retry::Never => Ok(Some(false)),
            Err(error) => Err(error),
        }
    }

    /// What locks an object, of what `written` has.
    async fn ask_for_lock(&self, key: &str, written: &ObjectLock) -> Result<Option<ObjectLock>> {
        let object = ObjectRef::newest(key);
        let retention = match written.mode {
            Some(_) => self.bucket.retention(object).await?,
            None => None,
        };
        let mode = retention.as_ref().and_then(|lock| lock.mode.as_deref());
        let until = retention.as_ref().and_then(ObjectLock::until);
        let held = |is_held| ObjectLock::new(mode, until.as_ref(), is_held);
        if !written.is_held || !held(true).is_some_and(|lock| lock.covers(written)) {
            return Ok(held(false));
        }
        Ok(held(self.bucket.is_held(object).await?))
    }

    /// Whether the bucket is known to keep no locks.
    pub(super) fn is_without_locks(&self) -> bool {
        self.trials.refuses_locks.load(Ordering::Relaxed)
    }

    /// Says that the bucket has refused a lock, and took the same object without it.
    pub(super) fn set_without_locks(&self) {
        self.trials.refuses_locks.store(true, Ordering::Relaxed);
    }

    /// Whether the server keeps access lists: that of an object that was just written is read, once.
    pub(super) async fn keeps_access_lists(&self, key: &str) -> Result<bool> {
        let tried = self.trials.access_lists.get_or_try_init(|| async {
            match self.bucket.access_list(ObjectRef::newest(key)).await {
                Ok((list, _)) => Ok(!list.is_usual()),
                // Who may not read them may well write them.
                Err(error) if error.is(ErrorKind::PermissionDenied) => Ok(true),
                Err(error) if error.retry() == Retry::Never => Ok(false),
                Err(error) => Err(error),
            }
        });
        tried.await.copied()
    }

    /// Whether the bucket is known to keep no access lists.
    pub(super) fn is_without_access_lists(&self) -> bool {
        self.trials.access_lists.get() == Some(&false)
    }

    /// Says that the bucket has refused an access list, and took the same object without it.
    pub(super) fn set_without_access_lists(&self) {
        let _ = self.trials.access_lists.set(false);
    }

    /// Who owns the bucket; nothing if the server does not say, or not to us.
    pub(super) async fn owner(&self) -> Result<Option<&str>> {
        let asked = self.trials.owner.get_or_try_init(|| async {
            match self.bucket.owner().await {
                Err(error) if error.retry() == Retry::Never => Ok(None),
                owner => owner,
            }
        });
        Ok(asked.await?.as_deref())
    }

    /// Makes sure that the server keeps a key as it is.
    ///
    /// # Errors
    /// `Unsupported` if it would change or refuse it.
    pub(super) async fn require_kept(&self, key: &str) -> Result<()> {
        for (oddity, tried) in Oddity::ALL.into_iter().zip(&self.trials.odd) {
            if !oddity.is_in(key) {
                continue;
            }
            let is_kept = tried.get_or_try_init(|| self.try_key(oddity)).await;
            if !*is_kept.map_err(while_trying)? {
                let message = format!(
                    "cannot write {}: the key {}, and this server does not keep such keys as they are",
                    key.escape_debug(),
                    oddity.name()
                );
                return Err(Error::new(ErrorKind::Unsupported, message).with_code("s3-odd-key"));
            }
        }
        Ok(())
    }

    /// A key that nobody else uses.
    pub(super) fn tried_key(&self) -> Result<String> {
        let random = hex::encode(self.env.random::<8>()?);
        Ok(self.whole(&format!("backupkit/probe-{random}")))
    }

    async fn try_writes(&self, key: &str) -> Result<Kept> {
        let parts = parts().await?;
        // The first one finds nothing there, the second one must find something.
        let absent = self.is_refused(key, &parts, &Condition::Absent).await?
            || self.is_refused(key, &parts, &Condition::Absent).await?;
        // One that has refused the condition itself has written nothing.
        self.bucket.put(key, &parts, &Condition::None).await?;
        let other = Condition::Tag(OTHER_TAG.to_owned());
        Ok(Kept { absent, tag: self.is_refused(key, &parts, &other).await? })
    }

    /// Whether a write is refused because of its condition.
    async fn is_refused(&self, key: &str, parts: &Parts, condition: &Condition) -> Result<bool> {
        of_condition(self.bucket.put(key, parts, condition).await)
    }

    async fn try_uploads(&self, key: &str) -> Result<Kept> {
        let parts = parts().await?;
        self.bucket.put(key, &parts, &Condition::None).await?;
        let mut kept = Kept::default();
        let other = Condition::Tag(OTHER_TAG.to_owned());
        for (condition, is_kept) in [(Condition::Absent, &mut kept.absent), (other, &mut kept.tag)]
        {
            let id = self.bucket.begin_upload(key).await?.id;
            let tried = async {
                let part = self.bucket.put_part(key, &id, 1, &parts).await?;
                of_condition(self.bucket.complete_upload(key, &id, &[part], &condition).await)
            };
            let tried = tried.await;
            // It is gone if the condition was not kept.
            let gone = self.hasty.abort_upload(key, &id).await;
            *is_kept = tried?;
            gone?;
        }
        Ok(kept)
    }

    /// Writes an odd key, and looks whether it is listed as it is.
    async fn try_key(&self, oddity: Oddity) -> Result<bool> {
        let tried = self.tried_key()?;
        let random = tried.rsplit('-').next().unwrap_or_default();
        let (key, top) = match oddity {
            Oddity::LeadingSlash => {
                (format!("/backupkit-probe-{random}"), format!("backupkit-probe-{random}"))
            }
            Oddity::EmptyPart => (format!("{tried}//x"), tried.clone()),
            // Wherever a server lets it lead, it is a key that nobody else uses.
            Oddity::Dots => (format!("{tried}/./x/../y"), tried.clone()),
        };
        let parts = parts().await?;
        let written = self.bucket.put(&key, &parts, &Condition::None).await;
        let is_kept = match written {
            Err(error) if error.retry() == Retry::Never && !is_of_access(&error) => Ok(false),
            Err(error) => Err(error),
            Ok(()) => match self.bucket.list_page(&key, None, Some(1)).await {
                Ok(page) => Ok(page.keys.iter().any(|listed| listed.key == key)),
                // A page of other keys than were asked for.
                Err(error) if error.code() == "s3-listing-incomplete" => Ok(false),
                Err(error) => Err(error),
            },
        };
        self.remove_tried(&key).await;
        if let (Ok(false), Ok(page)) = (&is_kept, self.bucket.list_page(&top, None, None).await) {
            for listed in page.keys {
                self.remove_tried(&listed.key).await;
            }
        }
        is_kept
    }

    /// Removes what was tried. Whoever may not delete leaves it: it is small, and its name tells what it
    /// is.
    async fn remove_tried(&self, key: &str) {
        drop(self.bucket.delete(key).await);
    }
}

async fn parts() -> Result<Parts> {
    Parts::new([Bytes::from_static(CONTENT)].into()).await
}

/// Whether a write was refused because of its condition. A server that knows no conditions refuses it for
/// another reason.
fn of_condition<T>(written: Result<T>) -> Result<bool> {
    match written {
        Ok(_) => Ok(false),
        Err(error) if error.is(ErrorKind::Conflict) => Ok(true),
        // Some say so of a write that replaces what is not there.
        Err(error) if error.is(ErrorKind::NotFound) => Ok(false),
        Err(error) if error.code() == NOT_IMPLEMENTED => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_of_access(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unauthenticated)
}

fn while_trying(error: Error) -> Error {
    error.while_doing("try what this server keeps")
}

/// Tags that go with what is tried.
pub(super) fn tried_record() -> ObjectRecord {
    let text = |text: &str| Some(text.to_owned());
    let pair = || BTreeMap::from([("backupkit".to_owned(), "tried".to_owned())]);
    ObjectRecord {
        content_type: text("text/plain"),
        user_metadata: pair(),
        tags: Some(pair()),
        ..ObjectRecord::new()
    }
}
