//! One restore under way.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use rustix::fs::{AtFlags, Mode, OFlags, RawDir};

use super::super::super::decisions::Decisions;
use super::super::blocking::blocking;
use super::folders::Folders;
use super::metadata::{Receiver, apply};
use super::place::{is_temporary, temporary_prefix};
use super::plan::{place_of, plan_steps, plan_to_clean_up};
use super::{ENTRIES, FOLDERS, content, verify, write};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, EntryKind, EntryPath, Metadata};
use crate::snapshot::{SnapshotEntry, SnapshotReader};
use crate::target::{
    BodyReader, Durability, Phase, RestoreContext, RestoreNotes, RestoreOptions, RestoreSession,
    Step, StepAction, Verdict, VerifyLevel, WholeStep, Written,
};
use crate::token::{CancelToken, WriteToken};

/// What the parts of a restore share.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) env: Env,
    pub(super) snapshot: Arc<dyn SnapshotReader>,
    pub(super) options: RestoreOptions,
    pub(super) cancel: CancelToken,
    pub(super) decisions: Decisions,
    pub(super) folders: Arc<Folders>,
    /// What temporary names begin with.
    pub(super) temporary_prefix: String,
    pub(super) is_root: bool,
    pub(super) stage: tokio::sync::Mutex<Stage>,
    /// The first restored file of each set of hard links.
    pub(super) links: Mutex<HashMap<LinkKey, FirstLink>>,
    /// Planned folders that get their metadata when the restore finishes.
    closed: Mutex<BTreeMap<EntryPath, Metadata>>,
    pub(super) n_sockets: AtomicU64,
    /// Temporary files of this session that stay for one that goes on: the paths of their entries, and
    /// their names.
    kept: Mutex<BTreeSet<(EntryPath, Vec<u8>)>>,
    /// Whether what earlier sessions left was removed.
    is_swept: tokio::sync::Mutex<bool>,
}

/// How far the restore has come.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) is_planned: bool,
    /// An earlier session had begun to write.
    pub(super) is_resumed: bool,
    is_started: bool,
}

/// Device and inode as the snapshot knows them.
pub(super) type LinkKey = (u64, u64);

/// The file that others are linked to.
#[derive(Debug, Clone)]
pub(super) struct FirstLink {
    /// Its number in the walk.
    pub(super) number: u64,
    pub(super) path: EntryPath,
}

#[derive(Debug)]
pub(super) struct Session(Arc<Core>);

impl Session {
    pub(super) fn new(root: &Arc<Path>, env: Env, cx: RestoreContext) -> Self {
        let restore = name_of_restore(root, &cx);
        Self(Arc::new(Core {
            env,
            decisions: Decisions::new(cx.store, &restore),
            snapshot: cx.snapshot,
            options: cx.options,
            cancel: cx.cancel,
            folders: Arc::new(Folders::new(root)),
            temporary_prefix: temporary_prefix(&restore),
            is_root: rustix::process::geteuid().is_root(),
            stage: tokio::sync::Mutex::default(),
            links: Mutex::default(),
            closed: Mutex::default(),
            n_sockets: AtomicU64::new(0),
            kept: Mutex::default(),
            is_swept: tokio::sync::Mutex::default(),
        }))
    }

