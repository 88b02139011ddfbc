//! From a snapshot to steps.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::super::super::decisions::LogReader;
use super::super::blocking::{BATCH_ITEMS, blocking};
use super::decisions::Decision;
use super::descent::{Descent, Scope, Way};
use super::judge::{Judge, is_empty_folder};
use super::session::{Core, FirstLink, link_key};
use super::{ENTRIES, FOLDERS, HARD_LINKS};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EntryKind, EntryPath};
use crate::snapshot::SnapshotEntry;
use crate::target::{Phase, Step, StepAction};
use crate::token::CancelToken;

/// Streams the steps: one walk through the snapshot for each phase. Memory grows with the depth of the
/// snapshot and the number of its files that have hard links.
pub(super) fn plan_steps(core: Arc<Core>) -> BoxStream<'static, Result<Step>> {
    let cancel = core.cancel.clone();
    steps(core, cancel)
}

/// As [`plan_steps`], but goes on when the restore is cancelled, to clean up after it.
pub(super) fn plan_to_clean_up(core: Arc<Core>) -> BoxStream<'static, Result<Step>> {
    steps(core, CancelToken::new())
}

fn steps(core: Arc<Core>, cancel: CancelToken) -> BoxStream<'static, Result<Step>> {
    stream::unfold(Some(Planner::new(core, cancel)), async |planner| {
        let mut planner = planner?;
        match planner.next().await {
            Ok(Some(step)) => Some((Ok(step), Some(planner))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

/// Where a step really goes.
pub(super) fn place_of(step: &Step) -> &EntryPath {
    match &step.action {
        StepAction::Rename(path) => path,
        _ => &step.destination,
    }
}

struct Planner {
    core: Arc<Core>,
    cancel: CancelToken,
    pass: Option<Pass>,
    /// Some files are hard links of files that come before them.
    has_links: bool,
    is_over: bool,
    ready: VecDeque<Step>,
}

/// One walk.
struct Pass {
    phase: Phase,
    entries: BoxStream<'static, Result<SnapshotEntry>>,
    descent: Descent,
    log: LogReader<Decision>,
    /// The number of the next entry.
    number: u64,
    n_sockets: u64,
    /// Folders whose content is not yet walked through, with the length of their paths.
    open: Vec<(usize, Step)>,
}

impl Planner {
    fn new(core: Arc<Core>, cancel: CancelToken) -> Self {
        Self { core, cancel, pass: None, has_links: false, is_over: false, ready: VecDeque::new() }
    }

    async fn next(&mut self) -> Result<Option<Step>> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(Some(step));
            }
            if self.is_over {
                return Ok(None);
            }
            self.cancel.check()?;
            let mut pass = if let Some(pass) = self.pass.take() {
                pass
            } else {
                decide_once(&self.core).await?;
                Pass::begin(&self.core, ENTRIES).await?
            };
            if let Some(entry) = pass.entries.next().await {
                self.plan(&mut pass, entry?).await?;
                self.pass = Some(pass);
                continue;
            }
            let rest = std::mem::take(&mut pass.open);
            self.ready.extend(rest.into_iter().rev().map(|(_, step)| step));
            let next = match pass.phase {
                ENTRIES => {
                    self.core.n_sockets.store(pass.n_sockets, Ordering::Relaxed);
                    if self.has_links { HARD_LINKS } else { FOLDERS }
                }
                HARD_LINKS => FOLDERS,
                _ => {
                    self.is_over = true;
                    continue;
                }
            };
            self.pass = Some(Pass::begin(&self.core, next).await?);
        }
    }

    async fn plan(&mut self, pass: &mut Pass, entry: SnapshotEntry) -> Result<()> {
        let number = pass.number;
        pass.number += 1;
        let decision = pass.log.about(number).await?;
        let way = pass.descent.way(&entry);
        if entry.kind == EntryKind::Directory {
            pass.descent.enter(&entry, &way, decision.as_ref());
        }
        let (destination, action) = match (way, decision) {
            (Way::No(path, action), _) => (path, action),
            (Way::To(path), decision) => {
                if decision == Some(Decision::ReplaceByFolder) {
                    self.core.folders.allow_replacing(path.clone());
                }
                (path, action_of(decision))
            }
        };
        let acts = !matches!(action, StepAction::Skip | StepAction::Refuse(_));
        let step = Step { phase: pass.phase, bytes: 0, destination, action, entry, follows: false };
        match pass.phase {
            ENTRIES => self.plan_entry(pass, step, number, acts),
            HARD_LINKS => {
                if acts && self.is_further_link(&step, number) {
                    self.ready.push_back(step);
                }
            }
            _ => {
                let depth = step.entry.path.len();
                while let Some((_, step)) = pass.open.pop_if(|(open, _)| *open >= depth) {
                    self.ready.push_back(step);
                }
                if acts && step.entry.kind == EntryKind::Directory {
                    pass.open.push((depth, step));
                }
            }
        }
        Ok(())
    }

    fn plan_entry(&mut self, pass: &mut Pass, mut step: Step, number: u64, acts: bool) {
        if step.entry.kind == EntryKind::Socket && step.action == StepAction::Skip {
            pass.n_sockets += 1;
        }
        if acts && let Some(key) = link_key(&step.entry.kind, &step.entry.metadata) {
            self.core
                .links()
                .entry(key)
                .or_insert_with(|| FirstLink { number, path: place_of(&step).clone() });
            if self.is_further_link(&step, number) {
                self.has_links = true;
                return;
            }
        }
        if acts {
            step.bytes = step.entry.size_bytes;
        }
        self.ready.push_back(step);
    }

    fn is_further_link(&self, step: &Step, number: u64) -> bool {
        link_key(&step.entry.kind, &step.entry.metadata).is_some_and(|key| {
            let links = self.core.links();
            links.get(&key).is_some_and(|first| first.number != number)
        })
    }
}

impl Pass {
    async fn begin(core: &Core, phase: Phase) -> Result<Self> {
        let (scope, entries) = entries(core).await?;
        Ok(Self {
            phase,
            entries,
            descent: Descent::new(&scope, core.is_root),
            log: core.decisions.reader(),
            number: 0,
            n_sockets: 0,
            open: Vec::new(),
        })
    }
}

fn action_of(decision: Option<Decision>) -> StepAction {
    match decision {
        None => StepAction::Create,
        Some(Decision::Overwrite | Decision::ReplaceByFolder) => StepAction::Overwrite,
        Some(Decision::Skip) => StepAction::Skip,
        Some(Decision::Rename(path)) => StepAction::Rename(path),
        Some(Decision::Refuse(why)) => StepAction::Refuse(why),
    }
}

/// What is to be restored: all below a directory, or one entry.
async fn entries(core: &Core) -> Result<(Scope, BoxStream<'static, Result<SnapshotEntry>>)> {
    let path = &core.options.path;
    let n_names = path.len();
    if path.is_empty() {
        return Ok((Scope { n_names }, core.snapshot.walk(path)));
    }
    let found = core.snapshot.find(path).await?.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("cannot restore {path}: it is not in the snapshot"))
    })?;
    if found.kind == EntryKind::Directory {
        return Ok((Scope { n_names }, core.snapshot.walk(path)));
    }
    let scope = Scope { n_names: n_names - 1 };
    Ok((scope, stream::iter([Ok(found)]).boxed()))
}

