//! Leases.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::{InMemoryStore, Kept};
use crate::error::Result;
use crate::model::RunInput;
use crate::state::{
    Claim, Lease, LeaseRef, Leases, Moment, Renewal, Report, Run, Slot, StoredRun, WorkerId,
    check_progress,
};

impl Kept {
    /// The place of the next run to be claimed.
    fn next(&self, claim: &Claim, now: &Moment) -> Option<u64> {
        let is_next = |stored: &StoredRun| {
            claim.only.is_none_or(|only| only == stored.run.new.id)
                && stored.is_claimable(now)
                && (stored.rests_when_claimed() || self.has_room(&stored.run.new.slots))
        };
        let next = self.runs.iter().filter(|(_, folder)| is_next(&folder.stored));
        let next = next.map(|(place, folder)| (Reverse(folder.stored.run.new.priority), *place));
        next.min().map(|(_, place)| place)
    }

    /// Whether one more run may use all of these.
    fn has_room(&self, slots: &[Slot]) -> bool {
        let leased = self.runs.values().map(|folder| &folder.stored.run);
        let used = leased.filter(|run| run.worker.is_some()).flat_map(|run| &run.new.slots);
        slots.iter().all(|slot| {
            let used = used.clone().filter(|used| used.resource == slot.resource);
            let most = used.clone().map(|used| used.most).fold(slot.most, u32::min);
            used.count() < most as usize
        })
    }
}

#[async_trait]
impl Leases for InMemoryStore {
    async fn claim(&self, claim: &Claim) -> Result<Option<Lease>> {
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        while let Some(place) = kept.next(claim, &now) {
            kept.version += 1;
            if let Some(folder) = kept.runs.get_mut(&place)
                && let Some(lease) = folder.stored.claim(claim, &now)?
            {
                return Ok(Some(lease));
            }
        }
        Ok(None)
    }

    async fn renew(
        &self,
        lease: &LeaseRef,
        time: Duration,
        progress: Option<Arc<RawValue>>,
    ) -> Result<Renewal> {
        check_progress(progress.as_ref())?;
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let renewal = kept.held_mut(lease)?.stored.renew(time, progress, &now);
        kept.version += 1;
        Ok(renewal)
    }

    async fn renewal(&self, lease: &LeaseRef) -> Result<Renewal> {
        Ok(self.kept().held(lease)?.stored.renewal())
    }

    async fn report(&self, lease: &LeaseRef, input: RunInput, report: Report) -> Result<Run> {
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let folder = kept.held_mut(lease)?;
        let dropped = folder.stored.report(input, report, &now)?;
        folder.drop_parts(dropped);
        let run = folder.stored.run.clone();
        kept.version += 1;
        Ok(run)
    }

    async fn holders(&self) -> Result<Vec<WorkerId>> {
        let kept = self.kept();
        let holders = kept.runs.values().filter_map(|folder| folder.stored.run.worker.clone());
        Ok(holders.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn sweep(&self, dead: &[WorkerId], most: usize) -> Result<usize> {
        let now = Moment::now(&self.env)?;
        let mut kept = self.kept();
        let mut moved = 0;
        for folder in kept.runs.values_mut() {
            if moved == most {
                break;
            }
            if let Some(dropped) = folder.stored.sweep(dead, &now)? {
                folder.drop_parts(dropped);
                moved += 1;
            }
        }
        kept.version += moved as u64;
        Ok(moved)
    }
}
