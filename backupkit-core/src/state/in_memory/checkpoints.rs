//! Checkpoints, noted packs and sealed outputs.

use async_trait::async_trait;
use bytes::Bytes;

use super::{InMemoryStore, Part};
use crate::error::Result;
use crate::model::PackId;
use crate::state::{
    Checkpoints, LeaseRef, SealedOutput, check_adapter_value, check_checkpoint, check_part,
};

impl InMemoryStore {
    fn read_part<T>(
        &self,
        lease: &LeaseRef,
        part: u32,
        read: impl FnOnce(&Part) -> T,
    ) -> Result<T> {
        check_part(part)?;
        let kept = self.kept();
        let parts = &kept.held(lease)?.parts;
        Ok(match parts.get(&part) {
            Some(part) => read(part),
            None => read(&Part::default()),
        })
    }
}

#[async_trait]
impl Checkpoints for InMemoryStore {
    async fn save_checkpoint(
        &self,
        lease: &LeaseRef,
        part: u32,
        checkpoint: Bytes,
        reach: u64,
    ) -> Result<()> {
        check_part(part)?;
        check_checkpoint(&checkpoint)?;
        let mut kept = self.kept();
        let folder = kept.held_mut(lease)?;
        let part = folder.parts.entry(part).or_default();
        part.checkpoint = Some(checkpoint);
        folder.stored.progressed |= reach > part.reach;
        part.reach = reach.max(part.reach);
        kept.version += 1;
        Ok(())
    }

    async fn load_checkpoint(&self, lease: &LeaseRef, part: u32) -> Result<Option<Bytes>> {
        self.read_part(lease, part, |part| part.checkpoint.clone())
    }

    async fn record_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
        packs: &[PackId],
    ) -> Result<()> {
        check_part(part)?;
        let mut kept = self.kept();
        let part = kept.held_mut(lease)?.parts.entry(part).or_default();
        part.packs.entry(repository_id.to_owned()).or_default().extend(packs);
        kept.version += 1;
        Ok(())
    }

    async fn recorded_packs(
        &self,
        lease: &LeaseRef,
        part: u32,
        repository_id: &str,
    ) -> Result<Vec<PackId>> {
        self.read_part(lease, part, |part| {
            part.packs.get(repository_id).into_iter().flatten().copied().collect()
        })
    }

    async fn record_outputs(
        &self,
        lease: &LeaseRef,
        part: u32,
        outputs: &[SealedOutput],
    ) -> Result<()> {
        check_part(part)?;
        let mut kept = self.kept();
        let folder = kept.held_mut(lease)?;
        let part = folder.parts.entry(part).or_default();
        folder.stored.check_outputs(!part.outputs.is_empty())?;
        part.outputs = outputs.to_vec();
        kept.version += 1;
        Ok(())
    }

    async fn recorded_outputs(&self, lease: &LeaseRef, part: u32) -> Result<Vec<SealedOutput>> {
        self.read_part(lease, part, |part| part.outputs.clone())
    }

    async fn set_adapter_value(
        &self,
        lease: &LeaseRef,
        part: u32,
        key: &str,
        value: Option<Bytes>,
    ) -> Result<()> {
        check_part(part)?;
        check_adapter_value(key, value.as_deref())?;
        let mut kept = self.kept();
        let values = &mut kept.held_mut(lease)?.parts.entry(part).or_default().adapter_values;
        match value {
            Some(value) => drop(values.insert(key.to_owned(), value)),
            None => drop(values.remove(key)),
        }
        kept.version += 1;
        Ok(())
    }

    async fn adapter_values(
        &self,
        lease: &LeaseRef,
        part: u32,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<(String, Bytes)>> {
        let is_found = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        self.read_part(lease, part, |part| {
            let found = part.adapter_values.iter().filter(|(key, _)| is_found(key)).take(most);
            found.map(|(key, value)| (key.clone(), value.clone())).collect()
        })
    }
}
