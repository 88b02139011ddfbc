//! Connections, repositories and plans.

use std::collections::BTreeMap;

use async_trait::async_trait;
use jiff::Timestamp;

use super::InMemoryStore;
use crate::error::Result;
use crate::secret::MasterKeyId;
use crate::state::refusal;
use crate::state::{
    Actor, Catalogue, Change, ChangeKind, Draft, Record, RecordId, RecordKind, RecordRef, Scope,
};

/// What is kept of one scope.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    records: BTreeMap<RecordRef, Record>,
    changes: Vec<Change>,
}

impl InMemoryStore {
    fn read<T>(&self, scope: &Scope, read: impl FnOnce(&Shelf) -> T) -> T {
        match self.kept().shelves.get(scope) {
            Some(found) => read(found),
            None => read(&Shelf::default()),
        }
    }
}

impl Shelf {
    fn named(&self, kind: RecordKind, name: &str) -> Option<&Record> {
        self.of_kind(kind).find(|record| record.content.name == name)
    }

    fn of_kind(&self, kind: RecordKind) -> impl Iterator<Item = &Record> {
        self.records.values().filter(move |record| record.itself.kind == kind)
    }

    /// A record in the revision that the caller saw.
    fn at(&self, itself: RecordRef, revision: u64) -> Result<&Record> {
        let record = self.records.get(&itself).ok_or_else(|| refusal::missing(itself))?;
        if record.revision != revision {
            return Err(refusal::stale(itself.kind, &record.content.name));
        }
        Ok(record)
    }

    fn users(&self, itself: RecordRef) -> Vec<Record> {
        let others = self.records.values().filter(|record| record.itself != itself);
        let users = others.filter(|record| record.content.needs.contains(&itself));
        sorted(users.cloned().collect())
    }

    /// Whether the content may stand in the record of this id.
    fn check(&self, itself: RecordRef, draft: &Draft) -> Result<()> {
        draft.check()?;
        let kind = itself.kind;
        if self.named(kind, &draft.name).is_some_and(|other| other.itself != itself) {
            return Err(refusal::name_taken(kind, &draft.name));
        }
        match draft.needs.iter().find(|needed| !self.records.contains_key(needed)) {
            Some(missing) => Err(refusal::missing(*missing)),
            None => Ok(()),
        }
    }

    fn note(&mut self, at: Timestamp, actor: &Actor, kind: ChangeKind, record: &Record) {
        self.changes.push(Change {
            number: self.changes.len() as u64 + 1,
            at,
            actor: actor.clone(),
            kind,
            record: record.itself,
            name: record.content.name.clone(),
        });
    }
}

#[async_trait]
impl Catalogue for InMemoryStore {
    async fn create(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        draft: Draft,
    ) -> Result<Record> {
        let now = self.env.now();
        let mut all = self.kept();
        let mut ids = all.shelves.values().flat_map(|shelf| shelf.records.keys());
        if ids.any(|used| used.id == itself.id) {
            return Err(refusal::id_taken(itself));
        }
        draft.check_sealing(all.sealing_key)?;
        let kept = all.shelves.entry(scope.clone()).or_default();
        kept.check(itself, &draft)?;
        let record =
            Record { itself, revision: 1, content: draft, created_at: now, updated_at: now };
        kept.records.insert(itself, record.clone());
        kept.note(now, actor, ChangeKind::Create, &record);
        all.version += 1;
        Ok(record)
    }

    async fn update(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
        draft: Draft,
    ) -> Result<Record> {
        let now = self.env.now();
        let mut all = self.kept();
        let sealing_key = all.sealing_key;
        let kept = all.shelves.entry(scope.clone()).or_default();
        let before = kept.at(itself, revision)?;
        let created_at = before.created_at;
        draft.check_sealing(sealing_key)?;
        kept.check(itself, &draft)?;
        let revision = revision + 1;
        let record = Record { itself, revision, content: draft, created_at, updated_at: now };
        kept.records.insert(itself, record.clone());
        kept.note(now, actor, ChangeKind::Update, &record);
        all.version += 1;
        Ok(record)
    }

    async fn delete(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
    ) -> Result<()> {
        let now = self.env.now();
        let mut all = self.kept();
        let kept = all.shelves.entry(scope.clone()).or_default();
        let record = kept.at(itself, revision)?.clone();
        let users = kept.users(itself);
        if !users.is_empty() {
            return Err(refusal::in_use(&record, &users));
        }
        kept.records.remove(&itself);
        kept.note(now, actor, ChangeKind::Delete, &record);
        all.version += 1;
        Ok(())
    }

    async fn get(&self, scope: &Scope, itself: RecordRef) -> Result<Option<Record>> {
        Ok(self.read(scope, |shelf| shelf.records.get(&itself).cloned()))
    }

    async fn find(&self, scope: &Scope, kind: RecordKind, name: &str) -> Result<Option<Record>> {
        Ok(self.read(scope, |shelf| shelf.named(kind, name).cloned()))
    }

    async fn list(
        &self,
        scope: &Scope,
        kind: RecordKind,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Record>> {
        let all = self.read(scope, |shelf| shelf.of_kind(kind).cloned().collect());
        let is_behind =
            |record: &Record| after.is_none_or(|after| &record.content.name[..] > after);
        Ok(sorted(all).into_iter().filter(is_behind).take(most).collect())
    }

    async fn users(&self, scope: &Scope, itself: RecordRef) -> Result<Vec<Record>> {
        Ok(self.read(scope, |shelf| shelf.users(itself)))
    }

    async fn changes(&self, scope: &Scope, after: u64, most: usize) -> Result<Vec<Change>> {
        let behind = usize::try_from(after).unwrap_or(usize::MAX);
        Ok(self
            .read(scope, |shelf| shelf.changes.iter().skip(behind).take(most).cloned().collect()))
    }

    async fn sealing_key(&self) -> Result<Option<MasterKeyId>> {
        Ok(self.kept().sealing_key)
    }

    async fn swap_sealing_key(
        &self,
        expected: Option<MasterKeyId>,
        key: MasterKeyId,
    ) -> Result<bool> {
        let mut all = self.kept();
        if all.sealing_key != expected {
            return Ok(false);
        }
        all.sealing_key = Some(key);
        all.version += 1;
        Ok(true)
    }

    async fn sealed(&self, after: Option<RecordId>, most: usize) -> Result<Vec<(Scope, Record)>> {
        let all = self.kept();
        let records = all.shelves.iter().flat_map(|(scope, shelf)| {
            shelf.records.values().map(|record| (scope.clone(), record.clone()))
        });
        let mut sealed: Vec<_> = records
            .filter(|(_, record)| !record.content.secrets.is_empty())
            .filter(|(_, record)| after.is_none_or(|after| record.itself.id > after))
            .collect();
        sealed.sort_by_key(|(_, record)| record.itself.id);
        sealed.truncate(most);
        Ok(sealed)
    }
}

fn sorted(mut records: Vec<Record>) -> Vec<Record> {
    records.sort_by(|a, b| (a.itself.kind, &a.content.name).cmp(&(b.itself.kind, &b.content.name)));
    records
}
