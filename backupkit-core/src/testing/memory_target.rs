//! A target in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures::TryStreamExt;
use futures::stream::{self, BoxStream, StreamExt};

use super::unfinished::UnfinishedFiles;
use super::{healthy, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath, FileTime};
use crate::probe::Probe;
use crate::snapshot::SnapshotEntry;
use crate::target::{
    BodyReader, ConflictPolicy, Phase, RestoreContext, RestoreNotes, RestoreSession, RestoreTarget,
    Step, StepAction, TargetCapabilities, Verdict, VerifyLevel, Written,
};
use crate::token::WriteToken;

/// A [`RestoreTarget`] that keeps what it is given. Clones are the same target.
///
/// Directories come in phase 0, files in phase 1, links in phase 2. Names that a file system cannot
/// hold are refused.
#[derive(Debug, Clone)]
pub struct MemoryTarget {
    capabilities: TargetCapabilities,
    nodes: Arc<Mutex<BTreeMap<EntryPath, MemoryNode>>>,
    unfinished: UnfinishedFiles,
}

/// What a [`MemoryTarget`] has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryNode {
    /// What it is.
    pub kind: EntryKind,
    /// The bytes of a file.
    pub bytes: Bytes,
    /// When it was last changed.
    pub mtime: FileTime,
}

impl MemoryNode {
    /// Returns a file.
    pub fn file(bytes: impl Into<Bytes>, mtime: FileTime) -> Self {
        Self { kind: EntryKind::File, bytes: bytes.into(), mtime }
    }
}

impl Default for MemoryTarget {
    fn default() -> Self {
        Self {
            capabilities: TargetCapabilities::new(4).with_random_writes(),
            nodes: Arc::default(),
            unfinished: UnfinishedFiles::default(),
        }
    }
}

impl MemoryTarget {
    /// Returns an empty target that takes bytes in any order.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces what the target says it can do. Bytes are taken in any order all the same.
    #[must_use]
    pub fn with_capabilities(mut self, capabilities: TargetCapabilities) -> Self {
        self.capabilities = capabilities;
        self
    }

    /// Everything in the target.
    pub fn nodes(&self) -> BTreeMap<EntryPath, MemoryNode> {
        lock(&self.nodes).clone()
    }

    /// How many files are written in part and wait for somebody who goes on.
    pub fn unfinished_files(&self) -> usize {
        self.unfinished.len()
    }

    /// Sets or replaces something.
    pub fn put(&self, path: &EntryPath, node: MemoryNode) {
        lock(&self.nodes).insert(path.clone(), node);
    }

    /// Removes something and returns it.
    pub fn remove(&self, path: &EntryPath) -> Option<MemoryNode> {
        lock(&self.nodes).remove(path)
    }
}

#[async_trait]
impl RestoreTarget for MemoryTarget {
    fn capabilities(&self) -> TargetCapabilities {
        self.capabilities
    }

    fn location(&self) -> String {
        String::from("memory:")
    }

    async fn check(&self) -> Result<Probe> {
        Ok(healthy("use memory"))
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        Ok(Arc::new(Session { target: self.clone(), cx: Arc::new(cx) }))
    }
}

#[derive(Debug)]
struct Session {
    target: MemoryTarget,
    cx: Arc<RestoreContext>,
}

const DECISION_PREFIX: &str = "decision/";
/// Set once all decisions are stored: an entry without one is then a "create".
const DECIDED: &str = "decided";

impl Session {
    async fn steps(target: MemoryTarget, cx: Arc<RestoreContext>) -> Result<Vec<Step>> {
        let root = &cx.options.path;
        let mut entries: Vec<SnapshotEntry> = Vec::new();
        let mut base = root.len();
        match cx.snapshot.find(root).await? {
            Some(entry) if entry.kind != EntryKind::Directory => {
                base = base.saturating_sub(1);
                entries.push(entry);
            }
            None if !root.is_empty() => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    format!("{root} is not in the snapshot"),
                ));
            }
            _ => entries = cx.snapshot.walk(root).try_collect().await?,
        }
        let decided = cx.store.get(DECIDED).await?.is_some();
        let mut steps = Vec::new();
        for entry in entries {
            let destination = EntryPath::from_names(entry.path.names().skip(base));
            let key =
                format!("{DECISION_PREFIX}{}", URL_SAFE_NO_PAD.encode(destination.to_token()));
            let action = if let Some(stored) = cx.store.get(&key).await? {
                decode(&stored)
            } else if decided {
                StepAction::Create
            } else {
                let action = target.decide(&entry, &destination, cx.options.conflict);
                if action != StepAction::Create {
                    cx.store.put(&key, encode(&action), false).await?;
                }
                action
            };
            let needs_bytes = !matches!(action, StepAction::Skip | StepAction::Refuse(_));
            steps.push(Step {
                phase: phase(&entry.kind),
                bytes: if needs_bytes { entry.size_bytes } else { 0 },
                entry,
                destination,
                action,
                follows: false,
            });
        }
        cx.store.put(DECIDED, Bytes::new(), false).await?;
        steps.sort_by(|a, b| (a.phase, &a.destination).cmp(&(b.phase, &b.destination)));
        Ok(steps)
    }

    async fn forget_decisions(&self) -> Result<()> {
        self.cx.store.delete(DECIDED).await?;
        loop {
            let found = self.cx.store.scan(DECISION_PREFIX, None, 1_000).await?;
            if found.is_empty() {
                return Ok(());
            }
            for (key, _) in found {
                self.cx.store.delete(&key).await?;
            }
        }
    }
}

fn phase(kind: &EntryKind) -> Phase {
    Phase(match kind {
        EntryKind::Directory => 0,
        EntryKind::Symlink { .. } => 2,
        _ => 1,
    })
}

