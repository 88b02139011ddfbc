//! Buckets that are restored into.

mod contract;
mod faults;
mod keys;
mod objects;
mod protection;
mod real_versions;
mod versions;
mod whole_history;

use std::sync::Arc;

use backupkit_core::adapters::s3::{S3Settings, S3Target};
use backupkit_core::model::{EntryKind, EntryPath, FileMode, FileTime, Metadata};
use backupkit_core::snapshot::SnapshotReader;
use backupkit_core::store::{AdapterStore, InMemoryAdapterStore};
use backupkit_core::target::{
    BodyPiece, BodyReader, ConflictPolicy, RestoreContext, RestoreOptions, RestoreSession,
    RestoreTarget as _, Step, StepAction, Verdict, VerifyLevel, WriteProgress, Written,
};
use backupkit_core::testing::fakes::{S3Server, S3ServerOptions};
use backupkit_core::testing::{ManualClock, MemorySnapshot};
use backupkit_core::{CancelToken, Error, Result};
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::value::RawValue;

use crate::scene::{BUCKET, credentials, env, settings};

/// A server with an empty bucket, and what restores into it keep.
pub(crate) struct Place {
    pub(crate) server: Arc<S3Server>,
    clock: ManualClock,
    store: Arc<dyn AdapterStore>,
    policy: ConflictPolicy,
}

/// What came of a restore.
#[derive(Debug)]
pub(crate) struct Restored {
    pub(crate) steps: Vec<Step>,
    /// What came of each step that was written, by its key.
    pub(crate) written: Vec<(String, Result<Written>)>,
    pub(crate) notes: Vec<String>,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self::with(S3ServerOptions::default())
    }

    pub(crate) fn with(options: S3ServerOptions) -> Self {
        Self {
            server: Arc::new(S3Server::start_with(BUCKET, options)),
            clock: ManualClock::default().with_auto_advance(),
            store: Arc::new(InMemoryAdapterStore::default()),
            policy: ConflictPolicy::Overwrite,
        }
    }

    pub(crate) fn with_policy(mut self, policy: ConflictPolicy) -> Self {
        self.policy = policy;
        self
    }

    pub(crate) fn target(&self, change: impl FnOnce(S3Settings) -> S3Settings) -> S3Target {
        let settings = change(settings(&self.server));
        S3Target::new(settings, &credentials(), env(&self.clock)).unwrap()
    }

    pub(crate) async fn open(
        &self,
        target: &S3Target,
        snapshot: &Arc<dyn SnapshotReader>,
    ) -> Result<Arc<dyn RestoreSession>> {
        let options = RestoreOptions { conflict: self.policy, ..RestoreOptions::default() };
        let (store, cancel) = (Arc::clone(&self.store), CancelToken::new());
        target.open(RestoreContext { snapshot: Arc::clone(snapshot), options, store, cancel }).await
    }

    /// Restores into the whole bucket.
    pub(crate) async fn restore(&self, snapshot: MemorySnapshot) -> Restored {
        self.restore_into(&self.target(|settings| settings), snapshot).await
    }

    pub(crate) async fn restore_into(
        &self,
        target: &S3Target,
        snapshot: MemorySnapshot,
    ) -> Restored {
        let snapshot = snapshot.into_reader();
        let session = self.open(target, &snapshot).await.unwrap();
        let steps: Vec<Step> = session.plan().try_collect().await.unwrap();
        let mut written = Vec::new();
        for step in &steps {
            if !matches!(step.action, StepAction::Skip | StepAction::Refuse(_)) {
                let done = session.write(step, body(&*snapshot, step).await, None).await;
                if done.is_ok() {
                    let verdict = session.verify(step, VerifyLevel::Bytes).await.unwrap();
                    assert_eq!(verdict, Verdict::Same(VerifyLevel::Bytes), "{}", key(step));
                }
                written.push((key(step), done));
            }
        }
        let notes = session.finish().await.unwrap();
        let notes = [notes.warnings, notes.remarks].concat();
        assert_eq!(self.server.open_uploads(BUCKET), 0, "an upload was left");
        let keys = self.server.keys(BUCKET);
        assert!(!keys.iter().any(|key| key.contains("probe-")), "{keys:?}");
        Restored { steps, written, notes }
    }

    pub(crate) fn bytes(&self, key: &str) -> Option<Bytes> {
        self.server.object(BUCKET, key).map(|object| object.bytes)
    }
}