    #[cfg(test)]
    pub(super) fn temporary_prefix(&self) -> String {
        self.0.temporary_prefix.clone()
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

    pub(super) fn links(&self) -> MutexGuard<'_, HashMap<LinkKey, FirstLink>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a folder gets its metadata when the restore finishes, as its owner may not enter it after
    /// that: until then it may have to be gone on with, compared or cleaned up.
    pub(super) fn is_closed_last(&self, entry: &SnapshotEntry) -> bool {
        let is_folder = entry.kind == EntryKind::Directory;
        is_folder && !self.is_root && entry.metadata.mode.unix_permissions() & 0o100 == 0
    }

    /// Remembers such a folder once its last step is planned, as each session plans all steps.
    fn note_closed(&self, step: &Step) {
        if step.phase == FOLDERS && self.is_closed_last(&step.entry) {
            self.closed().insert(place_of(step).clone(), step.entry.metadata.clone());
        }
    }

    fn closed(&self) -> MutexGuard<'_, BTreeMap<EntryPath, Metadata>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, BTreeSet<(EntryPath, Vec<u8>)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes temporary files that this session let stay. Blocks.
    fn remove_kept(&self) {
        for (path, name) in std::mem::take(&mut *self.kept()) {
            // A failure leaves a file whose name tells what it is.
            if let Ok(folder) = self.folders.existing(&path.parent().unwrap_or_default()) {
                let _ = rustix::fs::unlinkat(&folder, &name[..], AtFlags::empty());
            }
        }
    }

    /// Gives folders their metadata that their owner cannot enter after that. Inner ones first. Returns
    /// what could not be given. Blocks.
    fn close_folders(&self) -> Vec<Error> {
        // A path comes before those below it.
        let closed = std::mem::take(&mut *self.closed()).into_iter().rev();
        let is_open = |(path, metadata): &(_, _)| !self.is_closed(path, metadata);
        let close = |(path, metadata)| match write::open_folder(self, &path) {
            Ok(folder) => apply(Receiver::Open(folder.as_fd()), &metadata, &path),
            Err(error) => vec![error],
        };
        closed.filter(is_open).flat_map(close).collect()
    }

    /// Whether an earlier session has closed a folder, and was stopped after that. What cannot be
    /// reached was closed before the folder that it is in.
    fn is_closed(&self, path: &EntryPath, metadata: &Metadata) -> bool {
        match write::place(self, path, false).and_then(|place| place.stat()) {
            Ok(Some(found)) => verify::other_metadata(&found, metadata, true).is_none(),
            Ok(None) => false,
            Err(error) => error.is(ErrorKind::PermissionDenied),
        }
    }

    /// Makes all that was written durable. Blocks.
    fn synchronise(&self) -> Result<()> {
        let Some(root) = self.folders.root()? else {
            return Ok(());
        };
        rustix::fs::syncfs(&root)
            .map_err(|error| Error::io("synchronise what was restored", error.into()))
    }

    /// Removes temporary files that an earlier session of this restore left. Blocks.
    fn sweep(&self, folder: &EntryPath) -> Result<()> {
        let folder = match self.folders.existing(folder) {
            Ok(folder) => folder,
            // What may not be entered was swept before it was closed.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::NotFound | ErrorKind::Conflict | ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(listing) = rustix::fs::openat(&folder, ".", flags, Mode::empty()) else {
            return Ok(());
        };
        let mut buffer = Vec::with_capacity(32 << 10);
        let mut entries = RawDir::new(listing.as_fd(), buffer.spare_capacity_mut());
        while let Some(Ok(entry)) = entries.next() {
            if is_temporary(entry.file_name().to_bytes(), &self.temporary_prefix) {
                let _ = rustix::fs::unlinkat(&folder, entry.file_name(), AtFlags::empty());
            }
        }
        Ok(())
    }
}

/// Removes what this session and earlier ones left unfinished.
async fn clean_up(core: &Arc<Core>) -> Result<()> {
    let shared = Arc::clone(core);
    blocking(move || {
        shared.remove_kept();
        Ok(())
    })
    .await?;
    sweep_once(core, plan_to_clean_up(Arc::clone(core))).await
}

/// Removes what earlier sessions left unfinished in the folders of these steps.
async fn sweep_once(core: &Arc<Core>, steps: BoxStream<'static, Result<Step>>) -> Result<()> {
    let mut is_swept = core.is_swept.lock().await;
    if *is_swept {
        return Ok(());
    }
    let is_resumed = {
        let stage = core.stage.lock().await;
        stage.is_resumed || (!stage.is_planned && core.decisions.are_binding().await?)
    };
    if is_resumed {
        let top = stream::iter([Ok(EntryPath::root())]);
        let below = steps.filter_map(async |step| match step {
            Ok(step) => may_hold_temporaries(&step).then(|| Ok(place_of(&step).clone())),
            Err(error) => Some(Err(error)),
        });
        let mut folders = Box::pin(top.chain(below));
        while let Some(folder) = folders.next().await {
            let (core, folder) = (Arc::clone(core), folder?);
            blocking(move || core.sweep(&folder)).await?;
        }
    }
    *is_swept = true;
    Ok(())
}

fn may_hold_temporaries(step: &Step) -> bool {
    step.phase == ENTRIES
        && step.entry.kind == EntryKind::Directory
        && !matches!(step.action, StepAction::Refuse(_))
}

#[async_trait]
impl RestoreSession for Session {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        let core = Arc::clone(&self.0);
        let note = move |step: &Result<Step>| {
            if let Ok(step) = step {
                core.note_closed(step);
            }
        };
        plan_steps(Arc::clone(&self.0)).inspect(note).boxed()
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
        let (core, step, from) = (Arc::clone(&self.0), step.clone(), from.clone());
        blocking(move || Ok(content::can_resume(&core, &step, &from))).await
    }