fn encode(action: &StepAction) -> Bytes {
    let (tag, rest) = match action {
        StepAction::Create => (b'c', Vec::new()),
        StepAction::Overwrite => (b'o', Vec::new()),
        StepAction::Skip => (b's', Vec::new()),
        StepAction::Rename(path) => (b'r', path.to_token()),
        StepAction::Refuse(why) => (b'x', why.clone().into_bytes()),
    };
    [&[tag][..], &rest].concat().into()
}

fn decode(stored: &[u8]) -> StepAction {
    match stored.split_first() {
        Some((b'o', _)) => StepAction::Overwrite,
        Some((b's', _)) => StepAction::Skip,
        Some((b'r', path)) => {
            EntryPath::from_token(path).map_or(StepAction::Skip, StepAction::Rename)
        }
        Some((b'x', why)) => StepAction::Refuse(String::from_utf8_lossy(why).into_owned()),
        _ => StepAction::Create,
    }
}

impl MemoryTarget {
    fn decide(
        &self,
        entry: &SnapshotEntry,
        destination: &EntryPath,
        policy: ConflictPolicy,
    ) -> StepAction {
        let hostile = |name: &[u8]| {
            matches!(name, b"" | b"." | b"..") || name.contains(&b'/') || name.contains(&0)
        };
        if destination.is_empty() || destination.names().any(hostile) {
            return StepAction::Refuse(format!("{destination} is not a name that can be written"));
        }
        let nodes = lock(&self.nodes);
        let Some(there) = nodes.get(destination) else {
            return StepAction::Create;
        };
        if there.kind == EntryKind::Directory && entry.kind == EntryKind::Directory {
            return StepAction::Skip;
        }
        match policy {
            ConflictPolicy::Overwrite => StepAction::Overwrite,
            ConflictPolicy::Newer if there.mtime.timestamp() < entry.metadata.mtime.timestamp() => {
                StepAction::Overwrite
            }
            ConflictPolicy::Newer | ConflictPolicy::Skip => StepAction::Skip,
            ConflictPolicy::Rename => {
                let name = destination.name().unwrap_or_default();
                let parent = destination.parent().unwrap_or_default();
                let renamed = (1..=u32::MAX)
                    .map(|n| parent.join(&[name, format!(".restored-{n}").as_bytes()].concat()))
                    .find(|path| !nodes.contains_key(path));
                renamed.map_or(StepAction::Skip, StepAction::Rename)
            }
        }
    }
}

fn place(step: &Step) -> Result<&EntryPath> {
    match &step.action {
        StepAction::Rename(path) => Ok(path),
        StepAction::Refuse(why) => Err(Error::new(ErrorKind::InvalidInput, why.clone())),
        _ => Ok(&step.destination),
    }
}

#[async_trait]
impl RestoreSession for Session {
    fn plan(&self) -> BoxStream<'static, Result<Step>> {
        let steps = Self::steps(self.target.clone(), Arc::clone(&self.cx));
        stream::once(steps).map_ok(|steps| stream::iter(steps).map(Ok)).try_flatten().boxed()
    }

    async fn write(
        &self,
        step: &Step,
        mut body: BodyReader,
        from: Option<WriteToken>,
    ) -> Result<Written> {
        let place = place(step)?;
        if step.action == StepAction::Skip {
            return Ok(Written::default());
        }
        let size_bytes = step.bytes;
        let mut file = match from {
            Some(token) => self.target.unfinished.go_on(place, &token, size_bytes)?,
            None => self.target.unfinished.begin(place, size_bytes),
        };
        while let Some(piece) = body.next().await {
            self.cx.cancel.check()?;
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => {
                    file.broke_off(&error);
                    return Err(error);
                }
            };
            file.write(&piece)?;
            if body.wants_tokens() {
                let (bytes, token) = file.keep();
                body.report(bytes, token);
            }
        }
        let bytes = file.finish()?;
        let written = bytes.len() as u64;
        let node =
            MemoryNode { kind: step.entry.kind.clone(), bytes, mtime: step.entry.metadata.mtime };
        self.target.put(place, node);
        Ok(Written { bytes: written, warnings: Vec::new() })
    }

    async fn can_resume(&self, step: &Step, from: &WriteToken) -> Result<bool> {
        Ok(self.target.unfinished.can_go_on(place(step)?, from, step.bytes))
    }

    async fn end_phase(&self, _phase: Phase) -> Result<()> {
        Ok(())
    }

    async fn verify(&self, step: &Step, level: VerifyLevel) -> Result<Verdict> {
        let place = place(step)?;
        let there = lock(&self.target.nodes).get(place).cloned();
        let Some(there) = there else {
            return Ok(Verdict::Differs(String::from("it is missing")));
        };
        if there.kind != step.entry.kind {
            return Ok(Verdict::Differs(String::from("it is of another type")));
        }
        if there.bytes.len() as u64 != step.entry.size_bytes {
            return Ok(Verdict::Differs(String::from("it has another size")));
        }
        if level == VerifyLevel::Count {
            return Ok(Verdict::Same(level));
        }
        let mut at = 0;
        for chunk in there.bytes.chunks(1 << 20) {
            let end = at + chunk.len() as u64;
            if self.cx.snapshot.read(&step.entry, at..end).await? != chunk {
                return Ok(Verdict::Differs(format!("a byte behind {at} differs")));
            }
            at = end;
        }
        Ok(Verdict::Same(VerifyLevel::Bytes))
    }

    async fn finish(&self) -> Result<RestoreNotes> {
        self.target.unfinished.clear();
        self.forget_decisions().await?;
        Ok(RestoreNotes::default())
    }

    async fn abort(&self) -> Result<()> {
        self.target.unfinished.clear();
        self.forget_decisions().await
    }
}
