//! Runs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::{Folder, InMemoryStore};
use crate::error::Result;
use crate::model::Wanted;
use crate::state::refusal;
use crate::state::{Actor, Moment, NewRun, Run, RunFilter, RunId, Runs, Scope, StoredRun};

#[async_trait]
impl Runs for InMemoryStore {
    async fn create_run(&self, scope: &Scope, actor: &Actor, run: NewRun) -> Result<Run> {
        run.check()?;
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let mut others = kept.runs.values().map(|folder| &folder.stored.run);
        let is_same = |other: &&Run| other.scope == *scope && other.new.key == run.key;
        if let Some(same) = others.clone().find(|other| run.key.is_some() && is_same(other)) {
            return Ok(same.clone());
        }
        if others.clone().any(|other| other.new.id == run.id) {
            return Err(refusal::run_id_taken(run.id));
        }
        let excludes = |other: &&Run| {
            other.scope == *scope
                && other.ended_at.is_none()
                && run.exclusive.is_some()
                && other.new.exclusive == run.exclusive
        };
        if let Some(active) = others.find(excludes) {
            return Err(refusal::run_active(active));
        }
        let number = kept.numbers.entry(scope.clone()).or_default();
        *number += 1;
        let stored = StoredRun::new(*number, scope, actor, run, &now);
        let run = stored.run.clone();
        kept.created += 1;
        let created = kept.created;
        let folder = Folder { stored, parts: BTreeMap::new(), log: Vec::new() };
        kept.runs.insert(created, folder);
        kept.version += 1;
        Ok(run)
    }

    async fn run(&self, scope: &Scope, id: RunId) -> Result<Option<Run>> {
        let kept = self.kept();
        let found = kept.find(id).map(|folder| &folder.stored.run);
        Ok(found.filter(|run| run.scope == *scope).cloned())
    }

    async fn runs(
        &self,
        scope: &Scope,
        filter: &RunFilter,
        before: Option<u64>,
        most: usize,
    ) -> Result<Vec<Run>> {
        let kept = self.kept();
        let runs = kept.runs.values().rev().map(|folder| &folder.stored.run);
        let is_wanted = |run: &&Run| {
            run.scope == *scope
                && before.is_none_or(|before| run.number < before)
                && (filter.states.is_empty() || filter.states.contains(&run.state))
                && filter.plan.is_none_or(|plan| run.new.plan == Some(plan))
                && filter.kind.is_none_or(|kind| run.new.kind == kind)
        };
        Ok(runs.filter(is_wanted).take(most).cloned().collect())
    }

    async fn ask(&self, scope: &Scope, actor: &Actor, id: RunId, wanted: Wanted) -> Result<Run> {
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let folder = kept.find_in(scope, id)?;
        let dropped = folder.stored.ask(actor, wanted, &now)?;
        folder.drop_parts(dropped);
        let run = folder.stored.run.clone();
        kept.version += 1;
        Ok(run)
    }

    async fn mend(&self, scope: &Scope, id: RunId) -> Result<Run> {
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let folder = kept.find_in(scope, id)?;
        let dropped = folder.stored.mend(&now)?;
        folder.drop_parts(dropped);
        let run = folder.stored.run.clone();
        kept.version += 1;
        Ok(run)
    }

    async fn remove_ended(
        &self,
        scope: &Scope,
        before: Timestamp,
        most: usize,
    ) -> Result<Vec<RunId>> {
        let mut kept = self.kept();
        let is_old = |run: &Run| {
            run.scope == *scope && run.ended_at.is_some_and(|ended_at| ended_at < before)
        };
        let old = kept.runs.iter().filter(|(_, folder)| is_old(&folder.stored.run));
        let old: Vec<_> =
            old.map(|(place, folder)| (*place, folder.stored.run.new.id)).take(most).collect();
        kept.version += u64::from(!old.is_empty());
        for (place, _) in &old {
            kept.runs.remove(place);
        }
        Ok(old.into_iter().map(|(_, id)| id).collect())
    }

    async fn version(&self) -> Result<u64> {
        Ok(self.kept().version)
    }
}