impl Restored {
    /// All that was written was written as it should be.
    #[track_caller]
    pub(crate) fn assert_fine(&self) {
        for (key, written) in &self.written {
            let warnings = written.as_ref().map(|written| &written.warnings);
            assert!(warnings.is_ok_and(Vec::is_empty), "{key}: {warnings:?}");
        }
    }

    pub(crate) fn error(&self, key: &str) -> &Error {
        self.of(key).as_ref().unwrap_err()
    }

    pub(crate) fn warnings(&self, key: &str) -> String {
        let warnings = &self.of(key).as_ref().unwrap().warnings;
        warnings.iter().map(Error::report).collect::<Vec<_>>().join("; ")
    }

    fn of(&self, key: &str) -> &Result<Written> {
        &self.written.iter().find(|(found, _)| found == key).unwrap().1
    }

    pub(crate) fn action(&self, path: &EntryPath) -> &StepAction {
        &self.steps.iter().find(|step| step.entry.path == *path).unwrap().action
    }
}

pub(crate) fn key(step: &Step) -> String {
    let path = match &step.action {
        StepAction::Rename(path) => path,
        _ => &step.destination,
    };
    let names: Vec<_> = path.names().map(String::from_utf8_lossy).collect();
    names.join("/")
}

pub(crate) async fn pieces(snapshot: &dyn SnapshotReader, step: &Step) -> Vec<BodyPiece> {
    let (mut pieces, mut offset) = (Vec::new(), 0);
    while offset < step.bytes {
        let end = step.bytes.min(offset + 100_000);
        let bytes = snapshot.read(&step.entry, offset..end).await.unwrap();
        pieces.push(BodyPiece { offset, bytes });
        offset = end;
    }
    pieces
}

pub(crate) async fn body(snapshot: &dyn SnapshotReader, step: &Step) -> BodyReader {
    BodyReader::new(stream::iter(pieces(snapshot, step).await).map(Ok).boxed())
}

/// All behind so many bytes.
pub(crate) async fn rest_of_body(
    snapshot: &dyn SnapshotReader,
    step: &Step,
    bytes: u64,
) -> BodyReader {
    let mut rest = pieces(snapshot, step).await;
    for piece in &mut rest {
        let skip = bytes.saturating_sub(piece.offset).min(piece.bytes.len() as u64);
        piece.offset += skip;
        piece.bytes = piece.bytes.slice(usize::try_from(skip).unwrap()..);
    }
    rest.retain(|piece| !piece.bytes.is_empty());
    BodyReader::new(stream::iter(rest).map(Ok).boxed())
}

/// The first `count` pieces, and then a break.
pub(crate) async fn broken_body(
    snapshot: &dyn SnapshotReader,
    step: &Step,
    count: usize,
    progress: Option<&WriteProgress>,
) -> BodyReader {
    let mut pieces = pieces(snapshot, step).await;
    pieces.truncate(count);
    let broken = stream::once(async { Err(Error::cancelled()) });
    let body = BodyReader::new(stream::iter(pieces).map(Ok).chain(broken).boxed());
    match progress {
        Some(progress) => body.with_progress(progress),
        None => body,
    }
}

/// A snapshot of a bucket called `b`.
pub(crate) fn bucket_snapshot() -> MemorySnapshot {
    MemorySnapshot::new().with_paths(["s3://host/b"])
}

/// An object in it, with this record.
pub(crate) fn with_object(
    snapshot: MemorySnapshot,
    path: &str,
    bytes: impl Into<Bytes>,
    record: &str,
) -> MemorySnapshot {
    let metadata = metadata(FileMode::FILE, record);
    snapshot.with_node(&at(path), EntryKind::File, metadata, bytes)
}

/// A directory in it, with this record.
pub(crate) fn with_directory(snapshot: MemorySnapshot, path: &str, record: &str) -> MemorySnapshot {
    let metadata = metadata(FileMode::DIRECTORY, record);
    snapshot.with_node(&at(path), EntryKind::Directory, metadata, "")
}

/// A path below the directory of the bucket.
pub(crate) fn at(path: &str) -> EntryPath {
    EntryPath::from_names(["b"].into_iter().chain(path.split('/')))
}

pub(crate) fn metadata(mode: FileMode, record: &str) -> Metadata {
    let mut metadata = Metadata::new(mode, FileTime::from_unix(1_000_000_000, 0));
    let record = RawValue::from_string(record.to_owned()).unwrap();
    metadata.attributes.insert("backupkit.s3".to_owned(), record);
    metadata
}