    async fn sync(&self) -> Result<()> {
        let core = Arc::clone(&self.0);
        blocking(move || core.synchronise()).await
    }

    async fn write_many(&self, steps: &[WholeStep]) -> Option<Vec<Result<Written>>> {
        let each = |error: &Error| steps.iter().map(|_| Err(error.duplicate())).collect();
        if let Err(error) = self.0.start().await {
            return Some(each(&error));
        }
        let (core, whole) = (Arc::clone(&self.0), steps.to_vec());
        match blocking(move || Ok(write::write_whole_steps(&core, &whole))).await {
            Ok(written) => Some(written),
            Err(error) => Some(each(&error)),
        }
    }

    async fn end_phase(&self, phase: Phase) -> Result<()> {
        if phase == FOLDERS {
            return Ok(());
        }
        // Before folders get their metadata: removing changes their times, and needs the right to.
        sweep_once(&self.0, plan_steps(Arc::clone(&self.0))).await
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        verify::verify_step(&self.0, step, level).await
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        clean_up(&self.0).await?;
        let core = Arc::clone(&self.0);
        let warnings = blocking(move || {
            let warnings = core.close_folders();
            if core.options.durability == Durability::Durable {
                core.synchronise()?;
            }
            Ok(warnings)
        });
        let mut warnings: Vec<_> = warnings.await?.iter().map(Error::report).collect();
        self.0.decisions.clear().await?;
        match self.0.n_sockets.load(Ordering::Relaxed) {
            0 => {}
            n_sockets => warnings.push(format!(
                "not restored: {n_sockets} sockets, which only the programs that listen on them can make"
            )),
        }
        Ok(RestoreNotes { warnings, remarks: Vec::new() })
    }

    async fn abort(&self) -> Result<()> {
        clean_up(&self.0).await?;
        self.0.decisions.clear().await
    }
}

/// Tells restores in one store apart: the same snapshot, options and folder are one restore.
fn name_of_restore(root: &Path, cx: &RestoreContext) -> String {
    let mut text = root.as_os_str().as_bytes().to_vec();
    let snapshot = (cx.snapshot.time(), cx.snapshot.paths());
    text.extend_from_slice(format!("\0{snapshot:?}\0{:?}\0", cx.options.conflict).as_bytes());
    text.extend_from_slice(&cx.options.path.to_token());
    BlobId::of(&text).short()
}

/// Whether further entries with this key are hard links of one file.
pub(super) fn link_key(kind: &EntryKind, metadata: &Metadata) -> Option<LinkKey> {
    let is_linked = *kind == EntryKind::File && metadata.links > 1 && metadata.inode != 0;
    is_linked.then_some((metadata.device_id, metadata.inode))
}
