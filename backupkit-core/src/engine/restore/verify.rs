//! Comparing what the target has with the snapshot.

use std::sync::Arc;

use futures::StreamExt as _;

use super::outcome::{Outcome, Outcomes};
use super::{Tools, VerifyCounts};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{EventKind, Level};
use crate::repo::fetch::is_of_stored_bytes;
use crate::target::{RestoreSession, Step, StepAction, Verdict, VerifyLevel};

/// A comparison after a restore.
pub(super) struct Comparison<'a> {
    pub(super) tools: &'a Tools,
    pub(super) outcomes: &'a Outcomes,
    pub(super) level: VerifyLevel,
}

impl Comparison<'_> {
    /// Compares each step that should have left what the snapshot has. Nothing if the run is asked to
    /// rest before it is through.
    pub(super) async fn run(
        &self,
        session: &Arc<dyn RestoreSession>,
        concurrency: usize,
    ) -> Result<Option<VerifyCounts>> {
        let mut number = 0;
        let steps = session.plan().filter_map(move |step| {
            let numbered = match step {
                Ok(step) => {
                    number += 1;
                    Some(Ok((number - 1, step)))
                }
                // Told already when it was restored.
                Err(error) if is_of_stored_bytes(&error) => None,
                Err(error) => Some(Err(error)),
            };
            std::future::ready(numbered)
        });
        let mut verdicts = steps
            .map(|step| async move {
                let (number, mut step) = step?;
                if !self.is_comparable(number, &mut step) {
                    return Ok(None);
                }
                self.tools.cancel.check()?;
                self.tools.counters.add_listed(1);
                self.tools.counters.add_listed_bytes(step.bytes);
                let verdict = session.verify(&step, self.level).await;
                self.tools.counters.add_finished(1);
                self.tools.counters.add_finished_bytes(step.bytes);
                Ok(Some((number, self.judge(&step, verdict)?)))
            })
            .buffer_unordered(concurrency.max(1));
        let mut counts = VerifyCounts::default();
        loop {
            // Nothing is written here, so whatever is under way may be torn off.
            let verdict = tokio::select! {
                biased;
                () = self.tools.control.pausing() => return Ok(None),
                verdict = verdicts.next() => verdict,
            };
            let Some(verdict) = verdict else {
                return Ok(Some(counts));
            };
            match verdict? {
                Some((number, Verdict::Same(_))) => {
                    counts.same += u64::from(self.outcomes.is_counted(number));
                }
                Some((_, Verdict::Differs(_))) => counts.differs += 1,
                Some((_, Verdict::Cannot(_))) => counts.cannot += 1,
                None => {}
            }
        }
    }

    /// Whether the target should have what the snapshot has. Gives the step the action that it had
    /// when it was taken: what it made is there now.
    fn is_comparable(&self, number: usize, step: &mut Step) -> bool {
        match self.outcomes.get(number) {
            Some(Outcome::Created) => step.action = StepAction::Create,
            Some(Outcome::Overwritten) => step.action = StepAction::Overwrite,
            Some(Outcome::Renamed) => {}
            // What was left alone may be anything.
            _ => return false,
        }
        true
    }

    /// Tells what is not the same.
    fn judge(&self, step: &Step, verdict: Result<Verdict>) -> Result<Verdict> {
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(error) if ends_comparison(&error) => return Err(error),
            Err(error) => Verdict::Cannot(error.report()),
        };
        let path = step.entry.path.clone();
        match &verdict {
            Verdict::Same(_) => {}
            Verdict::Differs(reason) => {
                let reason = reason.clone();
                self.tools.events.tell(Level::Error, EventKind::EntryDiffers { path, reason });
            }
            Verdict::Cannot(reason) => {
                let reason = reason.clone();
                self.tools
                    .events
                    .tell(Level::Warning, EventKind::EntryNotCompared { path, reason });
            }
        }
        Ok(verdict)
    }
}

fn ends_comparison(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unauthenticated | ErrorKind::Cancelled)
}
