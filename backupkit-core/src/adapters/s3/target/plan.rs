//! From a snapshot to steps.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream::{self, BoxStream};

use super::judge::{Decision, decide_once};
use super::mapping::{Age, Mapped, Way, mapped};
use super::names::path_of;
use super::session::Core;
use super::{OBJECTS, PAST};
use crate::adapters::decisions::LogReader;
use crate::adapters::s3::keys::is_beside_directory;
use crate::error::Result;
use crate::model::EntryPath;
use crate::target::{Step, StepAction};

/// Streams the steps: one walk through the snapshot.
pub(super) fn plan_steps(core: Arc<Core>) -> BoxStream<'static, Result<Step>> {
    stream::unfold(Some(Planner { core, walk: None }), async |planner| {
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
    walk: Option<(BoxStream<'static, Result<Mapped>>, LogReader<Decision>)>,
}

impl Planner {
    async fn next(&mut self) -> Result<Option<Step>> {
        if self.walk.is_none() {
            decide_once(&self.core).await?;
            let entries = mapped(Arc::clone(&self.core), self.core.cancel.clone());
            self.walk = Some((entries, self.core.decisions.reader()));
        }
        let Some((entries, log)) = &mut self.walk else { return Ok(None) };
        loop {
            let Some(found) = entries.next().await.transpose()? else { return Ok(None) };
            let decision = log.about(found.number).await?;
            let entry = found.entry;
            let (destination, action) = match found.way {
                Way::Nowhere | Way::Settings | Way::Older => continue,
                Way::No(why) => (entry.path.clone(), StepAction::Refuse(why)),
                Way::To(key) => {
                    if is_beside_directory(entry.path.name().unwrap_or_default()) {
                        self.core.notes.add_beside(&key);
                    }
                    let action = decision.map_or(StepAction::Create, Decision::into_action);
                    (path_of(&key), action)
                }
            };
            let acts = !matches!(action, StepAction::Skip | StepAction::Refuse(_));
            let bytes = if acts { entry.size_bytes } else { 0 };
            let (phase, follows) = match found.age {
                Age::Current => (OBJECTS, false),
                Age::First => (PAST, false),
                Age::Further => (PAST, true),
            };
            return Ok(Some(Step { phase, entry, destination, action, bytes, follows }));
        }
    }
}
