//! Telling plans apart.

use sha2::{Digest as _, Sha256};

use crate::model::BlobId;
use crate::target::{Step, StepAction};

/// What is known of a plan as far as it was taken.
#[derive(Debug, Clone, Default)]
pub(super) struct Fingerprint {
    steps: u64,
    hasher: Sha256,
}

impl Fingerprint {
    /// Adds the next step.
    pub(super) fn add(&mut self, step: &Step) {
        self.steps += 1;
        let (action, detail) = match &step.action {
            StepAction::Create => (0_u8, Vec::new()),
            StepAction::Overwrite => (1, Vec::new()),
            StepAction::Skip => (2, Vec::new()),
            StepAction::Rename(path) => (3, path.to_token()),
            StepAction::Refuse(_) => (4, Vec::new()),
        };
        self.hasher.update([step.phase.0, action]);
        self.hasher.update(step.bytes.to_be_bytes());
        for part in [step.entry.path.to_token(), step.destination.to_token(), detail] {
            self.hasher.update((part.len() as u64).to_be_bytes());
            self.hasher.update(part);
        }
    }

    /// How many steps there were.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn digest(&self) -> BlobId {
        BlobId::from_bytes(self.hasher.clone().finalize().into())
    }
}
