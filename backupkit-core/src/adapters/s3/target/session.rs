//! One restore under way.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use futures::stream::BoxStream;
use tokio::sync::OnceCell;

use super::chain::Chains;
use super::lookup::Lookup;
use super::notes::Notes;
use super::plan::{place_of, plan_steps};
use super::scope::Scope;
use super::{Place, cleanup, upload, verify, write};
use crate::adapters::decisions::Decisions;
use crate::adapters::s3::keys::Name;
use crate::adapters::s3::object::{DirectoryRecord, ObjectRecord};
use crate::error::Result;
use crate::model::{BlobId, EntryKind};
use crate::snapshot::{SnapshotEntry, SnapshotReader};
use crate::store::AdapterStore;
use crate::target::{
    BodyReader, Phase, RestoreContext, RestoreNotes, RestoreOptions, RestoreSession, Step,
    StepAction, Verdict, VerifyLevel, Written,
};
use crate::token::{CancelToken, WriteToken};

/// What the parts of a restore share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) place: Arc<Place>,
    /// Tells this restore from others in the same store.
    pub(super) name: String,
    pub(super) snapshot: Arc<dyn SnapshotReader>,
    pub(super) options: RestoreOptions,
    pub(super) store: Arc<dyn AdapterStore>,
    pub(super) cancel: CancelToken,
    pub(super) decisions: Decisions,
    pub(super) notes: Notes,
    scope: OnceCell<Scope>,
    pub(super) lookup: Lookup,
    /// Versions of keys that are written.
    pub(super) chains: Chains,
    /// Versions of keys that are compared.
    pub(super) compared: Chains,
    pub(super) stage: tokio::sync::Mutex<Stage>,
}

/// How far the restore has come.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) is_planned: bool,
    is_started: bool,
}

#[derive(Debug)]
pub(super) struct Session(Arc<Core>);

impl Session {
    pub(super) fn new(place: &Arc<Place>, cx: RestoreContext) -> Self {
        let name = name_of_restore(place, &cx);
        Self(Arc::new(Core {
            place: Arc::clone(place),
            decisions: Decisions::new(Arc::clone(&cx.store), &name),
            name,
            snapshot: cx.snapshot,
            options: cx.options,
            store: cx.store,
            cancel: cx.cancel,
            notes: Notes::default(),
            scope: OnceCell::new(),
            lookup: Lookup::default(),
            chains: Chains::default(),
            compared: Chains::default(),
            stage: tokio::sync::Mutex::default(),
        }))
    }
}

impl Core {
    /// Says, before the first write, that decisions bind from now on.
    async fn start(&self) -> Result<()> {
        let mut stage = self.stage.lock().await;
        if !stage.is_started {
            self.decisions.set_started().await?;
            stage.is_started = true;
        }
        Ok(())
    }

    /// What of the snapshot is restored.
    pub(super) async fn scope(&self) -> Result<&Scope> {
        let scope = self.scope.get_or_try_init(|| async {
            let scope = Scope::of(self).await?;
            self.notes.is_of_folders.store(!scope.is_of_bucket, Ordering::Relaxed);
            Ok(scope)
        });
        scope.await
    }

    /// The whole key that a step writes.
    pub(super) fn key_of(&self, step: &Step) -> String {
        self.place.whole(&super::names::key_of(place_of(step)))
    }

    /// What was recorded of an entry; of a file of a folder, that it has nothing unusual.
    pub(super) fn record_of(&self, entry: &SnapshotEntry) -> Result<ObjectRecord> {
        if self.notes.is_of_folders.load(Ordering::Relaxed) {
            return Ok(ObjectRecord::new());
        }
        let record = if entry.kind == EntryKind::Directory {
            DirectoryRecord::of(&entry.metadata)?.and_then(|record| record.marker)
        } else {
            ObjectRecord::of(&entry.metadata)?
        };
        Ok(record.unwrap_or_else(ObjectRecord::new))
    }

    /// How the snapshot would name the last part of a key.
    pub(super) fn name_in_snapshot(&self, part: &str) -> String {
        if self.notes.is_of_folders.load(Ordering::Relaxed) {
            part.to_owned()
        } else {
            Name::of(part).text
        }
    }

    /// Looks whether what stands beside directories of its name is listed.
    async fn note_shadowed(&self) -> Result<()> {
        for key in self.notes.beside() {
            let key = self.place.whole(&key);
            let page = self.place.bucket.list_page(&key, None, Some(1)).await?;
            if page.keys.iter().all(|listed| listed.key != key) {
                self.notes.warn(format!(
                    "this server does not list an object beside others that its key begins, such as \
                     {}: it is there, and whoever lists the bucket does not see it",
                    key.escape_debug()
                ));
                break;
            }
        }
        Ok(())
    }
}

#[async_trait]
impl RestoreSession for Session {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        plan_steps(Arc::clone(&self.0))
    }

    async fn write(
        &self,
        step: &Step,
        body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written> {
        if step.action == StepAction::Skip {
            return Ok(Written::default());
        }
        self.0.start().await?;
        write::write_step(&self.0, step, body, from).await
    }

    async fn can_resume(&self, step: &Step, from: &WriteToken) -> Result<bool> {
        Ok(upload::find(&self.0, step, from).await?.is_some())
    }

    async fn end_phase(&self, _phase: Phase) -> Result<()> {
        Ok(())
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        verify::verify_step(&self.0, step, level).await
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        if let Err(error) = cleanup::drop_uploads(&self.0).await {
            self.0.notes.warn(error.report());
        }
        if let Err(error) = self.0.note_shadowed().await {
            let error = error.while_doing("look whether all that was restored is listed");
            self.0.notes.warn(error.report());
        }
        self.0.decisions.clear().await?;
        Ok(self.0.notes.sentences())
    }

    async fn abort(&self) -> Result<()> {
        cleanup::drop_uploads(&self.0).await?;
        self.0.decisions.clear().await
    }
}

/// Tells restores in one store apart: the same snapshot, options and place are one restore.
fn name_of_restore(place: &Place, cx: &RestoreContext) -> String {
    let snapshot = (cx.snapshot.time(), cx.snapshot.paths());
    let location = place.settings.uri();
    let text = format!("{location}\0{snapshot:?}\0{:?}\0", cx.options.conflict);
    let mut text = text.into_bytes();
    text.extend_from_slice(&cx.options.path.to_token());
    if place.options.versions {
        text.extend_from_slice(b"\0versions");
    }
    BlobId::of(&text).short()
}