/// Takes all decisions, unless an earlier session did and has begun to write.
async fn decide_once(core: &Arc<Core>) -> Result<()> {
    let mut stage = core.stage.lock().await;
    if stage.is_planned {
        return Ok(());
    }
    if core.decisions.are_binding().await? {
        stage.is_resumed = true;
    } else {
        core.decisions.clear().await?;
        decide(core).await?;
        core.decisions.set_planned().await?;
    }
    stage.is_planned = true;
    Ok(())
}

async fn decide(core: &Arc<Core>) -> Result<()> {
    let folders = Arc::clone(&core.folders);
    let is_vacant = blocking(move || match folders.root()? {
        None => Ok(true),
        Some(root) => is_empty_folder(&root)
            .map_err(|error| Error::io("list the folder to restore into", error.into())),
    });
    if is_vacant.await? {
        return Ok(());
    }
    let (scope, entries) = entries(core).await?;
    let mut judge = Judge {
        folders: Arc::clone(&core.folders),
        policy: core.options.conflict,
        descent: Descent::new(&scope, core.is_root),
        snapshot_time: core.snapshot.time(),
        missing: None,
    };
    let mut log = core.decisions.writer();
    let mut number = 0;
    let mut batches = entries.ready_chunks(BATCH_ITEMS);
    while let Some(batch) = batches.next().await {
        core.cancel.check()?;
        let batch = batch.into_iter().collect::<Result<Vec<_>>>()?;
        let decided = blocking(move || {
            let decide = |entry| judge.judge(entry);
            let decisions = batch.iter().map(decide).collect::<Result<Vec<_>>>()?;
            Ok((judge, decisions))
        });
        let decisions;
        (judge, decisions) = decided.await?;
        for decision in decisions {
            if let Some(decision) = decision {
                log.push(number, &decision).await?;
            }
            number += 1;
        }
    }
    log.flush().await
}
